"""Where an area lies in a large grid: windows of pixels, and the chunks that they touch."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from darts_acquisition.errors import OutsideExtentError
from darts_acquisition.tile import describe_area, name_crs
from darts_utils import GridError, ParameterError

if TYPE_CHECKING:
    from odc.geo import CRS
    from odc.geo.geobox import GeoBox

_EDGE_POINTS = 129
"""Points per edge of a footprint. Between two of them a straight edge of a 110 km tile bends by less than 0.03 m in
another projection, which `_BEND_PX` covers."""
_BEND_PX = 0.02
_SAME_PX = 1e-3
"""Pixel positions closer than this are the same one: rounding of coordinates stays far below."""
_TURN_DEGREES = 5.0
"""Outlines in degrees: the longitude turns by less from one point to the next, and a straight edge at a distance d from
the pole, by which it turns, leaves the line between them by less than d / 1000."""
_HALVINGS = 24
"""An edge through the pole itself turns at once; it is cut no finer than this, which is millimetres."""


class Window(NamedTuple):
    """A rectangle of pixels of a grid; rows count from the top, columns from the left, ends are exclusive.

    Attributes:
        rows: First and one past the last row.
        cols: First and one past the last column.
    """

    rows: slice
    cols: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    @classmethod
    def of(cls, top: int, bottom: int, left: int, right: int) -> "Window":
        """Make a window from its first and one past its last row and column."""
        return cls(slice(top, bottom), slice(left, right))

    def relative_to(self, other: "Window") -> "Window":
        """Return the same pixels, counted from the first row and column of another window."""
        return self.moved(-other.rows.start, -other.cols.start)

    def moved(self, down: int, right: int) -> "Window":
        """Return a window of the same shape some rows further down and some columns further to the right."""
        rows, cols = self
        return Window.of(rows.start + down, rows.stop + down, cols.start + right, cols.stop + right)

    def intersection(self, other: "Window") -> "Window | None":
        """Return what two windows share, None where that is nothing."""
        top, bottom = max(self.rows.start, other.rows.start), min(self.rows.stop, other.rows.stop)
        left, right = max(self.cols.start, other.cols.start), min(self.cols.stop, other.cols.stop)
        return Window.of(top, bottom, left, right) if top < bottom and left < right else None


class Chunk(NamedTuple):
    """Row and column of a chunk in a datacube; rows count from the top, columns from the left."""

    row: int
    col: int


def outer_window(geobox: "GeoBox", grid: "GeoBox", buffer: int = 0) -> Window:
    """Return the smallest window of a north-up grid that holds an area, which may reach beyond the grid's edges.

    A geographic grid is continued across the antimeridian: the columns of an area that crosses it run on beyond the
    grid's edge instead of around the world. `buffer` pixels of the grid are added on every side.

    Raises:
        GridError: If the area has no CRS.
        ParameterError: If `buffer` is negative.
        OutsideExtentError: If the area cannot be expressed in the grid's CRS.
    """
    if buffer < 0:
        raise ParameterError(f"buffer is {buffer}; expected 0 or more pixels.")
    source, target = _crs_of(geobox), _crs_of(grid)
    x, y = _outline(geobox)
    bend = -_SAME_PX
    if source != target:
        x, y = _transform(x, y, source, target)
        bend = _BEND_PX
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise OutsideExtentError(f"The area {describe_area(geobox)} cannot be expressed in {name_crs(target)}.")
    if target.geographic:
        x = _continue_longitudes(x)
    cols, rows = to_pixels(grid, x, y)
    return Window.of(
        math.floor(rows.min() - bend) - buffer,
        math.ceil(rows.max() + bend) + buffer,
        math.floor(cols.min() - bend) - buffer,
        math.ceil(cols.max() + bend) + buffer,
    )


def aligned_window(geobox: "GeoBox", grid: "GeoBox") -> Window:
    """Return the window of a north-up grid that a geobox made of the grid's own pixels covers.

    Raises:
        GridError: If the geobox has another CRS or pixel size, is shifted by a part of a pixel, or reaches beyond the
            grid's edges.
    """
    problem = None
    x, y = _to_world(geobox, np.array([0, geobox.width]), np.array([0, geobox.height]))
    (left, right), (top, bottom) = to_pixels(grid, x, y)
    edges = np.array([top, bottom, left, right])
    whole = np.round(edges).astype(int)
    window = Window.of(*whole.tolist())
    if geobox.crs != grid.crs:
        problem = f"its CRS is {name_crs(geobox.crs)}"
    elif geobox.affine.b or geobox.affine.d or window.shape != geobox.shape:
        problem = f"its pixels are {geobox.affine.a} × {geobox.affine.e}"
    elif np.abs(edges - whole).max() > 0.01:
        problem = "it is shifted by a part of a pixel"
    elif window.intersection(full_window(grid)) != window:
        problem = "it reaches beyond the grid's edges"
    if problem:
        raise GridError(
            f"The geobox at {describe_area(geobox)} is not part of the datacube's grid: {problem}. "
            f"Expected {name_crs(grid.crs)}, pixels of {grid.affine.a} × {grid.affine.e}, an origin on the grid; "
            "geobox[cube.window(area)] has them."
        )
    return window


def lonlat_bounds(geobox: "GeoBox") -> tuple[float, float, float, float]:
    """Return west, south, east and north of an area in degrees.

    West is greater than east where the area crosses the antimeridian, as in RFC 7946. An area around a pole has all
    longitudes.
    """
    lon, lat = lonlat_outline(geobox, max(geobox.shape) / (_EDGE_POINTS - 1))
    south, north = float(lat.min()), float(lat.max())
    if np.ptp(lon) >= 360:
        return -180.0, south, 180.0, north
    west, east = ((float(edge) + 180) % 360 - 180 for edge in (lon.min(), lon.max()))
    return west, south, east, north


def lonlat_outline(geobox: "GeoBox", spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the outline of an area in degrees, as a closed ring whose longitudes run on across the antimeridian.

    Points along its edges lie at most `spacing` pixels apart, and closer near a pole, so that the longitude never turns
    by more than 5° from one to the next. The ring of an area around a pole goes once around the world and comes back
    along the pole's latitude. Longitudes, which may leave ±180, and latitudes are float64.

    Raises:
        GridError: If the area has no CRS.
    """
    from odc.geo import CRS

    crs, degrees = _crs_of(geobox), CRS("EPSG:4326")
    height, width = geobox.shape
    # Where a point lies along the ring: the corners have whole numbers, clockwise from the upper left.
    steps = [math.ceil(edge / spacing) for edge in (width, height, width, height)]
    at = np.append(np.concatenate([corner + np.arange(count) / count for corner, count in enumerate(steps)]), 4)
    for _ in range(_HALVINGS):
        cols, rows = (
            np.interp(at, range(5), corners) for corners in ([0, width, width, 0, 0], [0, 0, height, height, 0])
        )
        lon, lat = _transform(*_to_world(geobox, cols, rows), crs, degrees)
        wide = np.abs((np.diff(lon) + 180) % 360 - 180) > _TURN_DEGREES
        if not wide.any():
            break
        at = np.sort(np.concatenate([at, (at[:-1] + at[1:])[wide] / 2]))
    lon = np.unwrap(lon, period=360)
    turns = round((lon[-1] - lon[0]) / 360)
    lon[-1] = lon[0] + 360 * turns
    if turns:
        pole = np.copysign(90.0, lat[0])
        lon, lat = np.append(lon, [lon[-1], lon[0], lon[0]]), np.append(lat, [pole, pole, lat[0]])
    return lon, lat


