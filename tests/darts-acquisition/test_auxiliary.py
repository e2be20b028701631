"""ArcticDEM and TCVIS around a tile, against plain mosaics, pyproj and rasterio."""

import math

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.warp
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_reproject

from darts_acquisition import (
    Chunk,
    CubeError,
    MissingAuxiliaryDataError,
    OutsideExtentError,
    arcticdem_product,
    create_arcticdem_cube,
    create_tcvis_cube,
    estimate_arcticdem,
    load_arcticdem,
    load_tcvis,
    tcvis_product,
)
from darts_utils import BANDS, DartsError, GridError, InputTypeError, ParameterError
from support.lanes import cases

DEGREES = 0.00026949458523585647
TRENDS = ("tc_brightness", "tc_greenness", "tc_wetness")
PEEL = GeoBox((251, 251), Affine(10, 0, 470_890, 0, -10, 7_550_020), "EPSG:32608")


def elevation(x, y):
    """A surface that tells every pixel apart, partly beyond the valid range, with a hole."""
    dem = 1450 + 1700 * np.sin(x / 700) * np.cos(y / 900)
    return np.where((x + y) % 1900 < 40, np.nan, dem).astype("float32")


def fill_arcticdem(path, resolution, tile, margin=0):
    cube = create_arcticdem_cube(path, resolution)
    window = cube.window(tile, margin)
    box = cube.geobox[window]
    x, y = np.meshgrid(box.coordinates["x"].values, box.coordinates["y"].values)
    dem = elevation(x, y)
    cube.write(window, {"dem": dem, "arcticdem_data_mask": (~np.isnan(dem)).astype("uint8")}, complete=True)
    return cube


def tile_points(tile, crs):
    """Centres of all pixels of a tile in another CRS, by pyproj."""
    x, y = np.meshgrid(tile.coordinates["x"].values, tile.coordinates["y"].values)
    return pyproj.Transformer.from_crs(str(tile.crs), crs, always_xy=True).transform(x, y)


@pytest.mark.parametrize("resolution", [2, 10, 32])
def test_a_resolution_may_be_a_float(resolution):
    assert arcticdem_product(float(resolution)).to_attrs() == arcticdem_product(resolution).to_attrs()


@pytest.mark.parametrize(
    ("resolution", "size", "chunks"), [(2, 4_050_000, 1125), (10, 810_000, 225), (32, 253_125, 71)]
)
def test_arcticdem_grid_is_the_square_of_the_mosaics(resolution, size, chunks, tmp_path):
    product = arcticdem_product(resolution)
    assert product.geobox.shape == (size, size)
    assert product.geobox.boundingbox.bbox == (-4_000_000, -4_000_000, 4_100_000, 4_100_000)
    assert product.geobox.crs.epsg == 3413
    assert product.collection == f"arcticdem-mosaics-v4.1-{resolution}m"
    cube = create_arcticdem_cube(tmp_path / "cube", resolution)
    assert cube.product.to_attrs() == product.to_attrs()
    last = Chunk(chunks - 1, chunks - 1)
    assert cube.missing(cube.chunk_geobox(last)) == [last]
    assert cube.chunk_geobox(last).boundingbox.right == 4_100_000


def test_tcvis_grid_covers_the_arctic_at_the_published_pixel_size():
    product = tcvis_product()
    box = product.geobox
    assert (box.affine.a, box.affine.e) == (DEGREES, -DEGREES)
    assert box.crs.epsg == 4326
    assert box.boundingbox.left <= -180 < box.boundingbox.left + DEGREES
    assert box.boundingbox.right - DEGREES < 180 <= box.boundingbox.right
    assert box.boundingbox.bottom <= 45
    assert box.boundingbox.top >= 84
    for origin in (box.affine.c, box.affine.f):
        assert origin / DEGREES == pytest.approx(round(origin / DEGREES), abs=1e-6)
    assert product.collection == "users/ingmarnitze/TCTrend_SR_2000-2019_TCVIS"
    assert [variable.name for variable in product.variables] == list(TRENDS)
    assert tcvis_product("2003-2022").collection == "users/ingmarnitze/TCTrend_SR_2003-2022_TCVIS"


