"""Which chunks of a product an area needs: the area may be a grid, a geometry, or many of either."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from darts_acquisition.bookkeeping import product_windows
from darts_acquisition.errors import OutsideExtentError
from darts_acquisition.grid import Chunk, Window, chunk_block, full_window, lonlat_bounds, to_pixels
from darts_acquisition.products import CubeProduct
from darts_utils import GridError

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

AreaLike = Union["GeoBox", "Geometry", "gpd.GeoDataFrame", "gpd.GeoSeries", "Iterable[GeoBox | Geometry]"]
"""An area of interest: a grid, a geometry with a CRS, a table of geometries, or several grids and geometries."""

_PIECES = 256
"""Pieces that the longer side of an area is cut into at least: edges bend in another projection."""


def chunks_of(product: CubeProduct, area: AreaLike, buffer: int = 0) -> list[Chunk]:
    """List the chunks of a product that an area touches.

    Args:
        product: What the chunks are of.
        area: The area, in any CRS.
        buffer: Pixels of the grid to add on every side.

    Returns:
        The chunks, each once, row by row. Parts of the area that the grid does not cover have none.

    Raises:
        GridError: If a grid or a geometry has no CRS.
        OutsideExtentError: If all of the area lies outside the grid.
    """
    from odc.geo.geobox import GeoBox

    found: set[Chunk] = set()
    outside: OutsideExtentError | None = None
    for part in _parts(area):
        try:
            if isinstance(part, GeoBox):
                found |= _chunks_of_grid(product, part, buffer)
            else:
                found |= _chunks_of_geometry(product, part, buffer)
        except OutsideExtentError as error:
            outside = error
    if not found and outside is not None:
        raise outside
    return sorted(found)


def _parts(area: AreaLike) -> "Iterator[GeoBox | Geometry]":
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

    if isinstance(area, GeoBox | Geometry):
        yield area
    elif hasattr(area, "geometry"):
        table: Any = area
        for shape in table.geometry:
            if shape is not None and not shape.is_empty:
                yield Geometry(shape, table.crs)
    elif isinstance(area, Iterable):
        for part in area:
            yield from _parts(part)
    else:
        raise GridError(
            f"An area of type {type(area).__name__} has no CRS; "
            "expected a GeoDataFrame, a GeoBox or a Geometry of odc.geo."
        )


def _chunks_of_grid(product: CubeProduct, grid: "GeoBox", buffer: int) -> set[Chunk]:
    size = product.chunk_px
    return {
        Chunk(row, col)
        for window in product_windows(product, grid, buffer)
        for row in range(*_ends(chunk_block(window, size).rows))
        for col in range(*_ends(chunk_block(window, size).cols))
    }


def _chunks_of_geometry(product: CubeProduct, geometry: "Geometry", buffer: int) -> set[Chunk]:
    """Return the chunks that the geometry itself touches, not only its bounding box.

    The two are compared in the one of their systems that is projected, where neither a pole nor the antimeridian is
    special; in degrees, if both are in degrees.
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
            raise OutsideExtentError(f"The area {geometry.boundingbox} cannot be expressed in {grid.crs}.")
    shape = shape if shape.is_valid else shapely.make_valid(shape)
    places = np.array([place for part in _candidates(product, geometry, shape, buffer) for place in _places(part)])
    found: set[Chunk] = set()
    if len(places):
        outlines = _outlines(product, places, buffer)
        if not to_grid and not crs.geographic and grid.crs != crs:
            outlines = _transform(outlines, grid.crs.transformer_to_crs(crs))
        shapely.prepare(shape)
        found = {Chunk(int(row), int(col)) for row, col in places[shapely.intersects(shape, outlines)]}
    if not found:
        raise OutsideExtentError(
            f"The area {geometry.boundingbox} lies outside {product.collection}, which covers {grid.boundingbox}."
        )
    return found


def _candidates(product: CubeProduct, geometry: "Geometry", shape: Any, buffer: int) -> list[Window]:
    """Return the rectangles of chunks around a geometry, which `shape` is in the grid's CRS, if that is projected."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    grid: Any = product.geobox
    if grid.crs.geographic and geometry.crs is not None and not geometry.crs.geographic:
        left, bottom, right, top = geometry.boundingbox.bbox
        # GeoBox.from_bbox would move the corner to a multiple of the pixel size.
        box = GeoBox((1, 1), Affine(right - left, 0, left, 0, bottom - top, top), geometry.crs)
        west, south, east, north = lonlat_bounds(box)
    else:
        west, south, east, north = shape.bounds
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    blocks = []
    for left, right in spans:
        cols, rows = to_pixels(grid, np.array([left, right]), np.array([north, south]))
        window = Window.of(
            int(np.floor(rows[0])) - buffer,
            int(np.floor(rows[1])) + 1 + buffer,
            int(np.floor(cols[0])) - buffer,
            int(np.floor(cols[1])) + 1 + buffer,
        ).intersection(full_window(grid))
        if window is not None:
            blocks.append(chunk_block(window, product.chunk_px))
    return blocks


def _places(block: Window) -> list[tuple[int, int]]:
    return [(row, col) for row in range(*_ends(block.rows)) for col in range(*_ends(block.cols))]


def _outlines(product: CubeProduct, places: np.ndarray, buffer: int) -> Any:
    """Return the outlines of chunks with a buffer in pixels, in the grid's CRS."""
    import shapely

    affine, size = product.geobox.affine, product.chunk_px
    rows, cols = places.T
    left, right = affine.c + (cols * size - buffer) * affine.a, affine.c + ((cols + 1) * size + buffer) * affine.a
    top, bottom = affine.f + (rows * size - buffer) * affine.e, affine.f + ((rows + 1) * size + buffer) * affine.e
    return shapely.segmentize(shapely.box(left, bottom, right, top), size * affine.a / 8)


def _transform(shapes: Any, transformer: Any) -> Any:
    """Project shapes, their edges cut into pieces before that, since they bend."""
    import shapely

    west, south, east, north = shapely.total_bounds(shapes)
    longest = max(east - west, north - south) / _PIECES
    pieces = shapely.segmentize(shapes, longest) if longest > 0 else shapes
    return shapely.transform(pieces, lambda points: np.column_stack(transformer(*points.T)))


def _ends(part: slice) -> tuple[int, int]:
    return part.start, part.stop
