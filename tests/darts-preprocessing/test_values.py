"""What declares itself missing is NaN; what cannot be in the unit of the band table is refused, and so is an array."""

import re

import numpy as np
import pytest
import xarray as xr

import darts_preprocessing as dp
from darts_utils import InputTypeError, ValueRangeError
from support import preprocessing as oracle

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::darts_preprocessing.ShortMarginWarning"),  # small DEMs, for their values
]

SHAPE = (60, 70)


@pytest.fixture
def tile():
    return oracle.make_tile(oracle.make_geobox(SHAPE))


@pytest.fixture
def dem():
    values = np.floor(oracle.rough(SHAPE, np.random.default_rng(3), holes=0.05))
    return oracle.make_dem(values, oracle.make_geobox(SHAPE), azimuth=150.0, elevation=30.0)


def marked(ds, name, mark, dtype, *, kept_in, key):
    """The band with a value instead of NaN, which its attributes or its encoding declare."""
    band = ds[name].fillna(mark).astype(dtype)
    getattr(band, kept_in)[key] = mark
    return ds.assign({name: band})


@pytest.mark.parametrize("key", ["_FillValue", "nodata", "missing_value"])
@pytest.mark.parametrize("kept_in", ["attrs", "encoding"])
@pytest.mark.parametrize(
    ("mark", "dtype"), [(-9999, "int16"), (-9999.0, "float32"), (-3.4028234663852886e38, "float32")]
)
def test_elevation_that_is_declared_missing_is_missing(dem, key, kept_in, mark, dtype):
    given = marked(dem, "dem", mark, dtype, kept_in=kept_in, key=key)
    before = given.copy(deep=True)
    np.testing.assert_array_equal(dp.calculate_slope(given).slope, dp.calculate_slope(dem).slope)
    ours, expected = (
        dp.preprocess_v2(oracle.make_tile(oracle.make_geobox(SHAPE)), one, None, 30, device="cpu", features=["dem"])
        for one in (given, dem)
    )
    np.testing.assert_array_equal(ours.dem, expected.dem)
    xr.testing.assert_identical(given, before)


@pytest.mark.parametrize("function", [dp.calculate_ndvi, dp.calculate_evi])
def test_reflectance_that_is_declared_missing_is_missing(tile, function):
    given = tile
    for name in ("blue", "red", "nir"):
        given = marked(given, name, -1.0, "float32", kept_in="attrs", key="nodata")
    name = function.__name__.removeprefix("calculate_")
    np.testing.assert_array_equal(function(given)[name], function(tile)[name])
    assert np.isnan(function(tile)[name]).any()


def test_marks_in_the_stored_unit_are_left_alone(dem):
    dem["dem"].encoding |= {"_FillValue": float(dem.dem.max()), "scale_factor": 0.5}
    plain = oracle.make_dem(dem.dem.values, dem.odc.geobox)
    np.testing.assert_array_equal(dp.calculate_slope(dem).slope, dp.calculate_slope(plain).slope)


@pytest.mark.parametrize(
    "run",
    [
        dp.calculate_ndvi,
        dp.calculate_evi,
        lambda tile: dp.preprocess_v2(tile, None, None, device="cpu"),
    ],
)
@pytest.mark.parametrize(("factor", "dtype", "advice"), [(10_000, "int16", "`/ 10000`"), (100, "float32", "`/ 100`")])
def test_reflectance_in_another_unit_is_refused(tile, run, factor, dtype, advice):
    scaled = tile.assign({name: (tile[name].fillna(0) / 2 * factor).astype(dtype) for name in ("blue", "red", "nir")})
    with pytest.raises(ValueRangeError, match=rf"Band '\w+' has values from .* takes -0.1 to 0.5; divide.*{advice}"):
        run(scaled)


def test_a_cloud_is_no_reason(tile):
    dp.calculate_ndvi(tile.assign(red=tile.red * 0 + 1.4))


@pytest.mark.parametrize("fill", [-9999.0, -999, np.float32(-3.4e38), np.finfo(np.float32).max])
@pytest.mark.parametrize("kept", [20, 69])  # most of the band is filled, and one of seventy columns
def test_fill_values_that_nothing_declares_are_refused(dem, tile, fill, kept):
    bad = dem.assign(dem=dem.dem.where(dem.x < dem.x[kept], fill))
    message = rf"Band 'dem' is {re.escape(f'{fill:g}')} in [\d.]+% .* from -100 to 3000; .*masked=True"
    with pytest.raises(ValueRangeError, match=message):
        dp.calculate_slope(bad)
    with pytest.raises(ValueRangeError, match=message):
        dp.preprocess_v2(tile, bad, None, device="cpu", features=["slope"])


FUNCTIONS = [name for name in dir(dp) if name.startswith("calculate_") and name != "calculate_spectral_index"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_array_is_no_dataset(dem, name):
    for given in (dem.dem, dem.dem.values):
        with pytest.raises(InputTypeError, match=rf"Expected an xarray.Dataset .* got a {type(given).__name__};"):
            getattr(dp, name)(given)


def test_each_argument_of_preprocess_is_a_dataset(tile, dem):
    for given in ((tile.red, None, None), (tile, dem.dem, None), (tile, None, dem.dem)):
        with pytest.raises(TypeError, match="got a DataArray"):
            dp.preprocess_v2(*given, device="cpu")
