"""Where in a TIFF file the pixels of its tiles lie: as much of the format as fetching parts of a file needs.

After the TIFF 6.0 specification (Adobe, 1992) and the BigTIFF design (Aware Systems).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from darts_acquisition.errors import ServiceError

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by the number of its type."""
_UNSIGNED = {3: "u2", 4: "u4", 16: "u8"}
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS = 256, 257, 322, 323, 324, 325
_MOST_DIRECTORIES = 64

Reader = Callable[[int, int], bytes]
"""Reads the bytes of a file from a start to a stop, all of them."""


@dataclass(frozen=True)
class TileIndex:
    """Where the tiles of an image lie in its file.

    Attributes:
        offsets: First byte of each tile, 2-D by row and column of tiles; 0 where a tile was never written.
        sizes: Bytes of each tile, of the same shape.
        tile_px: Height and width of a tile in pixels.
    """

    offsets: np.ndarray
    sizes: np.ndarray
    tile_px: tuple[int, int]

    def ranges(self, rows: slice, cols: slice, gap: int = 65536) -> list[tuple[int, int]]:
        """List the parts of the file that hold a window, those near to one another joined.

        Args:
            rows: Pixels of the image, within it.
            cols: Likewise.
            gap: Bytes between two parts up to which fetching them too is better than another request.

        Returns:
            Start and stop of each part, by start.
        """
        height, width = self.tile_px
        block = (
            slice(rows.start // height, -(-rows.stop // height)),
            slice(cols.start // width, -(-cols.stop // width)),
        )
        offsets, sizes = self.offsets[block].ravel(), self.sizes[block].ravel()
        parts: list[tuple[int, int]] = []
        for index in np.argsort(offsets, kind="stable"):
            start, stop = int(offsets[index]), int(offsets[index] + sizes[index])
            if start == 0 or start == stop:
                continue  # never written: nodata
            if parts and start - parts[-1][1] <= gap:
                parts[-1] = parts[-1][0], max(parts[-1][1], stop)
            else:
                parts.append((start, stop))
        return parts


def read_index(read: Reader, name: str) -> TileIndex:
    """Read all directories of a TIFF file, with every value that they point to, and return the first one's tiles.

    Whoever keeps what is read on the way has all that GDAL needs to open the file.

    Args:
        read: Reads from the file.
        name: What the file is called in messages.

    Returns:
        The tiles of the first image, which is the one with full resolution.

    Raises:
        ServiceError: If this is no TIFF file, is damaged, or has no tiles.
    """
    try:
        return _read_index(read, name)
    except (struct.error, KeyError, ValueError, IndexError) as error:
        raise ServiceError(f"{name} is no GeoTIFF with tiles, or it is damaged: {error!r}.") from error


def _read_index(read: Reader, name: str) -> TileIndex:
    head = read(0, 16)
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    magic = struct.unpack_from(order + "H", head, 2)[0]
    if magic not in (42, 43):
        raise ValueError(f"version {magic}")
    layout = _Layout.big(order) if magic == 43 else _Layout.classic(order)
    place = struct.unpack_from(layout.pointer, head, 8 if magic == 43 else 4)[0]
    first = None
    for _ in range(_MOST_DIRECTORIES):
        if place == 0:
            break
        tags, place = _read_directory(read, place, layout)
        first = tags if first is None else first
    if first is None:
        raise ValueError("no image")
    if _OFFSETS not in first:
        raise ServiceError(f"{name} has no tiles, only strips; a cloud-optimised GeoTIFF is expected.")
    width, height = int(first[_WIDTH][0]), int(first[_HEIGHT][0])
    tile_px = int(first[_TILE_HEIGHT][0]), int(first[_TILE_WIDTH][0])
    shape = -(-height // tile_px[0]), -(-width // tile_px[1])
    # The tiles of further bands, where these are stored one after the other, would come behind; ArcticDEM has one band.
    offsets, sizes = (first[tag][: shape[0] * shape[1]].astype("i8").reshape(shape) for tag in (_OFFSETS, _COUNTS))
    return TileIndex(offsets, sizes, tile_px)


@dataclass(frozen=True)
class _Layout:
    """How classic TIFF and BigTIFF write a directory: formats of `struct`, sizes in bytes."""

    order: str
    number: str
    pointer: str
    entry: int

    @classmethod
    def classic(cls, order: str) -> "_Layout":
        return cls(order, order + "H", order + "I", 12)

    @classmethod
    def big(cls, order: str) -> "_Layout":
        return cls(order, order + "Q", order + "Q", 20)


def _read_directory(read: Reader, place: int, layout: _Layout) -> tuple[dict[int, np.ndarray], int]:
    """Return the whole numbers of a directory by tag, and where the next directory begins (0: nowhere)."""
    counter, pointer = struct.calcsize(layout.number), struct.calcsize(layout.pointer)
    count = struct.unpack(layout.number, read(place, place + counter))[0]
    begin = place + counter
    end = begin + count * layout.entry
    entries = read(begin, end + pointer)
    tags = {}
    for index in range(count):
        at = index * layout.entry
        tag, kind = struct.unpack_from(layout.order + "HH", entries, at)
        number = struct.unpack_from(layout.pointer, entries, at + 4)[0]
        size = number * _TYPE_SIZES[kind]
        at += 4 + pointer
        values = entries[at : at + size]
        if size > pointer:
            start = struct.unpack_from(layout.pointer, entries, at)[0]
            values = read(start, start + size)
        if kind in _UNSIGNED:
            tags[tag] = np.frombuffer(values, layout.order + _UNSIGNED[kind])
    return tags, struct.unpack_from(layout.pointer, entries, end - begin)[0]
