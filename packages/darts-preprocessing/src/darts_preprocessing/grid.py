"""Grids: the checks that every feature needs, and lengths in metres turned into cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from darts_preprocessing.backends import Backend
from darts_preprocessing.backends.interface import Array
from darts_utils import (
    GridError,
    ParameterError,
    ValueRangeError,
    check_areal_scale,
    check_even,
    check_range,
    check_units,
    elevation_fault,
    get_band,
    is_on_gpu,
    mask_declared,
    no_elevation,
    to_host,
    upright,
)

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from pyproj import CRS

Length: TypeAlias = "float | str"
"""A length on the ground: metres as a number or as "100m", or cells as "10px"."""


def get_geobox(ds: xr.Dataset, what: str) -> GeoBox:
    """Read the grid of a Dataset.

    Args:
        ds: Dataset with dimensions (y, x) and the CRS in its coordinate ``spatial_ref``.
        what: What the Dataset is, for the message.

    Returns:
        The grid.

    Raises:
        GridError: If the Dataset has no grid or no CRS, or its rows or columns are not evenly spaced.
    """
    import odc.geo.xr  # noqa: F401  registers the accessor
    from odc.geo.geobox import GeoBox

    geobox = ds.odc.geobox
    if not isinstance(geobox, GeoBox) or geobox.crs is None:
        raise GridError(
            f"{what} has no grid with a CRS; expected dimensions (y, x), regularly spaced coordinates, "
            "and the CRS as odc.geo writes it (`ds.odc.assign_crs(...)`)."
        )
    check_even(ds, what)
    return geobox


def to_pyproj(geobox: GeoBox) -> CRS:
    """Return the CRS of a grid."""
    if geobox.crs is None:
        raise GridError("A grid has no CRS.")
    return geobox.crs.proj


def check_metric_grid(geobox: GeoBox, what: str) -> float:
    """Make sure that a grid is projected in metres, north-up and square, and return the side of its cells.

    Args:
        geobox: The grid.
        what: What lies on the grid, for the message.

    Returns:
        Side of a cell in metres.

    Raises:
        GridError: If the grid is none of that, or a metre of it is none on the ground; the message says what it is.

    Warns:
        ArealScaleWarning: If areas on the grid differ from those on the ground by more than 3 %.
    """
    affine, (rows, cols) = geobox.affine, geobox.shape
    check_areal_scale(to_pyproj(geobox), *(affine @ (cols / 2, rows / 2)), what)
    if affine.b != 0 or affine.d != 0 or affine.a <= 0 or affine.e >= 0:
        raise GridError(
            f"{what} is not north-up (affine {tuple(affine)[:6]}); expected rows from north to south and columns from "
            "west to east. `ds.sortby('y', ascending=False)` turns rows round; a rotated grid is reprojected first."
        )
    if not math.isclose(affine.a, -affine.e, rel_tol=1e-4):
        raise GridError(f"{what} has cells of {affine.a} × {-affine.e} m; expected square cells.")
    return float(affine.a)


def read_band(ds: xr.Dataset, name: str, backend: Backend) -> Array:
    """Return a band of the band table as float32, with NaN where its attributes declare that it has no data.

    Args:
        ds: Dataset with the band.
        name: Name of the band.
        backend: The kernels that will work on it.

    Returns:
        (y, x) float32, contiguous, where `backend` works; the band's own memory where nothing had to be changed.

    Raises:
        GridError: If the band has other dimensions than those of the grid.
        ValueRangeError: If its values cannot be in the unit of the band table.
    """
    given = upright(ds[name], name).data
    check_units(name, ds[name].attrs, taker="preprocessing")
    # Looked at where it lies, so that nobody waits for a GPU for what the host knows.
    here = given if is_on_gpu(given) else np.asarray(given)
    values = mask_declared(here, ds[name].attrs, ds[name].encoding)
    band = get_band(name)
    remedy = "bring the band into the unit of the band table"
    check_range(name, values, band.low, band.high, taker="preprocessing", remedy=remedy)
    if name == "dem":
        _check_elevations(values)
    return backend.asarray(values, np.float32)


def _check_elevations(values: Array) -> None:
    """Look at every pixel: sums over a neighbourhood are running ones, which a single 1e38 spoils as far as they run.

    Raises:
        ValueRangeError: If one is no elevation, see :func:`darts_utils.no_elevation`.
    """
    if to_host({"fault": elevation_fault(values)})["fault"].any():
        known = to_host({"values": values})["values"]
        row, column = np.unravel_index(no_elevation(known).argmax(), known.shape)
        raise ValueRangeError(
            f"Band 'dem' is {known[row, column]:g} at row {row}, column {column}, which is no elevation; if this marks "
            "missing pixels, make them NaN (rioxarray does so with masked=True where the file declares it, else "
            "`band.where(~no_elevation(band))` with that function of darts_utils)."
        )


def read_classes(ds: xr.Dataset, name: str, backend: Backend) -> Array:
    """Return a layer of whole numbers as uint8, 0 where it is NaN or declares that it has no data.

    Args:
        ds: Dataset with the layer.
        name: Name of the layer.
        backend: The kernels that will work on it.

    Returns:
        (y, x) uint8 where `backend` works.

    Raises:
        GridError: If the layer has other dimensions than those of the grid.
        ValueRangeError: If it holds a value that is no whole number in the range of the band table. What lies on a GPU
            is not looked at, for that would be to wait for it.
    """
    array, high = upright(ds[name], name), get_band(name).high
    if is_on_gpu(array.data):
        values = array.data
        return backend.asarray(
            backend.xp.where(values == values, values, 0) if values.dtype.kind == "f" else values, np.uint8
        )
    given = np.asarray(array.data)
    values = mask_declared(given, array.attrs, array.encoding)
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0, values)
    if values.size and not (
        values.min() >= 0 and values.max() <= high and (values.dtype.kind != "f" or (values == np.rint(values)).all())
    ):
        raise ValueRangeError(
            f"{name} has values from {values.min():g} to {values.max():g} (type {array.dtype}); expected whole numbers "
            f"from 0 to {high:g}, and 0 or NaN where there is no data."
        )
    return backend.asarray(values, np.uint8)


def pad(geobox: GeoBox, cells: int) -> GeoBox:
    """Return a north-up grid with more cells on each side."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    affine, (rows, cols) = geobox.affine, geobox.shape
    origin = affine.c - cells * affine.a, affine.f - cells * affine.e
    return GeoBox(
        (rows + 2 * cells, cols + 2 * cells), Affine(affine.a, 0, origin[0], 0, affine.e, origin[1]), geobox.crs
    )


