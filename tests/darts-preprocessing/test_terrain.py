"""The public terrain functions: what they say about lengths, borders, holes, attributes and mistakes."""

import numpy as np
import pytest

import darts_preprocessing as dp
from darts_preprocessing.grid import to_cells, to_window
from darts_utils import GridError, MissingBandError, ParameterError
from support import preprocessing as oracle

# pytest.warns gives other warnings once more, under a module's name that the filter for odc-geo does not know.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

FUNCTIONS = {
    "slope": dp.calculate_slope,
    "aspect": dp.calculate_aspect,
    "hillshade": dp.calculate_hillshade,
    "curvature": dp.calculate_curvature,
    "relative_elevation": dp.calculate_topographic_position_index,
    "terrain_ruggedness_index": dp.calculate_terrain_ruggedness_index,
    "vector_ruggedness_measure": dp.calculate_vector_ruggedness_measure,
    "dissection_index": dp.calculate_dissection_index,
}


@pytest.fixture
def ds():
    dem = oracle.rough((60, 70), np.random.default_rng(2), holes=0.01)
    return oracle.make_dem(dem, oracle.make_geobox(dem.shape), azimuth=140.0, elevation=30.0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_adds_one_variable_and_changes_nothing(ds, name):
    before = ds.dem.values.copy()
    result = FUNCTIONS[name](ds)
    assert list(result.data_vars) == ["dem", name]
    assert result[name].dtype == np.float32
    assert result[name].attrs["long_name"]
    assert result[name].attrs["units"]
    assert result.odc.geobox == ds.odc.geobox
    assert list(ds.data_vars) == ["dem"]
    np.testing.assert_array_equal(ds.dem, before)
    assert (result.x.values == ds.x.values).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers(ds, name):
    dem = ds.dem.values
    expected = {
        "slope": lambda: oracle.slope(dem, 3.0),
        "curvature": lambda: oracle.curvature(dem, 3.0),
        "relative_elevation": lambda: oracle.relative_elevation(dem, 34),
        "terrain_ruggedness_index": lambda: oracle.ruggedness(dem, 3),
        "vector_ruggedness_measure": lambda: oracle.vector_ruggedness(dem, 3.0, 3),
        "dissection_index": lambda: oracle.dissection(dem, 35),
        # the grid is at the central meridian of its zone, where grid north is true north
        "aspect": lambda: oracle.aspect(dem, 3.0),
        "hillshade": lambda: oracle.hillshade(dem, 3.0, 140, 30),
    }[name]()
    np.testing.assert_allclose(
        FUNCTIONS[name](ds)[name], expected, rtol=1e-4, atol={"aspect": 0.01, "hillshade": 1e-4}.get(name, 1e-5)
    )


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 2)])
def test_tiny_rasters(name, shape):
    ds = oracle.make_dem(np.full(shape, 7.0), oracle.make_geobox(shape), azimuth=0.0, elevation=90.0)
    values = FUNCTIONS[name](ds)[name].values
    flat = {"aspect": -1.0, "hillshade": 1.0}.get(name, 0.0)
    if name == "terrain_ruggedness_index" and shape == (1, 1):
        flat = np.nan  # there is nothing to differ from
    np.testing.assert_allclose(values, np.full(shape, flat), atol=1e-7)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_dem_without_values(name):
    ds = oracle.make_dem(np.full((5, 6), np.nan), oracle.make_geobox((5, 6)), azimuth=0.0, elevation=90.0)
    assert np.isnan(FUNCTIONS[name](ds)[name]).all()


@pytest.mark.parametrize(
    ("name", "reach"), [("slope", 1), ("aspect", 1), ("hillshade", 1), ("curvature", 1), ("relative_elevation", 0)]
)
@pytest.mark.parametrize("place", [(20, 25), (0, 0), (59, 33), (20, 69)])
def test_one_hole_stays_within_its_neighbourhood(name, reach, place):
    dem = oracle.rough((60, 70), np.random.default_rng(2))
    dem[place] = np.nan
    ds = oracle.make_dem(dem, oracle.make_geobox(dem.shape), azimuth=140.0, elevation=30.0)
    missing = np.isnan(FUNCTIONS[name](ds)[name].values)
    rows, cols = np.ogrid[:60, :70]
    near = np.maximum(abs(rows - place[0]), abs(cols - place[1])) <= reach
    assert missing[place]
    assert not missing[~near].any()


