"""Sentinel-2 L2A scenes of Google Earth Engine: search, download, load."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from odc.geo.geobox import GeoBox, GeoboxTiles

from darts_acquisition.errors import SceneError, SceneNotFoundError, ServiceError
from darts_acquisition.io.earthengine import EarthEngineClient, pixel_grid
from darts_acquisition.io.retry import all_at_once
from darts_acquisition.io.settings import EarthEngineSettings
from darts_acquisition.scenes.download import download_scene, load_scene
from darts_acquisition.scenes.geometry import Area
from darts_acquisition.scenes.names import check_scene_id
from darts_acquisition.scenes.raw import SCL, RawBand, RawGrid, S2Band, SceneMetadata, bands_of_scene, scene_metadata
from darts_acquisition.scenes.search import (
    Conditions,
    Interval,
    Selection,
    Target,
    check_all_found,
    make_selection,
    read_footprint,
    read_percent,
    scene_table,
)
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.tile import AnyPath, BandNames
from darts_utils import ParameterError, step

if TYPE_CHECKING:
    import ee
    import geopandas as gpd
    import xarray as xr

Collection = Literal["COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S2_SR"]
_check_name = partial(check_scene_id, source="gee")
HARMONIZED: Collection = "COPERNICUS/S2_SR_HARMONIZED"
_COLLECTIONS = (HARMONIZED, "COPERNICUS/S2_SR")
_PAGE_SIZE = 500
_CLOUD, _SNOW = "CLOUDY_PIXEL_PERCENTAGE", "SNOW_ICE_PERCENTAGE"
_PROPERTIES = ("system:index", "system:time_start", "MGRS_TILE", _CLOUD, _SNOW)
_BLOCK_PX = 2745
"""Edge of what one request brings: 15 MB of integers, where Earth Engine gives 48 MB at most; a quarter of a scene's
edge at 10 m."""
_BEFORE_ALL, _AFTER_ALL = datetime(2015, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
"""No image is older, or younger."""
_OFFSET_SINCE = datetime(2022, 1, 25, tzinfo=UTC)
"""Since when reflectance in COPERNICUS/S2_SR has an offset of −0.1 (Earth Engine data catalogue, S2_SR)."""


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

    `collection` is the image collection, and `settings` say how Earth Engine is asked, None for the defaults; for the
    other arguments see :func:`search_cdse_s2_sr`.

    Returns:
        As `search_cdse_s2_sr`; `download_bytes` is NaN, since Earth Engine does not say.

    Raises:
        LoginError: If there is no login, or it is refused.
        DartsError: All that `search_cdse_s2_sr` raises, of names and scenes of Earth Engine.
    """
    selection = make_selection(start_date, end_date, max_cloud_cover, max_snow_cover, months, years)
    _check_collection(collection)
    target = Target.of(_check_name, scene_ids, tile_ids, aoi)
    client, rows = EarthEngineClient(settings), {}
    for interval in () if target.is_nothing else selection.intervals:
        for row in _search(client, collection, target, interval, selection):
            if target.area is None or target.area.touches(row["geometry"]):
                rows[row["scene_id"]] = row
    return scene_table(list(rows.values()))


class _Conditions(Conditions, total=False):
    collection: Collection
    settings: EarthEngineSettings | None


def get_gee_s2_sr_scene_ids_from_tile_ids(tile_ids: Sequence[str], **conditions: Unpack[_Conditions]) -> list[str]:
    """Name the scenes of MGRS tiles; errors are those of :func:`search_gee_s2_sr`.

    For arguments and result see :func:`get_cdse_s2_sr_scene_ids_from_tile_ids`.
    """
    return list(search_gee_s2_sr(tile_ids=tile_ids, **conditions).index)


def get_gee_s2_sr_scene_ids_from_geodataframe(
    aoi: "gpd.GeoDataFrame | Area", **conditions: Unpack[_Conditions]
) -> list[str]:
    """Name the scenes that touch an area; errors are those of :func:`search_gee_s2_sr`.

    `aoi` may be in any CRS; for `conditions` and result see :func:`get_cdse_s2_sr_scene_ids_from_tile_ids`.
    """
    return list(search_gee_s2_sr(aoi=aoi, **conditions).index)


def get_aoi_from_gee_s2_sr_scene_ids(
    scene_ids: Sequence[str], *, collection: Collection = HARMONIZED, settings: EarthEngineSettings | None = None
) -> "gpd.GeoDataFrame":
    """Return the footprints of scenes; for `collection` and `settings` see :func:`search_gee_s2_sr`.

    For `scene_ids` see :func:`search_cdse_s2_sr`.

    Returns:
        As `search_gee_s2_sr`, every scene being there.

    Raises:
        SceneNotFoundError: If the collection does not know one of them. The message names them.
        DartsError: All that `search_gee_s2_sr` raises.
    """
    names = [_check_name(name) for name in scene_ids]
    return check_all_found(names, search_gee_s2_sr(scene_ids=names, collection=collection, settings=settings))


