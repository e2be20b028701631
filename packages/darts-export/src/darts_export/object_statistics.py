"""Statistics of values per object, without a loop over objects."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_utils.objects import Objects

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
    count = np.bincount(label, minlength=objects.count)
    value = _sorted_within(label, value)
    some = np.flatnonzero(count)
    n = count[some]
    first = (np.cumsum(count) - count)[some]

    result = {name: np.full(objects.count, np.nan) for name in ("min", "max", "mean", "median", "std")}
    if len(some):
        result["min"][some] = value[first]
        result["max"][some] = value[first + n - 1]
        result["median"][some] = (value[first + (n - 1) // 2].astype(np.float64) + value[first + n // 2]) / 2
        exact = value.astype(np.float64)
        mean = np.add.reduceat(exact, first) / n
        result["mean"][some] = mean
        exact -= np.repeat(mean, n)
        exact *= exact
        result["std"][some] = np.sqrt(np.add.reduceat(exact, first) / n)
    return ObjectStatistics(**result)


def object_means(objects: Objects, values: NDArray[np.floating]) -> FloatArray:
    """Compute the mean of the values under each object.

    Args:
        objects: Objects of a mask.
        values: Array (y, x) of the mask's shape, float; NaN does not count. Not changed.

    Returns:
        Means in float64, (count,); NaN where an object has no value.
    """
    flat = values.reshape(-1)
    count, total = np.zeros(objects.count, np.int64), np.zeros(objects.count)
    for index, label in objects.pixel_blocks():
        value = flat[index]
        valid = ~np.isnan(value)
        count += np.bincount(label[valid], minlength=objects.count)
        total += np.bincount(label[valid], weights=value[valid], minlength=objects.count)
    return np.divide(total, count, out=np.full(objects.count, np.nan), where=count > 0)


def _sorted_within(label: NDArray[np.int64], value: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the values sorted by label, then by value."""
    if value.dtype != np.float32 or (value < 0).any():
        return value[np.lexsort((value, label))]
    # The bits of a float32 that is not negative order like an integer, so one sort of one key does; adding 0 makes
    # -0 to 0.
    key = label.astype(np.uint64)
    key <<= np.uint64(32)
    key |= (value + np.float32(0)).view(np.uint32)
    key.sort()
    return key.astype(np.uint32).view(np.float32)