@settings(max_examples=cases(3), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    east=st.floats(300_000, 650_000),
    north=st.floats(7_000_000, 9_000_000),
    zone=st.integers(1, 60),
    resolution=st.sampled_from([10, 32]),
    buffer=st.integers(0, 40),
)
def test_arcticdem_equals_the_mosaic_around_the_tile(tmp_path_factory, east, north, zone, resolution, buffer):
    tile = GeoBox((90, 120), Affine(10, 0, east, 0, -10, north), f"EPSG:{32600 + zone}")
    path = tmp_path_factory.mktemp("aux") / "dem"
    fill_arcticdem(path, resolution, tile, margin=60)
    ds = load_arcticdem(tile, path, resolution, buffer=buffer, offline=True)
    x, y = np.meshgrid(ds.x, ds.y)
    expected = elevation(x, y)
    np.testing.assert_array_equal(ds.arcticdem_data_mask, (~np.isnan(expected)).astype("uint8"))
    np.testing.assert_array_equal(ds.dem, np.clip(expected, -100, 3000))
    assert ds.dem.dtype == np.float32
    assert ds.arcticdem_data_mask.dtype == np.uint8
    assert ds.odc.geobox.resolution.x == resolution
    corner_x, corner_y = tile_points(tile.pad(1), "EPSG:3413")
    for found, wanted in (((ds.x.min(), ds.x.max()), corner_x), ((ds.y.min(), ds.y.max()), corner_y)):
        reach = (buffer + 1) * resolution + 2 * 15
        assert wanted.min() + 15 - reach <= float(found[0]) - resolution / 2 <= wanted.min() + 15
        assert wanted.max() - 15 <= float(found[1]) + resolution / 2 <= wanted.max() - 15 + reach


def test_arcticdem_attributes(tmp_path):
    fill_arcticdem(tmp_path / "dem", 10, PEEL)
    ds = load_arcticdem(PEEL, tmp_path / "dem", 10, offline=True)
    assert ds.dem.attrs == {"long_name": "elevation", "units": "m", "data_source": "ArcticDEM mosaic v4.1, 10 m"}
    assert ds.arcticdem_data_mask.attrs["long_name"] == BANDS["arcticdem_data_mask"].long_name
    assert ds.odc.geobox.crs.epsg == 3413
    assert ds.dem.dims == ("y", "x")
    assert ds.identical(load_arcticdem(PEEL, str(tmp_path / "dem"), 10, 0, False))


def test_arcticdem_buffer_is_pixels_of_the_dem(tmp_path):
    fill_arcticdem(tmp_path / "dem", 10, PEEL, margin=30)
    plain = load_arcticdem(PEEL, tmp_path / "dem", 10, offline=True).odc.geobox
    wider = load_arcticdem(PEEL, tmp_path / "dem", 10, buffer=25, offline=True).odc.geobox
    assert wider == plain.pad(25)


def test_real_dem_comes_back_from_the_cube(shared_data, tmp_path):
    """A DEM of Svalbard, brought to the 32 m grid by rasterio, is read back for a part of its own grid."""
    cube = create_arcticdem_cube(tmp_path / "dem", 32)
    with rasterio.open(shared_data / "svalbard_dem/DEM_1995.tif") as source:
        whole = GeoBox.from_rio(source)
        window = cube.window(whole)
        box = cube.geobox[window]
        dem = np.full(box.shape, np.nan, "float32")
        rasterio.warp.reproject(
            rasterio.band(source, 1),
            dem,
            dst_transform=box.affine,
            dst_crs="EPSG:3413",
            dst_nodata=np.nan,
            resampling=rasterio.warp.Resampling.cubic,
        )
    cube.write(window, {"dem": dem, "arcticdem_data_mask": np.isfinite(dem).astype("uint8")}, complete=True)
    part = whole[300:700, 400:900]
    ds = load_arcticdem(part, tmp_path / "dem", 32, offline=True)
    inner = cube.window(part)
    expected = dem[
        inner.rows.start - window.rows.start : inner.rows.stop - window.rows.start,
        inner.cols.start - window.cols.start : inner.cols.stop - window.cols.start,
    ]
    np.testing.assert_array_equal(ds.dem, expected)
    assert np.isfinite(ds.dem).mean() > 0.9
    assert 100 < float(ds.dem.mean()) < 800


