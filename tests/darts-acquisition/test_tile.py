"""Georeferenced variables, and the grids that tiles may lie on."""

import numpy as np
import odc.geo.xr  # noqa: F401
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from darts_acquisition import SceneGridError
from darts_acquisition.tile import as_band, as_variable, describe_grid, same_grid, tile_grid
from darts_utils import ArealScaleWarning, GridError, UnknownBandError

UTM = GeoBox((4, 3), Affine(3, 0, 500_001, 0, -3, 7_600_002), "EPSG:32608")
DEGREES = GeoBox((4, 3), Affine(0.1, 0, -135, 0, -0.1, 68), "EPSG:4326")


@pytest.mark.parametrize("grid", [UTM, DEGREES], ids=["projected", "geographic"])
def test_variable_has_y_and_x_whatever_the_crs_calls_them(grid, tmp_path):
    values = np.arange(12, dtype="float32").reshape(4, 3)
    variable = as_variable(values, grid, {"long_name": "number"})
    assert variable.dims == ("y", "x")
    assert variable.odc.geobox == grid
    assert variable.attrs == {"long_name": "number"}
    np.testing.assert_array_equal(variable, values)
    xr.Dataset({"number": variable}).to_netcdf(tmp_path / "number.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "number.nc", engine="scipy", decode_coords="all") as again:
        assert again.odc.geobox == grid


def test_variable_may_have_dimensions_before_y_and_x():
    values = np.arange(24, dtype="uint8").reshape(2, 4, 3)
    band = as_band("planet_udm", values, UTM, "PlanetScope", udm_band=np.array([1, 2]))
    assert band.dims == ("udm_band", "y", "x")
    np.testing.assert_array_equal(band.udm_band, [1, 2])
    np.testing.assert_array_equal(band.sel(udm_band=2), values[1])
    assert band.attrs == {"long_name": "PlanetScope usable data mask as delivered", "data_source": "PlanetScope"}


def test_variable_that_the_band_table_does_not_know_is_an_error():
    with pytest.raises(UnknownBandError, match=r"'blu'.*'blue'"):
        as_band("blu", np.zeros((4, 3), "float32"), UTM, "PlanetScope")


def test_same_grid_allows_for_rounding_only():
    grid = GeoBox((40, 30), Affine(3, 0, 500_000, 0, -3, 7_600_000), "EPSG:32608")
    assert same_grid(grid, GeoBox((40, 30), Affine(3, 0, 500_000 + 1e-6, 0, -3, 7_600_000), "EPSG:32608"))
    assert not same_grid(grid, GeoBox((40, 30), Affine(3, 0, 500_000.1, 0, -3, 7_600_000), "EPSG:32608"))
    assert not same_grid(grid, GeoBox((40, 30), Affine(3.001, 0, 500_000, 0, -3.001, 7_600_000), "EPSG:32608"))
    assert not same_grid(grid, GeoBox((40, 31), Affine(3, 0, 500_000, 0, -3, 7_600_000), "EPSG:32608"))
    assert not same_grid(grid, GeoBox((40, 30), Affine(3, 0, 500_000, 0, -3, 7_600_000), "EPSG:32609"))


@given(
    shape=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    size=st.floats(0.5, 30),
    shift=st.tuples(st.floats(-0.02, 0.02), st.floats(-0.02, 0.02)),
    stretch=st.floats(-2e-6, 2e-6),
)
def test_same_grid_compares_all_corners(shape, size, shift, stretch):
    one = GeoBox(shape, Affine(size, 0, 500_000, 0, -size, 7_600_000), "EPSG:32608")
    other = one.affine * Affine.translation(*shift) * Affine.scale(1 + stretch)
    # In pixels, how far the corners are apart along either axis.
    apart = [abs(shift[axis] + edge * stretch) for axis in (0, 1) for edge in (0, shape[1 - axis])]
    if abs(max(apart) - 0.01) > 1e-6:
        assert same_grid(one, GeoBox(shape, other, "EPSG:32608")) == (max(apart) < 0.01)


def test_grid_is_described_by_what_tells_it_from_others():
    assert describe_grid(UTM) == "4 × 3 pixels of 3.0 m from (500001.0, 7600002.0) in EPSG:32608"


def _grid_of(folder, **profile):
    settings = {"crs": "EPSG:32608", "transform": UTM.affine, "width": 3, "height": 4} | profile
    settings = {name: value for name, value in settings.items() if value is not None}
    with rasterio.open(folder / "a.tif", "w", driver="GTiff", count=1, dtype="uint8", **settings):
        pass
    with rasterio.open(folder / "a.tif") as source:
        return tile_grid(source, "a.tif")


def test_grid_of_an_image_is_read_as_it_is(tmp_path):
    assert _grid_of(tmp_path) == UTM


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"crs": None}, "a.tif: it has no CRS. Expected a north-up grid of square pixels, projected in metres."),
        ({"crs": "EPSG:4326", "transform": Affine(1e-4, 0, -135, 0, -1e-4, 68)}, "a.tif is in WGS 84; expected"),
        ({"crs": "EPSG:2225"}, "counted in US survey foot; expected"),
        ({"transform": UTM.affine * Affine.rotation(5)}, "a.tif: its grid is rotated, mirrored or absent"),
        ({"transform": UTM.affine * Affine.scale(-1, 1)}, "its grid is rotated, mirrored or absent"),
        ({"transform": UTM.affine * Affine.scale(1, 1.5)}, r"its pixels are 3\.0 m × 4\.5 m"),
        ({"crs": "EPSG:3857"}, "times those on the ground"),
    ],
)
def test_grid_that_no_tile_can_have_is_an_error(tmp_path, profile, message):
    with pytest.raises(SceneGridError, match=message) as caught:
        _grid_of(tmp_path, **profile)
    assert isinstance(caught.value, GridError)


def test_areal_scale_is_that_of_the_centre(tmp_path):
    """The upper left corner of this image lies 10° north of its centre, where areas would be refused."""
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(10, 21)
    far_north = Transformer.from_crs(4326, 3857, always_xy=True).transform(10, 31)[1]
    half = round((far_north - y) / 1000)
    profile = {"width": 2 * half, "height": 2 * half, "crs": "EPSG:3857", "sparse_ok": True}
    with pytest.warns(ArealScaleWarning, match=r"1\.1\d times .* at 21° N"):
        _grid_of(tmp_path, transform=Affine(1000, 0, x - 1000 * half, 0, -1000, y + 1000 * half), **profile)
