"""Statistics of values per object, without a loop over objects."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_export.objects import Objects

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ObjectStatistics:
    """Statistics of each object's values, each (count,) float64; NaN where an object has no value.

    Attributes:
        min: Smallest value.
        max: Largest value.
        mean: Arithmetic mean.
        median: Middle value, the mean of the two middle ones where their number is even.
        std: Population standard deviation (divided by n).
    """

    min: FloatArray
    max: FloatArray
    mean: FloatArray
    median: FloatArray
    std: FloatArray


def object_statistics(objects: Objects, values: NDArray[np.floating]) -> ObjectStatistics:
    """Compute the statistics of the values under each object.

    Args:
        objects: Objects of a mask.
        values: Array (y, x) of the mask's shape, float; NaN does not count. Not changed.

    Returns:
        The statistics, computed in float64. They depend on each object's values alone, not on their order.
    """
    label = objects.pixel_label()
    value = values.reshape(-1)[objects.pixel_index()]
    valid = ~np.isnan(value)
    if not valid.all():
        label, value = label[valid], value[valid]
    value = _sorted_within(label, value)
    count = np.bincount(label, minlength=objects.count)
    some = np.flatnonzero(count)
    first = (np.cumsum(count) - count)[some]
    n = count[some]
    exact = value.astype(np.float64)

    result = {name: np.full(objects.count, np.nan) for name in ("min", "max", "mean", "median", "std")}
    if len(some):
        mean = np.add.reduceat(exact, first) / n
        deviation = exact - np.repeat(mean, n)
        result["min"][some] = exact[first]
        result["max"][some] = exact[first + n - 1]
        result["mean"][some] = mean
        result["median"][some] = (exact[first + (n - 1) // 2] + exact[first + n // 2]) / 2
        result["std"][some] = np.sqrt(np.add.reduceat(deviation * deviation, first) / n)
    return ObjectStatistics(**result)


def _sorted_within(label: NDArray[np.int64], value: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the values sorted by label, then by value."""
    if value.dtype != np.float32:
        return value[np.lexsort((value, label))]
    # The bits of a float32 order like integers once negative ones are turned round, so one sort of one key does.
    bits = value.view(np.uint32)
    negative = bits >> 31 == 1
    ordered = np.where(negative, ~bits, bits | np.uint32(1 << 31))
    key = (label.astype(np.uint64) << np.uint64(32)) | ordered
    key.sort()
    ordered = (key & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    bits = np.where(ordered >> 31 == 1, ordered & np.uint32(0x7FFFFFFF), ~ordered)
    return bits.view(np.float32)
