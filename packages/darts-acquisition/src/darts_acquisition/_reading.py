"""Read windows of a cube's arrays: decode the pieces of the shards that are needed straight into the result.

What zarr-python does for any layout, for the one that `_layout` writes: two times as fast, since each value is written
to memory once. Every piece carries a checksum (CRC-32C), so a damaged one is an error.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from darts_acquisition.bookkeeping import chunks_where
from darts_acquisition.errors import CubeDamagedError
from darts_acquisition.grid import Chunk, Window, chunk_block
from darts_acquisition.products import CubeProduct, CubeVariable

if TYPE_CHECKING:
    from zarr.abc.store import Store

T = TypeVar("T")

_CHECKSUM_BYTES = 4
_NEVER_WRITTEN = 2**64 - 1


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
    results = {variable.name: np.empty(window.shape, variable.dtype) for variable in variables}
    jobs = [_Job(product, variable, window, results[variable.name]) for variable in variables]
    block = chunk_block(window, product.chunk_px)
    for job in jobs:
        for chunk in chunks_where(~filled, block):
            job.blank(chunk)
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        tasks = [(job, chunk) for job in jobs for chunk in chunks_where(filled, block)]
        run_async(lambda: _read_shards(store, tasks, pool, workers))
    return results


def run_async(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end and return its result, also where an event loop runs already (a notebook)."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        return pool.submit(copy_context().run, lambda: asyncio.run(work())).result()


async def _read_shards(
    store: "Store", tasks: "list[tuple[_Job, Chunk]]", pool: ThreadPoolExecutor, workers: int
) -> None:
    from zarr.core.buffer import default_buffer_prototype

    loop = asyncio.get_running_loop()
    at_once = asyncio.Semaphore(2 * workers)

    async def read(job: "_Job", chunk: Chunk) -> None:
        async with at_once:
            shard = await store.get(f"{job.variable.name}/c/{chunk.row}/{chunk.col}", default_buffer_prototype())
            if shard is None:
                job.blank(chunk)
            else:
                await loop.run_in_executor(pool, job.decode, chunk, shard.to_bytes())

    await asyncio.gather(*(read(job, chunk) for job, chunk in tasks))


@dataclass(frozen=True)
class _Job:
    """Reads one variable of a window into an array."""

    product: CubeProduct
    variable: CubeVariable
    window: Window
    result: np.ndarray

    def blank(self, chunk: Chunk) -> None:
        """Fill what a chunk has of the window with nodata."""
        size = self.product.chunk_px
        self._blank(Window.of(chunk.row * size, (chunk.row + 1) * size, chunk.col * size, (chunk.col + 1) * size))

    def _blank(self, pixels: Window) -> None:
        part = pixels.intersection(self.window)
        if part is not None:
            self.result[part.relative_to(self.window)] = self.variable.nodata

    def decode(self, chunk: Chunk, shard: bytes) -> None:
        """Decode the pieces of a shard that lie in the window."""
        inner = self.product.inner_px
        per_edge = self.product.chunk_px // inner
        index = self._index(chunk, shard, per_edge)
        for row, col in np.ndindex(per_edge, per_edge):
            top, left = chunk.row * self.product.chunk_px + row * inner, chunk.col * self.product.chunk_px + col * inner
            pixels = Window.of(top, top + inner, left, left + inner)
            part = pixels.intersection(self.window)
            if part is None:
                continue
            start, length = (int(number) for number in index[row, col])
            if start == length == _NEVER_WRITTEN:
                self._blank(pixels)
                continue
            values = self._piece(chunk, shard[start : start + length], (inner, inner))
            self.result[part.relative_to(self.window)] = values[part.relative_to(pixels)]

    def _index(self, chunk: Chunk, shard: bytes, per_edge: int) -> np.ndarray:
        """Return start and length of each piece; they stand at the end of a shard, with a checksum."""
        size = 16 * per_edge**2
        content = self._checked(chunk, shard[-size - _CHECKSUM_BYTES :])
        if len(content) != size:
            raise self._damaged(chunk)
        return np.frombuffer(content, "<u8").reshape(per_edge, per_edge, 2)

    def _piece(self, chunk: Chunk, content: bytes, shape: tuple[int, int]) -> np.ndarray:
        from numcodecs import Blosc, Zstd

        dtype = np.dtype(self.variable.dtype).newbyteorder("<")
        codec = Blosc() if dtype.kind == "f" else Zstd()
        values = np.frombuffer(codec.decode(self._checked(chunk, content)), dtype)
        if values.size != shape[0] * shape[1]:
            raise self._damaged(chunk)
        return values.reshape(shape)

    def _checked(self, chunk: Chunk, content: bytes) -> bytes:
        from google_crc32c import value

        body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if value(body).to_bytes(4, "little") != checksum:
            raise self._damaged(chunk)
        return body

    def _damaged(self, chunk: Chunk) -> CubeDamagedError:
        return CubeDamagedError(
            f"The chunk in row {chunk.row}, column {chunk.col} of {self.variable.name} is damaged on its storage; "
            "`darts cube verify` lists what is, and fetching it again replaces it."
        )
