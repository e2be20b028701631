"""Footprints of tiles as a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

_POINTS_PER_EDGE = 16


def frame_of(areas: "Mapping[str, GeoBox | Geometry]") -> "gpd.GeoDataFrame":
    """Return grids and footprints of tiles as a table in EPSG:4326.

    Args:
        areas: Grid or footprint of each tile by name.

    Returns:
        A row per tile with `tile_id` and the footprint, its edges bent where those of a grid are in degrees.
    """
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

    footprints = []
    for area in areas.values():
        outline = area.extent if isinstance(area, GeoBox) else area
        footprints.append(outline.to_crs("EPSG:4326", resolution=outline.length / (4 * _POINTS_PER_EDGE)).geom)
    return gpd.GeoDataFrame({"tile_id": list(areas)}, geometry=footprints, crs="EPSG:4326")
