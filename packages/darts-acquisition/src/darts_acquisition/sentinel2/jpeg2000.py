"""Decode the JPEG 2000 files of a Sentinel-2 product."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.errors import SceneGridError, SceneReadError
from darts_acquisition.scenes.raw import RawBand
from darts_acquisition.sentinel2.item import Asset
from darts_utils import usable_cpus

if TYPE_CHECKING:
    import rasterio


def decode(file: Path, asset: Asset) -> RawBand:
    """Decode a verified file with all processors.

    Args:
        file: A JPEG 2000 file (or any other that GDAL reads).
        asset: What the item says of it.

    Returns:
        The band, on the grid that the item says.

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
