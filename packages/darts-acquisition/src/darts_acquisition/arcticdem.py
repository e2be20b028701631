"""ArcticDEM from a local datacube: elevation around a tile."""

import os
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.auxiliary import read_product
from darts_acquisition.datacube import Datacube
from darts_acquisition.products import CubeProduct, CubeVariable
from darts_utils import BANDS, ParameterError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

RESOLUTIONS = (2, 10, 32)
"""Pixel sizes in metres in which the ArcticDEM mosaics are published."""

_LEFT, _TOP, _EDGE = -4_000_000, 4_100_000, 8_100_000
"""Corner and edge in metres of the square in EPSG:3413 that holds all tiles of the mosaics (tiles of 100 km)."""


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


def create_arcticdem_cube(path: "str | os.PathLike[str]", resolution: int) -> Datacube:
    """Create an ArcticDEM datacube in which everything is missing; `Datacube.write` fills it.

    Args:
        path: Folder to create.
        resolution: Pixel size in metres: 2, 10 or 32.

    Returns:
        The new cube, on the grid of `arcticdem_product`.

    Raises:
        ParameterError: If there is no mosaic of that resolution.
        CubeExistsError: If there is something at the path.
    """
    return Datacube.create(path, arcticdem_product(resolution))


def load_arcticdem(
    geobox: "GeoBox",
    data_dir: "str | os.PathLike[str]",
    resolution: int,
    buffer: int = 0,
    offline: bool = False,  # noqa: ARG001 - nothing is fetched as yet, see the docstring
) -> "xr.Dataset":
    """Read the elevation of an area from a local datacube.

    Args:
        geobox: Grid of the tile, in any CRS.
        data_dir: Folder of the datacube, see `create_arcticdem_cube`.
        resolution: Pixel size in metres: 2, 10 or 32; that of the cube.
        buffer: Pixels of the DEM to add on every side.
        offline: Never fetch anything. Nothing is fetched as yet, so both values do the same.

    Returns:
        Dataset in EPSG:3413 with the smallest window of the DEM's grid that holds the area, plus the buffer: `dem`
        (float32, m, clipped to −100…3000, NaN outside the data) and `arcticdem_data_mask` (uint8, 1 where the
        elevation was measured). The window ends where the mosaic's grid ends.

    Raises:
        MissingAuxiliaryDataError: If a part of the area is neither in the cube nor known to be empty, or there is no
            cube. The message says which part, and which command fetches it.
        OutsideExtentError: If the area lies wholly outside ArcticDEM.
        CubeError: If there is something else at the path, or the cube of another product or resolution.
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
    )
    dem = ds["dem"].values
    np.clip(dem, BANDS["dem"].low, BANDS["dem"].high, out=dem)  # The array is ours, and NaN stays NaN.
    return ds


def _how_to_fill(resolution: int) -> str:
    if resolution == 32:
        return "No pipeline uses this resolution; fill the cube with Datacube.write."
    pipeline = "planet" if resolution == 2 else "sentinel2"
    return f"Fetch them with `darts inference prep-data {pipeline} --aux`."
