"""Curvature: how the ground bends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature
from darts_preprocessing.gradient import GRADIENT
from darts_utils import get_band

if TYPE_CHECKING:
    import xarray as xr


def calculate_curvature(ds: xr.Dataset) -> xr.Dataset:
    """Add ``curvature``: how the ground bends, positive where it is convex upwards, in 1/100 m.

    −200 (D + E), where D and E are half the second differences along x and y per squared cell (Zevenbergen and Thorne
    1987, doi:10.1002/esp.3290120107), the convention of ESRI and of ``xrspatial.curvature``. NaN where the cell or one
    of its four neighbours is NaN; beyond the border of the raster, elevations go on linearly.

    Args:
        ds: As for :func:`calculate_slope`, with the same errors.

    Returns:
        A new Dataset with ``curvature``, (y, x) float32, 1/100 m, besides what `ds` holds.
    """
    return calculate("curvature", ds)


FEATURES = (
    Feature(
        band=get_band("curvature"),
        definition="how the ground bends, positive where convex",
        needs=("dem",),
        kernels=GRADIENT,
        margin=1,
        by_default=True,
        function=calculate_curvature,
    ),
)
