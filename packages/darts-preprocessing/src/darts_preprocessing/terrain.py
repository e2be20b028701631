"""Terrain features, each a function of a Dataset with elevations that returns it with one variable more."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from darts_preprocessing.backends import Core, Shading
from darts_preprocessing.errors import SunAngleWarning
from darts_preprocessing.grid import Length, check_dataset, get_dem, get_geobox, to_cells, to_window
from darts_preprocessing.north import get_north
from darts_utils import BANDS, ParameterError, band_attrs, step

if TYPE_CHECKING:
    import xarray as xr

DEFAULT_AZIMUTH = 225.0
DEFAULT_ELEVATION = 25.0

_MORE_ATTRS = {
    "terrain_ruggedness_index": {"long_name": "terrain ruggedness index", "units": "m"},
    "vector_ruggedness_measure": {"long_name": "vector ruggedness measure", "units": "1"},
    "dissection_index": {"long_name": "dissection index", "units": "1"},
}
WINDOW_FEATURES = tuple(_MORE_ATTRS)
"""The variables that a function of its own computes, and :func:`preprocess_v2` does not."""


def calculate_slope(ds: xr.Dataset) -> xr.Dataset:
    """Add ``slope``: how steep the ground is, in degrees.

    Horn's gradient of the 3 × 3 cells (Horn 1981, doi:10.1109/PROC.1981.11918). NaN where one of them is NaN; beyond
    the rim of the raster, elevations go on linearly, as with ``gdaldem slope -compute_edges``.

    Args:
        ds: Dataset with ``dem``, (y, x) float32, metres, NaN where there is none, on a grid projected in metres,
            north-up, with square cells. Not changed.

    Returns:
        A new Dataset with ``slope``, (y, x) float32, degrees, 0 to 90, besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If the elevations cannot be metres.
        MissingBandError: If there is no ``dem``.
        GridError: If the grid is not as described.
    """
    return _add_gradient_feature(ds, "slope")


def calculate_aspect(ds: xr.Dataset) -> xr.Dataset:
    """Add ``aspect``: the direction that the ground falls to, in degrees clockwise from true north, −1 where flat.

    The direction of Horn's gradient (see :func:`calculate_slope`) on the grid, turned by the meridian convergence of
    the CRS at the pixel.

    Args:
        ds: As for :func:`calculate_slope`.

    Returns:
        A new Dataset with ``aspect``, (y, x) float32, degrees, 0 up to 360, or −1, besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If the elevations cannot be metres.
        MissingBandError: If there is no ``dem``.
        GridError: If the grid is not as described.
    """
    return _add_gradient_feature(ds, "aspect")


def calculate_curvature(ds: xr.Dataset) -> xr.Dataset:
    """Add ``curvature``: how the ground bends, positive where it is convex upwards, in 1/100 m.

    −200 (D + E), where D and E are half the second differences along x and y per squared cell (Zevenbergen and Thorne
    1987, doi:10.1002/esp.3290120107), the convention of ESRI and of ``xrspatial.curvature``. NaN where the cell or one
    of its four neighbours is NaN; beyond the rim of the raster, elevations go on linearly.

    Args:
        ds: As for :func:`calculate_slope`.

    Returns:
        A new Dataset with ``curvature``, (y, x) float32, 1/100 m, besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If the elevations cannot be metres.
        MissingBandError: If there is no ``dem``.
        GridError: If the grid is not as described.
    """
    return _add_gradient_feature(ds, "curvature")


def calculate_hillshade(ds: xr.Dataset, azimuth: float | None = None, elevation: float | None = None) -> xr.Dataset:
    """Add ``hillshade``: the cosine of the angle between the sun and the surface normal, 0 where the sun is behind.

    The surface is that of Horn's gradient (see :func:`calculate_slope`); the formula is Horn's (1981), as in
    ``gdaldem hillshade``, which writes 1 + 254 × this. The sun's direction is turned from true north to the grid's
    north at the pixel.

    Args:
        ds: As for :func:`calculate_slope`.
        azimuth: Where the sun stands, degrees clockwise from true north. None takes the attribute ``azimuth`` of `ds`.
        elevation: Degrees above the horizon. None takes the attribute ``elevation`` of `ds`.

    Returns:
        A new Dataset with ``hillshade``, (y, x) float32, 0 (dark) to 1 (lit), besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If the elevations cannot be metres.
        MissingBandError: If there is no ``dem``.
        GridError: If the grid is not as described.

    Warns:
        SunAngleWarning: If an angle is neither given nor known to `ds`; 225° or 25° then takes its place.
    """
    check_dataset(ds)
    return _add_gradient_feature(ds, "hillshade", resolve_sun(ds.attrs, azimuth, elevation))


def calculate_topographic_position_index(
    ds: xr.Dataset, outer_radius: Length = 100, inner_radius: Length = 0
) -> xr.Dataset:
    """Add ``relative_elevation``: how far a cell lies above (or below) the mean of the cells around it, in metres.

    The topographic position index (Weiss 2001) over a disk, or over a ring. The mean is that of the valid cells whose
    centres are at most the outer radius away and, where the inner radius is above 0, farther than it; the cell itself
    belongs to the disk. NaN only where the cell itself is NaN, or no other cell counts.

    Args:
        ds: As for :func:`calculate_slope`.
        outer_radius: Metres (100 or "100m"), rounded up to cells, or cells ("10px").
        inner_radius: Likewise; 0 means a disk, more a ring.

    Returns:
        A new Dataset with ``relative_elevation``, (y, x) float32, metres, besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If the elevations cannot be metres.
        MissingBandError: If there is no ``dem``.
        GridError: If the grid is not as described.
        ParameterError: If a radius is malformed, or the ring holds no cell.
    """
    backend, dem, cell = get_dem(ds, "relative_elevation")
    outer, inner = to_radii(outer_radius, inner_radius, cell)
    with backend.active(), step("relative_elevation"):
        values = backend.relative_elevation(dem, Core.whole(dem.shape), outer, inner)
    about = {"relative_elevation": describe_radii((outer, inner), cell)}
    return add_variables(ds, {"relative_elevation": values}, about)


def calculate_terrain_ruggedness_index(ds: xr.Dataset, window: Length = "3px") -> xr.Dataset:
    """Add ``terrain_ruggedness_index``: how much the elevation differs from that of the cells around, in metres.

    The root of the sum of the squared differences from the cells of a square window (Riley, DeGloria and Elliot 1999,
    Intermountain Journal of Sciences 5). Where cells are missing, the sum over the others stands for all of them. NaN
    only where the cell itself is NaN, or every other one.

    Args:
        ds: As for :func:`calculate_slope`.
        window: Side of the window: metres (100 or "100m"), rounded up to an odd number of cells, or cells ("3px").

    Returns:
        A new Dataset with ``terrain_ruggedness_index``, (y, x) float32, metres, besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If the elevations cannot be metres.
        MissingBandError: If there is no ``dem``.
        GridError: If the grid is not as described.
        ParameterError: If the window is malformed or a single cell.
    """
    backend, dem, cell = get_dem(ds, "terrain_ruggedness_index")
    size = to_window(window, cell, "window")
    with backend.active(), step("terrain_ruggedness_index"):
        values = backend.ruggedness(dem, size)
    return add_variables(ds, {"terrain_ruggedness_index": values})


def calculate_vector_ruggedness_measure(ds: xr.Dataset, window: Length = "3px") -> xr.Dataset:
    """Add ``vector_ruggedness_measure``: how much the surface normals scatter, 0 where they are parallel, at most 1.

    One minus the length of the mean of the unit normals over a square window (Sappington, Longshore and Thompson 2007,
    doi:10.2193/2005-723). The normals are those of Horn's gradient (see :func:`calculate_slope`); the mean is over the
    cells that have one. NaN where the cell itself has none.

    Args:
        ds: As for :func:`calculate_slope`.
        window: Side of the window: metres (100 or "100m"), rounded up to an odd number of cells, or cells ("3px").

    Returns:
        A new Dataset with ``vector_ruggedness_measure``, (y, x) float32, 0 to 1, besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If the elevations cannot be metres.
        MissingBandError: If there is no ``dem``.
        GridError: If the grid is not as described.
        ParameterError: If the window is malformed or a single cell.
    """
    backend, dem, cell = get_dem(ds, "vector_ruggedness_measure")
    size = to_window(window, cell, "window")
    with backend.active(), step("vector_ruggedness_measure"):
        values = backend.vector_ruggedness(dem, cell, size)
    return add_variables(ds, {"vector_ruggedness_measure": values})


def calculate_dissection_index(ds: xr.Dataset, window: Length = "100m") -> xr.Dataset:
    """Add ``dissection_index``: the relief around a cell, relative to the highest elevation there.

    (highest − lowest) / highest over a square window (Nir 1957, Geographical Research Forum), 0 where it is level and
    1 where it is cut down to elevation 0; lower cells count as 0. NaN where the cell itself is NaN, or nothing around
    it is above 0. The result depends on what elevations are measured from: ArcticDEM counts from the ellipsoid.

    Args:
        ds: As for :func:`calculate_slope`.
        window: Side of the window: metres (100 or "100m"), rounded up to an odd number of cells, or cells ("3px").

    Returns:
        A new Dataset with ``dissection_index``, (y, x) float32, 0 to 1, besides what `ds` holds.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If the elevations cannot be metres.
        MissingBandError: If there is no ``dem``.
        GridError: If the grid is not as described.
        ParameterError: If the window is malformed or a single cell.
    """
    backend, dem, cell = get_dem(ds, "dissection_index")
    size = to_window(window, cell, "window")
    with backend.active(), step("dissection_index"):
        values = backend.dissection(dem, size)
    return add_variables(ds, {"dissection_index": values})


def resolve_sun(attrs: dict[Any, Any], azimuth: float | None = None, elevation: float | None = None) -> Shading:
    """Return where the sun stands, from the arguments, else the attributes, else the default with a warning."""
    azimuth, elevation = (
        math.nan if value is None else float(value)
        for value in (
            attrs.get("azimuth") if azimuth is None else azimuth,
            attrs.get("elevation") if elevation is None else elevation,
        )
    )
    known = math.isfinite(azimuth), math.isfinite(elevation)
    if not all(known):
        lacking = " and ".join(
            name for name, is_known in zip(("azimuth", "elevation"), known, strict=True) if not is_known
        )
        azimuth = azimuth if known[0] else DEFAULT_AZIMUTH
        elevation = elevation if known[1] else DEFAULT_ELEVATION
        warnings.warn(
            f"The sun's {lacking} is unknown; the hillshade is lit from {azimuth:g}° at {elevation:g}°.",
            SunAngleWarning,
            stacklevel=3,
        )
    return Shading.from_angles(azimuth, elevation)


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


def describe_radii(radii: tuple[int, int], cell: float) -> dict[str, str]:
    """Return the attributes that say over which disk or ring a relative elevation was taken."""
    names = ("outer_radius", "inner_radius")
    return {name: f"{cells * cell:g} m ({cells} cells)" for name, cells in zip(names, radii, strict=True)}


def add_variables(
    ds: xr.Dataset, values: dict[str, Any], attrs: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> xr.Dataset:
    """Return the Dataset with more variables on its own grid.

    Their attributes are those of the band table, and those that `attrs` has for their names.
    """
    import xarray as xr

    added = {}
    for name, array in values.items():
        described = band_attrs(name) if name in BANDS else _MORE_ATTRS[name]
        added[name] = xr.Variable(
            ("y", "x"), array, {**described, **attrs.get(name, {})}, encoding={"grid_mapping": "spatial_ref"}
        )
    return ds.assign(added)


def _add_gradient_feature(ds: xr.Dataset, name: str, shading: Shading | None = None) -> xr.Dataset:
    backend, dem, cell = get_dem(ds, name)
    needs_north = name in ("aspect", "hillshade")
    north = get_north(get_geobox(ds, "The Dataset")) if needs_north else None
    with backend.active(), step(name):
        features = backend.gradient_features(dem, Core.whole(dem.shape), cell, [name], shading, north)
    return add_variables(ds, features)
