"""Read the area around a tile from the cube of a product."""

import os
from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.datacube import Datacube, as_variable
from darts_acquisition.errors import CubeError, CubeNotFoundError, MissingAuxiliaryDataError
from darts_acquisition.products import CubeProduct

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox


def read_product(
    geobox: "GeoBox",
    data_dir: "str | os.PathLike[str]",
    product: CubeProduct,
    *,
    buffer: int,
    data_source: str,
    how_to_fill: str,
) -> "xr.Dataset":
    """Read all variables of a product around a tile.

    Args:
        geobox: Grid of the tile, in any CRS.
        data_dir: Folder of the datacube.
        product: What the cube must hold.
        buffer: Pixels of the cube to add on every side.
        data_source: Attribute that every variable gets.
        how_to_fill: Last sentence of the message where something is missing.

    Returns:
        Dataset with dimensions (y, x) on the cube's grid. Of a tile that crosses the antimeridian in a geographic cube,
        longitudes run on beyond ±180°.

    Raises:
        MissingAuxiliaryDataError: If a part of the area is neither filled nor known to be empty, or there is no cube.
        OutsideExtentError: If the area lies wholly outside the product.
        CubeError: If there is something else at the path, or a cube of another product.
        GridError: If the area has no CRS.
        ParameterError: If `buffer` is negative.
    """
    try:
        cube = Datacube.open(data_dir)
    except CubeNotFoundError as error:
        raise MissingAuxiliaryDataError(f"{error} {how_to_fill}") from error
    if (cube.product.collection, cube.geobox) != (product.collection, product.geobox):
        raise CubeError(f"{cube.path} holds {cube.product.collection}; expected {product.collection}.")
    parts = [cube.read(window, how_to_fill=how_to_fill) for window in cube.windows(geobox, buffer)]
    ds = parts[0] if len(parts) == 1 else _join(*parts)
    for variable in ds.data_vars.values():
        variable.attrs["data_source"] = data_source
    return ds


def _join(west: "xr.Dataset", east: "xr.Dataset") -> "xr.Dataset":
    """Set the part east of the antimeridian beside the part west of it, on the grid of the latter.

    The width of the world need not be a whole number of pixels; the eastern part moves by what is left, which is less
    than half a pixel.
    """
    import xarray as xr

    geobox = west.odc.geobox.expand((west.sizes["y"], west.sizes["x"] + east.sizes["x"]))
    arrays = {}
    for name, left in west.data_vars.items():
        values = np.concatenate([left.values, east[name].values], axis=1)
        arrays[name] = as_variable(values, geobox, left.attrs)
    return xr.Dataset(arrays, attrs=west.attrs)
