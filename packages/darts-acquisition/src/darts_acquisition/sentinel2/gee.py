"""Download and load Sentinel-2 L2A scenes of Google Earth Engine."""

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.errors import LoginError, SceneError, SceneNotFoundError, ServiceError
from darts_acquisition.io.earthengine import EarthEngineClient, pixel_grid
from darts_acquisition.io.retry import all_at_once
from darts_acquisition.io.settings import EarthEngineSettings
from darts_acquisition.scenes.bands import SCL, S2Band, bands_of_scene
from darts_acquisition.scenes.metadata import in_utc
from darts_acquisition.scenes.raw import RawBand, RawGrid, SceneMetadata
from darts_acquisition.scenes.scene import download_scene, load_scene
from darts_acquisition.scenes.selection import check_scene_id
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.sentinel2.gee_search import HARMONIZED, Collection, check_collection
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

logger = logging.getLogger(__name__)

_BLOCK_PX = 2745
"""Edge of what one request brings: 15 MB of integers, where Earth Engine gives 48 MB at most; a quarter of a scene's
edge at 10 m."""
_OFFSET_SINCE = datetime(2022, 1, 25, tzinfo=UTC)
"""Since when reflectance in COPERNICUS/S2_SR has an offset of −0.1 (Earth Engine data catalogue, S2_SR)."""


def download_gee_s2_sr_scene(
    scene_id: str,
    store: "str | os.PathLike[str]",
    bands: "Iterable[str] | str | None" = None,
    *,
    collection: Collection = HARMONIZED,
    settings: EarthEngineSettings | None = None,
) -> None:
    """Bring a scene of Earth Engine into the local store; bands that are there are not fetched again.

    Args:
        scene_id: Name of the scene (its `system:index`).
        store: Folder of the raw scenes; created where absent.
        bands: Names of bands ("blue", "B02"); None for blue, green, red and nir; "all" for every reflectance band. The
            scene classification always comes along.
        collection: The image collection. Its scenes are kept apart from those of the other one.
        settings: How Earth Engine is asked; None for the defaults.

    Raises:
        SceneNameError: If the name is none of Earth Engine.
        ParameterError: If a band or the collection is unknown.
        SceneNotFoundError: If the collection does not know the scene.
        LoginError: If there is no login, or it is refused.
        ServiceError: If the service refuses or fails.
        SceneError: If the image is not what the collection's description says.
    """
    provider, name = EarthEngineProvider(settings, collection), check_scene_id(scene_id, "gee")
    download_scene(provider, name, RawStore(store), bands_of_scene(bands))


def load_gee_s2_sr_scene(
    scene_id: str,
    store: "str | os.PathLike[str] | None" = None,
    bands: "Iterable[str] | str | None" = None,
    *,
    offline: bool = False,
    collection: Collection = HARMONIZED,
    settings: EarthEngineSettings | None = None,
) -> "xr.Dataset":
    """Load a scene of Earth Engine as a tile; what is not in the store is fetched into it first.

    Args:
        scene_id: Name of the scene (its `system:index`).
        store: Folder of the raw scenes; None to keep the scene in memory only.
        bands: Names of bands ("blue", "B02"); None for blue, green, red and nir; "all" for every reflectance band,
            those of 20 m and 60 m brought to 10 m by nearest neighbour.
        offline: Never fetch anything.
        collection: The image collection. Of COPERNICUS/S2_SR, scenes since 2022-01-25 have an offset of −0.1.
        settings: How Earth Engine is asked; None for the defaults.

    Returns:
        As `load_cdse_s2_sr_scene`. Pixels that the image masks have DN 0, so NaN, and quality 0.

    Raises:
        EmptySceneError: If the scene holds no data: every pixel of its reflectance bands is 0.
        SceneNotStoredError: If the scene or a band is not in the store, offline.
        RawStoreError: If the stored scene is damaged.
        DartsError: All that `download_gee_s2_sr_scene` raises.
    """
    provider, name = EarthEngineProvider(settings, collection), check_scene_id(scene_id, "gee")
    return load_scene(provider, name, store, bands_of_scene(bands), offline)


def check_login(settings: EarthEngineSettings | None) -> None:
    """Check that Earth Engine takes the login; that it does not answer is no reason to doubt it.

    Raises:
        LoginError: If there is none, or it is refused.
    """
    try:
        EarthEngineClient(settings).ask(lambda: None, "Asking Earth Engine")
    except LoginError:
        raise
    except ServiceError as error:
        logger.warning("%s", error)


