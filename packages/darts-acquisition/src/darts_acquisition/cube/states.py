"""Read what a datacube knows about its chunks, at a cost of what it knows and not of what it does not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.cube.grid import Chunk, Window
from darts_acquisition.cube.layout import STATE
from darts_acquisition.cube.reading import run_async

if TYPE_CHECKING:
    import icechunk
    from zarr.abc.store import Store

_FEW = 64
"""Chunks up to which asking for each is faster than listing which are known: 0.15 ms each, known or not."""


class States:
    """The states of all chunks, as they were when a session began.

    Args:
        session: The session.
    """

    def __init__(self, session: "icechunk.Session") -> None:
        import zarr

        self._session = session
        self._array: Any = zarr.open_group(session.store, mode="r")[STATE]

    def noted(self) -> list[Chunk]:
        """List the chunks of which a state is stored, row by row."""
        places = run_async(lambda: _collect(self._session.chunk_coordinates(f"/{STATE}")))
        return sorted(Chunk(*place) for place in places)

    def of(self, chunks: Sequence[Chunk]) -> np.ndarray:
        """Return the states of some chunks, which lie in the cube; 1-D uint8."""
        if len(chunks) <= _FEW:
            return self._ask(chunks)
        noted = set(self.noted())
        found = [index for index, chunk in enumerate(chunks) if chunk in noted]
        states = np.full(len(chunks), self._array.fill_value, "uint8")
        states[found] = self._ask([chunks[index] for index in found])
        return states

    def within(self, block: Window) -> np.ndarray:
        """Return the states of a rectangle of chunks; 2-D uint8."""
        if block.shape[0] * block.shape[1] <= _FEW:
            return np.asarray(self._array[block])
        rows, cols = block
        inside = [
            chunk
            for chunk in self.noted()
            if rows.start <= chunk.row < rows.stop and cols.start <= chunk.col < cols.stop
        ]
        states = np.full(block.shape, self._array.fill_value, "uint8")
        if inside:
            places = np.array(inside) - (rows.start, cols.start)
            states[places[:, 0], places[:, 1]] = self._ask(inside)
        return states

    def _ask(self, chunks: Sequence[Chunk]) -> np.ndarray:
        if not chunks:
            return np.zeros(0, "uint8")
        stored = run_async(lambda: read_small(self._session, STATE, chunks))
        missing = bytes([self._array.fill_value])
        return np.frombuffer(b"".join(stored.get(chunk, missing) for chunk in chunks), "uint8").copy()


async def read_small(
    session: "icechunk.Session", array: str, places: "Sequence[tuple[int, ...]]"
) -> "dict[tuple[int, ...], bytes]":
    """Read uncompressed chunks of an array whose chunks are so small that they lie in its manifest.

    Takes 0.15 ms for each of a few, 0.02 ms for each of many.

    Args:
        session: The state to look at.
        array: Name of the array.
        places: Coordinates of the chunks.

    Returns:
        The bytes of those that are stored, by coordinates.
    """
    if len(places) > _FEW:
        stored = set(await _collect(session.chunk_coordinates(f"/{array}")))
        places = [place for place in places if place in stored]
    keys = ["/".join([array, "c", *map(str, place)]) for place in places]
    if len(places) > _FEW:
        contents = await _read_stored(session.store, keys)
    else:
        contents = await read_each(session.store, keys)
    return {place: content for place, content in zip(places, contents, strict=True) if content is not None}


async def read_each(store: "Store", keys: Sequence[str]) -> list[bytes | None]:
    """Read objects of a store, None for those that it does not have."""
    from zarr.core.buffer import default_buffer_prototype

    found = await asyncio.gather(*(store.get(key, default_buffer_prototype()) for key in keys))
    return [None if each is None else each.to_bytes() for each in found]


async def _read_stored(store: "Store", keys: Sequence[str]) -> list[bytes | None]:
    """Read objects of a store, all of which it has, with one call."""
    from zarr.core.buffer import default_buffer_prototype

    found = await store.get_partial_values(default_buffer_prototype(), [(key, None) for key in keys])
    return [None if each is None else each.to_bytes() for each in found]


async def _collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]
