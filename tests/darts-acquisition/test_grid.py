"""Windows of a large grid, against brute force over pixels."""

import math

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from darts_acquisition import Chunk, CubeProduct, OutsideExtentError, Window
from darts_acquisition.cube.areas import lonlat_bounds, outer_window, wrap_columns
from darts_acquisition.cube.product import aligned_window
from darts_utils import GridError, ParameterError
from support.lanes import cases

POLAR = GeoBox((4050, 4050), Affine(2000, 0, -4_000_000, 0, -2000, 4_100_000), "EPSG:3413")
WORLD = GeoBox((3600, 36_000), Affine(0.01, 0, -180, 0, -0.01, 84), "EPSG:4326")


def corners_in(geobox, crs):
    """Transform the corners of every pixel with pyproj."""
    rows, cols = np.mgrid[: geobox.shape[0] + 1, : geobox.shape[1] + 1]
    affine = geobox.affine
    x, y = affine.c + cols * affine.a + rows * affine.b, affine.f + cols * affine.d + rows * affine.e
    return pyproj.Transformer.from_crs(str(geobox.crs), crs, always_xy=True).transform(x, y)


UTM_TILES = st.builds(
    lambda zone, east, north, size, pixel: GeoBox(
        (size, size + 7), Affine(pixel, 0, east, 0, -pixel, north), f"EPSG:{32600 + zone}"
    ),
    zone=st.integers(1, 60),
    east=st.floats(300_000, 650_000),
    north=st.floats(6_700_000, 9_000_000),
    size=st.integers(1, 60),
    pixel=st.sampled_from([3.0, 10.0, 500.0]),
)


@given(tile=UTM_TILES, finer=st.integers(1, 1000), buffer=st.integers(0, 5))
def test_window_in_a_polar_grid_holds_every_pixel_and_no_row_more(tile, finer, buffer):
    pixel = 2000 / finer
    size = 4050 * finer
    grid = GeoBox((size, size), Affine(pixel, 0, -4_000_000, 0, -pixel, 4_100_000), "EPSG:3413")
    x, y = corners_in(tile, "EPSG:3413")
    cols, rows = (x + 4_000_000) / pixel, (4_100_000 - y) / pixel
    window = outer_window(tile, grid, buffer)
    for edges, found in ((rows, window.rows), (cols, window.cols)):
        low, high = edges.min(), edges.max()
        assert found.start + buffer <= low < found.start + buffer + 1.05
        assert found.stop - buffer - 1.05 < high <= found.stop - buffer


@given(tile=UTM_TILES)
def test_window_in_longitudes_runs_on_across_the_antimeridian(tile):
    window = outer_window(tile, WORLD)
    lon, lat = corners_in(tile, "EPSG:4326")
    lon = np.unwrap(np.unwrap(lon, axis=1, period=360), axis=0, period=360)
    lon += 360 * round((window.cols.start * 0.01 - 180 - lon.min()) / 360)
    cols, rows = (lon + 180) / 0.01, (84 - lat) / 0.01
    assert window.cols.start <= cols.min() < window.cols.start + 1.05
    assert window.cols.stop - 1.05 < cols.max() <= window.cols.stop
    assert window.rows.start <= rows.min() < window.rows.start + 1.05
    assert window.rows.stop - 1.05 < rows.max() <= window.rows.stop


@given(
    top=st.integers(-50, 100),
    left=st.integers(-50, 100),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
)
def test_window_of_the_grids_own_pixels_is_exactly_them(top, left, height, width):
    part = GeoBox(
        (height, width), Affine(2000, 0, -4_000_000 + left * 2000, 0, -2000, 4_100_000 - top * 2000), "EPSG:3413"
    )
    assert outer_window(part, POLAR) == Window.of(top, top + height, left, left + width)
    assert outer_window(part, POLAR, 3) == Window.of(top - 3, top + height + 3, left - 3, left + width + 3)
    if min(top, left) < 0:
        with pytest.raises(GridError, match="beyond the grid's edges"):
            aligned_window(part, POLAR)
    else:
        assert aligned_window(part, POLAR) == Window.of(top, top + height, left, left + width)


def test_window_around_the_pole():
    tile = GeoBox((10, 10), Affine(10_000, 0, 1_950_000, 0, -10_000, 2_050_000), "EPSG:32661")  # the pole: 2000 km
    x, y = corners_in(tile, "EPSG:3413")
    window = outer_window(tile, POLAR)
    assert window.cols.start == math.floor((x.min() + 4_000_000) / 2000)
    assert window.rows.stop == math.ceil((4_100_000 - y.min()) / 2000)


def test_rotated_area_keeps_its_corners():
    tile = GeoBox((20, 30), Affine(30, 17, 520_000, 17, -30, 7_600_000), "EPSG:32608")
    x, y = corners_in(tile, "EPSG:3413")
    window = outer_window(tile, POLAR)
    assert window.cols == slice(math.floor((x.min() + 4e6) / 2000), math.ceil((x.max() + 4e6) / 2000))
    assert window.rows == slice(math.floor((4.1e6 - y.max()) / 2000), math.ceil((4.1e6 - y.min()) / 2000))


