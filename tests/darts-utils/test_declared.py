"""What attributes declare to be no data is NaN, however they hold it, and what is no elevation is found."""

import warnings

import numpy as np
import pytest

from darts_utils import elevation_fault, mask_declared, no_elevation


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "int16", "uint8", "uint64"])
@pytest.mark.parametrize("hold", [lambda mark: mark, np.float64, np.array, lambda mark: np.array([mark])])
@pytest.mark.parametrize("name", ["_FillValue", "nodata", "missing_value"])
def test_a_mark_is_nan_however_it_is_held(dtype, hold, name):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    for attrs, encoding in (({name: hold(7)}, {}), ({}, {name: hold(7)})):
        np.testing.assert_array_equal(mask_declared(values, attrs, encoding), np.where(values == 7, np.nan, values))
    for none in (hold(99), "7", None, [7], np.array([7, 8]), float("nan")):
        assert mask_declared(values, {name: none}) is values
    assert mask_declared(values, {}, {name: hold(7), "scale_factor": 0.1}) is values


@pytest.mark.parametrize("mark", [-1.7976931348623157e308, -3.4028234663852886e38])
def test_the_lowest_number_of_a_file_is_nan_also_after_a_cast(mark):
    with np.errstate(over="ignore"):
        values = np.array([[mark, 5.0]]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(mask_declared(values, {"_FillValue": mark}), [[np.nan, 5]])


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (700, 900)])
@pytest.mark.parametrize("dtype", ["float32", ">f8", "int16", "uint16"])
def test_one_value_that_is_no_elevation_is_found_wherever_it_lies(shape, dtype):
    rng = np.random.default_rng(0)
    values = rng.uniform(0 if dtype == "uint16" else -9998, 9000, shape).astype(dtype)
    for layout in (values, values.T, values[::-1, ::2]):
        assert not elevation_fault(layout).any()
    if not values.size:
        return
    for wrong in {"int16": (-9999, 9001), "uint16": (65535,)}.get(dtype, (-9999, 9001, -12000, np.inf, -np.inf, 3e38)):
        at = tuple(rng.integers(shape))
        one = values.copy()
        if values.dtype.kind == "f":
            one[rng.random(shape) < 0.3] = np.nan
        one[at] = wrong
        assert elevation_fault(one).shape == (1, 1)
        assert elevation_fault(one).all()
        assert elevation_fault(one.T).all()
        assert np.argwhere(no_elevation(one)).tolist() == [list(at)]
