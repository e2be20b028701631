"""Download and load Sentinel-2 L2A scenes of the Copernicus Data Space."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.errors import SceneGridError, SceneNotFoundError, SceneReadError
from darts_acquisition.io.settings import CDSESettings
from darts_acquisition.io.store import RemoteFile, Store
from darts_acquisition.scenes.bands import SCL, S2Band, bands_of_scene
from darts_acquisition.scenes.raw import RawBand, RawGrid, SceneMetadata
from darts_acquisition.scenes.scene import download_scene, load_scene
from darts_acquisition.scenes.selection import check_scene_id
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.sentinel2.cdse_search import find_scenes
from darts_acquisition.sentinel2.item import SOURCE, Asset, asset_of, metadata_of
from darts_utils import step, usable_cpus

if TYPE_CHECKING:
    import rasterio
    import xarray as xr


def decode(file: Path, asset: Asset) -> RawBand:
    """Decode a verified file with all processors, a JPEG 2000 file or any other that GDAL reads.

    Raises:
        SceneReadError: If the file cannot be decoded, or holds something else than the band's integers.
        SceneGridError: If its grid differs from the item's.
    """
    import rasterio
    import rasterio.errors

    try:
        with rasterio.open(file, num_threads=usable_cpus()) as source:
            if source.count != 1 or source.dtypes[0] not in ("uint8", "uint16"):
                found = f"{source.count} of {source.dtypes[0]}"
                raise SceneReadError(
                    f"{file.name} is no {asset.band.number}: expected 1 band of integers, found {found}."
                )
            _check_grid(source, asset, file.name)
            values = source.read(1)
    except rasterio.errors.RasterioError as error:
        raise SceneReadError(f"{file.name} cannot be decoded: {str(error).rstrip('.')}.") from error
    if asset.band.dtype == "uint8" and values.max() > 255:
        raise SceneReadError(f"{file.name} holds {values.max()}, which is no class.")
    return RawBand(asset.band, asset.grid, values.astype(asset.band.dtype, copy=False))


def _check_grid(source: "rasterio.DatasetReader", asset: Asset, name: str) -> None:
    """Compare the grid of a file with that of the item; a file without one of its own takes the item's."""
    grid = asset.grid
    if source.shape != grid.shape:
        raise SceneGridError(f"{name} has {source.shape} pixels; the catalogue says {grid.shape}.")
    if source.crs is None:
        return
    if not np.allclose(tuple(source.transform)[:6], grid.transform, rtol=0, atol=1e-3):
        raise SceneGridError(f"{name} lies at {tuple(source.transform)[:6]}; the catalogue says {grid.transform}.")
    import rasterio.crs

    if source.crs != rasterio.crs.CRS.from_user_input(grid.crs):
        raise SceneGridError(f"{name} is in {source.crs}; the catalogue says {grid.crs}.")


def download_cdse_s2_sr_scene(
    scene_id: str,
    store: "str | os.PathLike[str]",
    bands: "Iterable[str] | str | None" = None,
    *,
    settings: CDSESettings | None = None,
) -> None:
    """Bring a scene of the Copernicus Data Space into the local store; bands that are there are not fetched again.

    Whole JPEG 2000 files are fetched, several at once. A part that an earlier attempt left is continued. A file whose
    size or checksum differs from the catalogue's is fetched again and never decoded.

    Args:
        scene_id: Name of the scene.
        store: Folder of the raw scenes; created where absent.
        bands: Names of bands ("blue", "B02"); None for blue, green, red and nir; "all" for every reflectance band. The
            scene classification always comes along.
        settings: Where the service is; None for `CDSESettings.from_environment`.

    Raises:
        SceneNameError: If the name is none of the Data Space.
        ParameterError: If a band is unknown.
        SceneNotFoundError: If the Data Space does not know the scene, or one of its files is absent.
        LoginError: If there are no keys for the object storage, or they are refused.
        ChecksumError: If a file does not verify after several fetches.
        ServiceError: If a service refuses or fails.
        SceneError: If the item or a file is not what the provider's format says.
    """
    name = check_scene_id(scene_id, "cdse")
    download_scene(CDSEProvider(settings), name, RawStore(store), bands_of_scene(bands))


def load_cdse_s2_sr_scene(
    scene_id: str,
    store: "str | os.PathLike[str] | None" = None,
    bands: "Iterable[str] | str | None" = None,
    *,
    offline: bool = False,
    settings: CDSESettings | None = None,
) -> "xr.Dataset":
    """Load a scene of the Copernicus Data Space as a tile; what is not in the store is fetched into it first.

    Args:
        scene_id: Name of the scene.
        store: Folder of the raw scenes; None to keep the scene in memory only.
        bands: Names of bands ("blue", "B02"); None for blue, green, red and nir; "all" for every reflectance band,
            those of 20 m and 60 m brought to 10 m by nearest neighbour.
        offline: Never fetch anything.
        settings: Where the service is; None for `CDSESettings.from_environment`.

    Returns:
        Dataset with dimensions (y, x) at 10 m in the scene's UTM zone: the bands as float32 surface reflectance (1, NaN
        where DN is 0), `s2_scl` (uint8, 0 no data) and `quality_data_mask` (uint8, 0 invalid, 1 low, 2 high).
        Attributes: `tile_id` (the scene's name), `time` (ISO 8601 UTC), `azimuth` and `elevation` of the sun
        (degrees, NaN where unknown), and the source's own as `s2_*`.

    Raises:
        EmptySceneError: If the scene holds no data: every pixel of its reflectance bands is 0.
        SceneNotStoredError: If the scene or a band is not in the store, offline.
        RawStoreError: If the stored scene is damaged.
        DartsError: All that `download_cdse_s2_sr_scene` raises.
    """
    name = check_scene_id(scene_id, "cdse")
    return load_scene(CDSEProvider(settings), name, store, bands_of_scene(bands), offline)


class CDSEProvider:
    """The Copernicus Data Space as a provider of raw scenes."""

    source = SOURCE
    data_source = "Sentinel-2 L2A"

    def __init__(self, settings: CDSESettings | None) -> None:
        self._settings = settings or CDSESettings.from_environment()

    def grid(self, scene_id: str) -> RawGrid:
        """Return the grid as the catalogue says it, see `Provider`."""
        return asset_of(self._find(scene_id), SCL).grid

    def fetch(self, scene_id: str, bands: Sequence[S2Band], folder: Path) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Fetch bands, see `Provider`."""
        with step("search scene"):
            item = self._find(scene_id)
        assets = [asset_of(item, band) for band in bands]
        metadata = metadata_of(item)
        with step("download"):
            remote = [RemoteFile(asset.href, asset.size, asset.checksum) for asset in assets]
            with contextlib.closing(Store(self._settings.limits, self._settings.s3)) as store:
                files = store.download(remote, folder)
        return metadata, _decoded(assets, files)

    def _find(self, scene_id: str) -> dict[str, Any]:
        found = find_scenes(scene_ids=[scene_id], settings=self._settings)
        if not found:
            raise SceneNotFoundError(
                f"The Copernicus Data Space has no scene {scene_id}; it may have been processed again and renamed."
            )
        return found[0][0]


def _decoded(assets: Sequence[Asset], files: Sequence[Path]) -> Iterator[RawBand]:
    for asset, file in zip(assets, files, strict=True):
        with step("decode"):
            yield decode(file, asset)