def test_missing_part_is_named_with_what_fetches_it(tmp_path):
    cube = fill_arcticdem(tmp_path / "dem", 2, PEEL)
    chunks = cube.missing(cube.window(PEEL, 4000))
    assert chunks
    with pytest.raises(MissingAuxiliaryDataError) as caught:
        load_arcticdem(PEEL, tmp_path / "dem", 2, buffer=4000, offline=True)
    message = str(caught.value)
    assert isinstance(caught.value, DartsError)
    assert isinstance(caught.value, LookupError)
    assert f"{len(chunks)} of the " in message
    assert str(tmp_path / "dem") in message
    assert "EPSG:3413" in message
    assert "longitude -13" in message
    assert "latitude 6" in message
    assert message.endswith(" Fetch them with `darts_acquisition.download_arcticdem`.")


def test_no_cube_is_missing_data(tmp_path):
    for resolution in (2, 10, 32):
        with pytest.raises(MissingAuxiliaryDataError, match=r"no datacube at .*acquisition\.download_arcticdem`\.$"):
            load_arcticdem(PEEL, tmp_path / "nothing", resolution, offline=True)
    with pytest.raises(MissingAuxiliaryDataError, match=r"no datacube at .*acquisition\.download_tcvis`\.$"):
        load_tcvis(PEEL, tmp_path / "nothing", offline=True)
    assert not (tmp_path / "nothing").exists()


def test_cube_of_another_product_is_an_error(tmp_path):
    create_arcticdem_cube(tmp_path / "dem", 10)
    create_tcvis_cube(tmp_path / "tcvis", "2001-2020")
    with pytest.raises(
        CubeError, match=r"arcticdem-mosaics-v4\.1-10m; expected arcticdem-mosaics-v4\.1-2m\. .* ask for those of this"
    ):
        load_arcticdem(PEEL, tmp_path / "dem", 2)
    with pytest.raises(CubeError, match="expected users"):
        load_tcvis(PEEL, tmp_path / "dem")
    with pytest.raises(CubeError, match=r"2001-2020_TCVIS; expected .*2000-2019_TCVIS"):
        load_tcvis(PEEL, tmp_path / "tcvis")


def test_empty_chunks_read_as_no_data(tmp_path):
    cube = create_arcticdem_cube(tmp_path / "dem", 10)
    cube.mark_empty(cube.missing(cube.window(PEEL)))
    ds = load_arcticdem(PEEL, tmp_path / "dem", 10, offline=True)
    assert np.isnan(ds.dem).all()
    assert not ds.arcticdem_data_mask.any()


def test_arguments_that_cannot_be(tmp_path):
    with pytest.raises(ParameterError, match="resolution is 5; ArcticDEM is published at 2, 10 and 32 m"):
        load_arcticdem(PEEL, tmp_path, 5)
    with pytest.raises(ParameterError, match="trend is '1999-2019'"):
        load_tcvis(PEEL, tmp_path, trend="1999-2019")
    fill_arcticdem(tmp_path / "dem", 10, PEEL)
    with pytest.raises(ParameterError, match="buffer is -1"):
        load_arcticdem(PEEL, tmp_path / "dem", 10, buffer=-1)
    with pytest.raises(GridError, match="no CRS"):
        load_arcticdem(GeoBox((2, 2), PEEL.affine, None), tmp_path / "dem", 10)
    create_tcvis_cube(tmp_path / "tcvis")
    south = GeoBox((10, 10), Affine(10, 0, 500_000, 0, -10, 1_000_000), pyproj.CRS(32608).to_wkt())
    with pytest.raises(
        OutsideExtentError, match=r"y 999900 to 1000000 in EPSG:32608 lies outside arcticdem.* EPSG:3413"
    ):
        load_arcticdem(south, tmp_path / "dem", 10)
    with pytest.raises(InputTypeError, match=r"Expected a GeoBox, .* got a Dataset; `tile.odc.geobox`"):
        load_arcticdem(xr.Dataset(), tmp_path / "dem", 10)
    with pytest.raises(OutsideExtentError, match="lies outside users/ingmarnitze"):
        load_tcvis(south, tmp_path / "tcvis")


