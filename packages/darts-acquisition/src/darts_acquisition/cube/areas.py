"""Which windows and chunks of a product an area needs: the area may be a grid, a geometry, or many of either."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import shapely
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from darts_acquisition.cube.product import Chunk, CubeProduct, Window, to_pixels, to_world
from darts_acquisition.errors import OutsideExtentError, WideEdgeWarning
from darts_acquisition.tile import describe_area, name_crs
from darts_utils import GridError, InputTypeError, ParameterError

if TYPE_CHECKING:
    import geopandas as gpd

AreaLike = Union["GeoBox", "Geometry", "gpd.GeoDataFrame", "gpd.GeoSeries", "Iterable[GeoBox | Geometry]"]
"""An area of interest: a grid, a geometry with a CRS, a table of geometries, or several grids and geometries."""

_SEGMENTS = 256
"""Segments that the longer side of an area is cut into at least: edges bend in another projection."""


def product_windows(product: CubeProduct, area: GeoBox, buffer: int = 0) -> list[Window]:
    """Return the windows of a product's grid that hold an area; arguments and errors are those of `Datacube.windows`.

    InputTypeError if the area is no GeoBox.
    """
    if not isinstance(area, GeoBox):
        raise InputTypeError(
            f"Expected a GeoBox, the grid of a tile, but got a {type(area).__name__}; `tile.odc.geobox` is that of a "
            "Dataset or a DataArray, once odc.geo.xr is imported."
        )
    parts = wrap_columns(outer_window(area, product.geobox, buffer), product.geobox)
    inside = [part for each in parts if (part := each.intersection(product.window)) is not None]
    if not inside:
        raise _outside(product, area)
    return inside


def chunks_of(product: CubeProduct, area: AreaLike, buffer: int = 0) -> list[Chunk]:
    """List the chunks of a product that an area touches, see `Datacube.chunks_of`.

    A grid, and a rectangle along the axes of a projected CRS, which is the footprint of a tile, have all chunks that
    loading the tile reads: those of their bounding window in the product's grid.
    """
    return sorted({chunk for part in chunks_by_part(product, area, buffer) for chunk in part})


def chunks_by_part(product: CubeProduct, area: AreaLike, buffer: int = 0) -> list[tuple[Chunk, ...]]:
    """List the chunks of each grid and each geometry of an area; arguments and errors are those of `chunks_of`.

    A part that lies outside the grid has none; empty geometries are no parts.
    """
    chunks: list[tuple[Chunk, ...]] = []
    known: dict[Chunk, Chunk] = {}  # One object for a chunk, however many parts share it.
    outside: OutsideExtentError | None = None
    for part in _parts(area):
        try:
            if isinstance(part, GeoBox) or _is_a_rectangle(part):
                windows = product_windows(product, part if isinstance(part, GeoBox) else _box(part), buffer)
                found = {chunk for window in windows for chunk in window.in_chunks(product.chunk_px).chunks()}
            else:
                found = _chunks_of_geometry(product, part, buffer)
        except OutsideExtentError as error:
            outside, found = error, set()
        chunks.append(tuple(known.setdefault(chunk, chunk) for chunk in found))
    if not chunks:
        raise ParameterError("The area holds no geometry; expected at least one that is not empty.")
    if not known and outside is not None:
        raise outside
    return chunks


def _parts(area: AreaLike) -> Iterator[GeoBox | Geometry]:
    if isinstance(area, GeoBox):
        yield area
    elif isinstance(area, Geometry):
        if not area.is_empty:
            yield area
    elif hasattr(area, "geometry") and hasattr(area, "crs"):
        table: gpd.GeoDataFrame = area
        for shape in table.geometry:
            if shape is not None and not shape.is_empty:
                yield Geometry(shape, table.crs)
    elif isinstance(area, Iterable) and not isinstance(area, str | bytes | Mapping):
        for part in area:
            yield from _parts(part)
    else:
        raise ParameterError(
            f"{area!r:.80} of type {type(area).__name__} is no area; expected a GeoDataFrame, a GeoSeries, a GeoBox or "
            "a Geometry of odc.geo, or a list of these. A file is read with geopandas.read_file first."
        )


def _is_a_rectangle(geometry: Geometry) -> bool:
    shape, crs = geometry.geom, geometry.crs
    return bool(crs and not crs.geographic and shape.area and shape.equals(shapely.box(*shape.bounds)))


def _box(geometry: Geometry) -> GeoBox:
    """Return the bounding box of a geometry as a grid of one pixel."""
    left, bottom, right, top = geometry.boundingbox.bbox
    # GeoBox.from_bbox would move the corner to a multiple of the pixel size.
    return GeoBox((1, 1), Affine(right - left, 0, left, 0, bottom - top, top), geometry.crs)


def _chunks_of_geometry(product: CubeProduct, geometry: Geometry, buffer: int) -> set[Chunk]:
    """Return the chunks that the geometry itself touches, not only its bounding box.

    The two are compared in the one of their systems that is projected, where neither a pole nor the antimeridian is
    special; in degrees, if both are in degrees. Longitudes that differ by 360° are the same.
    """
    shape, crs = geometry.geom, geometry.crs
    if crs is None:
        raise GridError("The area has no CRS; expected one.")
    if crs.geographic and _has_wide_edge(shape):
        warnings.warn(
            "The area has edges of more than 180° of longitude, which are taken as drawn, around the globe. Where they "
            "are to cross the antimeridian, cut the area there, or let its longitudes run on beyond 180°.",
            WideEdgeWarning,
            stacklevel=2,
        )
    grid: Any = product.geobox
    to_grid = crs != grid.crs and not grid.crs.geographic
    if to_grid:
        shape = _transform(shape, crs.transformer_to_crs(grid.crs))
        if not np.isfinite(shape.bounds).all():
            raise OutsideExtentError(f"The area {describe_area(geometry)} cannot be expressed in {name_crs(grid.crs)}.")
    shape = make_valid(shape)
    shapely.prepare(shape)
    found: set[Chunk] = set()
    for turn, block in _candidates(product, geometry, shape, buffer):
        chunks = np.array(block.chunks())
        outlines = _outlines(product, chunks, buffer, turn)
        if not to_grid and not crs.geographic and grid.crs != crs:
            outlines = _transform(outlines, grid.crs.transformer_to_crs(crs))
        found |= {Chunk(int(row), int(col)) for row, col in chunks[shapely.intersects(shape, outlines)]}
    if not found:
        raise _outside(product, geometry)
    return found


def _has_wide_edge(shape: BaseGeometry) -> bool:
    """Tell whether an edge spans more than 180° of longitude, and does not just run around the globe."""
    parts = shapely.get_parts(shapely.get_parts(shape))
    lines = np.concatenate([shapely.get_rings(parts), parts[shapely.get_dimensions(parts) == 1]])
    points, owners = shapely.get_coordinates(lines, return_index=True)
    steps = np.abs(np.diff(points[:, 0]))[np.diff(owners) == 0]
    return bool(((steps > 180) & (steps < 360 - 1e-6)).any())


def _candidates(product: CubeProduct, geometry: Geometry, shape: Any, buffer: int) -> list[tuple[float, Window]]:
    """Return the rectangles of chunks around a geometry, which `shape` is in the grid's CRS, if that is projected.

    Each comes with the degrees that have to be added to the geometry's longitudes to get there.
    """
    grid: Any = product.geobox
    if grid.crs.geographic and geometry.crs is not None and not geometry.crs.geographic:
        west, south, east, north = lonlat_bounds(_box(geometry))
    else:
        west, south, east, north = shape.bounds
    if west > east:
        east += 360
    blocks = []
    for turn in _turns(product, west, east, buffer):
        cols, rows = to_pixels(grid, np.array([west + turn, east + turn]), np.array([north, south]))
        window = Window.of(
            int(np.floor(rows[0])) - buffer,
            int(np.floor(rows[1])) + 1 + buffer,
            int(np.floor(cols[0])) - buffer,
            int(np.floor(cols[1])) + 1 + buffer,
        ).intersection(product.window)
        if window is not None:
            blocks.append((turn, window.in_chunks(product.chunk_px)))
    return blocks


def _turns(product: CubeProduct, west: float, east: float, buffer: int) -> list[float]:
    """Return the multiples of 360° by which an area is moved to lie in the grid, or in parts on both of its sides."""
    grid: Any = product.geobox
    if not grid.crs.geographic:
        return [0.0]
    left, _, right, _ = grid.boundingbox.bbox
    first = -360.0 * np.floor((west - left) / 360)
    # The edges of the grid lie up to half a pixel beside ±180°, which is no part on the other side.
    reach = (buffer - 0.5) * grid.affine.a
    others = [first - 360, first + 360]
    return [first, *(turn for turn in others if east + turn > left - reach and west + turn < right + reach)]


def _outlines(product: CubeProduct, chunks: np.ndarray, buffer: int, turn: float) -> np.ndarray:
    """Return the outlines of chunks with a buffer in pixels, in the grid's CRS, moved to the west by `turn`."""
    affine, size, (height, width) = product.geobox.affine, product.chunk_px, product.geobox.shape
    rows, cols = chunks.T
    start = affine.c - turn
    left = start + (cols * size - buffer) * affine.a
    right = start + (np.minimum((cols + 1) * size, width) + buffer) * affine.a
    top = affine.f + (rows * size - buffer) * affine.e
    bottom = affine.f + (np.minimum((rows + 1) * size, height) + buffer) * affine.e
    return shapely.segmentize(shapely.box(left, bottom, right, top), size * affine.a / 8)