class EarthEngineProvider:
    """Earth Engine as a provider of raw scenes."""

    data_source = "Sentinel-2 L2A"

    def __init__(self, settings: EarthEngineSettings | None, collection: Collection = HARMONIZED) -> None:
        check_collection(collection)
        self.source = "gee" if collection == HARMONIZED else "gee-S2_SR"
        self._collection = collection
        self._client = EarthEngineClient(settings)

    def grid(self, scene_id: str) -> RawGrid:
        """Return the grid as the catalogue says it, see `Provider`."""
        return _grid(self._describe(scene_id), SCL, 0.0, scene_id)

    def fetch(
        self,
        scene_id: str,
        bands: Sequence[S2Band],
        folder: Path,  # noqa: ARG002 - nothing of a band is kept half-way
    ) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Fetch bands, see `Provider`."""
        with step("search scene"):
            described = self._describe(scene_id)
        metadata = _metadata(self.source, scene_id, described["properties"])
        offset = 0.0
        taken = datetime.fromisoformat(metadata.attrs["time"])
        if self._collection != HARMONIZED and taken >= _OFFSET_SINCE:
            offset = -0.1
        grids = [_grid(described, band, offset, scene_id) for band in bands]
        return metadata, (self._fetch(scene_id, band, grid) for band, grid in zip(bands, grids, strict=True))

    def _describe(self, scene_id: str) -> dict[str, Any]:
        """Return what Earth Engine says of an image."""

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
        """Fetch a band in blocks, several at once."""
        from odc.geo.geobox import GeoBox, GeoboxTiles

        values = np.empty(grid.shape, band.dtype)
        blocks: Any = GeoboxTiles(GeoBox(grid.shape, grid.affine, grid.crs), (_BLOCK_PX, _BLOCK_PX))

        def fetch_block(at: tuple[int, int]) -> None:
            values[blocks.roi[at]] = self._fetch_block(scene_id, band, blocks[at])

        with step("download"):
            all_at_once(
                (partial(fetch_block, at) for at in np.ndindex(*blocks.shape)), self._client.settings.limits.parallel
            )
        return RawBand(band, grid, values)

    def _fetch_block(self, scene_id: str, band: S2Band, geobox: "GeoBox") -> np.ndarray:
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


def _metadata(source: str, scene_id: str, properties: Mapping[str, Any]) -> SceneMetadata:
    start = properties.get("system:time_start")
    if not isinstance(start, int | float):
        raise SceneError(f"Scene {scene_id}: system:time_start is {start!r}; expected milliseconds.")
    attrs: dict[str, Any] = {
        "time": in_utc(datetime.fromtimestamp(start / 1000, UTC)),
        "s2_source": source,
        "s2_scene_id": scene_id,
    }
    zenith, platform = _number(properties.get("MEAN_SOLAR_ZENITH_ANGLE")), properties.get("SPACECRAFT_NAME")
    optional = {
        "azimuth": _number(properties.get("MEAN_SOLAR_AZIMUTH_ANGLE")),
        "elevation": None if zenith is None else 90.0 - zenith,
        "s2_mgrs_tile": properties.get("MGRS_TILE"),
        "s2_cloud_cover": properties.get("CLOUDY_PIXEL_PERCENTAGE"),
        "s2_snow_cover": properties.get("SNOW_ICE_PERCENTAGE"),
        "s2_platform": None if platform is None else str(platform).lower(),
        "s2_processing_baseline": properties.get("PROCESSING_BASELINE"),
    }
    return SceneMetadata(
        source, scene_id, attrs | {name: value for name, value in optional.items() if value is not None}
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _grid(described: Mapping[str, Any], band: S2Band, offset: float, scene_id: str) -> RawGrid:
    for found in described["bands"]:
        if found["id"] == band.gee_band:
            width, height = found["dimensions"]
            a, b, c, d, e, f = (float(value) for value in found["crs_transform"])
            scale, shift = (1.0, 0.0) if band is SCL else (1e-4, offset)
            return RawGrid(str(found["crs"]), (a, b, c, d, e, f), (int(height), int(width)), scale, shift)
    raise SceneError(
        f"Scene {scene_id} has no band {band.gee_band}; it has {', '.join(each['id'] for each in described['bands'])}."
    )