def download_gee_s2_sr_scene(
    scene_id: str,
    store: AnyPath,
    bands: BandNames = None,
    *,
    collection: Collection = HARMONIZED,
    settings: EarthEngineSettings | None = None,
) -> None:
    """Bring a scene of Earth Engine into the local store; bands that are there are not fetched again.

    `scene_id` is the scene's `system:index`. Those of another `collection` are kept apart; `settings` are those of
    :func:`search_gee_s2_sr`. For the other arguments see :func:`download_cdse_s2_sr_scene`.

    Raises:
        SceneNameError: If the name is none of Earth Engine.
        ParameterError: If a band or the collection is unknown.
        SceneNotFoundError: If the collection does not know the scene.
        LoginError: If there is no login, or it is refused.
        ServiceError: If the service refuses or fails.
        SceneError: If the image is not what the collection's description says.
    """
    provider, name = EarthEngineProvider(settings, collection), _check_name(scene_id)
    download_scene(provider, name, RawStore(store), bands_of_scene(bands))


def load_gee_s2_sr_scene(
    scene_id: str,
    store: AnyPath | None = None,
    bands: BandNames = None,
    *,
    offline: bool = False,
    collection: Collection = HARMONIZED,
    settings: EarthEngineSettings | None = None,
) -> "xr.Dataset":
    """Load a scene of Earth Engine as a tile; what is not in the store is fetched into it first.

    Of the `collection` COPERNICUS/S2_SR, scenes since 2022-01-25 have an offset of −0.1; `settings` are those of
    :func:`search_gee_s2_sr`. For the other arguments see :func:`load_cdse_s2_sr_scene`.

    Returns:
        As `load_cdse_s2_sr_scene`. Pixels that the image masks have DN 0, so NaN, and quality 0.

    Raises:
        DartsError: All that `download_gee_s2_sr_scene` raises, and what `load_cdse_s2_sr_scene` says of stored scenes.
    """
    provider, name = EarthEngineProvider(settings, collection), _check_name(scene_id)
    return load_scene(provider, name, store, bands_of_scene(bands), offline)


class EarthEngineProvider:
    """Earth Engine as a provider of raw scenes."""

    data_source = "Sentinel-2 L2A"

    def __init__(self, settings: EarthEngineSettings | None, collection: Collection = HARMONIZED) -> None:
        _check_collection(collection)
        self.name = "gee" if collection == HARMONIZED else "gee-S2_SR"
        self._collection = collection
        self._client = EarthEngineClient(settings)

    def grid(self, scene_id: str) -> RawGrid:
        """Return the grid as the catalogue says it, see `Provider`."""
        return _grid(self._describe(scene_id), SCL, 0.0, scene_id)

    def fetch(self, scene_id: str, bands: Sequence[S2Band], _folder: Path) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Fetch bands, see `Provider`; nothing of one is kept half-way."""
        with step("search scene"):
            described = self._describe(scene_id)
        metadata = _metadata(self.name, scene_id, described["properties"])
        has_offset = self._collection != HARMONIZED
        has_offset &= datetime.fromisoformat(metadata.attrs["time"]) >= _OFFSET_SINCE
        grids = [_grid(described, band, -0.1 if has_offset else 0.0, scene_id) for band in bands]
        return metadata, (self._fetch(scene_id, band, grid) for band, grid in zip(bands, grids, strict=True))

    def _describe(self, scene_id: str) -> dict[str, Any]:
        def request() -> Any:
            import ee

            return ee.Image(f"{self._collection}/{scene_id}").getInfo()

        try:
            described = self._client.ask(request, f"Asking Earth Engine for {scene_id}")
        except ServiceError as error:
            if "not found" in str(error):
                raise SceneNotFoundError(f"{self._collection} has no scene {scene_id}.") from error
            raise
        if not isinstance(described, dict) or not {"bands", "properties"} <= described.keys():
            raise ServiceError(f"Asking Earth Engine for {scene_id}: the answer describes no image.")
        return described

    def _fetch(self, scene_id: str, band: S2Band, grid: RawGrid) -> RawBand:
        values = np.empty(grid.shape, band.dtype)
        blocks: Any = GeoboxTiles(GeoBox(grid.shape, grid.affine, grid.crs), (_BLOCK_PX, _BLOCK_PX))

        def fetch_block(at: tuple[int, int]) -> None:
            values[blocks.roi[at]] = self._fetch_block(scene_id, band, blocks[at])

        works = (partial(fetch_block, at) for at in np.ndindex(*blocks.shape))
        with step("download"):
            all_at_once(works, self._client.settings.limits.parallel)
        return RawBand(band, grid, values)

    def _fetch_block(self, scene_id: str, band: S2Band, geobox: GeoBox) -> np.ndarray:
        def request() -> Any:
            import ee

            image = ee.Image(f"{self._collection}/{scene_id}").select([band.gee_band]).unmask(0)
            image = image.toUint8() if band is SCL else image.toUint16()
            asked = {"expression": image, "fileFormat": "NUMPY_NDARRAY", "grid": pixel_grid(geobox)}
            return ee.data.computePixels(asked)

        what = f"Fetching {band.gee_band} of {scene_id}"
        answer, shape = self._client.ask(request, what), tuple(geobox.shape)
        if getattr(answer, "shape", None) != shape or answer.dtype.names != (band.gee_band,):
            raise ServiceError(f"{what}: expected {shape} pixels, got {getattr(answer, 'shape', 'something else')}.")
        return answer[band.gee_band]


def _check_collection(collection: str) -> None:
    if collection not in _COLLECTIONS:
        raise ParameterError(f"collection is {collection!r}; expected {' or '.join(_COLLECTIONS)}.")


def _search(
    client: EarthEngineClient, collection: str, target: Target, interval: Interval, selection: Selection
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one span of time, page by page."""
    if interval.start is not None and interval.start > (interval.end or datetime.now(UTC)):
        return  # Earth Engine takes no span that ends before it begins: nothing was taken since a day to come.

    def request(start: int) -> Any:
        import ee

        found = _filtered(ee.ImageCollection(collection), target, interval, selection)
        described = found.map(lambda image: ee.Feature(image.geometry(), image.toDictionary(list(_PROPERTIES))))
        return described.toList(_PAGE_SIZE, start).getInfo()

    for start in itertools.count(0, _PAGE_SIZE):
        page = client.ask(partial(request, start), f"Searching {collection}")
        try:
            rows = [_row(feature) for feature in page]
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ServiceError(f"Searching {collection}: the answer is no list of scenes ({error!r}).") from error
        yield from rows
        if len(page) < _PAGE_SIZE:
            return


