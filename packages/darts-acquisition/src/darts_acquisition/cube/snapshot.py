"""One state of a datacube, read: what is known of its chunks, what they hold, and what identifies that."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.cube.grid import Chunk, Window, chunk_block, chunk_window, chunks_in, chunks_where
from darts_acquisition.cube.layout import DIGEST, STATE, ChunkState
from darts_acquisition.cube.product import CubeProduct, CubeVariable
from darts_acquisition.cube.repository import run_async
from darts_acquisition.cube.shards import find_decoder, read_shard
from darts_acquisition.errors import CubeDamagedError

if TYPE_CHECKING:
    import icechunk

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

    def __init__(self, session: "icechunk.Session", product: CubeProduct) -> None:
        import zarr

        self._session = session
        self._product = product
        self._group = zarr.open_group(session.store, mode="r")

    def arrays(self) -> list[str]:
        """List the names of all arrays that a cube has, of its variables and of what is known of its chunks."""
        return sorted(self._group.array_keys())

    def recorded(self) -> list[Chunk]:
        """List the chunks of which a state is stored, row by row."""
        return sorted(Chunk(*at) for at in self._stored(STATE))

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

    def block(self, block: Window) -> np.ndarray:
        """Return the states of a rectangle of chunks; 2-D uint8."""
        rows, cols = block
        states = np.full(block.shape, int(ChunkState.MISSING), "uint8")
        if states.size <= _FEW:
            chunks = chunks_in(block)
        else:
            chunks = [
                chunk
                for chunk in self.recorded()
                if rows.start <= chunk.row < rows.stop and cols.start <= chunk.col < cols.stop
            ]
        if chunks:
            coordinates = np.array(chunks) - (rows.start, cols.start)
            states[coordinates[:, 0], coordinates[:, 1]] = self.states(chunks)
        return states

    def read(self, variables: Sequence[CubeVariable], window: Window, states: np.ndarray) -> dict[str, np.ndarray]:
        """Read a window of some variables.

        `states`, 2-D uint8, are those of the chunks that the window touches. What is not filled is nodata, and not
        read.

        Raises:
            CubeDamagedError: If a shard is damaged.
        """
        results = {each.name: np.empty(window.shape, each.dtype) for each in variables}
        block = chunk_block(window, self._product.chunk_px)
        filled = set(chunks_where(states == ChunkState.FILLED, block))

        def read(variable: CubeVariable, array: Any, decoder: Any, chunk: Chunk) -> None:
            whole = chunk_window(chunk, self._product.chunk_px, self._product.geobox)
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
                    "`darts cube verify` lists what is, and fetching it again replaces it."
                ) from error

        arrays: list[Any] = [self._group[variable.name] for variable in variables]
        decoders = [find_decoder(array, self._product.chunk_px) for array in arrays]
        chunks = chunks_in(block)
        with ThreadPoolExecutor(_SHARDS_AT_ONCE, thread_name_prefix="read") as pool:
            tasks = [
                pool.submit(read, variable, array, decoder, chunk)
                for variable, array, decoder in zip(variables, arrays, decoders, strict=True)
                for chunk in chunks
            ]
            for task in tasks:
                task.result()
        return results

    def identities(
        self, repository: "icechunk.Repository", chunks: Sequence[Chunk], states: np.ndarray
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

    def _stored(self, array: str) -> set[tuple[int, ...]]:
        """Return the coordinates of the chunks of an array that are stored."""

        async def collect() -> set[tuple[int, ...]]:
            return {tuple(at) async for at in self._session.chunk_coordinates(f"/{array}")}

        return run_async(collect)

    def _read_small(self, array: str, coordinates: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], bytes]:
        """Read uncompressed chunks of an array whose chunks are so small that they lie in its manifest.

        Zarr itself takes ten times as long for many, and as long for those that are not stored, which are left out
        here.
        """
        from zarr.buffer import default_buffer_prototype

        if len(coordinates) > _FEW:
            stored = self._stored(array)
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


def first_snapshot(repository: "icechunk.Repository", snapshot: str) -> str:
    """Return the snapshot that a cube began with: copies of a cube share it, and no two cubes do.

    Costs about 0.1 ms per commit on a disk the first time that a process asks for a snapshot.
    """
    if snapshot not in _first_snapshots:
        passed = [each.id for each in repository.ancestry(snapshot_id=snapshot)]
        _first_snapshots[snapshot] = passed[max(0, len(passed) - 2)]  # All repositories share the last one, the root.
    return _first_snapshots[snapshot]
