"""What attributes declare to be no data is NaN, however they hold it; all else is as it was."""

import warnings

import numpy as np
import pytest

from darts_utils import mask_declared


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
