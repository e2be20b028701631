"""One state of a datacube, read, and changes to it: data, states and digests of chunks, all or none."""

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import zarr
from numcodecs.abc import Codec
from zarr.buffer import default_buffer_prototype

from darts_acquisition.cube.layout import DIGEST, STATE, ChunkState, add_digests, digest_of, find_decoder, read_shard
from darts_acquisition.cube.product import Chunk, CubeProduct, CubeVariable, Window, check_elevations, check_possible
from darts_acquisition.cube.repository import BRANCH, Location, commit, run_async, stored_chunks, writing
from darts_acquisition.errors import CubeConflictError, CubeDamagedError
from darts_utils import ParameterError, step

if TYPE_CHECKING:
    import xarray as xr

IDENTITIES = "chunk_identities"
"""Attribute of a Dataset that was read from a cube: the chunks it comes from and what they held, as JSON."""

_FEW = 64
"""Chunks up to which asking for each is faster than listing which are known: 0.15 ms each, known or not."""
_SHARDS_AT_ONCE = 4
"""Shards that are read at the same time: from object storage each takes two requests, one after the other."""

_first_snapshots: dict[str, str] = {}
"""First snapshot of the cube that a snapshot belongs to, which never changes."""


class Snapshot:
    """A cube as one session sees it."""

    def __init__(self, session: icechunk.Session, product: CubeProduct) -> None:
        self._session = session
        self._product = product
        self._group = zarr.open_group(session.store, mode="r")

    def recorded(self) -> list[Chunk]:
        """List the chunks of which a state is stored, row by row."""
        return sorted(Chunk(*at) for at in stored_chunks(self._session, STATE))

    def known(self) -> dict[Chunk, ChunkState]:
        """Return the chunks that are filled, or known to be empty, row by row."""
        chunks = self.recorded()
        states = zip(chunks, self.states(chunks).tolist(), strict=True)
        return {chunk: ChunkState(state) for chunk, state in states if state != ChunkState.MISSING}

    def states(self, chunks: Sequence[Chunk]) -> np.ndarray:
        """Return the states of some chunks, which lie in the cube; 1-D uint8."""
        found = self._read_small(STATE, chunks)
        missing = bytes([ChunkState.MISSING])
        return np.frombuffer(b"".join(found.get(chunk, missing) for chunk in chunks), "uint8").copy()

    def missing(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Return those of some chunks that are missing."""
        return [chunk for chunk, state in zip(chunks, self.states(chunks), strict=True) if state == ChunkState.MISSING]

    def block(self, block: Window) -> np.ndarray:
        """Return the states of a rectangle of chunks; 2-D uint8."""
        rows, cols = block
        states = np.full(block.shape, int(ChunkState.MISSING), "uint8")
        if states.size <= _FEW:
            chunks = block.chunks()
        else:
            chunks = [
                at for at in self.recorded() if rows.start <= at.row < rows.stop and cols.start <= at.col < cols.stop
            ]
        if chunks:
            coordinates = np.array(chunks) - (rows.start, cols.start)
            states[coordinates[:, 0], coordinates[:, 1]] = self.states(chunks)
        return states

    def read(self, variables: Sequence[CubeVariable], window: Window, states: np.ndarray) -> dict[str, np.ndarray]:
        """Read a window of some variables.

        `states`, 2-D uint8, are those of the chunks that the window touches. What is not filled is nodata, and not
        read. CubeDamagedError if a shard is damaged.
        """
        results = {each.name: np.empty(window.shape, each.dtype) for each in variables}
        block = window.in_chunks(self._product.chunk_px)
        filled = set(block.chunks(states == ChunkState.FILLED))

        def read(variable: CubeVariable, array: zarr.Array, decoder: Codec | None, chunk: Chunk) -> None:
            whole = self._product.chunk_window(chunk)
            part = window.intersection(whole)
            if part is None:
                return
            out = results[variable.name][part.relative_to(window)]
            try:
                if chunk not in filled:
                    out[...] = variable.nodata
                elif decoder is None:
                    out[...] = array[part]
                else:
                    read_shard(self._session.store, array, decoder, chunk, part.relative_to(whole), out)
            except (ValueError, RuntimeError) as error:  # A checksum differs, or a codec fails.
                raise CubeDamagedError(
                    f"The chunk in row {chunk.row}, column {chunk.col} of {variable.name} is damaged on its storage; "
                    "`darts_acquisition.verify_cube` lists what is, and fetching it again replaces it."
                ) from error

        arrays: list[Any] = [self._group[variable.name] for variable in variables]
        decoders = [find_decoder(array, self._product.chunk_px) for array in arrays]
        with ThreadPoolExecutor(_SHARDS_AT_ONCE, thread_name_prefix="read") as pool:
            tasks = [
                pool.submit(read, variable, array, decoder, chunk)
                for variable, array, decoder in zip(variables, arrays, decoders, strict=True)
                for chunk in block.chunks()
            ]
            for task in tasks:
                task.result()
        return results

    def identities(
        self, repository: icechunk.Repository, chunks: Sequence[Chunk], states: np.ndarray
    ) -> dict[Chunk, str]:
        """Return what tells whether chunks still hold the same, see `Datacube.identities`; `states` are 1-D uint8."""
        known = dict(zip(chunks, states.tolist(), strict=True))
        filled = [(*chunk, 0) for chunk, state in known.items() if state == ChunkState.FILLED]
        digests: dict[tuple[int, ...], bytes] = {}
        cube_id = ""
        if filled and DIGEST in self._group:
            cube_id = str(self._group[DIGEST].attrs["cube_id"])
            digests = self._read_small(DIGEST, filled)
        elif filled:
            cube_id = first_snapshot(repository, self._session.snapshot_id)
        names = {state.value: state.name.lower() for state in ChunkState} | {ChunkState.FILLED: f"legacy:{cube_id}"}
        return {
            chunk: digests[(*chunk, 0)].hex() if (*chunk, 0) in digests else names[state]
            for chunk, state in known.items()
        }

    def _read_small(self, array: str, coordinates: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], bytes]:
        """Read uncompressed chunks, if stored, of an array whose chunks are so small that its manifest holds them.

        Zarr itself takes ten times as long for many, and as long for those that are not stored.
        """
        if len(coordinates) > _FEW:
            stored = stored_chunks(self._session, array)
            coordinates = [at for at in coordinates if at in stored]
        keys = ["/".join([array, "c", *map(str, at)]) for at in coordinates]
        store, prototype = self._session.store, default_buffer_prototype()

        async def read() -> Any:
            if len(keys) > _FEW:
                return await store.get_partial_values(prototype, [(key, None) for key in keys])
            return await asyncio.gather(*(store.get(key, prototype) for key in keys))

        found = run_async(read) if keys else []
        return {at: each.to_bytes() for at, each in zip(coordinates, found, strict=True) if each is not None}


def identities_to_json(identities: Mapping[Chunk, str]) -> str:
    """Write identities as JSON: ``{"row,column": identity}``, row by row."""
    return json.dumps({f"{chunk.row},{chunk.col}": identities[chunk] for chunk in sorted(identities)})


def identities_from_json(text: str) -> dict[Chunk, str]:
    """Read what `identities_to_json` wrote."""
    return {Chunk(*map(int, at.split(","))): identity for at, identity in json.loads(text).items()}


def first_snapshot(repository: icechunk.Repository, snapshot: str) -> str:
    """Return the snapshot that a cube began with: copies of a cube share it, and no two cubes do.

    Costs about 0.1 ms per commit on a disk the first time that a process asks for a snapshot.
    """
    if snapshot not in _first_snapshots:
        passed = [each.id for each in repository.ancestry(snapshot_id=snapshot)]
        _first_snapshots[snapshot] = passed[max(0, len(passed) - 2)]  # All repositories share the last one, the root.
    return _first_snapshots[snapshot]


class Transaction:
    """Changes to a cube that nobody sees before `commit`, and nobody ever if that does not come."""

    def __init__(self, location: Location, repository: icechunk.Repository, product: CubeProduct) -> None:
        self._location = location
        self._product = product
        self._begin(repository)
        while DIGEST not in self._group:  # A cube of an earlier release.
            with writing(location):
                add_digests(self._group, first_snapshot(repository, self._session.snapshot_id))
            with contextlib.suppress(CubeConflictError):  # Another process has done it.
                self.commit("Make room for digests")
            self._begin(repository)

    def _begin(self, repository: icechunk.Repository) -> None:
        with writing(self._location):
            self._session = repository.writable_session(BRANCH)
            self._group: Any = zarr.open_group(self._session.store, mode="r+")
            self._snapshot = Snapshot(self._session, self._product)

    def write(self, window: Window, arrays: Mapping[str, np.ndarray], *, complete: bool) -> list[Chunk]:
        """Write arrays into a window and commit, see `Datacube.write`; return the chunks that are filled by it."""
        check_elevations(arrays)
        block, (rows, cols) = window.in_chunks(self._product.chunk_px), window
        with step(f"write {self._product.name} cube"), writing(self._location):
            before = self._snapshot.block(block)
            after = states_after_write(before, window, self._product, complete=complete)
            self.put(window, arrays)
            # Only what changes is written: writing a state again would clash with whoever fills a neighbour meanwhile.
            self.set_states(block.chunks(after != before), after[after != before])
            self.set_digests(block.chunks(after == ChunkState.FILLED), window, arrays)
            self.commit(f"Write rows {rows.start} to {rows.stop}, columns {cols.start} to {cols.stop}")
        return block.chunks((after == ChunkState.FILLED) & (before != ChunkState.FILLED))

    def complete(self, contents: Mapping[Chunk, Mapping[str, np.ndarray]]) -> list[Chunk]:
        """Write those of some whole chunks that are missing and commit; return them. Without arrays one is empty."""
        for arrays in contents.values():
            check_possible(arrays)
        with writing(self._location):
            todo = self._snapshot.missing(sorted(contents))
        if not todo:
            return []
        with step(f"write {self._product.name} cube"), writing(self._location):
            self.clear(todo)
            for chunk in todo:
                window = self._product.chunk_window(chunk)
                self.put(window, contents[chunk])
                self.set_digests([chunk] if contents[chunk] else [], window, contents[chunk])
            after = [ChunkState.FILLED if contents[chunk] else ChunkState.EMPTY for chunk in todo]
            self.set_states(todo, np.array(after))
            self.commit(f"Complete {len(todo)} chunks")
        return todo

    def forget(self, chunks: Sequence[Chunk]) -> None:
        """Drop what is in some chunks and commit; they are missing then."""
        with writing(self._location):
            self.clear(chunks)
            self.set_states(chunks, ChunkState.MISSING)
            self.commit(f"Forget {len(chunks)} chunks")

    def mark_empty(self, chunks: Sequence[Chunk]) -> None:
        """Record that the provider has nothing in chunks and commit if that is new; ParameterError if one is filled."""
        with writing(self._location):
            states = self._snapshot.states(chunks)
            if filled := [chunk for chunk, state in zip(chunks, states, strict=True) if state == ChunkState.FILLED]:
                raise ParameterError(f"{filled} are filled; only missing chunks can be marked as empty.")
            if new := self._snapshot.missing(chunks):
                self.set_states(new, ChunkState.EMPTY)
                self.commit(f"Mark {len(new)} chunks as empty")

    def put(self, window: Window, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays into a window of the grid."""
        for name, values in arrays.items():
            array = self._group[name]
            nothing = np.isnan(values) if array.fill_value != array.fill_value else values == array.fill_value
            if not nothing.any():  # or zarr would look for Zarr chunks of nothing else
                array = array.with_config({"write_empty_chunks": True})
            array[window] = values

    def clear(self, chunks: Sequence[Chunk]) -> None:
        """Take data and digests of some chunks out of the cube; what is put there afterwards is not merged with them.

        A damaged chunk could not be written over otherwise: writing reads what is there first.
        """
        keys = [f"{variable.name}/c/{row}/{col}" for variable in self._product.variables for row, col in chunks]
        keys += [f"{DIGEST}/c/{row}/{col}/0" for row, col in chunks]

        async def delete() -> None:
            for key in keys:
                await self._session.store.delete(key)

        run_async(delete)

    def set_states(self, chunks: Sequence[Chunk], states: np.ndarray | int) -> None:
        """Set the states of some chunks."""
        if chunks:
            rows, cols = np.array(chunks).T
            self._group[STATE].vindex[rows, cols] = np.broadcast_to(states, len(chunks)).astype("uint8")

    def set_digests(self, chunks: Iterable[Chunk], window: Window, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the digests of chunks that are filled now, after arrays were put into a window.

        Chunks that were put in part are read back as a whole; CubeDamagedError if what one held before is damaged.
        """
        for chunk in chunks:
            whole = self._product.chunk_window(chunk)
            if window.intersection(whole) == whole:
                content = {name: values[whole.relative_to(window)] for name, values in arrays.items()}
            else:
                content = self._snapshot.read(self._product.variables, whole, np.array([[ChunkState.FILLED]]))
            digest = digest_of(content, self._product)
            self._group[DIGEST][chunk.row, chunk.col] = np.frombuffer(digest, "uint8")

    def commit(self, message: str) -> None:
        """Make the changes permanent, see `darts_acquisition.cube.repository.commit`."""
        commit(self._location, self._session, message)


def states_after_write(before: np.ndarray, window: Window, product: CubeProduct, *, complete: bool) -> np.ndarray:
    """Return the states of the chunks that a window touches, after all of its pixels were written; 2-D uint8.

    Chunks that the window covers whole (all of them, if the provider has nothing beyond it: `complete`) are filled; one
    that was known to be empty and holds a part of something now is missing; others are as they were `before`.
    """
    wholes = map(product.chunk_window, window.in_chunks(product.chunk_px).chunks())
    covered = np.array([complete or window.intersection(whole) == whole for whole in wholes]).reshape(before.shape)
    after = np.where(before == ChunkState.EMPTY, ChunkState.MISSING, before)
    return np.where(covered, ChunkState.FILLED, after).astype("uint8")


def check_arrays(
    window: Window, arrays: "Mapping[str, object] | xr.Dataset", product: CubeProduct
) -> dict[str, np.ndarray]:
    """Return the arrays to write, by name: one for each variable of a product.

    ParameterError if one is absent, unknown, or of another shape or data type.
    """
    names = [variable.name for variable in product.variables]
    given = [str(name) for name in arrays]
    if sorted(given) != sorted(names):
        raise ParameterError(f"Got variables {', '.join(given)}; {product.collection} needs all of {', '.join(names)}.")
    values = {name: np.asarray(arrays[name]) for name in names}
    for variable in product.variables:
        array = values[variable.name]
        if array.shape != window.shape or array.dtype != np.dtype(variable.dtype):
            raise ParameterError(
                f"{variable.name} is {array.dtype} of shape {array.shape}; expected {variable.dtype} of shape "
                f"{window.shape}, which the area has."
            )
    return values
