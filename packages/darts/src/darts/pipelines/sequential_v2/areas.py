"""Where tiles lie: their grids and footprints, one by one and as a table."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from darts.run.task import TileTask
from darts_utils import DartsError

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

logger = logging.getLogger(__name__)

_POINTS_PER_EDGE = 16


def areas_of(
    tasks: Sequence[TileTask], failed: dict[str, Exception], locate: "Callable[[Any], GeoBox | Geometry]"
) -> "dict[str, GeoBox | Geometry]":
    """Return grid or footprint of each tile by name, as `locate` finds it by key; add those of which it fails."""
    areas = {}
    for task in tasks:
        try:
            areas[task.tile_id] = locate(task.key)
        except DartsError as error:
            failed[task.tile_id] = error
            logger.error("The place of scene %s is not known: %s", task.tile_id, error)  # noqa: TRY400 - no bug of ours
    return areas


def frame_of(areas: "Mapping[str, GeoBox | Geometry]") -> "gpd.GeoDataFrame":
    """Return grids and footprints of tiles as a table in EPSG:4326.

    Returns:
        A row per tile with `tile_id` and the footprint, its edges bent where those of a grid are in degrees.
    """
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

    outlines = [area.extent if isinstance(area, GeoBox) else area for area in areas.values()]
    footprints = [
        outline.to_crs("EPSG:4326", resolution=outline.length / (4 * _POINTS_PER_EDGE)).geom for outline in outlines
    ]
    return gpd.GeoDataFrame({"tile_id": list(areas)}, geometry=footprints, crs="EPSG:4326")
