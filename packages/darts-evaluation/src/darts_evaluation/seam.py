"""Longitudes jump from 180° to -180°: shapes that cross there, in degrees."""

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

LONLAT = "OGC:CRS84"
_TURN, _WIDEST = 360.0, 90.0
_STEP_M = 500.0
"""Distance of the points along the edges of what crosses 180°, before it is cut there."""
_FAR_M = 3e7
"""Farther from the pole than any place of an equal-area CRS of a hemisphere."""


def _jump(points: NDArray[np.float64]) -> float:
    return float(np.abs(np.diff(points[:, 0])).max(initial=0.0))


def join_at_seam(shapes: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Put polygons in degrees together that cross 180° with vertices on both sides: longitudes go on beyond 180°.

    So is read a polygon with an edge of more than 180° that is at most 90° wide across 180°. Any other lies as it is
    drawn: a cap around the pole, for example, from -180° to 180°.

    Args:
        shapes: Polygons and multipolygons, 1-D; None and others stay.

    Returns:
        The shapes, and which of them were changed.
    """
    left, _, right, _ = shapely.bounds(shapes).reshape(-1, 4).T
    changed = np.zeros(len(shapes), bool)
    made = shapes.copy()
    for index in np.flatnonzero(right - left > _TURN / 2):
        parts = shapely.get_parts(shapes[index])
        crossing = [_crosses(part) for part in parts]
        if any(crossing):
            joined = [
                shapely.transform(part, _beyond) if does else part for part, does in zip(parts, crossing, strict=True)
            ]
            made[index] = joined[0] if len(joined) == 1 else shapely.MultiPolygon(joined)
            changed[index] = True
    return made, changed


def _crosses(part: BaseGeometry) -> bool:
    if not isinstance(part, shapely.Polygon):
        return False
    points = shapely.get_coordinates(part.exterior)
    return _jump(points) > _TURN / 2 and 0 < float(np.ptp(_beyond(points)[:, 0])) <= _WIDEST


def _beyond(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([np.where(points[:, 0] < 0, points[:, 0] + _TURN, points[:, 0]), points[:, 1]])


def to_degrees(shapes: gpd.GeoSeries, crs: pyproj.CRS, plane: str) -> gpd.GeoSeries:
    """Transform polygons to a CRS in degrees, those across 180° or around a pole cut along its meridian.

    Args:
        shapes: Valid polygons with points along their edges, in a projected CRS.
        crs: The CRS in degrees.
        plane: The equal-area CRS of their hemisphere, in which the meridian of 180° is a part of the axis of y.

    Returns:
        Valid polygons and multipolygons.
    """
    made = shapes.to_crs(crs)
    jumping = np.array([any(_jump(ring) > _TURN / 2 for ring in _rings(shape)) for shape in made], bool)
    if not jumping.any():
        return made.make_valid()
    projected = shapes[jumping].to_crs(plane).make_valid()
    parts = [made[~jumping].make_valid()]
    for left, right, sign in ((-_FAR_M, 0.0, -1), (0.0, _FAR_M, 1)):
        half = projected.intersection(shapely.box(left, -_FAR_M, right, _FAR_M))
        half = half[half.area > 0].segmentize(_STEP_M).to_crs(crs)
        parts.append(half.transform(lambda points, sign=sign: _to_side(points, sign)).make_valid())
    return gpd.GeoSeries([shape for part in parts for shape in part], crs=crs)


def to_world(shapes: gpd.GeoSeries) -> gpd.GeoSeries:
    """Transform polygons to longitudes from -180° to 180° and latitudes, those across 180° cut there.

    Args:
        shapes: Valid polygons; longitudes may go on beyond 180°, see `join_at_seam`.

    Returns:
        The same ground in OGC:CRS84.
    """
    made = shapes.to_crs(LONLAT)
    if shapes.crs.is_geographic:
        left, _, right, _ = shapely.bounds(made.to_numpy()).reshape(-1, 4).T
        across = (left < -_TURN / 2) | (right > _TURN / 2)
    else:
        across = np.array([any(_jump(ring) > _TURN / 2 for ring in _rings(shape)) for shape in made], bool)
    for index in np.flatnonzero(across):
        made.iloc[index] = _turned(made.iloc[index]) if shapes.crs.is_geographic else _cut(shapes.iloc[[index]], made)
    return made


def _cut(shape: gpd.GeoSeries, made: gpd.GeoSeries) -> BaseGeometry:
    """Return one shape of a projected CRS in degrees, cut at 180°."""
    latitudes = shape.to_crs(made.crs).bounds
    plane = "EPSG:6932" if latitudes["maxy"].iloc[0] < 0 else "EPSG:6931"
    return to_degrees(shape.segmentize(_STEP_M), made.crs, plane).union_all()


def _turned(shape: BaseGeometry) -> BaseGeometry:
    """Lay what goes on beyond 180° out on the other side."""
    parts = []
    for turn in (-_TURN, 0.0, _TURN):
        inside = shapely.intersection(shape, shapely.box(turn - _TURN / 2, -90, turn + _TURN / 2, 90))
        parts += [translate(part, -turn) for part in shapely.get_parts(inside) if shapely.get_dimensions(part) == 2]
    return shapely.union_all(parts)


def _to_side(points: NDArray[np.float64], sign: int) -> NDArray[np.float64]:
    """Give points on the meridian of 180° the sign of the side that they bound."""
    wrong = (np.sign(points[:, 0]) == -sign) & (np.abs(points[:, 0]) > _TURN / 4)
    return np.column_stack([np.where(wrong, points[:, 0] + sign * _TURN, points[:, 0]), points[:, 1]])


def _rings(shape: BaseGeometry) -> list[NDArray[np.float64]]:
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(shape)]
