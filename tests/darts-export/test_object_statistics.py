"""Statistics of the values below each object, against numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from darts_export.object_statistics import object_statistics
from darts_utils.objects import Objects, find_objects

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.8))
def test_a_transposed_field_has_the_same_objects(seed: int, share: float) -> None:
    field = np.random.default_rng(seed).random((25, 31)).astype(np.float32)
    mask = field > share
    first, second = find_objects(mask), find_objects(np.ascontiguousarray(mask.T))
    here = object_statistics(first, field)
    there = object_statistics(second, np.ascontiguousarray(field.T))

    def described(objects: Objects, statistics: object) -> list[tuple[float, ...]]:
        columns = [getattr(statistics, name) for name in ("min", "max", "mean", "median", "std")]
        return sorted(zip(*columns, objects.pixels, strict=True))

    assert described(first, here) == described(second, there)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]), st.floats(0, 0.5))
def test_statistics_are_those_of_numpy(seed: int, dtype: type, missing: float) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.random((20, 23)) * 2 - rng.integers(0, 2)).astype(dtype)
    values[rng.random(values.shape) < missing] = np.nan
    values[rng.random(values.shape) < 0.1] = -0.0
    mask = rng.random(values.shape) < 0.4
    objects = find_objects(mask)
    statistics = object_statistics(objects, values)
    labels = label(mask, connectivity=2)
    for number in range(objects.count):
        inside = values[labels == number + 1].astype(np.float64)
        inside = inside[~np.isnan(inside)]
        for name in ("min", "max", "mean", "median", "std"):
            wanted = getattr(np, name)(inside) if len(inside) else np.nan
            assert getattr(statistics, name)[number] == pytest.approx(wanted, rel=1e-12, abs=1e-15, nan_ok=True)


def test_a_constant_object_has_no_deviation() -> None:
    mask = np.ones((9, 11), np.bool_)
    statistics = object_statistics(find_objects(mask), np.full(mask.shape, 0.7, np.float32))
    assert statistics.std[0] == pytest.approx(0, abs=1e-16)
    assert statistics.mean[0] == np.float64(np.float32(0.7))


def test_without_objects_there_are_none() -> None:
    objects = find_objects(np.zeros((4, 5), np.uint8))
    assert len(object_statistics(objects, np.zeros((4, 5), np.float32)).mean) == 0