def _transform(shapes: Any, transformer: Any) -> Any:
    """Project shapes, their edges cut into segments before that, since they bend."""
    west, south, east, north = shapely.total_bounds(shapes)
    longest = max(east - west, north - south) / _SEGMENTS
    segments = shapely.segmentize(shapes, longest) if longest > 0 else shapes
    return shapely.transform(segments, lambda points: np.column_stack(transformer(*points.T)))


def make_valid(shape: BaseGeometry) -> BaseGeometry:
    """Return a shape as it is, or repaired."""
    # `is_valid` changes the filters of warnings of the whole process, and in several threads it leaves them changed.
    return shape if shapely.is_valid_reason(shape) == "Valid Geometry" else shapely.make_valid(shape)


def _outside(product: CubeProduct, area: GeoBox | Geometry) -> OutsideExtentError:
    return OutsideExtentError(
        f"The area {describe_area(area)} lies outside {product.collection}, which covers "
        f"{describe_area(product.geobox)}."
    )


def describe_missing(window: Window, chunks: list[Chunk], product: CubeProduct) -> str:
    """Say which chunks of a window are missing, at least one, in the cube's CRS and in degrees."""
    parts = list(parts_within(window, chunks, product))
    top, bottom = min(part.rows.start for part in parts), max(part.rows.stop for part in parts)
    left, right = min(part.cols.start for part in parts), max(part.cols.stop for part in parts)
    hull = product.geobox[top:bottom, left:right]
    touched = int(np.prod(window.in_chunks(product.chunk_px).shape))
    box = hull.boundingbox
    west, south, east, north = lonlat_bounds(hull)
    digits = 5 if abs(hull.affine.a) < 0.1 else 0
    across = " (across the antimeridian)" if west > east else ""
    return (
        f"{len(chunks)} of the {touched} chunks that the area touches are missing. They lie within "
        f"x {box.left:.{digits}f} to {box.right:.{digits}f}, y {box.bottom:.{digits}f} to {box.top:.{digits}f} in "
        f"{hull.crs}, longitude {west:.3f} to {east:.3f}{across}, latitude {south:.3f} to {north:.3f}."
    )


