"""Where a tile lies on the globe, as GeoJSON."""

from typing import Any

import numpy as np
import shapely
import shapely.affinity
import shapely.geometry
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry.polygon import orient

_POINTS_PER_EDGE = 20
_DECIMALS = 7  # of a degree: a centimetre
_AT_POLE_M = 1e-3
"""A grid whose border comes as near to a pole as this has it on its border."""


def geojson_footprint(geobox: GeoBox, wkt: str) -> tuple[dict[str, Any], list[float]]:
    """Return the outline of a grid and its bounding box in longitude and latitude (WGS 84, degrees), as RFC 7946 wants.

    A grid that crosses the antimeridian becomes a MultiPolygon cut there, and its bounding box has its west end east of
    its east end (RFC 7946, 3.1.9 and 5.2). A grid around a pole becomes everything poleward of its outline.

    Args:
        geobox: A projected grid.
        wkt: Its CRS.

    Returns:
        GeoJSON geometry, and ``[west, south, east, north]``.
    """
    left, bottom, right, top = geobox.boundingbox.bbox
    outline = shapely.segmentize(
        shapely.box(left, bottom, right, top), max(right - left, top - bottom) / _POINTS_PER_EDGE
    )
    transformer = Transformer.from_crs(wkt, "EPSG:4326", always_xy=True)
    points, on_border = shapely.get_coordinates(outline), 0.0
    for pole in (90.0, -90.0):
        pole_point = shapely.Point(transformer.transform(0.0, pole, direction="INVERSE"))
        if not np.isfinite([pole_point.x, pole_point.y]).all() or outline.distance(pole_point) > _AT_POLE_M:
            continue
        if outline.exterior.distance(pole_point) > _AT_POLE_M:
            latitude = transformer.transform(*points.T)[1]
            south, north = sorted((pole, float(min(latitude, key=abs))))
            return shapely.geometry.mapping(shapely.box(-180, south, 180, north)), [-180.0, south, 180.0, north]
        points, on_border = _behind(outline.exterior, pole_point), pole
    longitude, latitude = transformer.transform(*points.T)

    # Neighbouring points are never half the globe apart: a jump is the antimeridian.
    longitude = np.unwrap(longitude, period=360)
    if on_border:  # There all longitudes meet: it is a line between those of its neighbours.
        longitude = np.concatenate([longitude[:1], longitude, longitude[-1:]])
        latitude = np.concatenate([[on_border], latitude, [on_border]])
    polygon = shapely.Polygon(np.round(np.column_stack([longitude, latitude]), _DECIMALS))
    west, south, east, north = polygon.bounds
    world = shapely.box(-180, -90, 180, 90)
    turns = [shapely.affinity.translate(polygon, xoff=degrees) for degrees in (-360, 0, 360)]
    parts = [
        orient(part) for turn in turns if isinstance(part := turn.intersection(world), shapely.Polygon) and part.area
    ]
    geometry = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return shapely.geometry.mapping(geometry), [_wrapped(west), south, _wrapped(east), north]


def _behind(ring: shapely.LinearRing, pole_point: shapely.Point) -> NDArray[np.float64]:
    """Return the points of a ring from a place on it on, once around, without those at the place, (n, 2)."""
    points = shapely.get_coordinates(ring)[:-1]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    far = shapely.distance(shapely.points(points), pole_point) > _AT_POLE_M
    start = shapely.line_locate_point(shapely.LineString(ring.coords), pole_point)
    behind = far & (along > start)
    return np.concatenate([points[behind], points[far & ~behind]])


def _wrapped(longitude: float) -> float:
    return round((longitude + 180) % 360 - 180, _DECIMALS) if abs(longitude) > 180 else longitude
