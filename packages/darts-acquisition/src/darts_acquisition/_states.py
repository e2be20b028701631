"""Read what a datacube knows about its chunks, at a cost of what it knows and not of what it does not."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition._layout import STATE
from darts_acquisition._reading import run_async
from darts_acquisition.grid import Chunk, Window

if TYPE_CHECKING:
    import icechunk

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
        rows, cols = np.array(chunks).T
        return np.asarray(self._array.vindex[rows, cols])


async def _collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]
