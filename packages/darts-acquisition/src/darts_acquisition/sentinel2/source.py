"""One face for both sources of Sentinel-2 scenes, so that who uses them need not tell them apart."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_acquisition.errors import LoginError, ServiceError
from darts_acquisition.io.earthengine import EarthEngineClient
from darts_acquisition.io.settings import CDSESettings, EarthEngineSettings
from darts_acquisition.io.store import find_credentials
from darts_acquisition.scenes.download import Provider, SceneSource
from darts_acquisition.scenes.names import Source, check_scene_id, newest_baselines, tile_of_scene
from darts_acquisition.scenes.store import RawStore, write_raw_bands
from darts_acquisition.sentinel2.cdse import CDSEProvider, search_cdse_s2_sr
from darts_acquisition.sentinel2.gee import EarthEngineProvider, search_gee_s2_sr
from darts_acquisition.tile import AnyPath, BandNames
from darts_utils import ParameterError

if TYPE_CHECKING:
    import geopandas as gpd


logger = logging.getLogger(__name__)


class Sentinel2Source(SceneSource):
    """A source of Sentinel-2 L2A scenes: the Copernicus Data Space or Earth Engine.

    Args:
        name: "cdse" or "gee".
        ee_project: Cloud project of Earth Engine; None for that of the login.
        ee_use_highvolume: Ask Earth Engine's endpoint for many small requests.

    Raises:
        ParameterError: If there is no such source.
    """

    name: Source

    def __init__(self, name: Source, *, ee_project: str | None = None, ee_use_highvolume: bool = True) -> None:
        if name not in ("cdse", "gee"):
            raise ParameterError(f"raw_data_source is {name!r}; expected 'cdse' or 'gee'.")
        self.name = name
        self._settings: Any = (
            CDSESettings.from_environment()
            if name == "cdse"
            else EarthEngineSettings(project=ee_project, use_highvolume=ee_use_highvolume)
        )

    def check_scene_id(self, scene_id: str) -> str:
        """Return a scene's name as the source writes it; SceneNameError if it is none of this source."""
        return check_scene_id(scene_id, self.name)

    def year(self, scene_id: str) -> int:
        """Return the year in which a scene was taken, which its name says."""
        return int(self.check_scene_id(scene_id).split("_")[2 if self.name == "cdse" else 0][:4])

    def search(self, **conditions: Any) -> "gpd.GeoDataFrame":
        """Find scenes; conditions, result and errors are those of `search_cdse_s2_sr`."""
        search = search_cdse_s2_sr if self.name == "cdse" else search_gee_s2_sr
        return search(**conditions, settings=self._settings)

    def newest(self, scene_ids: Iterable[str]) -> list[str]:
        """Leave out scenes of which there is a newer processing baseline, or that ESA did not process itself.

        No ground is mapped twice then, nor from a product whose processing is unknown. Earth Engine's names do not say
        how a scene was processed; all of them stay.
        """
        return newest_baselines(scene_ids)

    def check_login(self) -> None:
        """Check that there is a login, before each of many scenes fails for want of one; else LoginError.

        That Earth Engine does not answer is no reason to doubt it.
        """
        if self.name == "gee":
            try:
                EarthEngineClient(self._settings).ask(lambda: None, "Asking Earth Engine")
            except LoginError:
                raise
            except ServiceError as error:
                logger.warning("%s", error)
        elif not self._settings.s3.anonymous:
            find_credentials(self._settings.s3)

    def write_raw(self, scene_id: str, store: AnyPath, folder: AnyPath, bands: BandNames = None) -> list[Path]:
        """Write bands of a stored scene as GeoTIFF (``B02.tif``), with integers and resolution of the provider.

        RawStoreError if a band is absent or damaged, OSError if a file cannot be written.
        """
        return write_raw_bands(RawStore(store), self.name, self.check_scene_id(scene_id), folder, bands)

    def _provider(self) -> Provider:
        return CDSEProvider(self._settings) if self.name == "cdse" else EarthEngineProvider(self._settings)

    def _tile_of(self, scene_id: str) -> str:
        return tile_of_scene(scene_id)