def parts_within(window: Window, chunks: Iterable[Chunk], product: CubeProduct) -> Iterator[Window]:
    """Yield the part of each chunk that lies in a window, in pixels of the cube."""
    for chunk in chunks:
        if (part := window.intersection(product.chunk_window(chunk))) is not None:
            yield part


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


def outer_window(geobox: GeoBox, grid: GeoBox, buffer: int = 0) -> Window:
    """Return the smallest window of a north-up grid that holds an area, which may reach beyond the grid's edges.

    A geographic grid is continued across the antimeridian: the columns of an area that crosses it run on beyond the
    grid's edge instead of around the world. `buffer` pixels of the grid are added on every side. OutsideExtentError if
    the area cannot be expressed in the grid's CRS.
    """
    asked: object = buffer
    if not isinstance(asked, Integral) or buffer < 0:
        raise ParameterError(f"buffer is {buffer!r}; expected 0 or more pixels, a whole number.")
    source, target = _crs_of(geobox), _crs_of(grid)
    along = np.linspace(0, 1, _EDGE_POINTS)
    start, end = np.zeros_like(along), np.ones_like(along)
    cols = np.concatenate([along, end, along, start]) * geobox.shape[1]
    rows = np.concatenate([start, along, end, along]) * geobox.shape[0]
    x, y = to_world(geobox, cols, rows)
    bend = -_SAME_PX
    if source != target:
        x, y = _transformed(x, y, source, target)
        bend = _BEND_PX
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise OutsideExtentError(f"The area {describe_area(geobox)} cannot be expressed in {name_crs(target)}.")
    if target.geographic:  # Longitudes run on across the antimeridian, beginning with the first one.
        x = (x - x[0] + 180) % 360 - 180 + x[0]
    cols, rows = to_pixels(grid, x, y)
    return Window.of(
        math.floor(rows.min() - bend) - buffer,
        math.ceil(rows.max() + bend) + buffer,
        math.floor(cols.min() - bend) - buffer,
        math.ceil(cols.max() + bend) + buffer,
    )


