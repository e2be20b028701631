"""Auxiliary data, layers and angles that cannot be what they are given for are refused, with what to do."""

import re
import warnings

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import darts_preprocessing as dp
from darts_utils import GridError, ParameterError, ValueRangeError, no_elevation
from support import preprocessing as oracle

# pytest.warns gives other warnings once more, under a module's name that the filter for odc-geo does not know.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::darts_preprocessing.ShortMarginWarning"),  # small DEMs, for their values
]

RADIUS = 30


@pytest.fixture(scope="module")
def geobox():
    return oracle.make_geobox((40, 50), origin=(503_000.3, 7_700_001.1))


@pytest.fixture(scope="module")
def tile(geobox):
    return oracle.make_tile(geobox)


@pytest.fixture(scope="module")
def arcticdem(geobox):
    grid = oracle.covering(geobox, "EPSG:3413", 2.0, 0.6)
    ds = oracle.make_dem(oracle.rough(grid.shape, np.random.default_rng(8), holes=0.01), grid)
    ds["arcticdem_data_mask"] = (ds.dem.dims, ds.dem.notnull().values.astype(np.uint8))
    return ds


@pytest.fixture(scope="module")
def tcvis(geobox):
    return oracle.make_tcvis(geobox)


@pytest.fixture(scope="module")
def result(tile, arcticdem, tcvis):
    return dp.preprocess_v2(tile, arcticdem, tcvis, RADIUS, device="cpu")


@pytest.mark.parametrize("crs", ["EPSG:32608", "EPSG:3413"])
def test_auxiliary_data_beside_the_tile_are_refused(tile, geobox, crs):
    elsewhere = oracle.make_geobox((40, 40), origin=(900_000.0, 7_000_000.0), crs=crs)
    beside = oracle.make_dem(np.ones((40, 40)), elsewhere)
    for name in ("arcticdem_data_mask", "tc_brightness", "tc_greenness", "tc_wetness"):
        beside[name] = (("y", "x"), np.ones((40, 40), dtype=np.uint8))
    says = rf"beside the tile.* in EPSG:32608, ds_\w+ x 900000 to 900120, y 6999880 to 7000000 in {crs}\. Load"
    for given in ((beside, None), (None, beside)):
        with pytest.raises(GridError, match=says):
            dp.preprocess_v2(tile, *given, device="cpu")
    dp.preprocess_v2(tile, beside, None, device="cpu", features=["ndvi"])


@pytest.mark.parametrize(("rows", "columns"), [(-1, 0), (0, -1), (1, 0), (0, 1)])
def test_a_dem_that_reaches_a_corner_of_the_tile_is_used(tile, geobox, rows, columns):
    """It overlaps by two cells; the rest is missing."""
    height, width = geobox.shape
    shift = Affine.translation(columns * (width - 2), rows * (height - 2))
    dem = oracle.make_dem(np.ones(geobox.shape), GeoBox(geobox.shape, geobox.affine @ shift, geobox.crs))
    dem["arcticdem_data_mask"] = (("y", "x"), np.ones(geobox.shape, dtype=np.uint8))
    known = dp.preprocess_v2(tile, dem, None, device="cpu").dem.notnull()
    assert known.sum() == 2 * (width if rows else height)
    moved = geobox.affine @ Affine.translation(columns * (width + 1), rows * (height + 1))
    beside = oracle.make_dem(np.ones(geobox.shape), GeoBox(geobox.shape, moved, geobox.crs))
    with pytest.raises(GridError, match="beside the tile"):
        dp.preprocess_v2(tile, beside, None, device="cpu", features=["dem"])


@pytest.mark.parametrize(
    ("attrs", "says"),
    [
        ({"elevation": 95.0}, "sun's elevation is 95; expected degrees from -90 to 90"),
        ({"elevation": -91.0}, "from -90 to 90"),
        ({"azimuth": 361.0}, "sun's azimuth is 361; expected degrees from -180 to 360"),
        ({"azimuth": "south"}, "sun's azimuth is 'south'; expected degrees, or None"),
        ({"elevation": np.array([30.0, 31.0])}, r"sun's elevation is array\(\[30., 31.\]\); expected degrees"),
        ({"azimuth": -181.0}, "from -180 to 360"),
    ],
)
def test_angles_that_the_sun_cannot_have_are_refused(tile, arcticdem, attrs, says):
    with pytest.raises(ParameterError, match=says):
        dp.preprocess_v2(tile.assign_attrs(attrs), arcticdem, None, device="cpu")
    with pytest.raises(ParameterError, match=says):
        dp.calculate_hillshade(
            oracle.make_dem(np.ones((5, 5)), oracle.make_geobox((5, 5))), **({"azimuth": 1, "elevation": 1} | attrs)
        )


