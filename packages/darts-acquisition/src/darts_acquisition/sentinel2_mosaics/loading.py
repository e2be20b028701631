"""Download and load quarterly mosaics of the Copernicus Data Space."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.errors import SceneGridError, SceneNotFoundError
from darts_acquisition.io.raster import Layer, RasterReader
from darts_acquisition.io.settings import CDSEMosaicSettings
from darts_acquisition.io.store import Store
from darts_acquisition.scenes.bands import S2Band
from darts_acquisition.scenes.raw import RawBand, RawGrid, SceneMetadata, tile_geobox
from darts_acquisition.scenes.scene import download_scene, load_scene
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.sentinel2_mosaics.item import (
    MOSAIC_BANDS,
    OBSERVATIONS,
    SOURCE,
    asset_of,
    check_mosaic_id,
    grid_of_mosaic,
    metadata_of,
)
from darts_acquisition.sentinel2_mosaics.search import find_mosaics
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr


def download_cdse_s2_mosaic(
    scene_id: str, store: "str | os.PathLike[str]", *, settings: CDSEMosaicSettings | None = None
) -> None:
    """Bring a quarterly mosaic of the Copernicus Data Space into the local store; one that is there stays as it is.

    Args:
        scene_id: Name of the mosaic.
        store: Folder of the raw scenes; created where absent.
        settings: Where the service is; None for `CDSEMosaicSettings.from_environment`.

    Raises:
        SceneNameError: If the name is none of a mosaic.
        SceneNotFoundError: If the Data Space does not know the mosaic.
        LoginError: If there are no keys for the object storage, or they are refused.
        ServiceError: If a service refuses or fails, or a file is not what the collection's description says.
        SceneError: If the item lacks a band or the grid. The message lists its assets.
    """
    download_scene(MosaicProvider(settings), check_mosaic_id(scene_id), RawStore(store), MOSAIC_BANDS)


def load_cdse_s2_mosaic(
    scene_id: str,
    store: "str | os.PathLike[str] | None" = None,
    *,
    offline: bool = False,
    settings: CDSEMosaicSettings | None = None,
) -> "xr.Dataset":
    """Load a quarterly mosaic of the Copernicus Data Space as a tile; what is not in the store is fetched first.

    Args:
        scene_id: Name of the mosaic.
        store: Folder of the raw scenes; None to keep the mosaic in memory only.
        offline: Never fetch anything.
        settings: Where the service is; None for `CDSEMosaicSettings.from_environment`.

    Returns:
        Dataset with dimensions (y, x) at 10 m in the mosaic's UTM zone: `blue`, `green`, `red` and `nir` as float32
        surface reflectance (1, DN / 10000, NaN where there is no data), and `quality_data_mask` (uint8): 0 without a
        look or without data in a band, 1 for one to three looks, 2 for more. Attributes: `tile_id` (the mosaic's name),
        `time` (begin of the quarter, ISO 8601 UTC), `azimuth` and `elevation` of the sun (NaN, as a mosaic shows
        many), and the source's own as `s2_*`.

    Raises:
        EmptySceneError: If no pixel of any band has data.
        SceneNotStoredError: If the mosaic is not in the store, offline.
        RawStoreError: If the stored mosaic is damaged.
        DartsError: All that `download_cdse_s2_mosaic` raises.
    """
    return load_scene(MosaicProvider(settings), check_mosaic_id(scene_id), store, MOSAIC_BANDS, offline)


class MosaicProvider:
    """The Copernicus Data Space as a provider of raw mosaics."""

    source = SOURCE
    data_source = "Sentinel-2 L3 quarterly mosaic"

    def __init__(self, settings: CDSEMosaicSettings | None) -> None:
        self._settings = settings or CDSEMosaicSettings.from_environment()

    def grid(self, scene_id: str) -> RawGrid:
        """Return the grid as the catalogue says it, see `Provider`."""
        return grid_of_mosaic(self._find(scene_id))

    def fetch(
        self,
        scene_id: str,
        bands: Sequence[S2Band],
        folder: Path,  # noqa: ARG002 - nothing of a mosaic is kept half-way
    ) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Read the files of bands together, all of one version."""
        with step("search scene"):
            item = self._find(scene_id)
        grid, metadata = grid_of_mosaic(item), metadata_of(item)
        geobox = tile_geobox({band.name: (band, grid) for band in bands}, f"Mosaic {scene_id}")
        layers = {band.number: _layer(str(asset_of(item, band)["href"]), band) for band in bands}
        with step("download"), closing(Store(self._settings.limits, self._settings.s3)) as store:
            arrays = RasterReader(store).read(layers, geobox)
        if arrays is None:
            raise SceneGridError(f"Mosaic {scene_id}: its files lie elsewhere than its item says.")
        return metadata, (RawBand(band, grid, _as_int16(arrays.pop(band.number))) for band in bands)

    def _find(self, scene_id: str) -> dict[str, Any]:
        found = find_mosaics(scene_ids=[scene_id], settings=self._settings)
        if not found:
            raise SceneNotFoundError(f"The Copernicus Data Space has no quarterly mosaic {scene_id}.")
        return found[0][0]


def _layer(uri: str, band: S2Band) -> Layer:
    if band is OBSERVATIONS:  # Nobody says what type it has; in this one there is room for all of them.
        return Layer([uri], "int32", 0, ("uint8", "int16", "uint16"))
    return Layer([uri], band.dtype, band.nodata)


def _as_int16(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.int16 else values.clip(0, np.iinfo(np.int16).max).astype(np.int16)