def full_window(grid: "GeoBox") -> Window:
    """Return the window that covers a whole grid."""
    return Window.of(0, grid.shape[0], 0, grid.shape[1])


def wrap_columns(window: Window, grid: "GeoBox") -> list[Window]:
    """Cut a window where it leaves a grid that goes around the world, and bring what is beyond to the other side.

    Returns:
        The window, or its left and its right part; the window as it is where the grid does not hold all longitudes.
    """
    width = grid.shape[1]
    if not _crs_of(grid).geographic or round(360 / grid.affine.a) != width:
        return [window]
    rows, (left, right) = window.rows, (window.cols.start, window.cols.stop)
    turns = left // width
    left, right = left - turns * width, right - turns * width
    if right <= width:
        return [Window(rows, slice(left, right))]
    return [Window(rows, slice(left, width)), Window(rows, slice(0, right - width))]


def chunk_block(window: Window, size: int) -> Window:
    """Return the rectangle of chunks of `size` × `size` pixels that a window touches, counted in chunks."""
    rows, cols = window
    return Window.of(rows.start // size, -(-rows.stop // size), cols.start // size, -(-cols.stop // size))


def chunk_window(chunk: Chunk, size: int, grid: "GeoBox") -> Window:
    """Return the pixels of a chunk of `size` × `size` pixels; those at the grid's lower and right edge end with it."""
    return Window.of(
        chunk.row * size,
        min((chunk.row + 1) * size, grid.shape[0]),
        chunk.col * size,
        min((chunk.col + 1) * size, grid.shape[1]),
    )


def chunks_in(block: Window) -> list[Chunk]:
    """List the chunks of a block, row by row."""
    rows, cols = block
    return [Chunk(row, col) for row in range(rows.start, rows.stop) for col in range(cols.start, cols.stop)]


def chunks_where(chosen: np.ndarray, block: Window) -> list[Chunk]:
    """List the chosen chunks of a block, row by row; `chosen` is 2-D, bool, one value per chunk of the block."""
    return [Chunk(int(row) + block.rows.start, int(col) + block.cols.start) for row, col in np.argwhere(chosen)]


def _crs_of(geobox: "GeoBox") -> "CRS":
    if geobox.crs is None:
        raise GridError("The area has no CRS; assign the right one first (tile.odc.assign_crs).")
    return geobox.crs


def _outline(geobox: "GeoBox") -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of points along the outer edge of a geobox's pixels, in its CRS, float64."""
    height, width = geobox.shape
    along = np.linspace(0, 1, _EDGE_POINTS)
    start, end = np.zeros_like(along), np.ones_like(along)
    cols = np.concatenate([along, end, along, start]) * width
    rows = np.concatenate([start, along, end, along]) * height
    return _to_world(geobox, cols, rows)


def to_pixels(grid: "GeoBox", x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn coordinates into columns and rows of a north-up grid, counted from the upper left corner, with fractions."""
    affine = grid.affine
    return (x - affine.c) / affine.a, (y - affine.f) / affine.e


def _to_world(geobox: "GeoBox", cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine = geobox.affine
    return affine.c + cols * affine.a + rows * affine.b, affine.f + cols * affine.d + rows * affine.e


def _continue_longitudes(lon: np.ndarray) -> np.ndarray:
    """Let longitudes run on across the antimeridian, beginning with the first one, instead of jumping by 360°."""
    return (lon - lon[0] + 180) % 360 - 180 + lon[0]


def _transform(x: np.ndarray, y: np.ndarray, source: "CRS", target: "CRS") -> tuple[np.ndarray, np.ndarray]:
    x, y = source.transformer_to_crs(target)(x, y)
    return np.asarray(x), np.asarray(y)
