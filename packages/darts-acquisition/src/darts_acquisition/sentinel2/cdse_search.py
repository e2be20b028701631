"""Search Sentinel-2 L2A scenes in the Copernicus Data Space."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from darts_acquisition.io.settings import CDSESettings
from darts_acquisition.scenes.area import Area
from darts_acquisition.scenes.bands import bands_of_scene
from darts_acquisition.scenes.metadata import read_time
from darts_acquisition.scenes.search import (
    Target,
    check_all_found,
    find_items,
    in_groups,
    read_footprint,
    read_percent,
    scene_table,
    search_body,
)
from darts_acquisition.scenes.selection import Conditions, Selection, check_scene_id, make_selection, unique
from darts_acquisition.sentinel2.item import download_bytes, tile_of

if TYPE_CHECKING:
    import geopandas as gpd


def search_cdse_s2_sr(
    *,
    scene_ids: Sequence[str] | None = None,
    tile_ids: Sequence[str] | None = None,
    aoi: "gpd.GeoDataFrame | Area | None" = None,
    start_date: str | None = None,
    end_date: str | None = None,
    max_cloud_cover: float | None = None,
    max_snow_cover: float | None = None,
    months: Sequence[int] | None = None,
    years: Sequence[int] | None = None,
    settings: CDSESettings | None = None,
) -> "gpd.GeoDataFrame":
    """Find Sentinel-2 L2A scenes in the Copernicus Data Space. All conditions that are given hold at once.

    Args:
        scene_ids: Names of scenes. Names that the Data Space does not know are not found, without an error.
        tile_ids: MGRS tiles, for example "33UVP".
        aoi: Area of interest in any CRS; a scene is found if its footprint shares a point with it.
        start_date: First day (UTC), YYYY-MM-DD; YYYY-MM means the first of the month.
        end_date: Last day, included; YYYY-MM means the last of the month.
        max_cloud_cover: Percent; 100 or None for any, 0 means zero.
        max_snow_cover: Percent, likewise.
        months: Months from 1 to 12, where no date is given; one query per month.
        years: Years, likewise.
        settings: Where the service is; None for `CDSESettings.from_environment`.

    Returns:
        One row per scene, sorted by its name, which is the index `scene_id`: `time` (UTC), `tile_id`, `cloud_cover`,
        `snow_cover` (percent), `download_bytes` (size of the files of blue, green, red, nir and the scene
        classification; NaN where the catalogue does not say), and the footprint in EPSG:4326.

    Raises:
        ParameterError: If a condition cannot be, or there is none of names, tiles and area.
        SceneNameError: If a name is none of the Data Space.
        AreaError: If the area is empty or has no CRS.
        ServiceError: If the service refuses or fails.
    """
    selection = make_selection(
        start_date=start_date,
        end_date=end_date,
        max_cloud_cover=max_cloud_cover,
        max_snow_cover=max_snow_cover,
        months=months,
        years=years,
    )
    found = find_scenes(scene_ids=scene_ids, tile_ids=tile_ids, aoi=aoi, selection=selection, settings=settings)
    return scene_table([row for _, row in found])


class _Conditions(Conditions, total=False):
    settings: CDSESettings | None


def get_cdse_s2_sr_scene_ids_from_tile_ids(tile_ids: Sequence[str], **conditions: Unpack[_Conditions]) -> list[str]:
    """Name the scenes of MGRS tiles; errors are those of :func:`search_cdse_s2_sr`.

    Args:
        tile_ids: MGRS tiles, for example "33UVP".
        **conditions: `start_date`, `end_date`, `max_cloud_cover`, `max_snow_cover`, `months`, `years` and `settings`,
            as for :func:`search_cdse_s2_sr`.

    Returns:
        The names, sorted.
    """
    return list(search_cdse_s2_sr(tile_ids=tile_ids, **conditions).index)


def get_cdse_s2_sr_scene_ids_from_geodataframe(
    aoi: "gpd.GeoDataFrame | Area", **conditions: Unpack[_Conditions]
) -> list[str]:
    """Name the scenes that touch an area; errors are those of :func:`search_cdse_s2_sr`.

    Args:
        aoi: Area of interest in any CRS.
        **conditions: `start_date`, `end_date`, `max_cloud_cover`, `max_snow_cover`, `months`, `years` and `settings`,
            as for :func:`search_cdse_s2_sr`.

    Returns:
        The names, sorted.
    """
    return list(search_cdse_s2_sr(aoi=aoi, **conditions).index)


def get_aoi_from_cdse_s2_sr_scene_ids(
    scene_ids: Sequence[str], *, settings: CDSESettings | None = None
) -> "gpd.GeoDataFrame":
    """Return the footprints of scenes.

    Args:
        scene_ids: Names of scenes.
        settings: Where the service is; None for `CDSESettings.from_environment`.

    Returns:
        As `search_cdse_s2_sr`, every scene being there.

    Raises:
        SceneNotFoundError: If the Data Space does not know one of them. The message names them.
        SceneNameError: If a name is none of the Data Space.
        ServiceError: If the service refuses or fails.
    """
    found = search_cdse_s2_sr(scene_ids=scene_ids, settings=settings)
    check_all_found([check_scene_id(name, "cdse") for name in scene_ids], found.index)
    return found


def find_scenes(
    *,
    scene_ids: Sequence[str] | None = None,
    tile_ids: Sequence[str] | None = None,
    aoi: "gpd.GeoDataFrame | Area | None" = None,
    selection: Selection | None = None,
    settings: CDSESettings | None = None,
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Find STAC items and their rows of the table, see `search_cdse_s2_sr`; each once, sorted by name."""
    settings, selection = settings or CDSESettings.from_environment(), selection or Selection()
    target = Target.of(partial(check_scene_id, source="cdse"), scene_ids, tile_ids, aoi)
    return find_items(settings, target, selection, _searches(target, selection), _row)


def _searches(target: Target, selection: Selection) -> Iterator[dict[str, Any]]:
    """Yield the searches that together find everything: by month, and by so many names or tiles at once."""
    parts = itertools.product(selection.intervals, in_groups(target.names), in_groups(target.tiles))
    for interval, names, tiles in parts:
        yield search_body(names, target.query, interval, _conditions(tiles, selection))


def _conditions(tiles: list[str] | None, selection: Selection) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = []
    if tiles is not None:
        # Of zones below 10, catalogues differ in whether they write the leading zero.
        codes = unique(f"MGRS-{code}" for tile in tiles for code in (tile, tile.lstrip("0")))
        equal = [{"op": "=", "args": [{"property": "grid:code"}, code]} for code in codes]
        conditions.append(equal[0] if len(equal) == 1 else {"op": "or", "args": equal})
    for name, limit in (("eo:cloud_cover", selection.max_cloud_cover), ("eo:snow_cover", selection.max_snow_cover)):
        if limit is not None:
            conditions.append({"op": "<=", "args": [{"property": name}, limit]})
    return conditions


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    properties = item["properties"]
    return {
        "scene_id": str(item["id"]),
        "time": read_time(properties.get("datetime") or properties.get("start_datetime"), f"Scene {item['id']}"),
        "tile_id": tile_of(properties),
        "cloud_cover": read_percent(properties.get("eo:cloud_cover")),
        "snow_cover": read_percent(properties.get("eo:snow_cover")),
        "download_bytes": download_bytes(item, bands_of_scene()),
        "geometry": read_footprint(item["geometry"]),
    }
