"""The quarterly mosaics with the face of a source of scenes."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_acquisition.io.s3 import find_credentials
from darts_acquisition.io.settings import CDSEMosaicSettings
from darts_acquisition.scenes.scene import scene_geobox
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.sentinel2_mosaics.item import (
    MOSAIC_BANDS,
    OBSERVATIONS,
    SOURCE,
    check_mosaic_id,
    tile_of_mosaic,
    year_of_mosaic,
)
from darts_acquisition.sentinel2_mosaics.loading import MosaicProvider, download_cdse_s2_mosaic, load_cdse_s2_mosaic
from darts_acquisition.sentinel2_mosaics.search import search_cdse_s2_mosaics

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr
    from odc.geo.geobox import GeoBox


class CDSEMosaicSource:
    """The quarterly mosaics of the Copernicus Data Space, used as :class:`Sentinel2Source` is.

    Args:
        settings: Where the service is; None for `CDSEMosaicSettings.from_environment`.
    """

    name = SOURCE

    def __init__(self, settings: CDSEMosaicSettings | None = None) -> None:
        self._settings = settings or CDSEMosaicSettings.from_environment()

    def check_scene_id(self, scene_id: str) -> str:
        """Return a mosaic's name as the source writes it; SceneNameError if it is none."""
        return check_mosaic_id(scene_id)

    def year(self, scene_id: str) -> int | None:
        """Return the year that a mosaic's name holds; None where it holds none."""
        return year_of_mosaic(scene_id)

    def search(self, **conditions: Any) -> "gpd.GeoDataFrame":
        """Find mosaics; conditions, result and errors are those of `search_cdse_s2_mosaics`."""
        return search_cdse_s2_mosaics(**conditions, settings=self._settings)

    def newest(self, scene_ids: Iterable[str]) -> list[str]:
        """Return all names: of a mosaic there is one processing."""
        return list(scene_ids)

    def check_login(self) -> None:
        """Check that there are keys for the object storage; LoginError if there are none."""
        if not self._settings.s3.anonymous:
            find_credentials(self._settings.s3)

    def is_stored(self, scene_id: str, store: "str | os.PathLike[str]") -> bool:
        """Say whether a mosaic can be loaded from the store alone."""
        return not RawStore(store).missing(SOURCE, check_mosaic_id(scene_id), MOSAIC_BANDS)

    def stored_files(self, scene_id: str, store: "str | os.PathLike[str]") -> list[Path]:
        """List the files of a stored mosaic that a tile is made from, sorted; empty where a band is absent."""
        return sorted(RawStore(store).files(SOURCE, check_mosaic_id(scene_id), MOSAIC_BANDS))

    def download(self, scene_id: str, store: "str | os.PathLike[str]") -> None:
        """Bring a mosaic into the store; see `download_cdse_s2_mosaic`."""
        download_cdse_s2_mosaic(scene_id, store, settings=self._settings)

    def load(
        self, scene_id: str, store: "str | os.PathLike[str] | None" = None, *, offline: bool = False
    ) -> "xr.Dataset":
        """Load a mosaic as a tile; see `load_cdse_s2_mosaic`."""
        return load_cdse_s2_mosaic(scene_id, store, offline=offline, settings=self._settings)

    def geobox(
        self, scene_id: str, store: "str | os.PathLike[str] | None" = None, *, offline: bool = False
    ) -> "GeoBox":
        """Return the grid of 10 m that a mosaic's tile will have, without its pixels.

        The store is looked at first; offline, the grid is that of the MGRS tile in the mosaic's name.

        Raises:
            SceneNameError: If the name is none of a mosaic.
            SceneNotFoundError: If the Data Space does not know the mosaic.
            SceneNotStoredError: If the mosaic is not in the store, offline, and its name holds no MGRS tile.
            ServiceError: If the service refuses or fails.
        """
        name, provider = check_mosaic_id(scene_id), MosaicProvider(self._settings)
        return scene_geobox(provider, name, store, OBSERVATIONS, tile_of_mosaic(name) if offline else None)
