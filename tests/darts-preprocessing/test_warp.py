"""Resampling between grids against GDAL's warper, and against an obvious version with the position of every pixel.

GDAL interpolates positions too, to some thousandths of a source pixel: that is how far the comparison with it can go.
"""

import numpy as np
import pytest
import rasterio.warp
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from darts_preprocessing.warp import get_sampling, locate
from support import preprocessing as oracle
from support.lanes import mostly_slow


def gdal(source, source_grid, grid, how, scale, nodata=None):
    out = np.zeros((source.shape[0], *grid.shape), dtype=source.dtype)
    rasterio.warp.reproject(
        source,
        out,
        src_transform=source_grid.affine,
        src_crs=str(source_grid.crs),
        dst_transform=grid.affine,
        dst_crs=str(grid.crs),
        src_nodata=nodata,
        dst_nodata=nodata,
        resampling=how,
        XSCALE=scale,
        YSCALE=scale,
    )
    return out


def smooth(shape, seed=0):
    rng = np.random.default_rng(seed)
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return (200 + 40 * np.sin(cols / 9) + 60 * np.cos(rows / 7) + rng.normal(0, 1, shape)).astype(np.float32)


TILE = oracle.make_geobox((230, 310), 3.0)
SOURCES = {
    "2 m polar, coarser target": ("EPSG:3413", 2.0, 2 / 3),
    "10 m polar, finer target": ("EPSG:3413", 10.0, 1.0),
    "3 m in the next zone": ("EPSG:32609", 3.0, 1.0),
    "0.5 m, much coarser target": ("EPSG:32608", 0.5, 1 / 6),
    "degrees": ("EPSG:4326", 0.00026949458523585647, 1.0),
}


@pytest.mark.parametrize(("crs", "cell", "scale"), SOURCES.values(), ids=SOURCES)
def test_cubic_as_gdal(backend, crs, cell, scale):
    source_grid = oracle.covering(TILE, crs, cell, margin=0.2)
    source = smooth(source_grid.shape)[None]
    sampling = get_sampling(TILE, source_grid, cubic=True)
    assert sampling.stretch == pytest.approx(1 / scale)
    ours = backend.to_host(backend.resample(backend.asarray(source), sampling))
    theirs = gdal(source, source_grid, TILE, Resampling.cubic, scale, nodata=np.nan)
    assert not np.isnan(ours).any()
    np.testing.assert_allclose(ours, theirs, atol=0.03)
    part = slice(100, 115), slice(150, 170)
    exact = oracle.resample(source[0], *(place[part] for place in oracle.positions(TILE, source_grid)), 1 / scale)
    np.testing.assert_allclose(ours[0][part], exact, atol=1e-3)


def test_bytes_as_gdal(backend):
    source_grid = oracle.covering(TILE, "EPSG:4326", 0.00026949458523585647, margin=0.6)
    source = np.random.default_rng(3).integers(0, 256, (3, *source_grid.shape), dtype=np.uint8)
    ours = backend.to_host(backend.resample(backend.asarray(source), get_sampling(TILE, source_grid, cubic=True)))
    theirs = gdal(source, source_grid, TILE, Resampling.cubic, 1.0)
    assert ours.dtype == np.uint8
    assert ours.min() == 0
    assert ours.max() == 255  # overshoot is cut, not wrapped
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1  # noise has slopes of hundreds per pixel
    part = slice(100, 115), slice(150, 170)
    exact = oracle.resample(source[1], *(place[part] for place in oracle.positions(TILE, source_grid)), 1.0)
    exact = np.where(np.isnan(exact), 0, np.floor(np.clip(exact, 0, 255) + 0.5))
    assert (ours[1][part] != exact).mean() < 0.005  # halves, which fall either way


def test_nearest_as_gdal(backend):
    source_grid = oracle.covering(TILE, "EPSG:3413", 2.0, margin=-0.1)  # does not reach the tile's corners
    source = np.random.default_rng(4).integers(1, 200, (1, *source_grid.shape), dtype=np.uint8)
    ours = backend.to_host(backend.resample(backend.asarray(source), get_sampling(TILE, source_grid, cubic=False)))
    theirs = gdal(source, source_grid, TILE, Resampling.nearest, 1.0)
    assert (theirs == 0).mean() > 0.05
    assert (ours != theirs).mean() < 0.001


