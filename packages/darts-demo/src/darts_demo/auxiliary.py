"""The landscape's heights and trends on the grids of ArcticDEM and TCVIS, in memory and as datacubes."""

from dataclasses import replace
from math import ceil, floor
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds

from darts_acquisition import SYNTHETIC, Datacube, arcticdem_product, tcvis_product
from darts_demo.landscape import Landscape
from darts_utils import TREND_BANDS, band_attrs

DEM_RESOLUTION_M = 2


def arcticdem_arrays(landscape: Landscape, grid: GeoBox) -> dict[str, NDArray]:
    """Bring the landscape's heights to a grid, by cubic interpolation.

    Returns:
        ``dem``, float32, metres, NaN beyond the landscape; ``arcticdem_data_mask``, uint8, 1 where it is not NaN.
    """
    dem = _warp(landscape.height, landscape.wide_geobox, grid, np.nan)
    return {"dem": dem, "arcticdem_data_mask": np.isfinite(dem).astype(np.uint8)}


def tcvis_arrays(landscape: Landscape, grid: GeoBox) -> dict[str, NDArray]:
    """Bring the landscape's trends to a grid, each pixel the mean of what it covers.

    Returns:
        ``tc_brightness``, ``tc_greenness``, ``tc_wetness``, uint8, 0 beyond the landscape.
    """
    return {
        name: _warp(trend, landscape.wide_geobox, grid, 0)
        for name, trend in zip(TREND_BANDS, landscape.trends, strict=True)
    }


def arcticdem_dataset(landscape: Landscape) -> xr.Dataset:
    """Return what ``load_arcticdem`` would return for the landscape and its surroundings, at 2 m.

    Args:
        landscape: What to look at.

    Returns:
        Dataset (y, x) in EPSG:3413: ``dem`` (float32, m) and ``arcticdem_data_mask`` (uint8, 1 where measured).
    """
    grid = _enclosing(arcticdem_product(DEM_RESOLUTION_M).geobox, landscape.wide_geobox)
    return _dataset(arcticdem_arrays(landscape, grid), grid)


def tcvis_dataset(landscape: Landscape) -> xr.Dataset:
    """Return what ``load_tcvis`` would return for the landscape and its surroundings.

    Args:
        landscape: What to look at.

    Returns:
        Dataset (y, x) in EPSG:4326: ``tc_brightness``, ``tc_greenness`` and ``tc_wetness`` (uint8).
    """
    grid = _enclosing(tcvis_product().geobox, landscape.wide_geobox)
    return _dataset(tcvis_arrays(landscape, grid), grid)


def write_cubes(landscape: Landscape, arcticdem_dir: Path, tcvis_dir: Path) -> None:
    """Make an ArcticDEM and a TCVIS datacube that hold the landscape and 500 m around it.

    Raises:
        CubeExistsError: If there is something in one of the places.
    """
    # Their version tells them from real ones, wherever a cube is shown or used.
    arcticdem = arcticdem_dir, arcticdem_product(DEM_RESOLUTION_M), arcticdem_arrays
    for folder, product, arrays in (arcticdem, (tcvis_dir, tcvis_product(), tcvis_arrays)):
        cube = Datacube.create(folder, replace(product, version=SYNTHETIC))
        window = cube.window(landscape.wide_geobox)
        cube.write(window, arrays(landscape, cube.geobox[window]), complete=True)


def _enclosing(product: GeoBox, area: GeoBox) -> GeoBox:
    """The smallest part of a product's grid that holds an area."""
    left, bottom, right, top = transform_bounds(str(area.crs), str(product.crs), *area.boundingbox.bbox, 101)
    affine = product.affine
    rows = slice(floor((top - affine.f) / affine.e), ceil((bottom - affine.f) / affine.e))
    columns = slice(floor((left - affine.c) / affine.a), ceil((right - affine.c) / affine.a))
    return product[rows, columns]


def _warp(field: NDArray, source: GeoBox, grid: GeoBox, nodata: float) -> NDArray:
    target = np.full(tuple(grid.shape), nodata, dtype=field.dtype)
    floats = field.dtype.kind == "f"
    reproject(
        field,
        target,
        src_transform=source.affine,
        src_crs=str(source.crs),
        dst_transform=grid.affine,
        dst_crs=str(grid.crs),
        src_nodata=None if floats else nodata,
        dst_nodata=nodata,
        resampling=Resampling.cubic if floats else Resampling.average,
    )
    return target


def _dataset(arrays: dict[str, NDArray], grid: GeoBox) -> xr.Dataset:
    variables = {name: (("y", "x"), values, band_attrs(name)) for name, values in arrays.items()}
    return xr.Dataset(variables, coords=dict(xr_coords(grid, always_yx=True)))
