"""Search Sentinel-2 L2A scenes in Google Earth Engine."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack

from darts_acquisition.errors import ServiceError
from darts_acquisition.io.earthengine import EarthEngineClient
from darts_acquisition.io.settings import EarthEngineSettings
from darts_acquisition.scenes.area import Area
from darts_acquisition.scenes.search import Target, check_all_found, read_footprint, read_percent, scene_table
from darts_acquisition.scenes.selection import Conditions, Interval, Selection, check_scene_id, make_selection
from darts_utils import ParameterError

if TYPE_CHECKING:
    import geopandas as gpd

Collection = Literal["COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S2_SR"]
HARMONIZED: Collection = "COPERNICUS/S2_SR_HARMONIZED"
COLLECTIONS = (HARMONIZED, "COPERNICUS/S2_SR")
_PAGE_SIZE = 500
_PROPERTIES = (
    "system:index",
    "system:time_start",
    "MGRS_TILE",
    "CLOUDY_PIXEL_PERCENTAGE",
    "SNOW_ICE_PERCENTAGE",
)


def search_gee_s2_sr(
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
    collection: Collection = HARMONIZED,
    settings: EarthEngineSettings | None = None,
) -> "gpd.GeoDataFrame":
    """Find Sentinel-2 L2A scenes in Earth Engine. All conditions that are given hold at once.

    Args:
        scene_ids: Names of scenes. Names that the collection does not know are not found, without an error.
        tile_ids: MGRS tiles, for example "33UVP".
        aoi: Area of interest in any CRS; a scene is found if its footprint shares a point with it.
        start_date: First day (UTC), YYYY-MM-DD; YYYY-MM means the first of the month.
        end_date: Last day, included; YYYY-MM means the last of the month.
        max_cloud_cover: Percent; 100 or None for any, 0 means zero.
        max_snow_cover: Percent, likewise.
        months: Months from 1 to 12, where no date is given; one query per month.
        years: Years, likewise.
        collection: The image collection.
        settings: How Earth Engine is asked; None for the defaults.

    Returns:
        One row per scene, sorted by its name, which is the index `scene_id`: `time` (UTC), `tile_id`, `cloud_cover`,
        `snow_cover` (percent), `download_bytes` (NaN, since Earth Engine does not say), and the footprint in EPSG:4326.

    Raises:
        ParameterError: If a condition cannot be, or there is none of names, tiles and area.
        SceneNameError: If a name is none of Earth Engine.
        AreaError: If the area is empty or has no CRS.
        LoginError: If there is no login, or it is refused.
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
    check_collection(collection)
    target = Target.of(partial(check_scene_id, source="gee"), scene_ids, tile_ids, aoi)
    if target.is_nothing:
        return scene_table([])
    client, rows = EarthEngineClient(settings), {}
    for interval in selection.intervals:
        for row in _search(client, collection, target, interval, selection):
            if target.area is None or target.area.touches(row["geometry"]):
                rows[row["scene_id"]] = row
    return scene_table(list(rows.values()))


class _Conditions(Conditions, total=False):
    collection: Collection
    settings: EarthEngineSettings | None


def get_gee_s2_sr_scene_ids_from_tile_ids(tile_ids: Sequence[str], **conditions: Unpack[_Conditions]) -> list[str]:
    """Name the scenes of MGRS tiles; errors are those of :func:`search_gee_s2_sr`.

    Args:
        tile_ids: MGRS tiles, for example "33UVP".
        **conditions: `start_date`, `end_date`, `max_cloud_cover`, `max_snow_cover`, `months`, `years`, `collection` and
            `settings`, as for :func:`search_gee_s2_sr`.

    Returns:
        The names, sorted.
    """
    return list(search_gee_s2_sr(tile_ids=tile_ids, **conditions).index)


def get_gee_s2_sr_scene_ids_from_geodataframe(
    aoi: "gpd.GeoDataFrame | Area", **conditions: Unpack[_Conditions]
) -> list[str]:
    """Name the scenes that touch an area; errors are those of :func:`search_gee_s2_sr`.

    Args:
        aoi: Area of interest in any CRS.
        **conditions: `start_date`, `end_date`, `max_cloud_cover`, `max_snow_cover`, `months`, `years`, `collection` and
            `settings`, as for :func:`search_gee_s2_sr`.

    Returns:
        The names, sorted.
    """
    return list(search_gee_s2_sr(aoi=aoi, **conditions).index)