def trend_values(lon, lat):
    """Bytes that tell pixels apart, the same on both sides of the antimeridian."""
    col, row = np.round((lon % 360) / DEGREES - 0.5), np.round(lat / DEGREES - 0.5)
    return {
        "tc_brightness": (col % 251).astype("uint8"),
        "tc_greenness": (row % 241).astype("uint8"),
        "tc_wetness": ((col // 7 + row) % 253).astype("uint8"),
    }


def test_tcvis_equals_the_mosaic_around_the_tile(tmp_path):
    cube = create_tcvis_cube(tmp_path / "tcvis")
    window = cube.window(PEEL, 10)
    box = cube.geobox[window]
    lon, lat = np.meshgrid(box.coordinates["longitude"].values, box.coordinates["latitude"].values)
    cube.write(window, trend_values(lon, lat), complete=True)
    ds = load_tcvis(PEEL, tmp_path / "tcvis", offline=True)
    expected = trend_values(*np.meshgrid(ds.x, ds.y))
    assert list(ds.data_vars) == list(TRENDS)
    for name in TRENDS:
        assert ds[name].dtype == np.uint8
        assert ds[name].dims == ("y", "x")
        assert ds[name].attrs == {"long_name": BANDS[name].long_name, "data_source": "TCVIS 2000-2019"}
        np.testing.assert_array_equal(ds[name], expected[name])
    assert ds.odc.geobox == cube.geobox[cube.window(PEEL, 2)]
    lon, lat = tile_points(PEEL.pad(1), "EPSG:4326")
    assert ds.x.min() + DEGREES < lon.min()
    assert ds.x.max() - DEGREES > lon.max()
    assert ds.y.min() + DEGREES < lat.min()
    assert ds.y.max() - DEGREES > lat.max()


@pytest.mark.parametrize("epsg", [32601, 32660, 3571])
def test_tcvis_across_the_antimeridian_is_read_from_both_sides(tmp_path, epsg):
    """Wrangel Island: the tile's pixels get the values that formulas give at their own coordinates."""
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(180.0, 71.2)
    tile = GeoBox((150, 200), Affine(30, 0, round(x) - 2500, 0, -30, round(y) + 2000), f"EPSG:{epsg}")
    cube = create_tcvis_cube(tmp_path / "tcvis")
    with pytest.raises(GridError, match="antimeridian"):
        cube.window(tile)
    west, east = cube.windows(tile, 5)
    assert (west.cols.stop, east.cols.start) == (cube.geobox.shape[1], 0)
    for window in (west, east):
        box = cube.geobox[window]
        lon, _ = np.meshgrid(box.coordinates["longitude"].values, box.coordinates["latitude"].values)
        with pytest.raises(MissingAuxiliaryDataError, match="2019_TCVIS"):
            load_tcvis(tile, tmp_path / "tcvis", offline=True)
        ramp = np.clip((lon % 360 - 179.8) * 600, 0, 255)  # smooth, so that a shift by a part of a pixel is small
        cube.write(window, dict.fromkeys(TRENDS, ramp.astype("uint8")), complete=True)
    ds = load_tcvis(tile, tmp_path / "tcvis", offline=True)
    assert ds.sizes["x"] < 2000
    steps = np.diff(ds.x)
    np.testing.assert_allclose(steps, DEGREES, rtol=1e-6)
    lon, _ = tile_points(tile, "EPSG:4326")
    band = xr_reproject(ds.tc_brightness, tile, resampling="nearest")
    expected = (lon % 360 - 179.8) * 600
    assert expected.min() > 1
    assert expected.max() < 254
    assert np.abs(band.values - np.floor(expected)).max() <= 1
    assert {True, False} == set(np.unique(lon > 0).tolist())
    # Before the antimeridian nothing moves, behind it by less than half a pixel.
    assert math.isclose(float(ds.x[0]) % 360 / DEGREES % 1, 0.5, abs_tol=0.12)


def test_arcticdem_across_the_antimeridian_is_nothing_special(tmp_path):
    x, y = pyproj.Transformer.from_crs(4326, 32601, always_xy=True).transform(180.0, 71.2)
    tile = GeoBox((150, 200), Affine(30, 0, round(x) - 2500, 0, -30, round(y) + 2000), "EPSG:32601")
    cube = create_arcticdem_cube(tmp_path / "dem", 32)
    with pytest.raises(
        MissingAuxiliaryDataError, match=r"longitude 17\d\.\d+ to -17\d\.\d+ \(across the antimeridian\)"
    ):
        load_arcticdem(tile, tmp_path / "dem", 32, offline=True)
    fill = cube.window(tile)
    cube.write(
        fill,
        {"dem": np.ones(fill.shape, "float32"), "arcticdem_data_mask": np.ones(fill.shape, "uint8")},
        complete=True,
    )
    assert load_arcticdem(tile, tmp_path / "dem", 32, offline=True).sizes == {"y": fill.shape[0], "x": fill.shape[1]}
    assert max(fill.shape) < 250


def test_tile_at_the_edge_of_arcticdem_gets_what_there_is(tmp_path):
    cube = create_arcticdem_cube(tmp_path / "dem", 32)
    tile = cube.geobox[:50, :50].translate_pix(-20, -10)
    cube.mark_empty([Chunk(0, 0)])
    ds = load_arcticdem(tile, tmp_path / "dem", 32, offline=True)
    assert ds.sizes == {"y": 40, "x": 30}
    assert ds.odc.geobox == cube.geobox[:40, :30]


@pytest.mark.parametrize("seed", range(5))
def test_estimate_names_the_areas_that_loading_offline_would_refuse(tmp_path, seed):
    """Some chunks are there; what lies far south has none."""
    random = np.random.default_rng(seed)
    tiles = [
        GeoBox((80, 80), Affine(10, 0, east, 0, -10, north), "EPSG:32608")
        for east, north in zip(
            random.integers(420_000, 560_000, 8), random.integers(7_500_000, 7_640_000, 8), strict=True
        )
    ]
    tiles.insert(3, GeoBox((80, 80), Affine(10, 0, 500_000, 0, -10, 1_000_000), "EPSG:32608"))
    path = tmp_path / "dem"
    none = estimate_arcticdem(tiles, path, 10, buffer=30)
    assert (none.missing_chunks, none.outside) == (none.area_chunks, (3,))
    assert none.incomplete == (0, 1, 2, 4, 5, 6, 7, 8)
    assert not path.exists()
    cube = create_arcticdem_cube(path, 10)
    touched = {chunk for tile in tiles[:3] + tiles[4:] for chunk in cube.chunks_of(tile, 30)}
    there = [chunk for chunk in sorted(touched) if random.random() < 0.6]
    cube.mark_empty(there)
    estimate = estimate_arcticdem(tiles, path, 10, buffer=30)
    refused = []
    for number, tile in enumerate(tiles):
        try:
            load_arcticdem(tile, path, 10, buffer=30, offline=True)
        except MissingAuxiliaryDataError:
            refused.append(number)
        except OutsideExtentError:
            assert number == 3
    assert estimate.incomplete == tuple(refused)
    assert (estimate.area_chunks, estimate.missing_chunks) == (len(touched), len(touched) - len(there))
    assert estimate.megabytes == math.ceil(estimate.missing_chunks * 3600**2 * 2.5 / 1e6)
