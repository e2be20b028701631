"""Read windows of a cube's arrays: decode the pieces of the shards that are needed straight into the result.

What zarr-python does for any layout, for the one that `_layout` writes, in less than half the time: only what a window
touches is read, all processors decode, and each value goes to memory once, from a processor's cache. Every piece has a
checksum (CRC-32C), so a damaged one is an error.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from darts_acquisition.cube.bookkeeping import chunks_where
from darts_acquisition.cube.grid import Chunk, Window, chunk_block
from darts_acquisition.cube.layout import piece_codec
from darts_acquisition.cube.product import CubeProduct, CubeVariable
from darts_acquisition.cube.shards import ChecksumError, checked, fetch_pieces
from darts_acquisition.errors import CubeDamagedError
from darts_utils import usable_cpus

if TYPE_CHECKING:
    from zarr.abc.store import Store

T = TypeVar("T")

_PIECES_AT_ONCE = 8
"""What a thread is given to decode: enough that handing it over costs nothing, and few enough to occupy all threads."""


def read_arrays(
    store: "Store",
    product: CubeProduct,
    variables: Iterable[CubeVariable],
    window: Window,
    filled: np.ndarray,
) -> dict[str, np.ndarray]:
    """Read a window of some variables.

    Args:
        store: Where the arrays lie.
        product: What the cube holds.
        variables: What to read.
        window: Pixels of the grid.
        filled: 2-D bool array, one value per chunk that the window touches: whether it holds data. What the others hold
            is not read; they are nodata.

    Returns:
        Arrays of the window's shape by name.

    Raises:
        CubeDamagedError: If a piece is damaged.
    """
    import zarr

    group = zarr.open_group(store, mode="r")
    block = chunk_block(window, product.chunk_px)
    results: dict[str, np.ndarray] = {}
    jobs: list[_Job] = []
    for variable in variables:
        array: Any = group[variable.name]
        codec = piece_codec(array, product, variable)
        if codec is None:
            results[variable.name] = _read_any_layout(array, product, variable, window, filled)
        else:
            results[variable.name] = np.empty(window.shape, variable.dtype)
            jobs.append(_Job(product, variable, window, results[variable.name], codec))
    tasks = [(job, chunk, True) for chunk in chunks_where(filled, block) for job in jobs]
    tasks += [(job, chunk, False) for chunk in chunks_where(~filled, block) for job in jobs]
    workers = min(8, usable_cpus())
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        run_async(lambda: _read_shards(store, tasks, pool, workers))
    return results


def run_async(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end and return its result, also where an event loop runs already (a notebook)."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        return pool.submit(copy_context().run, lambda: asyncio.run(work())).result()


async def _read_shards(
    store: "Store", tasks: "list[tuple[_Job, Chunk, bool]]", pool: ThreadPoolExecutor, workers: int
) -> None:
    loop = asyncio.get_running_loop()
    at_once = asyncio.Semaphore(2 * workers)

    async def read(job: "_Job", chunk: Chunk, is_filled: bool) -> None:
        async with at_once:
            pieces = list(job.pieces(chunk))
            contents = await job.fetch(store, chunk, pieces) if is_filled else [None] * len(pieces)
            todo = list(zip(pieces, contents, strict=True))
            parts = [todo[start : start + _PIECES_AT_ONCE] for start in range(0, len(todo), _PIECES_AT_ONCE)]
            await asyncio.gather(*(loop.run_in_executor(pool, job.decode, chunk, part) for part in parts))

    await asyncio.gather(*(read(*task) for task in tasks))


class _Piece(NamedTuple):
    """A piece of a shard of which a window holds at least a part.

    Attributes:
        place: Its row and column in the shard, counted in pieces.
        source: The pixels that the window holds, counted from the piece's first row and column.
        target: The same pixels, counted from the window's.
    """

    place: tuple[int, int]
    source: Window
    target: Window


@dataclass(frozen=True)
class _Job:
    """Reads one variable of a window into an array.

    Attributes:
        product: What the cube holds.
        variable: What to read.
        window: Pixels of the grid.
        result: Array of the window's shape.
        codec: What the pieces are compressed with.
    """

    product: CubeProduct
    variable: CubeVariable
    window: Window
    result: np.ndarray
    codec: Any

    def pieces(self, chunk: Chunk) -> "Iterator[_Piece]":
        """Yield the pieces of a shard that lie in the window, row by row."""
        inner, per_edge = self.product.inner_px, self._per_edge
        for row, col in np.ndindex(per_edge, per_edge):
            top, left = (chunk.row * per_edge + row) * inner, (chunk.col * per_edge + col) * inner
            pixels = Window.of(top, top + inner, left, left + inner)
            part = pixels.intersection(self.window)
            if part is not None:
                yield _Piece((row, col), part.relative_to(pixels), part.relative_to(self.window))

    async def fetch(self, store: "Store", chunk: Chunk, pieces: "list[_Piece]") -> "list[np.ndarray | None]":
        """Read the compressed bytes of pieces, None for those that were never written."""
        key = f"{self.variable.name}/c/{chunk.row}/{chunk.col}"
        try:
            return await fetch_pieces(store, key, self._per_edge, [piece.place for piece in pieces])
        except ChecksumError as error:
            raise self._damaged(chunk) from error

    def decode(self, chunk: Chunk, pieces: "list[tuple[_Piece, np.ndarray | None]]") -> None:
        """Write pieces into the result."""
        for piece, content in pieces:
            if content is None:
                self.result[piece.target] = self.variable.nodata
            else:
                self.result[piece.target] = self._pixels(chunk, content)[piece.source]

    def _pixels(self, chunk: Chunk, content: np.ndarray) -> np.ndarray:
        inner = self.product.inner_px
        dtype = np.dtype(self.variable.dtype).newbyteorder("<")
        try:
            return np.frombuffer(self.codec.decode(checked(content)), dtype).reshape(inner, inner)
        except (ValueError, RuntimeError) as error:
            raise self._damaged(chunk) from error

    @property
    def _per_edge(self) -> int:
        return self.product.chunk_px // self.product.inner_px

    def _damaged(self, chunk: Chunk) -> CubeDamagedError:
        return _damaged(self.variable, f"The chunk in row {chunk.row}, column {chunk.col}")


def _read_any_layout(
    array: Any, product: CubeProduct, variable: CubeVariable, window: Window, filled: np.ndarray
) -> np.ndarray:
    """Read a window of an array that was laid out differently, as zarr does: slower, and the same numbers."""
    try:
        result = np.array(array[window])
    except (ValueError, RuntimeError) as error:
        rows, cols = window
        where = f"A chunk within rows {rows.start} to {rows.stop} and columns {cols.start} to {cols.stop}"
        raise _damaged(variable, where) from error
    size = product.chunk_px
    for row, col in chunks_where(~filled, chunk_block(window, size)):
        part = Window.of(row * size, (row + 1) * size, col * size, (col + 1) * size).intersection(window)
        if part is not None:
            result[part.relative_to(window)] = variable.nodata
    return result


def _damaged(variable: CubeVariable, where: str) -> CubeDamagedError:
    return CubeDamagedError(
        f"{where} of {variable.name} is damaged on its storage; "
        "`darts cube verify` lists what is, and fetching it again replaces it."
    )