def test_a_plane_has_its_slope_up_to_the_rim():
    rows, cols = np.ogrid[:30, :40]
    ds = oracle.make_dem(3.0 * (0.3 * cols - 0.4 * rows), oracle.make_geobox((30, 40)))
    np.testing.assert_allclose(dp.calculate_slope(ds).slope, np.degrees(np.arctan(0.5)), rtol=1e-5)
    np.testing.assert_allclose(dp.calculate_curvature(ds).curvature, 0, atol=1e-4)


def test_the_sun_can_be_given(ds):
    ours = dp.calculate_hillshade(ds, azimuth=300, elevation=60).hillshade
    np.testing.assert_allclose(ours, oracle.hillshade(ds.dem.values, 3.0, 300, 60), atol=1e-4)
    with pytest.warns(dp.SunAngleWarning, match="azimuth is unknown"):
        unlit = dp.calculate_hillshade(ds.assign_attrs(azimuth=None)).hillshade
    np.testing.assert_allclose(unlit, oracle.hillshade(ds.dem.values, 3.0, 225, 30), atol=1e-4)


@pytest.mark.parametrize("radius", [30, 30.0, "30", "30m", "30 m", "10px", "10 PX", 28, 27.01])
def test_radii_are_metres_rounded_up_or_cells(ds, radius):
    ours = dp.calculate_topographic_position_index(ds, radius)
    np.testing.assert_allclose(ours.relative_elevation, oracle.relative_elevation(ds.dem.values, 10), atol=1e-5)
    assert ours.relative_elevation.attrs["outer_radius"] == "30 m (10 cells)"


def test_a_ring_leaves_its_inner_disk_out(ds):
    ours = dp.calculate_topographic_position_index(ds, "8px", "3px").relative_elevation
    np.testing.assert_allclose(ours, oracle.relative_elevation(ds.dem.values, 8, 3), atol=1e-5)


@pytest.mark.parametrize(
    ("length", "cell", "cells"), [(0, 3, 0), (0.1, 3, 1), (100, 2, 50), (101, 2, 51), (30, 0.3, 100), ("7px", 10, 7)]
)
def test_lengths(length, cell, cells):
    assert to_cells(length, cell, "radius") == cells


@pytest.mark.parametrize("length", [-1, "-5m", "ten", "", "5 km", float("nan"), float("inf"), True, None, "1e999"])
def test_malformed_lengths(ds, length):
    with pytest.raises(ParameterError, match=r"outer_radius is .*expected metres"):
        dp.calculate_topographic_position_index(ds, length)
    with pytest.raises(ParameterError, match=r"window is .*expected metres"):
        dp.calculate_terrain_ruggedness_index(ds, length)


@pytest.mark.parametrize(("window", "cells"), [("3px", 3), ("4px", 5), (9, 3), (10, 5), ("2px", 3)])
def test_windows_are_odd(window, cells):
    assert to_window(window, 3.0, "window") == cells


def test_mistakes_are_named(ds):
    with pytest.raises(ParameterError, match="at least 2 cells"):
        dp.calculate_dissection_index(ds, 2)
    with pytest.raises(ParameterError, match="at least one cell between them"):
        dp.calculate_topographic_position_index(ds, 10, 10)
    with pytest.raises(MissingBandError, match="slope needs dem; the Dataset holds height"):
        dp.calculate_slope(ds.rename(dem="height"))
    with pytest.raises(GridError, match="expected a projected CRS in metres"):
        dp.calculate_slope(ds.odc.assign_crs("EPSG:4326"))


def test_other_dtypes_and_layouts(ds):
    """Float64, integers, a slice and Fortran order give what contiguous float32 gives."""
    whole = ds.fillna(100.0).round()
    expected = dp.calculate_slope(whole).slope.values
    for dem in (
        whole.dem.astype(np.float64),
        whole.dem.astype(np.int16),
        whole.dem.copy(data=np.asfortranarray(whole.dem)),
    ):
        np.testing.assert_array_equal(dp.calculate_slope(whole.assign(dem=dem)).slope, expected)
    part = whole.isel(y=slice(10, 50), x=slice(5, 65))
    np.testing.assert_array_equal(dp.calculate_slope(part).slope[1:-1, 1:-1], expected[11:49, 6:64])