def get_aoi_from_gee_s2_sr_scene_ids(
    scene_ids: Sequence[str], *, collection: Collection = HARMONIZED, settings: EarthEngineSettings | None = None
) -> "gpd.GeoDataFrame":
    """Return the footprints of scenes.

    Args:
        scene_ids: Names of scenes.
        collection: The image collection.
        settings: How Earth Engine is asked; None for the defaults.

    Returns:
        As `search_gee_s2_sr`, every scene being there.

    Raises:
        SceneNotFoundError: If the collection does not know one of them. The message names them.
        SceneNameError: If a name is none of Earth Engine.
        LoginError: If there is no login, or it is refused.
        ServiceError: If the service refuses or fails.
    """
    found = search_gee_s2_sr(scene_ids=scene_ids, collection=collection, settings=settings)
    check_all_found([check_scene_id(name, "gee") for name in scene_ids], found.index)
    return found


def check_collection(collection: str) -> None:
    """Check the name of an image collection.

    Raises:
        ParameterError: If it is none of Sentinel-2 L2A.
    """
    if collection not in COLLECTIONS:
        raise ParameterError(f"collection is {collection!r}; expected {' or '.join(COLLECTIONS)}.")


def _search(
    client: EarthEngineClient, collection: str, target: Target, interval: Interval, selection: Selection
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one span of time, page by page."""
    start = 0
    while True:

        def request(start: int = start) -> Any:
            import ee

            found = _filtered(ee.ImageCollection(collection), target, interval, selection)
            described = found.map(lambda image: ee.Feature(image.geometry(), image.toDictionary(list(_PROPERTIES))))
            return described.toList(_PAGE_SIZE, start).getInfo()

        page = client.ask(request, f"Searching {collection}")
        try:
            rows = [_row(feature) for feature in page]
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ServiceError(f"Searching {collection}: the answer is no list of scenes ({error!r}).") from error
        yield from rows
        if len(page) < _PAGE_SIZE:
            return
        start += _PAGE_SIZE


def _filtered(images: Any, target: Target, interval: Interval, selection: Selection) -> Any:
    import ee

    if target.names is not None:
        images = images.filter(ee.Filter.inList("system:index", target.names))
    if target.tiles is not None:
        images = images.filter(ee.Filter.inList("MGRS_TILE", target.tiles))
    if target.query is not None:
        images = images.filterBounds(ee.Geometry(dict(target.query)))
    if interval.start is not None or interval.end is not None:
        first = interval.start or datetime(2015, 1, 1, tzinfo=UTC)
        last = interval.end or datetime.now(UTC)
        # Earth Engine leaves the end out; ours belongs to the span.
        stop = last + timedelta(milliseconds=1)
        images = images.filterDate(first.isoformat(), stop.isoformat())
    limits = (
        ("CLOUDY_PIXEL_PERCENTAGE", selection.max_cloud_cover),
        ("SNOW_ICE_PERCENTAGE", selection.max_snow_cover),
    )
    for name, limit in limits:
        if limit is not None:
            images = images.filter(ee.Filter.lte(name, limit))
    return images


def _row(feature: Mapping[str, Any]) -> dict[str, Any]:
    properties = feature["properties"]
    return {
        "scene_id": str(properties["system:index"]),
        "time": datetime.fromtimestamp(properties["system:time_start"] / 1000, UTC),
        "tile_id": str(properties["MGRS_TILE"]),
        "cloud_cover": read_percent(properties.get("CLOUDY_PIXEL_PERCENTAGE")),
        "snow_cover": read_percent(properties.get("SNOW_ICE_PERCENTAGE")),
        "geometry": read_footprint(_as_polygon(feature["geometry"])),
    }


def _as_polygon(geometry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a footprint as a polygon; Earth Engine also gives the ring alone."""
    if geometry["type"] in ("LinearRing", "LineString"):
        return {"type": "Polygon", "coordinates": [geometry["coordinates"]]}
    return {"type": geometry["type"], "coordinates": geometry["coordinates"]}