def lonlat_bounds(geobox: GeoBox) -> tuple[float, float, float, float]:
    """Return west, south, east and north of an area in degrees.

    West is greater than east across the antimeridian, as in RFC 7946. An area around a pole has all longitudes.
    """
    lon, lat = lonlat_outline(geobox, max(geobox.shape) / (_EDGE_POINTS - 1))
    south, north = float(lat.min()), float(lat.max())
    if np.ptp(lon) >= 360:
        return -180.0, south, 180.0, north
    west, east = ((float(edge) + 180) % 360 - 180 for edge in (lon.min(), lon.max()))
    return west, south, east, north


def lonlat_outline(geobox: GeoBox, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the outline of an area in degrees, as a closed ring whose longitudes run on across the antimeridian.

    Points along its edges lie at most `spacing` pixels apart, and closer near a pole, so that the longitude never turns
    by more than 5° from one to the next. The ring of an area around a pole goes once around the world and comes back
    along the pole's latitude. Longitudes, which may leave ±180, and latitudes are float64.
    """
    crs, degrees = _crs_of(geobox), CRS("EPSG:4326")
    height, width = geobox.shape
    # Where a point lies along the ring: the corners have whole numbers, clockwise from the upper left.
    steps = [math.ceil(edge / spacing) for edge in (width, height, width, height)]
    at = np.append(np.concatenate([corner + np.arange(count) / count for corner, count in enumerate(steps)]), 4)
    for _ in range(_HALVINGS):
        cols, rows = (
            np.interp(at, range(5), corners) for corners in ([0, width, width, 0, 0], [0, 0, height, height, 0])
        )
        lon, lat = _transformed(*to_world(geobox, cols, rows), crs, degrees)
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


def within_180(shapes: Sequence[BaseGeometry]) -> np.ndarray:
    """Bring parts of shapes in degrees that lie beyond ±180 to the other side of the globe, each as a shape of its own.

    Where a shape only touches the antimeridian, there is nothing on the other side.
    """
    turns = [affinity.translate(shape, turn) for shape in shapes for turn in (-360, 0, 360)]
    inside = shapely.get_parts(shapely.intersection(turns, shapely.box(-180, -90, 180, 90)))
    dimensions = shapely.get_dimensions(inside)
    return inside[dimensions == dimensions.max(initial=0)]


def wrap_columns(window: Window, grid: GeoBox) -> list[Window]:
    """Cut a window where it leaves a grid that goes around the world, and bring what is beyond to the other side.

    Returns the window, or its left and its right part; it stays as it is where the grid does not hold all longitudes.
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


def _crs_of(geobox: GeoBox) -> CRS:
    if geobox.crs is None:
        raise GridError("The area has no CRS; assign the right one first (tile.odc.assign_crs).")
    return geobox.crs


def _transformed(x: np.ndarray, y: np.ndarray, source: CRS, target: CRS) -> tuple[np.ndarray, np.ndarray]:
    x, y = source.transformer_to_crs(target)(x, y)
    return np.asarray(x), np.asarray(y)
