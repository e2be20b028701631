"""Slope: how steep the ground is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature
from darts_preprocessing.gradient import GRADIENT
from darts_utils import get_band

if TYPE_CHECKING:
    import xarray as xr


def calculate_slope(ds: xr.Dataset) -> xr.Dataset:
    """Add ``slope``: how steep the ground is, in degrees.

    Horn's gradient of the 3 × 3 cells (Horn 1981, doi:10.1109/PROC.1981.11918). NaN where one of them is NaN; beyond
    the border of the raster, elevations go on linearly, as with ``gdaldem slope -compute_edges``.

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
    return calculate("slope", ds)


FEATURES = (
    Feature(
        band=get_band("slope"),
        definition="how steep the ground is",
        needs=("dem",),
        kernels=GRADIENT,
        margin=1,
        by_default=True,
        function=calculate_slope,
    ),
)
