"""Ground of a tile: which pixels are evaluated, what labels and map say of them, counted by square blocks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

PERCENTS = 101
"""Values that a raster of probabilities can have: whole percents."""


@dataclass(frozen=True)
class Ground:
    """What is known of the pixels of one tile.

    Attributes:
        name: Name of the tile.
        crs: Its CRS, as text.
        transform: From column and row to coordinates, north-up.
        mapped: Where the map says slump, 2-D bool.
        truth: Where a label's pixel centre lies, likewise.
        seen: Where the tile is reliable and counts for this tile, likewise.
        labelled: Where the labels are complete, likewise; None where nobody knows.
        probability: Percent, 2-D uint8, 255 where there is none; None where it was not exported.
        unseen: Where neither this tile has seen the ground nor an earlier one holds it, 2-D bool; None means where this
            one has not.
        recovered: Where this tile has seen what an earlier one holds and has not, likewise; None means nowhere.
    """

    name: str
    crs: str
    transform: Affine
    mapped: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    labelled: NDArray[np.bool_] | None
    probability: NDArray[np.uint8] | None = None
    unseen: NDArray[np.bool_] | None = None
    recovered: NDArray[np.bool_] | None = None

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Pixels that count: seen, and labelled as far as that is known."""
        return self.seen if self.labelled is None else self.seen & self.labelled

    def blocks(self, size_m: float) -> "Blocks":
        """Return the square blocks of ground that the tile's pixels lie in.

        Args:
            size_m: Edge of a block in metres, a whole number of them; blocks of one CRS lie on one grid.
        """
        height, width = self.mapped.shape
        x = self.transform.c + self.transform.a * (np.arange(width) + 0.5)
        y = self.transform.f + self.transform.e * (np.arange(height) + 0.5)
        return Blocks(self.crs, np.floor(y / size_m).astype(np.int64), np.floor(x / size_m).astype(np.int64), size_m)


@dataclass(frozen=True)
class Blocks:
    """Which block each row and column of a tile belongs to.

    Attributes:
        crs: CRS of the grid of blocks.
        rows: Row of blocks of each row of pixels, 1-D int64, monotonic.
        cols: Column of blocks of each column of pixels, likewise.
        size_m: Edge of a block in metres.
    """

    crs: str
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    size_m: float

    @cached_property
    def keys(self) -> list[tuple[str, int, int]]:
        """CRS, row and column of each block, in the order in which `count` returns them."""
        row_ids, col_ids = self.rows[_starts(self.rows)], self.cols[_starts(self.cols)]
        return [(self.crs, int(row), int(col)) for row in row_ids for col in col_ids]

    def count(self, pixels: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return how many pixels of each block are set, 1-D."""
        columns = np.add.reduceat(pixels, _starts(self.cols), axis=1, dtype=np.int64)
        return np.add.reduceat(columns, _starts(self.rows), axis=0).ravel()

    def histogram(self, values: NDArray[np.integer], pixels: NDArray[np.bool_], bins: int) -> NDArray[np.int64]:
        """Return how often each value occurs in each block among some pixels, 2-D by block and value."""
        row_starts, col_starts = _starts(self.rows), _starts(self.cols)
        row_ends = np.append(row_starts[1:], len(self.rows))
        col_ends = np.append(col_starts[1:], len(self.cols))
        result = np.zeros((len(row_starts) * len(col_starts), bins), np.int64)
        number = 0
        for top, bottom in zip(row_starts, row_ends, strict=True):
            for left, right in zip(col_starts, col_ends, strict=True):
                part = np.s_[top:bottom, left:right]
                result[number] = np.bincount(values[part][pixels[part]], minlength=bins)[:bins]
                number += 1
        return result


def frame_of(transform: Affine, shape: tuple[int, int]) -> BaseGeometry:
    """Return the outline of a grid."""
    (left, top), (right, bottom) = (transform @ corner for corner in ((0, 0), (shape[1], shape[0])))
    return shapely.box(left, bottom, right, top)


def ground_areas(shapes: Sequence[BaseGeometry], crs: str) -> NDArray[np.float64]:
    """Return the area of shapes on the ellipsoid, 1-D, square metres.

    Their area on the grid ÷ the areal scale of the projection at the middle of each (Snyder 1987, p. 20).

    Args:
        shapes: Shapes that are small against the globe, none of them empty.
        crs: Their CRS, projected, in metres.
    """
    if not len(shapes):
        return np.empty(0)  # which PROJ does not take
    bounds = shapely.bounds(list(shapes)).reshape(-1, 4)
    middle = (bounds[:, :2] + bounds[:, 2:]) / 2
    return np.asarray(shapely.area(list(shapes)), float) / areal_scales(middle[:, 0], middle[:, 1], crs)


def areal_scales(x: NDArray[np.float64], y: NDArray[np.float64], crs: str) -> NDArray[np.float64]:
    """Return area on a grid over area on the ellipsoid at places, 1-D; 1 where the CRS does not reach."""
    projection = pyproj.Proj(pyproj.CRS(crs))
    lon, lat = projection(x, y, inverse=True)
    scale = np.asarray(projection.get_factors(lon, lat).areal_scale, float)
    return np.where(np.isfinite(scale), scale, 1.0)


def burn(shapes: Iterable[BaseGeometry | None], transform: Affine, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centres lie in one of some shapes, 2-D bool.

    Args:
        shapes: Polygons or multipolygons in the CRS of the grid.
        transform: From column and row to coordinates.
        shape: Height and width of the grid.
    """
    given: list[BaseGeometry] = [each for each in shapes if each is not None and not each.is_empty]
    if not given:
        return np.zeros(shape, bool)
    return rasterize(given, out_shape=shape, transform=transform, fill=0, default_value=1, dtype="uint8").astype(bool)


def _starts(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.flatnonzero(np.diff(ids)) + 1])
