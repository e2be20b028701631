"""A set of changes to a datacube: data, and the states and digests of chunks, all or none."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.cube.elevations import check_elevations, check_possible
from darts_acquisition.cube.grid import Chunk, Window, chunk_block, chunk_window, chunks_in, chunks_where
from darts_acquisition.cube.layout import DIGEST, STATE, ChunkState, add_digests, digest_of
from darts_acquisition.cube.location import Location
from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.cube.repository import BRANCH, commit, run_async, writing
from darts_acquisition.cube.snapshot import Snapshot, first_snapshot
from darts_acquisition.errors import CubeConflictError
from darts_utils import ParameterError, step

if TYPE_CHECKING:
    import icechunk
    import xarray as xr


class Transaction:
    """Changes to a cube that nobody sees before `commit`, and nobody ever if that does not come."""

    def __init__(self, location: Location, repository: "icechunk.Repository", product: CubeProduct) -> None:
        self._location = location
        self._product = product
        self._begin(repository)
        while DIGEST not in self._group:  # A cube of an earlier release.
            with writing(location):
                add_digests(self._group, first_snapshot(repository, self._session.snapshot_id))
            with contextlib.suppress(CubeConflictError):  # Another process has done it.
                self.commit("Make room for digests")
            self._begin(repository)

    def _begin(self, repository: "icechunk.Repository") -> None:
        import zarr

        with writing(self._location):
            self._session = repository.writable_session(BRANCH)
            self._group = zarr.open_group(self._session.store, mode="r+")
            self._snapshot = Snapshot(self._session, self._product)

    def write(self, window: Window, arrays: Mapping[str, np.ndarray], *, complete: bool) -> list[Chunk]:
        """Write arrays into a window and commit, see `Datacube.write`; return the chunks that are filled by it."""
        check_elevations(arrays)
        block, (rows, cols) = chunk_block(window, self._product.chunk_px), window
        with step(f"write {self._product.name} cube"):
            with writing(self._location):
                before = self._snapshot.block(block)
            after = states_after_write(before, window, self._product, complete=complete)
            self.put(window, arrays)
            # Only what changes is written: writing a state again would clash with whoever fills a neighbour meanwhile.
            self.set_states(chunks_where(after != before, block), after[after != before])
            self.set_digests(chunks_where(after == ChunkState.FILLED, block), window, arrays)
            self.commit(f"Write rows {rows.start} to {rows.stop}, columns {cols.start} to {cols.stop}")
        return chunks_where((after == ChunkState.FILLED) & (before != ChunkState.FILLED), block)

    def complete(self, contents: Mapping[Chunk, Mapping[str, np.ndarray]]) -> list[Chunk]:
        """Write those of some whole chunks that are missing and commit; return them. Without arrays one is empty."""
        for arrays in contents.values():
            check_possible(arrays)
        chunks = sorted(contents)
        states = self.states(chunks)
        todo = [chunk for chunk, state in zip(chunks, states, strict=True) if state == ChunkState.MISSING]
        if not todo:
            return []
        with step(f"write {self._product.name} cube"):
            self.clear(todo)
            for chunk in todo:
                window = chunk_window(chunk, self._product.chunk_px, self._product.geobox)
                self.put(window, contents[chunk])
                self.set_digests([chunk] if contents[chunk] else [], window, contents[chunk])
            after = [ChunkState.FILLED if contents[chunk] else ChunkState.EMPTY for chunk in todo]
            self.set_states(todo, np.array(after))
            self.commit(f"Complete {len(todo)} chunks")
        return todo

    def forget(self, chunks: Sequence[Chunk]) -> None:
        """Drop what is in some chunks and commit; they are missing then."""
        self.clear(chunks)
        self.set_states(chunks, ChunkState.MISSING)
        self.commit(f"Forget {len(chunks)} chunks")

    def mark_empty(self, chunks: Sequence[Chunk]) -> None:
        """Record that the provider has nothing in some chunks, and commit if that is new.

        Raises:
            ParameterError: If a chunk is filled.
        """
        known = dict(zip(chunks, self.states(chunks), strict=True))
        if filled := [chunk for chunk in chunks if known[chunk] == ChunkState.FILLED]:
            raise ParameterError(f"{filled} are filled; only missing chunks can be marked as empty.")
        if new := [chunk for chunk in chunks if known[chunk] == ChunkState.MISSING]:
            self.set_states(new, ChunkState.EMPTY)
            self.commit(f"Mark {len(new)} chunks as empty")

    def put(self, window: Window, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays into a window of the grid."""
        with writing(self._location):
            for name, values in arrays.items():
                array = self._array(name)
                if not _holds(values, array.fill_value):  # or zarr would look for Zarr chunks of nothing else
                    array = array.with_config({"write_empty_chunks": True})
                array[window] = values

    def clear(self, chunks: Iterable[Chunk]) -> None:
        """Take data and digests of some chunks out of the cube; what is put there afterwards is not merged with them.

        A damaged chunk could not be written over otherwise: writing reads what is there first.
        """
        names = [variable.name for variable in self._product.variables]
        keys = [
            key
            for row, col in chunks
            for key in (f"{DIGEST}/c/{row}/{col}/0", *(f"{name}/c/{row}/{col}" for name in names))
        ]

        async def delete() -> None:
            for key in keys:
                await self._session.store.delete(key)

        with writing(self._location):
            run_async(delete)

    def states(self, chunks: Sequence[Chunk]) -> np.ndarray:
        """Return the states of some chunks, 1-D uint8."""
        with writing(self._location):
            return self._snapshot.states(chunks)

    def set_states(self, chunks: Sequence[Chunk], states: "np.ndarray | int") -> None:
        """Set the states of some chunks."""
        if chunks:
            rows, cols = np.array(chunks).T
            with writing(self._location):
                self._array(STATE).vindex[rows, cols] = np.broadcast_to(states, len(chunks)).astype("uint8")

    def set_digests(self, chunks: Iterable[Chunk], window: Window, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the digests of chunks that are filled now, after arrays were put into a window.

        Chunks that were put in part are read back as a whole; CubeDamagedError if what one held before is damaged.
        """
        for chunk in chunks:
            digest = digest_of(self._content(chunk, window, arrays), self._product)
            with writing(self._location):
                self._array(DIGEST)[chunk.row, chunk.col] = np.frombuffer(digest, "uint8")

    def _content(self, chunk: Chunk, window: Window, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        whole = chunk_window(chunk, self._product.chunk_px, self._product.geobox)
        if window.intersection(whole) == whole:
            return {name: values[whole.relative_to(window)] for name, values in arrays.items()}
        with writing(self._location):
            return self._snapshot.read(self._product.variables, whole, np.array([[ChunkState.FILLED]]))

    def commit(self, message: str) -> None:
        """Make the changes permanent, see `darts_acquisition.cube.repository.commit`."""
        commit(self._location, self._session, message)

    def _array(self, name: str) -> Any:
        return self._group[name]


def _holds(values: np.ndarray, mark: Any) -> bool:
    return bool((np.isnan(values) if mark != mark else values == mark).any())


def states_after_write(before: np.ndarray, window: Window, product: CubeProduct, *, complete: bool) -> np.ndarray:
    """Return the states of the chunks that a window touches, after all of its pixels were written; 2-D uint8.

    Chunks that the window covers whole (all of them, if the provider has nothing beyond it: `complete`) are filled; one
    that was known to be empty and holds a part of something now is missing; others are as they were `before`.
    """
    block = chunk_block(window, product.chunk_px)
    after = before.copy()
    for chunk in chunks_in(block):
        index = chunk.row - block.rows.start, chunk.col - block.cols.start
        whole = chunk_window(chunk, product.chunk_px, product.geobox)
        if complete or window.intersection(whole) == whole:
            after[index] = ChunkState.FILLED
        elif before[index] == ChunkState.EMPTY:
            after[index] = ChunkState.MISSING
    return after


def check_arrays(
    window: Window, arrays: "Mapping[str, Any] | xr.Dataset", product: CubeProduct
) -> dict[str, np.ndarray]:
    """Return the arrays to write, by name: one for each variable of a product.

    Raises:
        ParameterError: If one is absent, unknown, or of another shape or data type.
    """
    names = [variable.name for variable in product.variables]
    given = [str(name) for name in arrays]
    if sorted(given) != sorted(names):
        raise ParameterError(
            f"Got the variables {', '.join(given)}; {product.collection} needs all of {', '.join(names)}."
        )
    values = {name: np.asarray(arrays[name]) for name in names}
    for variable in product.variables:
        array = values[variable.name]
        if array.shape != window.shape or array.dtype != np.dtype(variable.dtype):
            raise ParameterError(
                f"{variable.name} is {array.dtype} of shape {array.shape}; expected {variable.dtype} of shape "
                f"{window.shape}, which the area has."
            )
    return values
