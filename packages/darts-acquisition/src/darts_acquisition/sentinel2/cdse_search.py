"""Search Sentinel-2 L2A scenes in the Copernicus Data Space."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from darts_acquisition.errors import ServiceError
from darts_acquisition.io.failures import public_url
from darts_acquisition.io.stac import make_stac_io
from darts_acquisition.scenes.area import Area
from darts_acquisition.scenes.bands import SCL, select_bands
from darts_acquisition.scenes.search import Target, check_all_found, read_footprint, read_percent, scene_table
from darts_acquisition.scenes.selection import Conditions, Selection, check_scene_id, make_selection, unique
from darts_acquisition.sentinel2.item import download_bytes, parse_datetime, tile_of
from darts_acquisition.sentinel2.settings import CDSESettings
from darts_utils import DartsError

if TYPE_CHECKING:
    import geopandas as gpd

_NAMES_AT_ONCE = 100
"""Names or tiles per request."""
_PAGE_SIZE = 200
_ItemRow: TypeAlias = tuple[dict[str, Any], dict[str, Any]]
"""A STAC item, and its row of the table of scenes."""


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
    items = find_items(scene_ids=scene_ids, tile_ids=tile_ids, aoi=aoi, selection=selection, settings=settings)
    return scene_table([_row(item) for item in items])


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


def find_items(
    *,
    scene_ids: Sequence[str] | None = None,
    tile_ids: Sequence[str] | None = None,
    aoi: "gpd.GeoDataFrame | Area | None" = None,
    selection: Selection | None = None,
    settings: CDSESettings | None = None,
) -> list[dict[str, Any]]:
    """Find STAC items, see `search_cdse_s2_sr`; each once, sorted by name."""
    settings, selection = settings or CDSESettings.from_environment(), selection or Selection()
    target = Target.of("cdse", scene_ids, tile_ids, aoi)
    if target.is_nothing:
        return []
    found: dict[str, dict[str, Any]] = {}
    with closing(_search(settings, _bodies(target, selection))) as items:
        for item, row in items:
            if _fits(row, target, selection):
                found[row["scene_id"]] = item
    return [found[name] for name in sorted(found)]


def _search(settings: CDSESettings, searches: Iterable[Mapping[str, Any]]) -> Generator[_ItemRow, None, None]:
    """Yield the items of all pages of searches, each with its row of the table.

    Only what reads an answer is a fault of the service; what is done with the rows is not.
    """
    io = make_stac_io(settings.limits)
    try:
        for search in searches:
            body = {"collections": [settings.collection], "limit": _PAGE_SIZE} | dict(search)
            for page in io.get_pages(f"{settings.stac_url.rstrip('/')}/search", "POST", body):
                yield from _read_page(page, settings)
    finally:
        io.close()


def _read_page(page: Mapping[str, Any], settings: CDSESettings) -> list[_ItemRow]:
    try:
        return [(item, _row(item)) for item in page["features"]]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DartsError):
            raise
        raise ServiceError(
            f"Searching {public_url(settings.stac_url)}: the answer is no page of items ({error!r})."
        ) from error


def _bodies(target: Target, selection: Selection) -> Iterator[dict[str, Any]]:
    """Yield the searches that together find everything: by month, and by so many names or tiles at once."""
    for interval in selection.intervals:
        for some_names in _groups(target.names):
            for some_tiles in _groups(target.tiles):
                body: dict[str, Any] = {}
                if interval.start is not None or interval.end is not None:
                    body["datetime"] = interval.to_stac()
                if some_names is not None:
                    body["ids"] = some_names
                if target.query is not None:
                    body["intersects"] = target.query
                conditions = _conditions(some_tiles, selection)
                if conditions:
                    condition = conditions[0] if len(conditions) == 1 else {"op": "and", "args": conditions}
                    body |= {"filter-lang": "cql2-json", "filter": condition}
                yield body


def _groups(names: list[str] | None) -> Iterator[list[str] | None]:
    if names is None:
        yield None
        return
    for start in range(0, len(names), _NAMES_AT_ONCE):
        yield names[start : start + _NAMES_AT_ONCE]


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


def _fits(row: Mapping[str, Any], target: Target, selection: Selection) -> bool:
    """Check a scene again: the query was simplified, and services may ignore a condition that they do not know."""
    return (
        (target.names is None or row["scene_id"] in target.names)
        and (target.tiles is None or row["tile_id"] in target.tiles)
        and any(interval.holds(row["time"]) for interval in selection.intervals)
        and _at_most(row["cloud_cover"], selection.max_cloud_cover)
        and _at_most(row["snow_cover"], selection.max_snow_cover)
        and (target.area is None or target.area.touches(row["geometry"]))
    )


def _at_most(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value <= limit)


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    properties = item["properties"]
    return {
        "scene_id": str(item["id"]),
        "time": parse_datetime(properties.get("datetime") or properties.get("start_datetime"), item["id"]),
        "tile_id": tile_of(properties),
        "cloud_cover": read_percent(properties.get("eo:cloud_cover")),
        "snow_cover": read_percent(properties.get("eo:snow_cover")),
        "download_bytes": download_bytes(item, (*select_bands(), SCL)),
        "geometry": read_footprint(item["geometry"]),
    }
