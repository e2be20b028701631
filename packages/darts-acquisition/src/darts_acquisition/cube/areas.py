"""Which windows and chunks of a product an area needs: the area may be a grid, a geometry, or many of either."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from darts_acquisition.cube.grid import (
    Chunk,
    Window,
    chunk_block,
    chunk_window,
    chunks_in,
    full_window,
    lonlat_bounds,
    outer_window,
    to_pixels,
    wrap_columns,
)
from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.errors import OutsideExtentError
from darts_acquisition.tile import describe_area, name_crs
from darts_utils import GridError, InputTypeError, ParameterError

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

AreaLike = Union["GeoBox", "Geometry", "gpd.GeoDataFrame", "gpd.GeoSeries", "Iterable[GeoBox | Geometry]"]
"""An area of interest: a grid, a geometry with a CRS, a table of geometries, or several grids and geometries."""

_SEGMENTS = 256
"""Segments that the longer side of an area is cut into at least: edges bend in another projection."""


def product_windows(product: CubeProduct, area: "GeoBox", buffer: int = 0) -> list[Window]:
    """Return the windows of a product's grid that hold an area, see `Datacube.windows`.

    Raises:
        InputTypeError: If the area is no GeoBox.
        OutsideExtentError: If the area lies wholly outside the grid.
        GridError: If the area has no CRS.
        ParameterError: If `buffer` is negative.
    """
    from odc.geo.geobox import GeoBox

    if not isinstance(area, GeoBox):
        raise InputTypeError(
            f"Expected a GeoBox, the grid of a tile, but got a {type(area).__name__}; `tile.odc.geobox` is that of a "
            "Dataset or a DataArray, once odc.geo.xr is imported."
        )
    whole = full_window(product.geobox)
    parts = wrap_columns(outer_window(area, product.geobox, buffer), product.geobox)
    inside = [part for part in (part.intersection(whole) for part in parts) if part is not None]
    if not inside:
        raise _outside(product, area)
    return inside


def chunks_of(product: CubeProduct, area: AreaLike, buffer: int = 0) -> list[Chunk]:
    """List the chunks of a product that an area touches, see `Datacube.chunks_of`.

    A grid, and a rectangle along the axes of a projected CRS, which is the footprint of a tile, have all chunks that
    loading the tile reads: those of their bounding window in the product's grid. Parts of the area that the grid does
    not cover have none.
    """
    return sorted({chunk for part in chunks_by_part(product, area, buffer) for chunk in part})


def chunks_by_part(product: CubeProduct, area: AreaLike, buffer: int = 0) -> list[tuple[Chunk, ...]]:
    """List the chunks of each grid and each geometry of an area; arguments and errors are those of `chunks_of`.

    A part that lies outside the grid has none; empty geometries are no parts.
    """
    from odc.geo.geobox import GeoBox

    chunks: list[tuple[Chunk, ...]] = []
    known: dict[Chunk, Chunk] = {}  # One object for a chunk, however many parts share it.
    outside: OutsideExtentError | None = None
    for part in _parts(area):
        try:
            if isinstance(part, GeoBox):
                found = _chunks_of_grid(product, part, buffer)
            elif _is_a_rectangle(part):
                found = _chunks_of_grid(product, _box(part), buffer)
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


def _parts(area: AreaLike) -> "Iterator[GeoBox | Geometry]":
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

    if isinstance(area, GeoBox):
        yield area
    elif isinstance(area, Geometry):
        if not area.is_empty:
            yield area
    elif hasattr(area, "geometry") and hasattr(area, "crs"):
        table: Any = area
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


def _is_a_rectangle(geometry: "Geometry") -> bool:
    """Tell a rectangle along the axes of a projected CRS."""
    import shapely

    shape, crs = geometry.geom, geometry.crs
    if crs is None or crs.geographic or not shape.area:
        return False
    return bool(shape.equals(shapely.box(*shape.bounds)))


def _box(geometry: "Geometry") -> "GeoBox":
    """Return the bounding box of a geometry as a grid of one pixel."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    left, bottom, right, top = geometry.boundingbox.bbox
    # GeoBox.from_bbox would move the corner to a multiple of the pixel size.
    return GeoBox((1, 1), Affine(right - left, 0, left, 0, bottom - top, top), geometry.crs)


def _chunks_of_grid(product: CubeProduct, grid: "GeoBox", buffer: int) -> set[Chunk]:
    size = product.chunk_px
    blocks = [chunk_block(window, size) for window in product_windows(product, grid, buffer)]
    return {chunk for block in blocks for chunk in chunks_in(block)}


def _chunks_of_geometry(product: CubeProduct, geometry: "Geometry", buffer: int) -> set[Chunk]:
    """Return the chunks that the geometry itself touches, not only its bounding box.

    The two are compared in the one of their systems that is projected, where neither a pole nor the antimeridian is
    special; in degrees, if both are in degrees. Longitudes that differ by 360° are the same.
    """
    import shapely

    shape, crs = geometry.geom, geometry.crs
    if crs is None:
        raise GridError("The area has no CRS; expected one.")
    grid: Any = product.geobox
    to_grid = crs != grid.crs and not grid.crs.geographic
    if to_grid:
        shape = _transform(shape, crs.transformer_to_crs(grid.crs))
        if not np.isfinite(shape.bounds).all():
            raise OutsideExtentError(f"The area {describe_area(geometry)} cannot be expressed in {name_crs(grid.crs)}.")
    shape = shape if shape.is_valid else shapely.make_valid(shape)
    shapely.prepare(shape)
    found: set[Chunk] = set()
    for turn, block in _candidates(product, geometry, shape, buffer):
        chunks = np.array(chunks_in(block))
        outlines = _outlines(product, chunks, buffer, turn)
        if not to_grid and not crs.geographic and grid.crs != crs:
            outlines = _transform(outlines, grid.crs.transformer_to_crs(crs))
        found |= {Chunk(int(row), int(col)) for row, col in chunks[shapely.intersects(shape, outlines)]}
    if not found:
        raise _outside(product, geometry)
    return found


def _candidates(product: CubeProduct, geometry: "Geometry", shape: Any, buffer: int) -> list[tuple[float, Window]]:
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
        ).intersection(full_window(grid))
        if window is not None:
            blocks.append((turn, chunk_block(window, product.chunk_px)))
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


def _outlines(product: CubeProduct, chunks: np.ndarray, buffer: int, turn: float) -> Any:
    """Return the outlines of chunks with a buffer in pixels, in the grid's CRS, moved to the west by `turn`."""
    import shapely

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
    import shapely

    west, south, east, north = shapely.total_bounds(shapes)
    longest = max(east - west, north - south) / _SEGMENTS
    segments = shapely.segmentize(shapes, longest) if longest > 0 else shapes
    return shapely.transform(segments, lambda points: np.column_stack(transformer(*points.T)))


def _outside(product: CubeProduct, area: "GeoBox | Geometry") -> OutsideExtentError:
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


def parts_within(window: Window, chunks: Iterable[Chunk], product: CubeProduct) -> Iterator[Window]:
    """Yield the part of each chunk that lies in a window, in pixels of the cube."""
    for chunk in chunks:
        part = window.intersection(chunk_window(chunk, product.chunk_px, product.geobox))
        if part is not None:
            yield part
