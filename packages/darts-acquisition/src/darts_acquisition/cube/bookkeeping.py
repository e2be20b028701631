"""What a datacube knows about its chunks: which are missing, which a write fills, what to say about them."""

from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.cube.grid import (
    Chunk,
    Window,
    chunk_block,
    chunk_window,
    full_window,
    lonlat_bounds,
    outer_window,
    wrap_columns,
)
from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.errors import OutsideExtentError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


class ChunkState(IntEnum):
    """What a datacube knows about a chunk."""

    MISSING = 0
    FILLED = 1
    EMPTY = 2


def product_windows(product: CubeProduct, area: "GeoBox", buffer: int = 0) -> list[Window]:
    """Return the windows of a product's grid that hold an area, see `Datacube.windows`.

    Raises:
        OutsideExtentError: If the area lies wholly outside the grid.
        GridError: If the area has no CRS.
        ParameterError: If `buffer` is negative.
    """
    whole = full_window(product.geobox)
    parts = wrap_columns(outer_window(area, product.geobox, buffer), product.geobox)
    inside = [part for part in (part.intersection(whole) for part in parts) if part is not None]
    if not inside:
        raise OutsideExtentError(
            f"The area {area.boundingbox} lies outside {product.collection}, which covers {product.geobox.boundingbox}."
        )
    return inside


def chunks_where(chosen: np.ndarray, block: Window) -> list[Chunk]:
    """List the chosen chunks of a block, row by row.

    Args:
        chosen: 2-D bool array, one value per chunk of the block.
        block: The rectangle of chunks, see `chunk_block`.
    """
    return [Chunk(int(row) + block.rows.start, int(col) + block.cols.start) for row, col in np.argwhere(chosen)]


def states_after_write(before: np.ndarray, window: Window, product: CubeProduct, *, complete: bool) -> np.ndarray:
    """Return the states of the chunks that a window touches, after all of its pixels were written.

    Args:
        before: 2-D uint8 array of the states before. Not changed.
        window: Pixels that were written.
        product: What the cube holds.
        complete: The provider has nothing beyond the window.

    Returns:
        New array: chunks that the window covers whole (with `complete`, all of them) are filled; one that was known to
        be empty and holds a part of something now is missing; others are as they were.
    """
    block = chunk_block(window, product.chunk_px)
    after = before.copy()
    for chunk in chunks_where(np.ones(before.shape, bool), block):
        place = chunk.row - block.rows.start, chunk.col - block.cols.start
        whole = chunk_window(chunk, product.chunk_px, product.geobox)
        if complete or window.intersection(whole) == whole:
            after[place] = ChunkState.FILLED
        elif before[place] == ChunkState.EMPTY:
            after[place] = ChunkState.MISSING
    return after


def parts_within(window: Window, chunks: list[Chunk], product: CubeProduct) -> Iterator[Window]:
    """Yield the part of each chunk that lies in a window, in pixels of the cube."""
    for chunk in chunks:
        part = window.intersection(chunk_window(chunk, product.chunk_px, product.geobox))
        if part is not None:
            yield part


def describe_missing(window: Window, chunks: list[Chunk], product: CubeProduct) -> str:
    """Say how many chunks of a window are missing, and where, in the cube's CRS and in degrees.

    Args:
        window: Pixels that somebody wants.
        chunks: The missing ones of the chunks that the window touches; at least one.
        product: What the cube holds.
    """
    parts = list(parts_within(window, chunks, product))
    top, bottom = min(part.rows.start for part in parts), max(part.rows.stop for part in parts)
    left, right = min(part.cols.start for part in parts), max(part.cols.stop for part in parts)
    hull = product.geobox[top:bottom, left:right]
    touched = int(np.prod(chunk_block(window, product.chunk_px).shape))
    box = hull.boundingbox
    west, south, east, north = lonlat_bounds(hull)
    digits = 5 if abs(hull.affine.a) < 0.1 else 0
    across = " (across the antimeridian)" if west > east else ""
    return (
        f"{len(chunks)} of the {touched} chunks that the area touches are missing. They lie within "
        f"x {box.left:.{digits}f} to {box.right:.{digits}f}, y {box.bottom:.{digits}f} to {box.top:.{digits}f} in "
        f"{hull.crs}, longitude {west:.3f} to {east:.3f}{across}, latitude {south:.3f} to {north:.3f}."
    )
