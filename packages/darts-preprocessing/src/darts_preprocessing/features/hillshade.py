"""Hillshade: how the sun lights the ground."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from darts_preprocessing.backends import Shading
from darts_preprocessing.compute import calculate
from darts_preprocessing.errors import SunAngleWarning
from darts_preprocessing.feature import Feature, Request
from darts_preprocessing.gradient import GRADIENT
from darts_utils import ParameterError, get_band

if TYPE_CHECKING:
    import xarray as xr

DEFAULT_AZIMUTH = 225.0
DEFAULT_ELEVATION = 25.0
_RANGES = {"azimuth": (-180, 360), "elevation": (-90, 90)}
"""An azimuth west of north may be counted down from 0."""


def calculate_hillshade(ds: xr.Dataset, azimuth: float | None = None, elevation: float | None = None) -> xr.Dataset:
    """Add ``hillshade``: the cosine of the angle between the sun and the surface normal, 0 where the sun is behind.

    The surface is that of Horn's gradient (see :func:`calculate_slope`); the formula is Horn's (1981), as in
    ``gdaldem hillshade``, which writes 1 + 254 × this. The sun's direction is turned from true north to the grid's
    north at the pixel.

    Args:
        ds: As for :func:`calculate_slope`, with the same errors.
        azimuth: Where the sun stands, degrees clockwise from true north. None takes the attribute ``azimuth`` of `ds`.
        elevation: Degrees above the horizon. None takes the attribute ``elevation`` of `ds`.

    Returns:
        A new Dataset with ``hillshade``, (y, x) float32, 0 (dark) to 1 (lit), besides what `ds` holds.

    Raises:
        ParameterError: If the azimuth is not in −180…360, or the elevation not in −90…90, or one is no number.

    Warns:
        SunAngleWarning: If an angle is neither given nor known to `ds`; 225° or 25° then takes its place.
    """
    return calculate("hillshade", ds, azimuth=azimuth, elevation=elevation)


def _prepare(request: Request) -> Shading:
    """Return where the sun stands: as given, else as the tile says, else the default with a warning."""
    angles, lacking = {}, []
    for name, default in (("azimuth", DEFAULT_AZIMUTH), ("elevation", DEFAULT_ELEVATION)):
        given = request.options.get(name)
        value = request.attrs.get(name) if given is None else given
        try:
            angles[name] = math.nan if value is None else float(value)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"The sun's {name} is {value!r}; expected degrees, or None where unknown.") from error
        if not math.isfinite(angles[name]):
            angles[name] = default
            lacking.append(name)
        elif not _RANGES[name][0] <= angles[name] <= _RANGES[name][1]:
            raise ParameterError(
                f"The sun's {name} is {angles[name]:g}; expected degrees from {_RANGES[name][0]} to {_RANGES[name][1]}."
            )
    if lacking:
        unknown = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} unknown"
        warnings.warn(
            f"The sun's {unknown}; the hillshade is lit from {angles['azimuth']:g}° at {angles['elevation']:g}°.",
            SunAngleWarning,
            stacklevel=4,
        )
    return Shading.from_angles(**angles)


FEATURES = (
    Feature(
        band=get_band("hillshade"),
        definition="how the sun lights the ground, 0 dark … 1 lit",
        needs=("dem",),
        kernels=GRADIENT,
        prepare=_prepare,
        margin=1,
        by_default=True,
        function=calculate_hillshade,
    ),
)
