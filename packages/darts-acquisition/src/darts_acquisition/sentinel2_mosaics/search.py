"""Search quarterly mosaics in the Copernicus Data Space."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from darts_acquisition.errors import ServiceError
from darts_acquisition.io.failures import public_url
from darts_acquisition.io.stac import make_stac_io
from darts_acquisition.scenes.area import Area
from darts_acquisition.scenes.mgrs import mgrs_tile_geobox
from darts_acquisition.scenes.search import read_footprint, scene_table
from darts_acquisition.scenes.selection import Interval, check_tile_id, make_selection, unique
from darts_acquisition.sentinel2_mosaics.item import MOSAIC_BANDS, asset_of, begin_of, check_mosaic_id, tile_of_mosaic
from darts_acquisition.sentinel2_mosaics.settings import CDSEMosaicSettings
from darts_utils import DartsError, ParameterError

if TYPE_CHECKING:
    import geopandas as gpd

_NAMES_AT_ONCE = 100
_PAGE_SIZE = 200
_FIRST_YEAR = 2015


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
    items = find_mosaics(scene_ids=scene_ids, tile_ids=tile_ids, aoi=aoi, intervals=intervals, settings=settings)
    return scene_table([_row(item) for item in items])


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
    years = sorted(set(years or range(_FIRST_YEAR, datetime.now(UTC).year + 1)))
    return tuple(_interval(year, quarter) for year in years for quarter in chosen)


def _interval(year: int, quarter: int) -> Interval:
    after = datetime(year + quarter // 4, 3 * quarter % 12 + 1, 1, tzinfo=UTC)
    return Interval(datetime(year, 3 * quarter - 2, 1, tzinfo=UTC), after - timedelta(milliseconds=1))


def find_mosaics(
    *,
    scene_ids: Sequence[str] | None = None,
    tile_ids: Sequence[str] | None = None,
    aoi: "gpd.GeoDataFrame | Area | None" = None,
    intervals: Sequence[Interval] = (Interval(None, None),),
    settings: CDSEMosaicSettings | None = None,
) -> list[dict[str, Any]]:
    """Find STAC items, see `search_cdse_s2_mosaics`; each once, sorted by name."""
    settings = settings or CDSEMosaicSettings.from_environment()
    if scene_ids is None and tile_ids is None and aoi is None:
        raise ParameterError("Nothing says which mosaics: give scene_ids, tile_ids or an area of interest.")
    area = Area(aoi) if aoi is not None and not isinstance(aoi, Area) else aoi
    names = None if scene_ids is None else unique(check_mosaic_id(name) for name in scene_ids)
    tiles = None if tile_ids is None else unique(check_tile_id(name) for name in tile_ids)
    if names == []:
        return []
    places = _places(tiles, area)
    found: dict[str, dict[str, Any]] = {}
    for item in _search(settings, _bodies(names, places, intervals)):
        row = _row(item)
        if (
            (names is None or row["scene_id"] in names)
            and (tiles is None or row["tile_id"] in tiles)
            and any(interval.holds(row["time"]) for interval in intervals)
            and (area is None or area.touches(row["geometry"]))
        ):
            found[row["scene_id"]] = item
    return [found[name] for name in sorted(found)]


def _places(tiles: Sequence[str] | None, area: Area | None) -> list[Mapping[str, Any] | None]:
    """Return what services are asked for, as GeoJSON: not every catalogue of mosaics knows the names of MGRS tiles."""
    if tiles is not None:
        return [_ground_of(tile).query() for tile in tiles]
    return [None] if area is None else [area.query()] if area.query() is not None else []


def _ground_of(tile: str) -> Area:
    import geopandas as gpd

    extent = mgrs_tile_geobox(tile).extent
    return Area(gpd.GeoSeries([extent.geom], crs=str(extent.crs)))


def _bodies(
    names: list[str] | None, places: Sequence[Mapping[str, Any] | None], intervals: Sequence[Interval]
) -> Iterator[dict[str, Any]]:
    """Yield the searches that together find everything: by quarter, place, and so many names at once."""
    starts = range(0, len(names or [""]), _NAMES_AT_ONCE)
    for interval, place, start in itertools.product(intervals, places, starts):
        body: dict[str, Any] = {}
        if interval.start is not None:
            body["datetime"] = interval.to_stac()
        if place is not None:
            body["intersects"] = place
        if names is not None:
            body["ids"] = names[start : start + _NAMES_AT_ONCE]
        yield body


def _search(settings: CDSEMosaicSettings, bodies: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the items of all pages that can be read."""
    url = settings.stac_url.rstrip("/")
    with closing(make_stac_io(settings.limits)) as io:
        for body in bodies:
            asked = {"collections": [settings.collection], "limit": _PAGE_SIZE} | body
            for page in io.get_pages(f"{url}/search", "POST", asked):
                try:
                    yield from [item for item in page["features"] if _row(item)]
                except (LookupError, TypeError, AttributeError, ValueError) as error:
                    if isinstance(error, DartsError):
                        raise
                    raise ServiceError(
                        f"Searching {public_url(url)}: the answer is no page of items ({error!r})."
                    ) from error


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