def _filtered(
    images: "ee.ImageCollection", target: Target, interval: Interval, selection: Selection
) -> "ee.ImageCollection":
    import ee

    if target.names is not None:
        images = images.filter(ee.Filter.inList("system:index", target.names))
    if target.tiles is not None:
        images = images.filter(ee.Filter.inList("MGRS_TILE", target.tiles))
    if target.query is not None:
        images = images.filterBounds(ee.Geometry(dict(target.query)))
    if interval.start is not None or interval.end is not None:
        # Earth Engine leaves the end out; ours belongs to the span.
        last = min(interval.end or datetime.now(UTC), _AFTER_ALL)
        first = interval.start or min(_BEFORE_ALL, last)
        stop = last + timedelta(milliseconds=1)
        images = images.filterDate(first.isoformat(), stop.isoformat())
    for name, limit in ((_CLOUD, selection.max_cloud_cover), (_SNOW, selection.max_snow_cover)):
        if limit is not None:
            images = images.filter(ee.Filter.lte(name, limit))
    return images


def _row(feature: Mapping[str, Any]) -> dict[str, Any]:
    properties, geometry = feature["properties"], feature["geometry"]
    ring = geometry["type"] in ("LinearRing", "LineString")  # Earth Engine also gives a polygon's ring alone.
    kind, corners = ("Polygon", [geometry["coordinates"]]) if ring else (geometry["type"], geometry["coordinates"])
    return {
        "scene_id": str(properties["system:index"]),
        "time": datetime.fromtimestamp(properties["system:time_start"] / 1000, UTC),
        "tile_id": str(properties["MGRS_TILE"]),
        "cloud_cover": read_percent(properties.get(_CLOUD)),
        "snow_cover": read_percent(properties.get(_SNOW)),
        "geometry": read_footprint({"type": kind, "coordinates": corners}),
    }


def _metadata(source: str, scene_id: str, properties: Mapping[str, Any]) -> SceneMetadata:
    start = properties.get("system:time_start")
    if not isinstance(start, int | float):
        raise SceneError(f"Scene {scene_id}: system:time_start is {start!r}; expected milliseconds.")
    zenith, platform = _number(properties.get("MEAN_SOLAR_ZENITH_ANGLE")), properties.get("SPACECRAFT_NAME")
    return scene_metadata(
        source,
        scene_id,
        datetime.fromtimestamp(start / 1000, UTC),
        azimuth=_number(properties.get("MEAN_SOLAR_AZIMUTH_ANGLE")),
        elevation=None if zenith is None else 90.0 - zenith,
        s2_mgrs_tile=properties.get("MGRS_TILE"),
        s2_cloud_cover=properties.get(_CLOUD),
        s2_snow_cover=properties.get(_SNOW),
        s2_platform=None if platform is None else str(platform).lower(),
        s2_processing_baseline=properties.get("PROCESSING_BASELINE"),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _grid(described: Mapping[str, Any], band: S2Band, offset: float, scene_id: str) -> RawGrid:
    for found in described["bands"]:
        if found["id"] == band.gee_band:
            scaling = (1.0, 0.0) if band is SCL else (1e-4, offset)
            return RawGrid.of(found["crs"], found["crs_transform"], found["dimensions"][::-1], *scaling)
    raise SceneError(
        f"Scene {scene_id} has no band {band.gee_band}; it has {', '.join(each['id'] for each in described['bands'])}."
    )
