"""A tile and its auxiliary data become a tile with features, exactly on its grid, with nothing else changed."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyproj
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

import darts_preprocessing as dp
from darts_preprocessing.north import get_north
from darts_preprocessing.registry import default_features
from darts_utils import (
    BANDS,
    ArealScaleWarning,
    DeviceFallbackWarning,
    GridError,
    MissingBandError,
    ParameterError,
    Stopwatch,
)
from support import preprocessing as oracle
from support.preprocessing import RADIUS

# pytest.warns gives other warnings once more, under a module's name that the filter for odc-geo does not know.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

DEFAULT = tuple(default_features())
TERRAIN = ("relative_elevation", "slope", "aspect", "hillshade", "curvature")


def digest(ds):
    """A hash of every byte and attribute."""
    parts = [repr(ds.attrs)]
    for name, variable in ds.variables.items():
        parts += [str(name), str(variable.dims), str(variable.dtype), repr(variable.attrs), repr(variable.encoding)]
        parts.append(hashlib.sha256(np.ascontiguousarray(variable.values).tobytes()).hexdigest())
    return parts


def test_all_features_are_there(result, tile):
    assert set(result.data_vars) == set(tile.data_vars) | set(DEFAULT)
    for name in DEFAULT:
        variable = result[name]
        assert variable.dims == ("y", "x")
        assert variable.dtype == BANDS[name].dtype
        assert isinstance(variable.data, np.ndarray)
        assert variable.attrs["long_name"] == BANDS[name].long_name
        assert variable.attrs.get("units") == BANDS[name].units
    assert result.attrs == tile.attrs
    assert result.dem.attrs["data_source"] == "a test"


def test_the_tile_itself_is_kept(result, tile):
    for name in tile.data_vars:
        assert result[name].variable.identical(tile[name].variable)


def test_coordinates_are_those_of_the_tile_bit_for_bit(result, tile):
    assert set(result.coords) == set(tile.coords)
    for name in tile.coords:
        assert result.coords[name].values.tobytes() == tile.coords[name].values.tobytes()
        assert result.coords[name].attrs == tile.coords[name].attrs
    assert result.odc.geobox == tile.odc.geobox
    joined = xr.merge([tile[["red"]], result[["slope"]]], join="outer", compat="no_conflicts")
    assert joined.sizes == tile.sizes


def test_arguments_are_left_unchanged(geobox):
    given = (oracle.make_tile(geobox), oracle.make_arcticdem(geobox), oracle.make_tcvis(geobox))
    before = [digest(ds) for ds in given]
    result = dp.preprocess_v2(*given, device="cpu")
    for name in DEFAULT:
        result[name].values[:] = 0
    assert [digest(ds) for ds in given] == before


def test_ndvi(result, tile):
    nir, red = (np.clip(tile[name].values.astype(np.float64), 0, 1) for name in ("nir", "red"))
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(result.ndvi, (nir - red) / (nir + red), rtol=1e-5, atol=1e-7)


def test_the_trend_and_the_dem_are_resampled(result, tile, arcticdem, tcvis, geobox):
    part = slice(50, 80), slice(60, 100)
    col, row = (place[part] for place in oracle.positions(geobox, arcticdem.odc.geobox))
    expected = oracle.resample(arcticdem.dem.values, col, row, 1.5)
    np.testing.assert_allclose(result.dem.values[part], expected, atol=1e-3)
    mask = arcticdem.arcticdem_data_mask.values[np.floor(row).astype(int), np.floor(col).astype(int)]
    np.testing.assert_array_equal(result.arcticdem_data_mask.values[part], mask)
    col, row = (place[part] for place in oracle.positions(geobox, tcvis.odc.geobox))
    for name in tcvis.data_vars:
        expected = np.floor(np.clip(oracle.resample(tcvis[name].values, col, row, 1.0), 0, 255) + 0.5)
        assert (result[name].values[part] != expected).mean() < 0.01


def test_elevation_is_missing_where_the_mask_says_so(result):
    missing = np.isnan(result.dem.values)
    assert 0 < missing.mean() < 0.5
    np.testing.assert_array_equal(missing, result.arcticdem_data_mask.values == 0)


def test_terrain_is_that_of_the_resampled_dem_with_its_margin(result, tile, arcticdem):
    """The same DEM on a grid that is 40 cells larger: its features, cut out, up to the border of the tile."""
    grid = oracle.make_geobox((oracle.ROWS + 80, oracle.COLS + 80), origin=(503_000.3 - 120, 7_700_001.1 + 120))
    wide = dp.preprocess_v2(oracle.make_tile(grid), arcticdem, None, features=["dem"], device="cpu")
    dem = wide.dem.values
    cut = slice(40, 40 + oracle.ROWS), slice(40, 40 + oracle.COLS)
    gamma = np.degrees(np.angle(get_north(grid).values.mean()))
    expected = {
        "slope": oracle.slope(dem, 3.0),
        "curvature": oracle.curvature(dem, 3.0),
        "hillshade": oracle.hillshade(dem, 3.0, 150, 35, gamma),
        "relative_elevation": oracle.relative_elevation(dem, 10),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(result[name], values[cut], atol=0.02, err_msg=name)
    difference = (result.aspect.values - oracle.aspect(dem, 3.0, gamma)[cut] + 180) % 360 - 180
    np.testing.assert_allclose(difference[result.slope.values > 1], 0, atol=0.2)


def test_a_part_of_a_tile_has_the_features_of_the_whole(result, tile, arcticdem, tcvis):
    part = {"y": slice(31, 90), "x": slice(40, 121)}
    ours = dp.preprocess_v2(tile.isel(part), arcticdem, tcvis, tpi_outer_radius=RADIUS, device="cpu")
    for name in TERRAIN:
        whole = result[name].isel(part)
        steep = result.slope.isel(part).values > 1
        np.testing.assert_array_equal(np.isnan(ours[name]), np.isnan(whole))
        difference = ours[name].values - whole.values
        if name == "aspect":
            difference = np.where(steep, (difference + 180) % 360 - 180, 0)
        np.testing.assert_allclose(np.nan_to_num(difference), 0, atol=0.1)


def test_the_functions_agree_with_the_whole(result):
    """Away from the border, where `preprocess_v2` sees the margin, each public function gives the same."""
    inner = {"y": slice(10, -10), "x": slice(10, -10)}
    bare = result.drop_vars(TERRAIN)
    for name, function in {
        "slope": dp.calculate_slope,
        "aspect": dp.calculate_aspect,
        "hillshade": dp.calculate_hillshade,
        "curvature": dp.calculate_curvature,
        "relative_elevation": lambda ds: dp.calculate_topographic_position_index(ds, "30m"),
    }.items():
        np.testing.assert_allclose(function(bare)[name].isel(inner), result[name].isel(inner), rtol=1e-5, atol=1e-5)


def test_one_hole_stays_within_its_neighbourhood(geobox):
    tile, arcticdem = oracle.make_tile(geobox), oracle.make_arcticdem(geobox, "EPSG:32608", 3.0, holes=False)
    shifted = {name: arcticdem[name].values.copy() for name in arcticdem.data_vars}
    places = oracle.positions(geobox, arcticdem.odc.geobox)
    i, j = int(places[1][60, 70]), int(places[0][60, 70])
    shifted["dem"][i, j] = np.nan
    holed = arcticdem.assign(dem=(("y", "x"), shifted["dem"]))
    result = dp.preprocess_v2(tile, holed, None, device="cpu")
    assert np.argwhere(np.isnan(result.dem.values)).tolist() == [[60, 70]]
    assert np.argwhere(np.isnan(result.relative_elevation.values)).tolist() == [[60, 70]]
    around = [[a, b] for a in (59, 60, 61) for b in (69, 70, 71)]
    for name in ("slope", "aspect", "hillshade"):
        assert np.argwhere(np.isnan(result[name].values)).tolist() == around
    assert {(a, b) for a, b in np.argwhere(np.isnan(result.curvature.values)).tolist()} <= {tuple(p) for p in around}


def test_a_dem_that_ends_with_the_tile_has_features_up_to_its_rim(geobox):
    tile = oracle.make_tile(geobox)
    dem = oracle.rough(geobox.shape, np.random.default_rng(3))
    arcticdem = oracle.make_dem(dem, geobox)
    said = r"less than 30 m \(10 cells\) from the tile; .* relative_elevation, slope, .* margin that wide"
    with pytest.warns(dp.ShortMarginWarning, match=said):
        result = dp.preprocess_v2(tile, arcticdem, None, RADIUS, features=["dem", *TERRAIN], device="cpu")
    np.testing.assert_array_equal(result.dem, dem)
    np.testing.assert_allclose(result.slope, oracle.slope(dem, 3.0), rtol=1e-5)
    np.testing.assert_allclose(result.relative_elevation, oracle.relative_elevation(dem, 10), atol=1e-5)
    assert all(np.isfinite(result[name]).all() for name in TERRAIN)


@pytest.mark.parametrize(("crs", "resolution"), [("EPSG:32608", 3.0), ("EPSG:3413", 2.0), ("EPSG:3413", 7.3)])
def test_a_margin_that_is_too_narrow_is_warned_of_and_no_other(geobox, crs, resolution):
    """Where nothing is said, features at the border are those of a DEM without end; a wide hole there is no reason."""

    def features(margin_m: float) -> xr.Dataset:
        box = geobox.footprint(crs).boundingbox.buffered(margin_m, margin_m)
        source = GeoBox.from_bbox(box, crs, resolution=resolution)
        x, y = source.affine @ tuple(each + 0.5 for each in np.meshgrid(*map(np.arange, reversed(source.shape))))
        dem = (200 + 5 * np.sin(x / 50) + 5 * np.cos(y / 70)).astype("float32")
        dem[:, :4] = np.nan if margin_m > 100 else dem[:, :4]
        wanted = {"features": ["relative_elevation"], "device": "cpu"}
        return dp.preprocess_v2(oracle.make_tile(geobox), oracle.make_dem(dem, source), None, RADIUS, **wanted)

    wide = features(60)
    features(150)
    np.testing.assert_array_equal(features(RADIUS + 4 * resolution).relative_elevation, wide.relative_elevation)
    for margin_m in (0, RADIUS / 2):
        with pytest.warns(dp.ShortMarginWarning, match=r"near that border relative_elevation come"):
            features(margin_m)


def test_without_auxiliary_data_only_ndvi_is_added(tile, result):
    ours = dp.preprocess_v2(tile, None, None, device="cpu")
    assert set(ours.data_vars) == {*tile.data_vars, "ndvi"}
    assert ours.ndvi.identical(result.ndvi)


def test_only_what_is_asked_for_is_computed(tile, arcticdem, tcvis, result):
    watch = Stopwatch()
    with watch.recording():
        ours = dp.preprocess_v2(
            tile,
            arcticdem,
            tcvis,
            RADIUS,
            device="cpu",
            features=["slope", "tc_greenness", "relative_elevation"],
        )
    assert set(ours.data_vars) == {*tile.data_vars, "slope", "tc_greenness", "relative_elevation"}
    for name in ("slope", "tc_greenness", "relative_elevation"):
        assert ours[name].identical(result[name])
    assert "ndvi" not in watch.seconds
    nothing = dp.preprocess_v2(tile, arcticdem, tcvis, device="cpu", features=[])
    assert set(nothing.data_vars) == set(tile.data_vars)


def test_a_ring(tile, arcticdem, result):
    ours = dp.preprocess_v2(tile, arcticdem, None, "10px", "12m", "cpu", ["relative_elevation", "dem"])
    inner = slice(10, -10), slice(10, -10)
    expected = oracle.relative_elevation(ours.dem.values, 10, 4)
    np.testing.assert_allclose(ours.relative_elevation.values[inner], expected[inner], atol=1e-4)
    assert ours.relative_elevation.attrs["outer_radius"] == "30 m (10 cells)"


@pytest.mark.parametrize("lacking", [["azimuth"], ["elevation"], ["azimuth", "elevation"]])
def test_unknown_sun_angles_give_a_warning_and_the_default(tile, arcticdem, lacking):
    unknown = tile.assign_attrs(dict.fromkeys(lacking, float("nan")))
    sun = {"azimuth": 225.0 if "azimuth" in lacking else 150.0, "elevation": 25.0 if "elevation" in lacking else 35.0}
    verb = "is" if len(lacking) == 1 else "are"
    message = f"{' and '.join(lacking)} {verb} unknown; .* from {sun['azimuth']:g}° at {sun['elevation']:g}°"
    with pytest.warns(dp.SunAngleWarning, match=message):
        ours = dp.preprocess_v2(unknown, arcticdem, None, device="cpu", features=["hillshade"])
    known = tile.assign_attrs(sun)
    expected = dp.preprocess_v2(known, arcticdem, None, device="cpu", features=["hillshade"])
    np.testing.assert_array_equal(ours.hillshade, expected.hillshade)


def test_the_sun_is_not_missed_where_it_is_not_needed(tile, arcticdem, result):
    bare = tile.copy()
    bare.attrs = {}
    ours = dp.preprocess_v2(bare, arcticdem, None, device="cpu", features=["ndvi", "slope", "aspect"])
    np.testing.assert_array_equal(ours.ndvi, result.ndvi)
    np.testing.assert_allclose(ours.slope, result.slope, rtol=0, atol=0.005)  # no margin, so other nodes are warped
    turned = (ours.aspect - result.aspect + 180) % 360 - 180
    np.testing.assert_allclose(turned.where(result.slope > 1, 0), 0, atol=0.05)


def test_a_gpu_that_is_absent_is_replaced_with_a_warning(tile, result, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.warns(DeviceFallbackWarning, match=r"Features are computed on the CPU\."):
        ours = dp.preprocess_v2(tile, None, None, device="cuda")
    assert ours.ndvi.identical(result.ndvi)


def test_several_threads_at_once(tile, arcticdem, tcvis, result):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(dp.preprocess_v2, tile, arcticdem, tcvis, RADIUS, device="cpu") for _ in range(8)]
        assert all(job.result().identical(result) for job in jobs)


def without_crs(ds):
    return xr.Dataset(
        {name: (ds[name].dims, ds[name].values) for name in ds.data_vars}, {"y": ds.y.values, "x": ds.x.values}
    )


def test_mistakes_are_named(tile, arcticdem, tcvis):
    def run(*args, match, error, **kwargs):
        with pytest.raises(error, match=match):
            dp.preprocess_v2(*args, device="cpu", **kwargs)

    run(
        tile,
        None,
        None,
        features=["slop"],
        error=ParameterError,
        match=r"slop, which is unknown\. Did you mean .slope.\? Known features: ndvi, tc_brightness",
    )
    run(tile, None, None, features=["slope"], error=ParameterError, match="slope, but ds_arcticdem is None")
    run(tile, None, None, features=["tc_wetness"], error=ParameterError, match="tc_wetness, but ds_tcvis is None")
    run(tile.drop_vars("nir"), None, None, error=MissingBandError, match="ds_optical lacks nir; it holds blue")
    run(tile, arcticdem.drop_vars("dem"), None, error=MissingBandError, match="ds_arcticdem lacks dem")
    run(tile, None, tcvis.drop_vars("tc_wetness"), error=MissingBandError, match="ds_tcvis lacks tc_wetness")
    run(tile, arcticdem, None, tpi_outer_radius=-1, error=ParameterError, match="outer_radius is -1")
    run(tile, arcticdem, None, tpi_inner_radius=100, error=ParameterError, match="at least one cell between them")
    run(without_crs(tile), None, None, error=GridError, match="The tile has no grid with a CRS")
    run(tile, without_crs(arcticdem), None, error=GridError, match="ds_arcticdem has no grid")
    run(tile.odc.assign_crs("EPSG:4326"), None, None, error=GridError, match="in WGS 84; expected a projected CRS")
    run(tile.odc.assign_crs("EPSG:2222"), None, None, error=GridError, match="projected CRS in metres")
    run(tile.odc.assign_crs("EPSG:3857"), None, None, error=GridError, match="times those on the ground; expected")
    run(tile.isel(y=slice(None, None, -1)), None, None, error=GridError, match="not north-up")
    run(tile.isel(y=slice(None, None, 2)), None, None, error=GridError, match="3.0 × 6.0 m")


def test_areas_that_are_a_little_off_are_warned_of(tile):
    x, y = pyproj.Transformer.from_crs(4326, 3413, always_xy=True).transform(-135, 60)
    polar = tile[["red", "nir"]].assign_coords(x=x + tile.x - tile.x[0], y=y + tile.y - tile.y[0])
    with pytest.warns(ArealScaleWarning, match=r"are 1\.08 times those on the ground at 60° N"):
        dp.preprocess_v2(polar.odc.assign_crs("EPSG:3413"), None, None, device="cpu")


def test_lazy_and_transposed_variables(tile, arcticdem, tcvis, result):
    ours = dp.preprocess_v2(tile.chunk(), arcticdem.chunk({"y": 100}), tcvis.chunk(), RADIUS, device="cpu")
    assert ours.compute().drop_vars(tile.data_vars).identical(result.drop_vars(tile.data_vars))
    turned = dp.preprocess_v2(tile.transpose("x", "y"), arcticdem.transpose("x", "y"), tcvis, RADIUS, device="cpu")
    for name in DEFAULT:
        np.testing.assert_array_equal(turned[name].transpose("y", "x"), result[name])
    with pytest.raises(GridError, match="arcticdem_data_mask has the dimensions"):
        dp.preprocess_v2(tile, arcticdem.expand_dims("time"), None, device="cpu")