def to_cells(length: Length, cell: float, name: str) -> int:
    """Turn a length into cells, rounded up.

    Args:
        length: Metres as a number or "100m", or cells as "10px".
        cell: Side of a cell in metres.
        name: Name of the parameter, for the message.

    Returns:
        Number of cells, 0 or more.

    Raises:
        ParameterError: If the length is none of these, or negative.

    Examples:
        >>> to_cells(100, 3.0, "outer_radius"), to_cells("100m", 3.0, "outer_radius"), to_cells("10px", 3.0, "window")
        (34, 34, 10)
    """
    text = str(length).strip().lower()
    try:
        metres = float(text.removesuffix("px").removesuffix("m"))
    except ValueError:
        metres = math.nan
    if not (math.isfinite(metres) and metres >= 0) or isinstance(length, bool):
        raise ParameterError(f"{name} is {length!r}; expected metres (100 or '100m') or cells ('10px'), 0 or more.")
    cells = metres if text.endswith("px") else metres / cell
    return math.ceil(round(cells, 6))  # so that 30 m of 0.3 m cells are 100 cells, whatever the last bit says


def to_window(length: Length, cell: float, name: str) -> int:
    """Turn the side of a square window into cells: rounded up, then up to the next odd number.

    Args:
        length: Metres as a number or "100m", or cells as "10px".
        cell: Side of a cell in metres.
        name: Name of the parameter, for the message.

    Returns:
        Number of cells, odd, 3 or more.

    Raises:
        ParameterError: If the length is none of these, or the window is a single cell.

    Examples:
        >>> to_window("3px", 3.0, "window"), to_window(20, 3.0, "window")
        (3, 7)
    """
    side = to_cells(length, cell, name)
    if side < 2:
        raise ParameterError(f"{name} is {length!r}, which is {side} cell(s) of {cell} m; expected at least 2 cells.")
    return side | 1


def to_radii(outer_radius: Length, inner_radius: Length, cell: float) -> tuple[int, int]:
    """Turn the radii of a disk or ring into cells.

    Raises:
        ParameterError: If a radius is malformed, or the ring holds no cell.
    """
    outer, inner = to_cells(outer_radius, cell, "outer_radius"), to_cells(inner_radius, cell, "inner_radius")
    if outer < 1 or inner >= outer:
        raise ParameterError(
            f"outer_radius is {outer_radius!r} ({outer} cells of {cell} m) and inner_radius {inner_radius!r} "
            f"({inner} cells); expected at least one cell between them."
        )
    return outer, inner