def test_an_azimuth_counted_down_from_north_is_the_same(tile, arcticdem):
    ours, expected = (
        dp.preprocess_v2(tile.assign_attrs(azimuth=angle), arcticdem, None, device="cpu", features=["hillshade"])
        for angle in (-130.0, 230.0)
    )
    np.testing.assert_allclose(ours.hillshade, expected.hillshade, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int64"])
def test_layers_of_whole_numbers_come_in_any_type(tile, arcticdem, tcvis, result, dtype):
    names = {"tc_brightness", "tc_greenness", "tc_wetness"}
    given = tcvis.astype(dtype)
    mask = arcticdem.arcticdem_data_mask.astype(dtype)
    if dtype.startswith("float"):
        given, mask = given.where(tcvis > 0), mask.where(mask > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        ours = dp.preprocess_v2(tile, arcticdem.assign(arcticdem_data_mask=mask), given, RADIUS, device="cpu")
    for name in (*names, "arcticdem_data_mask"):
        np.testing.assert_array_equal(ours[name], result[name])


@pytest.mark.parametrize("wrong", [256, -1, 0.5, np.inf])
def test_what_uint8_does_not_hold_is_refused(tile, arcticdem, tcvis, wrong):
    given = tcvis.astype("float64" if wrong % 1 else "int16")
    given["tc_wetness"][3, 4] = wrong
    with pytest.raises(ValueRangeError, match=r"tc_wetness has values from .*; expected whole numbers from 0 to 255"):
        dp.preprocess_v2(tile, None, given, device="cpu")
    with pytest.raises(ValueRangeError, match=r"arcticdem_data_mask has .* from 0 to 1, "):
        dp.preprocess_v2(
            tile, arcticdem.assign(arcticdem_data_mask=arcticdem.arcticdem_data_mask * 255), None, device="cpu"
        )


def test_another_unit_is_refused(tile, arcticdem):
    feet = arcticdem.assign(dem=(arcticdem.dem / 0.3048).assign_attrs(units="ft"))
    for run in (dp.calculate_slope, lambda ds: dp.preprocess_v2(tile, ds, None, device="cpu")):
        with pytest.raises(ValueRangeError, match=r"Band 'dem' is in 'ft'.*multiply it by 0\.3048"):
            run(feet)
    with pytest.raises(ValueRangeError, match=r"Band 'red' is in '%'"):
        dp.calculate_ndvi(tile.assign(red=tile.red.assign_attrs(units="%")))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3.4e38, 1e20, 9001, -9999, -32768])
@pytest.mark.parametrize("with_holes", [False, True])
def test_a_single_pixel_that_is_no_elevation_is_refused(tile, arcticdem, value, with_holes):
    """The index of topographic position was wrong by 1,000 m as far as a running sum ran."""
    given = (arcticdem if with_holes else arcticdem.fillna(300)).copy(deep=True)
    for fine in (8999, -10_900, -9998.5):
        given.dem[7, 11] = fine
        dp.calculate_topographic_position_index(given)
    given.dem[7, 11] = value
    says = rf"'dem' is {re.escape(f'{value:g}')} at row 7, column 11, which is no elevation"
    for run in (
        lambda: dp.calculate_topographic_position_index(given),
        lambda: dp.preprocess_v2(tile, given, None, RADIUS, device="cpu"),
    ):
        with pytest.raises(ValueRangeError, match=says) as error:
            run()
    advice = str(error.value).split("`")[1]
    known = given.assign(dem=eval(advice, {"band": given.dem, "no_elevation": no_elevation}))
    assert known.dem.isnull().sum() == given.dem.isnull().sum() + 1
    dp.calculate_topographic_position_index(known)


def test_grids_with_gaps_are_refused(tile, arcticdem, tcvis):
    """Rows behind a gap would lie where the gap was."""
    for number, given in enumerate((tile, arcticdem, tcvis)):
        three = [tile, arcticdem, tcvis]
        rows = next(iter(given.sizes))
        three[number] = given.isel({rows: [0, 1, 2, *range(4, given.sizes[rows])]})
        with pytest.raises(GridError, match=f"has unevenly spaced coordinates {rows}"):
            dp.preprocess_v2(*three, RADIUS, device="cpu")


def test_the_mask_of_the_dem_leaves_features_alone(tile, arcticdem):
    """An elevation that is there counts, measured or filled; what should not count is NaN."""
    unmeasured = arcticdem.assign(arcticdem_data_mask=arcticdem["arcticdem_data_mask"] * np.uint8(0))
    ours, plain = (dp.preprocess_v2(tile, dem, None, RADIUS, device="cpu") for dem in (unmeasured, arcticdem))
    assert not ours["arcticdem_data_mask"].any()
    for name in ("slope", "aspect", "hillshade", "curvature", "relative_elevation"):
        np.testing.assert_array_equal(ours[name], plain[name])
