"""Aspect: the direction that the ground falls to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature
from darts_preprocessing.gradient import GRADIENT
from darts_utils import get_band

if TYPE_CHECKING:
    import xarray as xr


def calculate_aspect(ds: xr.Dataset) -> xr.Dataset:
    """Add ``aspect``: the direction that the ground falls to, in degrees clockwise from true north, −1 where flat.

    The direction of Horn's gradient (see :func:`calculate_slope`) on the grid, turned by the meridian convergence of
    the CRS at the pixel.

    Args:
        ds: As for :func:`calculate_slope`, with the same errors.

    Returns:
        A new Dataset with ``aspect``, (y, x) float32, degrees, 0 up to 360, or −1, besides what `ds` holds.
    """
    return calculate("aspect", ds)


FEATURES = (
    Feature(
        band=get_band("aspect"),
        definition="where the ground falls to, clockwise from true north, −1 where flat",
        needs=("dem",),
        kernels=GRADIENT,
        margin=1,
        by_default=True,
        function=calculate_aspect,
    ),
)
