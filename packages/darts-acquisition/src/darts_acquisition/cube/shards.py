"""The shards of a cube's arrays as bytes: which pieces one holds, where, and whether they are as they were written.

Format: Zarr v3's codec ``sharding_indexed`` with the index at the end; each piece, and the index, ends with a checksum
(CRC-32C) of what stands before it.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest, Store

_CHECKSUM_BYTES = 4
_NEVER_WRITTEN = 2**64 - 1
_GAP_BYTES = 1 << 18
"""Pieces that lie closer together are read with one request."""
_REQUEST_BYTES = 1 << 23
"""What a request reads at most, unless a single piece is larger: icechunk would cut and join longer ones."""


class ChecksumError(ValueError):
    """Bytes are not those that were written."""


async def fetch_pieces(
    store: "Store", key: str, per_edge: int, pieces: Sequence[tuple[int, int]]
) -> "list[np.ndarray | None]":
    """Read some pieces of a shard, and as little as possible of the others.

    Args:
        store: Where the shard lies.
        key: Its name there.
        per_edge: Pieces along each of its edges.
        pieces: Row and column of each piece that is wanted.

    Returns:
        For each piece a 1-D uint8 array, read-only, its checksum at the end; None where it was never written.

    Raises:
        ChecksumError: If the index is damaged.
    """
    from zarr.abc.store import RangeByteRequest, SuffixByteRequest

    size = 16 * per_edge**2 + _CHECKSUM_BYTES
    end = await _get(store, key, SuffixByteRequest(size))
    if end is None:
        return [None] * len(pieces)
    index = np.frombuffer(checked(end), "<u8")
    if index.size != 2 * per_edge**2:
        raise ChecksumError("the index is cut off")
    places = [_place(*index.reshape(per_edge, per_edge, 2)[piece].tolist()) for piece in pieces]
    runs = _runs([place for place in places if place is not None])
    found = await asyncio.gather(*(_get(store, key, RangeByteRequest(run.start, run.stop)) for run in runs))
    return [None if place is None else _cut(place, runs, found) for place in places]


def checked(content: np.ndarray) -> np.ndarray:
    """Return bytes without their checksum.

    Raises:
        ChecksumError: If it is not theirs.
    """
    from google_crc32c import value

    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if value(body).to_bytes(4, "little") != checksum.tobytes():
        raise ChecksumError("a checksum differs")
    return body


async def _get(store: "Store", key: str, part: "ByteRequest") -> "np.ndarray | None":
    from zarr.core.buffer import default_buffer_prototype

    buffer = await store.get(key, default_buffer_prototype(), part)
    return None if buffer is None else np.frombuffer(buffer.as_numpy_array(), "uint8")


def _place(start: int, length: int) -> "slice | None":
    return None if start == length == _NEVER_WRITTEN else slice(start, start + length)


def _runs(places: Sequence[slice]) -> list[slice]:
    """Return the ranges to read for some places, from first to last."""
    runs: list[slice] = []
    for place in sorted(places, key=lambda place: place.start):
        near = runs and place.start <= runs[-1].stop + _GAP_BYTES
        if near and place.stop <= runs[-1].start + _REQUEST_BYTES:
            runs[-1] = slice(runs[-1].start, max(runs[-1].stop, place.stop))
        else:
            runs.append(place)
    return runs


def _cut(place: slice, runs: Sequence[slice], found: "Sequence[np.ndarray | None]") -> np.ndarray:
    for run, content in zip(runs, found, strict=True):
        if content is not None and run.start <= place.start < run.stop:
            return content[place.start - run.start : place.stop - run.start]
    raise ChecksumError("a piece is cut off")
