"""Which objects and labels count: those on ground that was seen and labelled, cut to it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_evaluation.ground import Ground

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

LEAST_SHARE = 0.5
"""Share of an object that must lie on ground that counts; what has less is neither hit nor miss nor alarm."""

SIZE_CLASSES_M2 = (0.0, 1e3, 5e3, 1e4, 5e4, float("inf"))
"""Edges of the size classes of labels, square metres."""


@dataclass(frozen=True)
class Counted:
    """Shapes that count in one tile.

    Attributes:
        index: Places in the list that was given, 1-D int64.
        shapes: The shapes, cut to the ground that counts, in the CRS of the tile.
        share: Share of each shape's pixels in the tile that lies on ground that counts, for all that were given;
            0 beyond the tile.
        pixels: Pixels of each shape in the tile that count, for all that were given.
    """

    index: NDArray[np.int64]
    shapes: NDArray[Any]
    share: NDArray[np.float64]
    pixels: NDArray[np.float64]


def count_shapes(shapes: "gpd.GeoSeries", ground: Ground, where: NDArray[np.bool_]) -> Counted:
    """Find the shapes of which at least half lies on ground that counts.

    Args:
        shapes: Polygons in the CRS of the tile.
        ground: The tile.
        where: Pixels that count, 2-D bool.

    Returns:
        What counts.
    """
    import shapely

    values = np.asarray(shapes.values, dtype=object)
    inside, whole = _pixels(values, ground, where)
    share = np.divide(inside, whole, out=np.zeros(len(values)), where=whole > 0)
    pixel_m2 = abs(ground.transform.a * ground.transform.e)
    # Of what reaches beyond the tile, pixels there are not counted; its area tells.
    areas = shapely.area(values) / pixel_m2 if len(values) else np.zeros(0)
    beyond = areas > 1.5 * whole + 4
    share[beyond] = np.minimum(inside[beyond] / areas[beyond], share[beyond])
    index = np.flatnonzero(share >= LEAST_SHARE)
    cut = [values[place] if share[place] >= 1 else _cut(values[place], ground, where) for place in index]
    made = np.empty(len(cut), dtype=object)
    made[:] = cut
    kept = np.array([not shape.is_empty for shape in cut], bool)
    return Counted(index[kept], made[kept], share, inside)


def _pixels(values: NDArray[Any], ground: Ground, where: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Count the pixels of each shape that count, and all of them in the tile; shapes may overlap one another."""
    import shapely
    from rasterio.features import rasterize

    inside, whole = np.zeros(len(values)), np.zeros(len(values))
    todo = np.arange(len(values))
    while len(todo):
        # Those that overlap another are burnt in a later round.
        tree = shapely.STRtree(values[todo])
        one, other = tree.query(values[todo], predicate="intersects")
        later = np.zeros(len(todo), bool)
        for first, second in sorted(zip(one[one < other].tolist(), other[one < other].tolist(), strict=True)):
            if not later[first]:
                later[second] = True
        now = todo[~later]
        numbers = rasterize(
            zip(values[now].tolist(), range(1, len(now) + 1), strict=True),
            out_shape=where.shape,
            transform=ground.transform,
            fill=0,
            dtype="int32",
        )
        whole[now] = np.bincount(numbers.ravel(), minlength=len(now) + 1)[1:]
        inside[now] = np.bincount(numbers[where], minlength=len(now) + 1)[1:]
        todo = todo[later]
    small = whole == 0
    if small.any():
        # No pixel's centre lies in it: the pixel that holds a point of it decides.
        points = shapely.get_coordinates(shapely.point_on_surface(values[small]))
        cols, rows = (~ground.transform) * (points[:, 0], points[:, 1])
        rows, cols = np.floor(rows).astype(int), np.floor(cols).astype(int)
        there = (rows >= 0) & (rows < where.shape[0]) & (cols >= 0) & (cols < where.shape[1])
        hit = np.zeros(len(points), bool)
        hit[there] = where[rows[there], cols[there]]
        whole[small], inside[small] = 1, hit
    return inside, whole


def _cut(shape: "BaseGeometry", ground: Ground, where: NDArray[np.bool_]) -> "BaseGeometry":
    """Return the part of a shape on pixels that count."""
    import shapely
    from rasterio.features import shapes as polygonize
    from rasterio.transform import from_origin

    a, e = ground.transform.a, ground.transform.e
    (left, top), (right, bottom) = (
        (~ground.transform) * corner
        for corner in ((shape.bounds[0], shape.bounds[3]), (shape.bounds[2], shape.bounds[1]))
    )
    height, width = where.shape
    rows = slice(max(int(np.floor(top)), 0), min(int(np.ceil(bottom)) + 1, height))
    cols = slice(max(int(np.floor(left)), 0), min(int(np.ceil(right)) + 1, width))
    window = where[rows, cols]
    if not window.any():
        return shapely.Polygon()
    corner = ground.transform * (cols.start, rows.start)
    placed = from_origin(corner[0], corner[1], a, -e)
    parts = [shapely.geometry.shape(part) for part, _ in polygonize(window.astype("uint8"), window, transform=placed)]
    cut = shapely.intersection(shape, shapely.union_all(parts))
    areal = [part for part in shapely.get_parts(cut) if shapely.get_dimensions(part) == 2]
    return shapely.union_all(areal) if areal else shapely.Polygon()
