"""Whether a metre of a grid is a metre on the ground."""

import importlib
import math
import warnings
from typing import TYPE_CHECKING

from darts_utils.errors import ArealScaleWarning, GridError

if TYPE_CHECKING:
    import pyproj

MAX_DEPARTURE = 0.25
"""Areas that differ by more than this from those on the ground are refused."""
WARNED_DEPARTURE = 0.03
"""Areas that differ by more than this are used with a warning."""

_UNIT_TOLERANCE = 1e-4


def check_areal_scale(crs: object, x: float, y: float, what: str) -> float:
    """Refuse a CRS whose metres are not metres on the ground: geographic, in another unit, or with areas far off.

    Areas, slopes and radii are computed in the metres of the grid. In UTM and equal-area projections these are those of
    the ground; Web Mercator makes areas 7.8 times as large at 69° N, EPSG:3413 1.1 times at 58° N.

    Args:
        crs: CRS of the grid: anything that `pyproj.CRS.from_user_input` takes. pyproj must be installed.
        x: Easting of the grid's centre, in units of the CRS.
        y: Northing of the grid's centre.
        what: What lies on the grid, for the message.

    Returns:
        Areal scale at the centre: area in the grid over area on the ellipsoid (Snyder 1987, p. 20).

    Raises:
        GridError: If the CRS is not projected, its unit is not the metre, or the areal scale is off by more than a
            quarter. The message names a UTM zone to reproject to.

    Warns:
        ArealScaleWarning: If the areal scale is off by more than 3 %.

    Examples:
        >>> round(check_areal_scale("EPSG:32608", 500_000, 7_650_000, "The tile"), 4)
        0.9992
    """
    pyproj = importlib.import_module("pyproj")  # no dependency of this package: whoever has grids has it
    given = pyproj.CRS.from_user_input(crs)
    horizontal = _horizontal(given)
    if not horizontal.is_projected:
        raise GridError(_refusal(what, f"{given.name}", (x, y) if horizontal.is_geographic else None))
    proj = pyproj.Proj(horizontal)
    lon, lat = proj(x, y, inverse=True)
    unit = next(
        (axis for axis in horizontal.axis_info[:2] if abs(axis.unit_conversion_factor - 1) > _UNIT_TOLERANCE), None
    )
    if unit is not None:
        raise GridError(_refusal(what, f"{given.name}, counted in {unit.unit_name}", (lon, lat)))
    scale = float(proj.get_factors(lon, lat).areal_scale)
    if not math.isfinite(scale):
        raise GridError(_refusal(what, f"{given.name}, which does not reach ({x:g}, {y:g})", None))
    if abs(scale - 1) > MAX_DEPARTURE:
        raise GridError(
            _refusal(what, f"{given.name}, where areas are {scale:.3g} times those on the ground", (lon, lat))
        )
    if abs(scale - 1) > WARNED_DEPARTURE:
        warnings.warn(
            f"Areas in {given.name} are {scale:.2f} times those on the ground at {abs(lat):.0f}° {'NS'[lat < 0]}; "
            f"reproject to {_utm(lon, lat)} for true ones.",
            ArealScaleWarning,
            stacklevel=2,
        )
    return scale


def _horizontal(crs: "pyproj.CRS") -> "pyproj.CRS":
    """Leave out what a CRS says about heights and about the way to another datum."""
    if crs.is_compound:
        return _horizontal(crs.sub_crs_list[0])
    if crs.is_bound and crs.source_crs is not None:
        return _horizontal(crs.source_crs)
    return crs


def _refusal(what: str, found: str, lonlat: tuple[float, float] | None) -> str:
    advice = "to a UTM zone" if lonlat is None or not all(map(math.isfinite, lonlat)) else f"to {_utm(*lonlat)}"
    return (
        f"{what} is in {found}; expected a projected CRS in metres that keeps areas within {MAX_DEPARTURE:.0%}. "
        f"Reproject it first, for example {advice}."
    )


def _utm(lon: float, lat: float) -> str:
    """Name the UTM zone of a place."""
    zone = int((lon + 180) % 360 // 6) + 1
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone} (UTM)"
