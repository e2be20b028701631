"""Search quarterly mosaics in the Copernicus Data Space."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from darts_acquisition.io.settings import CDSEMosaicSettings
from darts_acquisition.scenes.area import Area
from darts_acquisition.scenes.mgrs import mgrs_tile_geobox
from darts_acquisition.scenes.search import Target, find_items, in_groups, read_footprint, scene_table, search_body
from darts_acquisition.scenes.selection import FIRST_YEAR, Interval, Selection, interval_of_months, make_selection
from darts_acquisition.sentinel2_mosaics.item import MOSAIC_BANDS, asset_of, begin_of, check_mosaic_id, tile_of_mosaic
from darts_utils import ParameterError

if TYPE_CHECKING:
    import geopandas as gpd


def search_cdse_s2_mosaics(
    *,
    scene_ids: Sequence[str] | None = None,
    tile_ids: Sequence[str] | None = None,
    aoi: "gpd.GeoDataFrame | Area | None" = None,
    quarters: Sequence[int] | None = None,
    years: Sequence[int] | None = None,
    settings: CDSEMosaicSettings | None = None,
) -> "gpd.GeoDataFrame":
    """Find quarterly Sentinel-2 mosaics in the Copernicus Data Space. All conditions that are given hold at once.

    Args:
        scene_ids: Names of mosaics. Names that the Data Space does not know are not found, without an error.
        tile_ids: MGRS tiles, for example "33UVP".
        aoi: Area of interest in any CRS; a mosaic is found if its footprint shares a point with it.
        quarters: Quarters from 1 to 4; alone they mean those of every year.
        years: Years; alone they mean all of their quarters.
        settings: Where the service is; None for `CDSEMosaicSettings.from_environment`.

    Returns:
        One row per mosaic, sorted by its name, which is the index `scene_id`, with the columns of `search_cdse_s2_sr`:
        `time` is the begin of the quarter (UTC), `cloud_cover` and `snow_cover` are NaN.

    Raises:
        ParameterError: If a condition cannot be, or there is none of names, tiles and area.
        SceneNameError: If a name is none of a mosaic.
        AreaError: If the area is empty or has no CRS.
        ServiceError: If the service refuses or fails.
    """
    intervals = quarter_intervals(quarters, years)
    found = find_mosaics(scene_ids=scene_ids, tile_ids=tile_ids, aoi=aoi, intervals=intervals, settings=settings)
    return scene_table([row for _, row in found])


def quarter_intervals(quarters: Sequence[int] | None, years: Sequence[int] | None) -> tuple[Interval, ...]:
    """Return the spans of time of quarters, one without limits where neither is given.

    Raises:
        ParameterError: If a quarter or a year cannot be, or a list is empty.
    """
    if quarters is None and years is None:
        return (Interval(None, None),)
    make_selection(years=years)  # Refuses years that cannot be.
    wrong = [quarter for quarter in quarters or () if quarter not in (1, 2, 3, 4)]
    if wrong or quarters == []:
        raise ParameterError(f"quarters holds {wrong[0] if wrong else 'nothing'}; expected 1 to 4.")
    chosen = sorted(set(quarters or (1, 2, 3, 4)))
    years = sorted(set(years or range(FIRST_YEAR, datetime.now(UTC).year + 1)))
    return tuple(interval_of_months(year, 3 * quarter - 2, 3) for year in years for quarter in chosen)


def find_mosaics(
    *,
    scene_ids: Sequence[str] | None = None,
    tile_ids: Sequence[str] | None = None,
    aoi: "gpd.GeoDataFrame | Area | None" = None,
    intervals: tuple[Interval, ...] = (Interval(None, None),),
    settings: CDSEMosaicSettings | None = None,
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Find STAC items and their rows of the table, see `search_cdse_s2_mosaics`; each once, sorted by name."""
    settings = settings or CDSEMosaicSettings.from_environment()
    target = Target.of(check_mosaic_id, scene_ids, tile_ids, aoi, "mosaics")
    return find_items(settings, target, Selection(intervals), _searches(target, intervals), _row)


def _searches(target: Target, intervals: tuple[Interval, ...]) -> Iterator[dict[str, Any]]:
    """Yield the searches that together find everything: by quarter, place, and so many names at once.

    Tiles are asked for by their ground: not every catalogue of mosaics knows the names of MGRS tiles.
    """
    places = [target.query] if target.tiles is None else [_ground_of(tile).query() for tile in target.tiles]
    for interval, place, names in itertools.product(intervals, places, in_groups(target.names)):
        yield search_body(names, place, interval)


def _ground_of(tile: str) -> Area:
    import geopandas as gpd

    extent = mgrs_tile_geobox(tile).extent
    return Area(gpd.GeoSeries([extent.geom], crs=str(extent.crs)))


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    name = str(item["id"])
    return {
        "scene_id": name,
        "time": begin_of(item),
        "tile_id": tile_of_mosaic(name, item["properties"]),
        "download_bytes": _download_bytes(item),
        "geometry": read_footprint(item["geometry"]),
    }


def _download_bytes(item: Mapping[str, Any]) -> int | None:
    try:
        return sum(int(asset_of(item, band)["file:size"]) for band in MOSAIC_BANDS)
    except (LookupError, ValueError):
        return None