@pytest.mark.parametrize("stretch", mostly_slow([1, 2], (2).__eq__))
def test_holes_stay_and_do_not_grow(backend, stretch):
    """The result is missing exactly where the nearest cell is, and what is next to a hole is interpolated linearly."""
    rng = np.random.default_rng(5)
    source_grid = oracle.make_geobox((150, 150), 2.0)
    source = rng.uniform(10, 20, (1, 150, 150)).astype(np.float32)
    source[:, rng.random((150, 150)) < 0.2] = np.nan
    grid = oracle.make_geobox((80, 80), 2.0 * stretch, (500_031.3, 7_699_961.1))
    sampling = get_sampling(grid, source_grid, cubic=True)
    ours = backend.to_host(backend.resample(backend.asarray(source), sampling))
    exists = (~np.isnan(source)).astype(np.uint8)
    mask = backend.to_host(backend.resample(backend.asarray(exists), get_sampling(grid, source_grid, cubic=False)))
    np.testing.assert_array_equal(np.isnan(ours), mask == 0)
    assert 0 < np.isnan(ours).mean() < 0.9
    exact = oracle.resample(source[0], *oracle.positions(grid, source_grid), stretch)
    np.testing.assert_allclose(ours[0], exact, rtol=1e-5)


def test_linear_next_to_a_hole(backend):
    """Between cells of a plane of which some are missing, linear interpolation of those that are left."""
    source = np.arange(40, dtype=np.float32).reshape(1, 5, 8)
    source[0, 2, 2] = np.nan
    source_grid, grid = oracle.make_geobox((5, 8), 4.0), oracle.make_geobox((1, 1), 4.0, (500_017.0, 7_699_991.0))
    ours = backend.to_host(backend.resample(backend.asarray(source), get_sampling(grid, source_grid, cubic=True)))
    # The centre lies at column 4.75, row 2.75: cells (2 and 3, 4 and 5) with weights ¾ and ¼ along both axes.
    assert ours[0, 0, 0] == pytest.approx(0.75 * 0.75 * 20 + 0.75 * 0.25 * 21 + 0.25 * 0.75 * 28 + 0.25 * 0.25 * 29)


def test_the_same_grid_changes_nothing(backend):
    source = oracle.rough((70, 90), np.random.default_rng(6), holes=0.1)[None]
    grid = oracle.make_geobox((70, 90))
    for cubic in (True, False):
        ours = backend.to_host(backend.resample(backend.asarray(source), get_sampling(grid, grid, cubic=cubic)))
        np.testing.assert_array_equal(ours, source)


def test_a_part_comes_out_as_in_the_whole(backend):
    source_grid = oracle.covering(TILE, "EPSG:3413", 2.0)
    source = backend.asarray(smooth(source_grid.shape)[None])
    whole = backend.to_host(backend.resample(source, get_sampling(TILE, source_grid, cubic=True)))
    part = TILE[37:141, 55:222]
    ours = backend.to_host(backend.resample(source, get_sampling(part, source_grid, cubic=True)))
    np.testing.assert_allclose(ours, whole[:, 37:141, 55:222], atol=2e-3)


def test_positions_are_exact():
    import pyproj

    source_grid = oracle.covering(TILE, "EPSG:3413", 2.0)
    nodes = locate(TILE, source_grid)
    assert nodes.step > 8
    x, y = TILE.affine.c + 3.0 * 200.5, TILE.affine.f - 3.0 * 100.5
    east, north = pyproj.Transformer.from_crs(32608, 3413, always_xy=True).transform(x, y)
    col, row = (east - source_grid.affine.c) / 2.0, (source_grid.affine.f - north) / 2.0
    i, j, v, u = 100 // nodes.step, 200 // nodes.step, 100 % nodes.step / nodes.step, 200 % nodes.step / nodes.step
    around = nodes.values[i : i + 2, j : j + 2]
    ours = (around * np.array([[(1 - v) * (1 - u), (1 - v) * u], [v * (1 - u), v * u]])).sum()
    assert abs(ours - (col + 1j * row)) < 1e-3


@pytest.mark.parametrize("first_longitude", [179.9, -180.1])
def test_across_the_antimeridian(backend, first_longitude):
    """A source that goes on across 180°, whichever way it counts, is one field, without a seam."""
    grid = oracle.make_geobox((300, 300), 10.0, (390_500.0, 7_900_000.0), "EPSG:32601")
    source_grid = GeoBox((1500, 1000), Affine(0.0003, 0, first_longitude, 0, -0.0003, 71.3), "EPSG:4326")
    cols = np.arange(1000, dtype=np.float32)
    source = np.broadcast_to(cols, (1, 1500, 1000)).copy()
    nodes = locate(grid, source_grid)
    lon = nodes.values.real * 0.0003 + first_longitude
    assert lon.min() < round(first_longitude) < lon.max()
    sampling = get_sampling(grid, source_grid, cubic=True)
    ours = backend.to_host(backend.resample(backend.asarray(source), sampling))
    assert nodes.step > 8
    inside = (nodes.values.real > 2) & (nodes.values.real < 998)
    at_nodes = ours[0, :: nodes.step, :: nodes.step]
    inside = inside[: at_nodes.shape[0], : at_nodes.shape[1]]
    expected = nodes.values.real[: at_nodes.shape[0], : at_nodes.shape[1]] - 0.5
    np.testing.assert_allclose(at_nodes[inside], expected[inside], atol=0.01)
