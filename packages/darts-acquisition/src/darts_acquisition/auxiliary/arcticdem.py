"""ArcticDEM from a datacube that fills as it is used: elevation around a tile."""

import os
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.auxiliary.arcticdem_source import ArcticDEMSource
from darts_acquisition.auxiliary.loading import Estimate, download_product, estimate_product, read_product
from darts_acquisition.cube.areas import AreaLike
from darts_acquisition.cube.datacube import Datacube
from darts_acquisition.cube.ingest import Filling, Progress
from darts_acquisition.cube.product import CubeProduct, CubeVariable
from darts_acquisition.io.settings import ArcticDEMSettings, S3Settings
from darts_utils import BANDS, ParameterError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

RESOLUTIONS = (2, 10, 32)
"""Pixel sizes in metres in which the ArcticDEM mosaics are published."""

_LEFT, _TOP, _EDGE = -4_000_000, 4_100_000, 8_100_000
"""Corner and edge in metres of the square in EPSG:3413 that holds all tiles of the mosaics (tiles of 100 km)."""

_BYTES_PER_PX = 2.5
"""What elevation and mask take in the provider's compressed files, about."""


def arcticdem_product(resolution: int) -> CubeProduct:
    """Describe an ArcticDEM mosaic v4.1 as a datacube.

    Args:
        resolution: Pixel size in metres: 2, 10 or 32.

    Returns:
        The product: EPSG:3413, `dem` (float32, m, NaN outside the data) and `arcticdem_data_mask` (uint8, 1 where the
        elevation was measured, else 0).

    Raises:
        ParameterError: If there is no mosaic of that resolution.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    if resolution not in RESOLUTIONS:
        raise ParameterError(f"resolution is {resolution}; ArcticDEM is published at 2, 10 and 32 m.")
    resolution = int(resolution)  # 2.0 is 2, but would be another name.
    size = -(-_EDGE // resolution)
    dem, mask = BANDS["dem"], BANDS["arcticdem_data_mask"]
    return CubeProduct(
        name="arcticdem",
        version="v4.1",
        collection=f"arcticdem-mosaics-v4.1-{resolution}m",
        geobox=GeoBox((size, size), Affine(resolution, 0, _LEFT, 0, -resolution, _TOP), "EPSG:3413"),
        variables=(
            CubeVariable("dem", dem.dtype, float("nan"), dem.long_name, dem.units),
            CubeVariable("arcticdem_data_mask", mask.dtype, 0, mask.long_name, mask.units),
        ),
    )


def create_arcticdem_cube(path: "str | os.PathLike[str]", resolution: int, *, s3: S3Settings | None = None) -> Datacube:
    """Create an ArcticDEM datacube in which everything is missing; `load_arcticdem` fills it as it is used.

    Args:
        path: Folder to create, or ``s3://bucket/prefix``.
        resolution: Pixel size in metres: 2, 10 or 32.
        s3: Which object storage; None for what the environment names.

    Returns:
        The new cube, on the grid of `arcticdem_product`.

    Raises:
        ParameterError: If there is no mosaic of that resolution.
        CubeExistsError: If there is something at the path.
    """
    return Datacube.create(path, arcticdem_product(resolution), s3=s3)


def load_arcticdem(
    geobox: "GeoBox",
    data_dir: "str | os.PathLike[str]",
    resolution: int,
    buffer: int = 0,
    offline: bool = False,
    *,
    settings: ArcticDEMSettings | None = None,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> "xr.Dataset":
    """Read the elevation of an area from a datacube, after fetching what the cube lacks of it.

    Args:
        geobox: Grid of the tile, in any CRS.
        data_dir: Folder of the datacube, or ``s3://bucket/prefix``; it is created where there is none.
        resolution: Pixel size in metres: 2, 10 or 32; that of the cube.
        buffer: Pixels of the DEM to add on every side.
        offline: Never fetch or create anything.
        settings: Where ArcticDEM comes from; None for `ArcticDEMSettings.from_environment`.
        s3: Which object storage holds the cube; None for what the environment names.
        progress: Called with the number of chunks that are done and the number of those to fetch.

    Returns:
        Dataset in EPSG:3413 with the smallest window of the DEM's grid that holds the area, plus the buffer: `dem`
        (float32, m, clipped to −100…3000, NaN outside the data) and `arcticdem_data_mask` (uint8, 1 where the
        elevation was measured). The window ends where the mosaic's grid ends.

    Raises:
        MissingAuxiliaryDataError: Offline, if a part of the area is neither in the cube nor known to be empty, or there
            is no cube. The message says which part, and which command fetches it.
        ServiceError: If a part cannot be fetched; what was fetched is in the cube.
        OutsideExtentError: If the area lies wholly outside ArcticDEM.
        CubeError: If there is something else at the path, or the cube of another product or resolution.
        CubeDamagedError: If the storage has damaged the cube.
        ParameterError: If the resolution or the buffer cannot be.
        GridError: If the area has no CRS.
    """
    product = arcticdem_product(resolution)
    ds = read_product(
        geobox,
        data_dir,
        product,
        buffer=buffer,
        data_source=f"ArcticDEM mosaic {product.version}, {resolution} m",
        how_to_fill=_how_to_fill(resolution),
        source=None if offline else partial(_source, product, settings),
        s3=s3,
        progress=progress,
    )
    dem = ds["dem"].values
    np.clip(dem, BANDS["dem"].low, BANDS["dem"].high, out=dem)  # The array is ours, and NaN stays NaN.
    return ds


def download_arcticdem(
    aoi: AreaLike,
    data_dir: "str | os.PathLike[str]",
    resolution: int,
    *,
    buffer: int = 0,
    settings: ArcticDEMSettings | None = None,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> Filling:
    """Fetch what a datacube lacks of an area, so that it can be used offline.

    Args:
        aoi: The area: a GeoDataFrame, a geometry of odc.geo, a geobox, or several of these, in any CRS.
        data_dir: Folder of the datacube, or ``s3://bucket/prefix``; it is created where there is none.
        resolution: Pixel size in metres: 2, 10 or 32.
        buffer: Pixels of the DEM to add on every side, as for `load_arcticdem`.
        settings: Where ArcticDEM comes from; None for `ArcticDEMSettings.from_environment`.
        s3: Which object storage holds the cube; None for what the environment names.
        progress: Called with the number of chunks that are done and the number of those to fetch.

    Returns:
        How many chunks were filled, and how many the provider does not cover.

    Raises:
        ServiceError: If a part cannot be fetched; what was fetched is in the cube.
        OutsideExtentError: If the area lies wholly outside ArcticDEM.
        CubeError: If there is something else at the path, or the cube of another product or resolution.
        ParameterError: If there is no mosaic of that resolution, or the area is none, or empty.
        GridError: If the area has no CRS.
    """
    product = arcticdem_product(resolution)
    source = partial(_source, product, settings)
    return download_product(aoi, data_dir, product, source, buffer=buffer, s3=s3, progress=progress)


def estimate_arcticdem(
    aoi: AreaLike,
    data_dir: "str | os.PathLike[str]",
    resolution: int,
    *,
    buffer: int = 0,
    s3: S3Settings | None = None,
) -> Estimate:
    """Say what `download_arcticdem` would fetch, without fetching or creating anything.

    Args:
        aoi: The area: a GeoDataFrame, a geometry of odc.geo, a geobox, or several of these, in any CRS.
        data_dir: Folder of the datacube, or ``s3://bucket/prefix``.
        resolution: Pixel size in metres: 2, 10 or 32.
        buffer: Pixels of the DEM to add on every side.
        s3: Which object storage holds the cube; None for what the environment names.

    Returns:
        Numbers of chunks, and megabytes.

    Raises:
        OutsideExtentError: If the area lies wholly outside ArcticDEM.
        CubeError: If there is something else at the path, or the cube of another product or resolution.
        ParameterError: If there is no mosaic of that resolution, or the area is none, or empty.
        GridError: If the area has no CRS.
    """
    product = arcticdem_product(resolution)
    return estimate_product(aoi, data_dir, product, buffer=buffer, bytes_per_px=_BYTES_PER_PX, s3=s3)


def _source(product: CubeProduct, settings: ArcticDEMSettings | None) -> ArcticDEMSource:
    return ArcticDEMSource(product, settings or ArcticDEMSettings.from_environment())


def _how_to_fill(resolution: int) -> str:
    if resolution == 32:
        return "Fetch them with `darts_acquisition.download_arcticdem`."
    pipeline = "planet" if resolution == 2 else "sentinel2"
    return f"Fetch them with `darts inference prep-data {pipeline} --aux`."
