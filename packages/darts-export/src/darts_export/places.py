"""Where objects are on the ground, how large a square metre of the grid is there, and whether they were cut off."""

import uuid
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Proj, Transformer

from darts_export.context import TileContext
from darts_utils.objects import Objects

FloatArray = NDArray[np.float64]

_NAMESPACE = uuid.UUID("6d1f8e0c-5b3a-5c0e-9f43-2a7c1e6b90d4")
_NODES = 33
"""Nodes along each side of a tile, between which the areal scale is interpolated: 1e-8 off at 100 km in UTM."""


@dataclass(frozen=True)
class InnerPoints:
    """A point inside each object, and the areal scale of the projection there.

    Attributes:
        x: Easting, (count,) float64, in units of the tile's CRS.
        y: Northing, (count,) float64.
        lon: Longitude, (count,) float64, degrees in WGS 84, -180…180.
        lat: Latitude, (count,) float64, degrees.
        areal_scale: Area on the grid over area on the ellipsoid (Snyder 1987, p. 20), (count,) float64.
    """

    x: FloatArray
    y: FloatArray
    lon: FloatArray
    lat: FloatArray
    areal_scale: FloatArray


def find_inner_points(objects: Objects, context: TileContext) -> InnerPoints:
    """Find a point inside each object: the middle of the first of its longest rows.

    Args:
        objects: The objects.
        context: The grid.

    Returns:
        The points.
    """
    column, row = _middles(objects)
    x0, dx, y0, dy = context.transform
    x, y = x0 + dx * column, y0 + dy * row
    lon, lat = Transformer.from_crs(context.wkt, "EPSG:4326", always_xy=True).transform(x, y)
    return InnerPoints(x, y, np.asarray(lon), np.asarray(lat), _areal_scale(column, row, objects.shape, context))


def ground_area(objects: Objects, context: TileContext) -> float:
    """Return the area of all objects on the ellipsoid in m², row by row, since the areal scale changes along a tile."""
    middle, row = (objects.start + objects.stop) / 2, (objects.row + 0.5).astype(np.float64)
    scale = _areal_scale(middle, row, objects.shape, context)
    return float(((objects.stop - objects.start) * context.pixel_area / scale).sum())


def object_uids(inner: InnerPoints, context: TileContext, model: str | None) -> NDArray:
    """Return a name for each object that no object of another tile, model or place has, and a rerun gives again.

    Args:
        inner: Points inside the objects.
        context: The tile.
        model: Member of the ensemble, None for the ensemble as a whole.

    Returns:
        Texts, (count,) object: UUIDs of version 5 (RFC 9562) of tile, source, time, models and point.
    """
    tile = f"{context.tile_id}|{context.source}|{context.time_text}|{context.model_names()}|{model or ''}"
    points = zip(inner.x.tolist(), inner.y.tolist(), strict=True)
    return np.array([str(uuid.uuid5(_NAMESPACE, f"{tile}|{x:.3f}|{y:.3f}")) for x, y in points], object)


def touches_edge(objects: Objects, extent: NDArray | None) -> NDArray[np.bool_]:
    """Tell which objects may go on beyond what was seen.

    Args:
        objects: The objects.
        extent: Array (y, x), above 0 where results are reliable; None where all of the tile is. Not changed.

    Returns:
        True where a pixel of the object shares an edge with a pixel outside the extent or with the border of the tile,
        (count,) bool.
    """
    height, width = objects.shape
    at_border = (objects.row == 0) | (objects.row == height - 1) | (objects.start == 0) | (objects.stop == width)
    cut = np.zeros(objects.count, np.bool_)
    cut[objects.label[at_border]] = True
    if extent is not None:
        seen = np.ascontiguousarray(extent).reshape(-1)
        for index, label in objects.pixel_blocks():
            for step in (1, -1, width, -width):
                # Beyond the border anything will do: who lies there is cut already.
                cut[label[seen.take(index + step, mode="clip") == 0]] = True
    return cut


def _middles(objects: Objects) -> tuple[FloatArray, FloatArray]:
    """Return column and row of the points, counted in pixels from the outer corner of the tile."""
    length = objects.stop - objects.start
    order = np.lexsort((-length, objects.label))  # stable, so that the first of the longest comes first
    first = order[np.flatnonzero(np.diff(objects.label[order], prepend=-1))]
    column, row = (objects.start[first] + objects.stop[first]) / 2, objects.row[first] + 0.5
    return column.astype(np.float64), row.astype(np.float64)


def _areal_scale(column: FloatArray, row: FloatArray, shape: tuple[int, int], context: TileContext) -> FloatArray:
    proj = Proj(CRS.from_wkt(context.wkt))
    x0, dx, y0, dy = context.transform
    rows, columns = (np.linspace(0, size, _NODES) for size in shape)
    lon, lat = proj(*np.meshgrid(x0 + dx * columns, y0 + dy * rows), inverse=True)
    scale = np.reshape(proj.get_factors(lon.reshape(-1), lat.reshape(-1)).areal_scale, lon.shape)
    return interpolate(scale, (rows, columns), (row, column))


def interpolate(
    values: FloatArray, nodes: tuple[FloatArray, FloatArray], at: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Interpolate bilinearly, bit by bit as `scipy.interpolate` does, which takes a third of a second to import.

    Args:
        values: Values at nodes, (y, x) float64.
        nodes: y and x of the nodes, increasing.
        at: y and x of points within the nodes, (n,) float64 each.

    Returns:
        Values at the points, (n,) float64.
    """
    (y, t), (x, s) = (_within(edges, points) for edges, points in zip(nodes, at, strict=True))
    upper = values[y, x] * (1 - t) * (1 - s) + values[y, x + 1] * (1 - t) * s
    return np.asarray(upper + values[y + 1, x] * t * (1 - s) + values[y + 1, x + 1] * t * s)


def _within(edges: FloatArray, points: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Return which cell each point lies in, and how far behind its beginning, from 0 to 1."""
    cell = np.clip(np.searchsorted(edges, points, "right") - 1, 0, len(edges) - 2)
    return cell, (points - edges[cell]) / (edges[cell + 1] - edges[cell])
