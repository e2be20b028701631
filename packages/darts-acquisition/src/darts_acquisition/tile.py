"""Georeferenced variables, made in one place, and the grids of tiles, checked in one place."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from darts_acquisition.errors import SceneGridError
from darts_utils import GridError, band_attrs, check_areal_scale

if TYPE_CHECKING:
    import xarray as xr

AnyPath: TypeAlias = str | os.PathLike[str]
"""A path of a file or a folder; that of a datacube may be ``s3://bucket/prefix``."""
BandNames: TypeAlias = Iterable[str] | str | None
"""Names of bands, in a tile ("blue") or ESA's ("B02"); None for blue, green, red and nir, "all" for every one."""

_EXPECTED = "Expected a north-up grid of square pixels, projected in metres."
_SAME_PX = 0.01
"""Corners of two grids that lie closer than this are the same one."""


def as_variable(values: np.ndarray, geobox: GeoBox, attrs: Mapping[str, Any], **leading: np.ndarray) -> "xr.DataArray":
    """Return an array (…, y, x) on a grid as a variable with dimensions (y, x), whatever the CRS calls its axes.

    `leading` are the coordinates of the dimensions before y and x, by name, in their order. The CRS is in the
    coordinate `spatial_ref`, and a NetCDF file of the variable says so.
    """
    import xarray as xr
    from odc.geo.xr import xr_coords

    coords = dict(xr_coords(geobox, always_yx=True)) | leading
    variable = xr.DataArray(values, coords=coords, dims=(*leading, "y", "x"), attrs=dict(attrs))
    variable.encoding["grid_mapping"] = "spatial_ref"
    return variable


def as_band(name: str, values: np.ndarray, geobox: GeoBox, data_source: str, **leading: np.ndarray) -> "xr.DataArray":
    """Do as `as_variable` with the attributes of the band table; UnknownBandError if it does not know the name."""
    return as_variable(values, geobox, band_attrs(name, data_source=data_source), **leading)


def tile_grid(source: rasterio.DatasetReader, file: str) -> GeoBox:
    """Return the grid of an image, if a tile can have it; `file` is what messages call it.

    SceneGridError if it has no CRS, is rotated or mirrored, its pixels are not square, or its CRS is none in which a
    metre is a metre on the ground, see `darts_utils.check_areal_scale`, which also gives an ArealScaleWarning.
    """
    crs, affine = source.crs, source.transform
    problem = None
    if crs is None or not crs.to_wkt():
        problem = "it has no CRS"
    elif affine.b or affine.d or affine.a <= 0 or affine.e >= 0:
        problem = f"its grid is rotated, mirrored or absent ({tuple(affine)[:6]})"
    elif abs(affine.a + affine.e) > 1e-6 * affine.a:
        problem = f"its pixels are {affine.a} m × {-affine.e} m"
    if problem:
        raise SceneGridError(f"{file}: {problem}. {_EXPECTED}")
    geobox = GeoBox.from_rio(source)
    x, y = affine @ (source.width / 2, source.height / 2)
    try:
        check_areal_scale(crs.to_wkt(), x, y, file)
    except GridError as error:
        raise SceneGridError(str(error)) from error
    return geobox


def same_grid(one: GeoBox, other: GeoBox) -> bool:
    """Tell whether two grids have the same CRS, the same shape, and corners that agree to a hundredth of a pixel."""
    if one.crs != other.crs or one.shape != other.shape:
        return False
    height, width = one.shape
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    apart = [np.subtract(one.affine @ corner, other.affine @ corner) for corner in corners]
    return bool(np.abs(apart).max() < _SAME_PX * min(abs(one.affine.a), abs(one.affine.e)))


def describe_grid(grid: GeoBox) -> str:
    """Say in words what tells a grid from others."""
    affine, crs = grid.affine, grid.crs
    at = f"({affine.c}, {affine.f}) in {name_crs(crs)}"
    return f"{grid.shape[0]} × {grid.shape[1]} pixels of {affine.a} m from {at}"


def name_crs(crs: CRS | None) -> str:
    """Name a CRS as people do: by its EPSG code, else by its own name; its WKT takes a page."""
    if crs is None:
        return "no CRS"
    return f"EPSG:{crs.epsg}" if crs.epsg else str(crs.proj.name)


def describe_area(area: GeoBox | Geometry) -> str:
    """Say in words where a grid or a geometry lies."""
    box = area.boundingbox
    return f"x {box.left:.10g} to {box.right:.10g}, y {box.bottom:.10g} to {box.top:.10g} in {name_crs(area.crs)}"
