"""Which objects and labels count: those on ground that was seen and labelled, cut to it."""

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.features import shapes as polygonize
from rasterio.transform import from_origin
from shapely.geometry.base import BaseGeometry

from darts_evaluation.ground import Ground, frame_of

LEAST_SHARE = 0.5
"""Share of the area of an object that must lie on ground that counts, for it to count."""

SIZE_CLASSES_M2 = (0.0, 1e3, 5e3, 1e4, 5e4, float("inf"))
"""Edges of the size classes of labels, square metres."""


def cut_to_ground(shapes: gpd.GeoSeries, ground: Ground) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Cut shapes to the pixels of a tile that count.

    Args:
        shapes: Polygons in the CRS of the tile.
        ground: The tile.

    Returns:
        Places of the shapes that have a pixel there, 1-D int64, and what of them lies on such pixels: the shapes
        themselves where all of their pixels do.
    """
    values = np.asarray(shapes.values, dtype=object)
    inside, whole = _pixels(values, ground, ground.valid)
    frame = frame_of(ground.transform, ground.valid.shape)
    shapely.prepare(frame)
    entire = (inside == whole) & shapely.covers(frame, values)
    index = np.flatnonzero(inside)
    cut = np.empty(len(index), dtype=object)
    cut[:] = [
        values[position] if entire[position] else _cut(values[position], ground, ground.valid) for position in index
    ]
    kept = np.array([not shape.is_empty for shape in cut], bool)
    return index[kept], cut[kept]


def _pixels(values: NDArray[np.object_], ground: Ground, where: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Count the pixels of each shape that count, and all of them in the tile; shapes may overlap one another."""
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
        cols, rows = (~ground.transform) @ (points[:, 0], points[:, 1])
        rows, cols = np.floor(rows).astype(int), np.floor(cols).astype(int)
        within = (rows >= 0) & (rows < where.shape[0]) & (cols >= 0) & (cols < where.shape[1])
        hit = np.zeros(len(points), bool)
        hit[within] = where[rows[within], cols[within]]
        whole[small], inside[small] = 1, hit
    return inside, whole


def _cut(shape: BaseGeometry, ground: Ground, where: NDArray[np.bool_]) -> BaseGeometry:
    """Return the part of a shape on pixels that count."""
    a, e = ground.transform.a, ground.transform.e
    (left, top), (right, bottom) = (
        (~ground.transform) @ corner
        for corner in ((shape.bounds[0], shape.bounds[3]), (shape.bounds[2], shape.bounds[1]))
    )
    height, width = where.shape
    rows = slice(max(int(np.floor(top)), 0), min(int(np.ceil(bottom)) + 1, height))
    cols = slice(max(int(np.floor(left)), 0), min(int(np.ceil(right)) + 1, width))
    window = where[rows, cols]
    if not window.any():
        return shapely.Polygon()
    corner = ground.transform @ (cols.start, rows.start)
    placed = from_origin(corner[0], corner[1], a, -e)
    parts = [shapely.geometry.shape(part) for part, _ in polygonize(window.astype("uint8"), window, transform=placed)]
    cut = shapely.intersection(shape, shapely.union_all(parts))
    areal = [part for part in shapely.get_parts(cut) if shapely.get_dimensions(part) == 2]
    return shapely.union_all(areal) if areal else shapely.Polygon()
