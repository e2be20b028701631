"""Where a tile lies on the globe, as GeoJSON."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_POINTS_PER_EDGE = 20
_DECIMALS = 7  # of a degree: a centimetre


def geojson_footprint(geobox: "GeoBox") -> tuple[dict[str, Any], list[float]]:
    """Return the outline of a grid and its bounding box in longitude and latitude (WGS 84, degrees), as RFC 7946 wants.

    A grid that crosses the antimeridian becomes a MultiPolygon cut there, and its bounding box has its west end east of
    its east end (RFC 7946, 3.1.9 and 5.2). A grid around a pole becomes everything poleward of its outline.

    Args:
        geobox: A projected grid.

    Returns:
        GeoJSON geometry, and ``[west, south, east, north]``.
    """
    import shapely
    from pyproj import Transformer

    left, bottom, right, top = geobox.boundingbox.bbox
    outline = shapely.segmentize(
        shapely.box(left, bottom, right, top), max(right - left, top - bottom) / _POINTS_PER_EDGE
    )
    x, y = shapely.get_coordinates(outline).T
    transformer = Transformer.from_crs(geobox.crs.to_wkt(), "EPSG:4326", always_xy=True)
    longitude, latitude = transformer.transform(x, y)
    for pole in (90.0, -90.0):
        pole_x, pole_y = transformer.transform(0.0, pole, direction="INVERSE")
        if left < pole_x < right and bottom < pole_y < top:
            south, north = sorted((pole, float(min(latitude, key=lambda value: abs(value)))))
            return shapely.geometry.mapping(shapely.box(-180, south, 180, north)), [-180.0, south, 180.0, north]

    # Neighbouring points are never half the globe apart: a jump is the antimeridian.
    longitude = np.unwrap(longitude, period=360)
    polygon = shapely.polygons(np.round(np.column_stack([longitude, latitude]), _DECIMALS))
    west, south, east, north = (float(value) for value in shapely.bounds(polygon))
    world = shapely.box(-180, -90, 180, 90)
    shifted = [shapely.transform(polygon, lambda points, by=by: points + [by, 0]) for by in (-360, 0, 360)]
    inside = [shapely.intersection(part, world) for part in shifted]
    parts = [shapely.orient_polygons(part) for part in inside if shapely.area(part) > 0]
    geometry = parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
    bbox = [_wrapped(west), south, _wrapped(east), north]
    return shapely.geometry.mapping(geometry), bbox


def _wrapped(longitude: float) -> float:
    return round((longitude + 180) % 360 - 180, _DECIMALS) if abs(longitude) > 180 else longitude