def test_areas_that_have_no_window():
    with pytest.raises(GridError, match="no CRS"):
        outer_window(GeoBox((2, 2), Affine(1, 0, 0, 0, -1, 0), None), POLAR)
    tile = GeoBox((2, 2), Affine(3, 0, 500_000, 0, -3, 7_600_000), "EPSG:32608")
    with pytest.raises(ParameterError, match="buffer is -1"):
        outer_window(tile, POLAR, -1)
    nowhere = GeoBox((2, 2), Affine(1e9, 0, 1e12, 0, -1e9, 1e12), "EPSG:32608")
    with pytest.raises(OutsideExtentError, match="cannot be expressed"):
        outer_window(nowhere, POLAR)


@pytest.mark.parametrize(
    ("geobox", "problem"),
    [
        (GeoBox((4, 4), Affine(2000, 0, -4_000_000, 0, -2000, 4_100_000), "EPSG:3995"), "its CRS is EPSG:3995"),
        (GeoBox((4, 4), Affine(1000, 0, -4_000_000, 0, -1000, 4_100_000), "EPSG:3413"), "its pixels are 1000"),
        (GeoBox((4, 4), Affine(2000, 1, -4_000_000, 1, -2000, 4_100_000), "EPSG:3413"), "its pixels are 2000"),
        (GeoBox((4, 4), Affine(2000, 0, -3_999_300, 0, -2000, 4_100_000), "EPSG:3413"), "a part of a pixel"),
        (GeoBox((4, 4), Affine(2000, 0, -4_002_000, 0, -2000, 4_100_000), "EPSG:3413"), "beyond the grid's edges"),
    ],
)
def test_geoboxes_that_are_not_part_of_the_grid(geobox, problem):
    with pytest.raises(GridError, match=problem) as caught:
        aligned_window(geobox, POLAR)
    assert "pixels of 2000.0 × -2000.0" in str(caught.value)


@given(
    top=st.integers(0, 99),
    left=st.integers(0, 99),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    size=st.integers(1, 20),
)
def test_chunks_of_a_window_are_those_that_hold_its_pixels(top, left, height, width, size):
    block = Window.of(top, top + height, left, left + width).in_chunks(size)
    rows, cols = np.mgrid[top : top + height, left : left + width]
    touched = {(int(row), int(col)) for row, col in zip(rows.ravel() // size, cols.ravel() // size, strict=True)}
    assert block.chunks() == sorted(touched)
    chosen = np.random.default_rng(size).random(block.shape) < 0.5
    assert block.chunks(chosen) == [
        chunk for chunk, is_chosen in zip(sorted(touched), chosen.flat, strict=True) if is_chosen
    ]


def test_chunks_end_with_the_grid():
    grid = GeoBox((10, 7), Affine(1, 0, 0, 0, -1, 0), "EPSG:3413")
    product = CubeProduct("made up", "1", "made up", grid, (), chunk_px=4, inner_px=2)
    assert product.chunk_window(Chunk(0, 0)) == Window.of(0, 4, 0, 4)
    assert product.chunk_window(Chunk(2, 1)) == Window.of(8, 10, 4, 7)
    assert product.window == Window.of(0, 10, 0, 7)


@settings(max_examples=cases(60))
@given(
    rows=st.tuples(st.integers(-9, 9), st.integers(1, 9)),
    cols=st.tuples(st.integers(-9, 9), st.integers(1, 9)),
    other=st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9), st.integers(1, 9)),
)
def test_intersection_holds_the_pixels_of_both(rows, cols, other):
    one = Window.of(rows[0], rows[0] + rows[1], cols[0], cols[0] + cols[1])
    two = Window.of(other[0], other[0] + other[2], other[1], other[1] + other[3])

    def pixels(window):
        return {
            (row, col)
            for row in range(window.rows.start, window.rows.stop)
            for col in range(window.cols.start, window.cols.stop)
        }

    shared = one.intersection(two)
    assert (pixels(shared) if shared else set()) == pixels(one) & pixels(two)


@given(left=st.integers(-90_000, 90_000), width=st.integers(1, 36_000))
def test_columns_wrap_around_the_world(left, width):
    window = Window.of(5, 8, left, left + width)
    parts = wrap_columns(window, WORLD)
    columns = [col for part in parts for col in range(part.cols.start, part.cols.stop)]
    assert columns == [col % 36_000 for col in range(left, left + width)]
    assert all(part.rows == window.rows for part in parts)


def test_a_grid_that_does_not_go_around_the_world_has_edges():
    part = WORLD[:, 100:35_000]
    window = Window.of(0, 2, -5, 5)
    assert wrap_columns(window, part) == [window]
    assert wrap_columns(window, POLAR) == [window]


@given(tile=UTM_TILES)
def test_bounds_in_degrees_hold_every_pixel(tile):
    lon, lat = corners_in(tile, "EPSG:4326")
    west, south, east, north = lonlat_bounds(tile)
    assert south - 1e-6 <= lat.min() < south + 0.01
    assert north - 0.01 < lat.max() <= north + 1e-5
    span = (east - west) % 360
    assert (((lon - west + 1e-6) % 360) <= span + 2e-6).all()
    flat = np.unwrap(np.unwrap(lon, axis=1, period=360), axis=0, period=360)
    assert span == pytest.approx(flat.max() - flat.min(), abs=0.01)


def test_bounds_around_the_pole_have_all_longitudes():
    west, south, east, north = lonlat_bounds(POLAR[2000:2100, 1950:2050])
    assert (west, east, north) == (-180, 180, 90)
    assert 88 < south < 90
