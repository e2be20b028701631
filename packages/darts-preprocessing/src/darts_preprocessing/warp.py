"""Auxiliary data brought onto the grid of a tile."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends import Sampling
from darts_preprocessing.grid import to_pyproj
from darts_preprocessing.nodes import Nodes, PointFunction, sample_nodes
from darts_utils import GridError

if TYPE_CHECKING:
    import pyproj
    from odc.geo.crs import CRS
    from odc.geo.geobox import GeoBox

_METRES_PER_DEGREE = 111_320.0
_TOLERANCE_PX = 1e-4
_NOWHERE = -1e9
_PROBES = 9
"""Places along each side of a grid at which its overlap with another one is looked for."""


def get_sampling(grid: GeoBox, source: GeoBox, *, cubic: bool) -> Sampling:
    """Say how to resample from one grid to another.

    Args:
        grid: The grid wanted, north-up.
        source: The grid of the data.
        cubic: Cubic convolution, else the nearest cell.
    """
    return Sampling(locate(grid, source), (grid.shape.y, grid.shape.x), cubic, stretch(grid, source) if cubic else 1.0)


def check_overlap(grid: GeoBox, source: GeoBox, what: str) -> None:
    """Pass data of which a part may lie on a grid.

    Args:
        grid: The grid, north-up.
        source: The grid of the data.
        what: What the data are, for the message.

    Raises:
        GridError: If the data lie wholly beside the grid.
    """
    rows, cols = (np.linspace(0, size, _PROBES) for size in grid.shape)
    x, y = np.meshgrid(grid.affine.c + grid.affine.a * cols, grid.affine.f + grid.affine.e * rows)
    points = _on_source(grid, source)(x, y)
    reached = [(each.min(), each.max()) for each in (points.real, points.imag)]
    if any(high < 0 or low > size for (low, high), size in zip(reached, source.shape[::-1], strict=True)):
        raise GridError(
            f"{what} lies beside the tile, so that nothing would be known there: the tile covers "
            f"{_describe(grid)}, {what} {_describe(source)}. Load it for this tile, or pass None."
        )


def reaches_beyond(grid: GeoBox, source: GeoBox, cells: int) -> bool:
    """Tell whether data reach so many cells beyond a grid on all sides, whether they hold something there or not.

    Looked at on the outline that is so far away from the border of the grid, with rounded corners. Half a cell of the
    data may lack, for resampling needs no more than their centres.

    Args:
        grid: The grid, north-up.
        source: The grid of the data.
        cells: Cells of `grid`.
    """
    (rows, cols), turns = grid.shape, np.radians(np.arange(0, 360, 45))
    col, row = (each.ravel() for each in np.meshgrid(np.linspace(0, cols, _PROBES), np.linspace(0, rows, _PROBES)))
    col, row = col[:, None] + cells * np.cos(turns), row[:, None] + cells * np.sin(turns)
    points = _on_source(grid, source)(grid.affine.c + grid.affine.a * col, grid.affine.f + grid.affine.e * row)
    return all(
        each.min() >= -0.5 and each.max() <= size + 0.5
        for each, size in zip((points.real, points.imag), source.shape[::-1], strict=True)
    )


def _describe(grid: GeoBox) -> str:
    west, south, east, north = grid.boundingbox
    crs = grid.crs
    name = f"EPSG:{crs.epsg}" if crs is not None and crs.epsg else to_pyproj(grid).name
    return f"x {west:.10g} to {east:.10g}, y {south:.10g} to {north:.10g} in {name}"


def locate(grid: GeoBox, source: GeoBox) -> Nodes:
    """Compute where the pixels of one grid lie on another, to within 0.001 of its pixels.

    Args:
        grid: The grid whose pixels are looked for, north-up.
        source: The grid that they are looked for on.

    Returns:
        column + i·row of the pixels' centres on `source`, where pixel (0, 0) reaches from 0 to 1 in both.
    """
    return sample_nodes(_on_source(grid, source), grid, _TOLERANCE_PX)


def _on_source(grid: GeoBox, source: GeoBox) -> PointFunction:
    target = to_pyproj(source)
    transformer = _transformer(grid.crs, source.crs)
    to_pixels = ~source.affine
    middle = source.affine.c + source.affine.a * source.shape.x / 2

    def pixels(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.complex128]:
        east, north = transformer.transform(x, y)
        found = np.isfinite(east) & np.isfinite(north)
        east, north = np.where(found, east, 0.0), np.where(found, north, 0.0)
        if target.is_geographic:  # longitudes count the same way throughout, also across the antimeridian
            east = east + 360 * np.round((middle - east) / 360)
        cols = to_pixels.a * east + to_pixels.b * north + to_pixels.c
        rows = to_pixels.d * east + to_pixels.e * north + to_pixels.f
        return np.where(found, cols, _NOWHERE) + 1j * np.where(found, rows, _NOWHERE)

    return pixels


@lru_cache(maxsize=4)
def _transformer(here: CRS, target: CRS) -> pyproj.Transformer:
    """Making one takes longer than all that a tile asks of it; threads may share it."""
    import pyproj

    return pyproj.Transformer.from_crs(here.proj, target.proj, always_xy=True)


def stretch(grid: GeoBox, source: GeoBox) -> float:
    """Return how many times wider than a source cell the cells of the grid are, 1 where they are narrower.

    It follows from the cell sizes alone, so that a part of a grid comes out as it does in the whole. A degree counts
    as 111.32 km.

    Examples:
        >>> from affine import Affine
        >>> from odc.geo.geobox import GeoBox
        >>> fine = GeoBox((9, 9), Affine(2, 0, 0, 0, -2, 0), "EPSG:3413")
        >>> coarse = GeoBox((9, 9), Affine(3, 0, 0, 0, -3, 0), "EPSG:32608")
        >>> stretch(coarse, fine), stretch(fine, coarse)
        (1.5, 1.0)
    """
    return max(1.0, _cell_metres(grid) / _cell_metres(source))


def _cell_metres(grid: GeoBox) -> float:
    size = max(abs(grid.resolution.x), abs(grid.resolution.y))
    return float(size * _METRES_PER_DEGREE if grid.crs is not None and grid.crs.geographic else size)
