"""Northness: how far a slope faces north."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darts_preprocessing.backends.interface import Array
from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature, Inputs, Kernels
from darts_utils import Band

if TYPE_CHECKING:
    import xarray as xr


def calculate_northness(ds: xr.Dataset) -> xr.Dataset:
    """Add ``northness``: how far a slope faces true north, 0 where it is level or faces east or west.

    sin(slope) · cos(aspect), the part of the ground's unit normal that points to true north (Amatulli and others 2018,
    doi:10.1038/sdata.2018.40). NaN where slope and aspect are.

    Args:
        ds: As for :func:`calculate_slope`, with the same errors.

    Returns:
        A new Dataset with ``northness``, (y, x) float32, −1 (a cliff that faces south) to 1, besides what `ds` holds.
    """
    return calculate("northness", ds)


def _compute(inputs: Inputs) -> Array:
    xp = inputs.xp
    slope, aspect = (xp.radians(inputs[name].astype(xp.float64)) for name in ("slope", "aspect"))
    return (xp.sin(slope) * xp.cos(aspect)).astype(xp.float32)


FEATURES = (
    Feature(
        band=Band("northness", "float32", "northness", "1", -1, 1, float("nan")),
        definition="sin(slope) · cos(aspect): how far a slope faces true north",
        needs=("slope", "aspect"),
        kernels=Kernels.of_one(_compute),
        function=calculate_northness,
    ),
)
