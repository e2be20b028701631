"""Download and load quarterly mosaics of the Copernicus Data Space."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.errors import EmptySceneError, SceneGridError, SceneNotFoundError
from darts_acquisition.io.raster import Layer, RasterReader
from darts_acquisition.io.store import Store
from darts_acquisition.scenes.bands import S2Band
from darts_acquisition.scenes.quality import Scaling, over_row_blocks
from darts_acquisition.scenes.raw import RawBand, RawGrid, SceneMetadata, tile_geobox
from darts_acquisition.scenes.scene import download_bands, load_bands
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.scenes.tile import Readable
from darts_acquisition.sentinel2_mosaics.item import (
    MOSAIC_BANDS,
    NODATA,
    OBSERVATIONS,
    SCALE,
    SOURCE,
    asset_of,
    check_mosaic_id,
    grid_of,
    metadata_of,
)
from darts_acquisition.sentinel2_mosaics.search import find_mosaics
from darts_acquisition.sentinel2_mosaics.settings import CDSEMosaicSettings
from darts_acquisition.tile import as_band
from darts_utils import step

if TYPE_CHECKING:
    import xarray as xr

_LOW_QUALITY_LOOKS = 3
"""Up to so many looks a pixel is of low quality."""


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
    download_bands(_Mosaics(settings), check_mosaic_id(scene_id), RawStore(store), MOSAIC_BANDS)


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
    name, raw_store = check_mosaic_id(scene_id), None if store is None else RawStore(store)
    return load_bands(_Mosaics(settings), name, raw_store, MOSAIC_BANDS, offline, build_mosaic)


def mosaic_grid(scene_id: str, settings: CDSEMosaicSettings) -> RawGrid:
    """Return the grid of a mosaic, as the catalogue says it."""
    return grid_of(_Mosaics(settings).find(scene_id))


class _Mosaics:
    """The Copernicus Data Space as a provider of raw mosaics."""

    source = SOURCE
    data_source = "Sentinel-2 L3 quarterly mosaic"

    def __init__(self, settings: CDSEMosaicSettings | None) -> None:
        self._settings = settings or CDSEMosaicSettings.from_environment()

    def find(self, scene_id: str) -> "dict[str, object]":
        """Return the item of a mosaic; SceneNotFoundError if there is none."""
        items = find_mosaics(scene_ids=[scene_id], settings=self._settings)
        if not items:
            raise SceneNotFoundError(f"The Copernicus Data Space has no quarterly mosaic {scene_id}.")
        return items[0]

    def fetch(
        self,
        scene_id: str,
        bands: Sequence[S2Band],
        folder: Path,  # noqa: ARG002 - nothing of a mosaic is kept half-way
    ) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Read the files of bands together, all of one version."""
        with step("search scene"):
            item = self.find(scene_id)
        grid, metadata = grid_of(item), metadata_of(item)
        geobox = tile_geobox({band.name: (band, grid) for band in bands}, f"Mosaic {scene_id}")
        layers = {band.number: _layer(str(asset_of(item, band)["href"]), band) for band in bands}
        with step("download"), closing(Store(self._settings.limits, self._settings.s3)) as store:
            arrays = RasterReader(store).read(layers, geobox)
        if arrays is None:
            raise SceneGridError(f"Mosaic {scene_id}: its files lie elsewhere than its item says.")
        return metadata, (RawBand(band, grid, _as_int16(arrays.pop(band.number))) for band in bands)


def _layer(uri: str, band: S2Band) -> Layer:
    if band is OBSERVATIONS:  # Nobody says what type it has; in this one there is room for all of them.
        return Layer([uri], "int32", 0, ("uint8", "int16", "uint16"))
    return Layer([uri], band.dtype, NODATA)


def _as_int16(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.int16 else values.clip(0, np.iinfo(np.int16).max).astype(np.int16)


def quality_from_observations(observations: np.ndarray) -> np.ndarray:
    """Return the data quality that follows from how often the satellites saw a pixel.

    Args:
        observations: Number of looks, any shape, integers; 0 and less for none.

    Returns:
        uint8 of the same shape: 0 without a look, 1 for one to three, 2 for more.
    """
    quality = (observations > 0).astype(np.uint8)
    quality += observations > _LOW_QUALITY_LOOKS
    return quality


def build_mosaic(metadata: SceneMetadata, bands: Sequence[Readable], data_source: str) -> "xr.Dataset":
    """Make a tile of the raw bands of a mosaic, `OBSERVATIONS` being the last; see `load_cdse_s2_mosaic`."""
    import xarray as xr

    geobox = tile_geobox({item.band.name: (item.band, item.grid) for item in bands}, metadata.scene_id)
    shape = (geobox.shape[0], geobox.shape[1])
    *optical, looks = bands
    reflectance = {item.band.name: np.empty(shape, np.float32) for item in optical}
    quality = np.empty(shape, np.uint8)
    scaling = Scaling(SCALE, nodata=(NODATA,), dtype="int16")

    def convert(rows: slice) -> None:
        quality[rows] = quality_from_observations(looks.read(rows))
        for item in optical:
            missing = scaling.convert(item.read(rows), reflectance[item.band.name][rows])
            if missing is not None:
                quality[rows][missing] = 0

    with step("read raw bands"):
        over_row_blocks(shape[0], looks.rows_at_once, lambda: nullcontext(convert))
    if all(np.isnan(values).all() for values in reflectance.values()):
        raise EmptySceneError(f"Mosaic {metadata.scene_id} holds no data: no pixel has any. Nothing to map.")
    arrays = reflectance | {"quality_data_mask": quality}
    variables = {name: as_band(name, values, geobox, data_source) for name, values in arrays.items()}
    sun = {"azimuth": math.nan, "elevation": math.nan}
    return xr.Dataset(variables, attrs={"tile_id": metadata.scene_id} | metadata.attrs | sun)
