"""Each kernel of each backend against the obvious float64 version, over random DEMs with holes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darts_preprocessing.backends import Interior, Shading
from darts_preprocessing.nodes import Nodes
from support import preprocessing as oracle

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14)
ELEVATIONS = st.floats(-400, 3000, width=32) | st.just(float("nan"))
DEMS = hnp.arrays(np.float32, SHAPES, elements=ELEVATIONS) | hnp.arrays(np.float32, SHAPES, elements=st.integers(0, 3))
CASES = settings(max_examples=60)


def run(backend, name, dem, settings=None, **given):
    return oracle.run_kernels(backend, [name], {"dem": dem}, settings={name: settings}, **given)[name]


@CASES
@given(dem=DEMS, cell=st.sampled_from([0.5, 3.0, 20.0]))
def test_slope_and_curvature(backend, dem, cell):
    features = oracle.run_kernels(backend, ["slope", "curvature"], {"dem": dem}, cell=cell)
    np.testing.assert_allclose(features["slope"], oracle.slope(dem, cell), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features["curvature"], oracle.curvature(dem, cell), rtol=1e-5, atol=1e-6 / cell**2)


@CASES
@given(
    dem=DEMS,
    convergence=st.floats(-180, 180),
    azimuth=st.floats(0, 360),
    elevation=st.floats(0, 90),
)
def test_aspect_and_hillshade(backend, dem, convergence, azimuth, elevation):
    turn = complex(math.cos(math.radians(convergence)), math.sin(math.radians(convergence)))
    north = Nodes(np.full((2, 2), turn), 20)
    sun = {"hillshade": Shading.from_angles(azimuth, elevation)}
    features = oracle.run_kernels(backend, ["aspect", "hillshade"], {"dem": dem}, settings=sun, north=north)
    aspect, expected = features["aspect"], oracle.aspect(dem, 3.0, convergence)
    np.testing.assert_array_equal(np.isnan(aspect), np.isnan(expected))
    np.testing.assert_array_equal(aspect == -1, expected == -1)
    valid = ~np.isnan(aspect)
    assert ((aspect[valid] == -1) | ((aspect[valid] >= 0) & (aspect[valid] < 360))).all()
    difference = (aspect - expected + 180) % 360 - 180
    np.testing.assert_allclose(difference[valid], 0, atol=1e-4)
    shade = oracle.hillshade(dem, 3.0, azimuth, elevation, convergence)
    np.testing.assert_allclose(features["hillshade"], shade, atol=1e-6)


@CASES
@given(dem=DEMS, radii=st.tuples(st.integers(1, 9), st.integers(0, 8)).filter(lambda r: r[1] < r[0]))
def test_relative_elevation(backend, dem, radii):
    ours = run(backend, "relative_elevation", dem, radii)
    np.testing.assert_allclose(ours, oracle.relative_elevation(dem, *radii), rtol=1e-6, atol=1e-6)


@CASES
@given(dem=DEMS, window=st.sampled_from([3, 5, 9]))
def test_windows(backend, dem, window):
    np.testing.assert_allclose(
        run(backend, "terrain_ruggedness_index", dem, window), oracle.ruggedness(dem, window), rtol=1e-6, atol=1e-6
    )
    ours = run(backend, "vector_ruggedness_measure", dem, window)
    np.testing.assert_allclose(ours, oracle.vector_ruggedness(dem, 3.0, window), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(run(backend, "dissection_index", dem, window), oracle.dissection(dem, window), rtol=1e-6)


def test_blocks_join(backend):
    """Larger than any block, with holes in some of them: seams would show."""
    dem = oracle.rough((300, 1100), np.random.default_rng(1))
    dem[150:160, 500:530] = np.nan
    dem[0, 1050] = np.nan
    interior = Interior(7, 9, (280, 1079))
    inside = slice(7, 287), slice(9, 1088)
    slope, curvature = oracle.run_kernels(backend, ["slope", "curvature"], {"dem": dem}, interior).values()
    np.testing.assert_allclose(curvature, oracle.curvature(dem, 3.0)[inside], rtol=1e-5, atol=1e-6)
    for seam in (slice(240, 260), slice(None)), (slice(None), slice(1010, 1020)):
        around = tuple(
            slice(max((s.start or 0) + c - 1, 0), s.stop and s.stop + c + 1) for s, c in zip(seam, (7, 9), strict=True)
        )
        expected = oracle.slope(dem[around], 3.0)
        rows, cols = (slice(1, 1 + slope[seam].shape[axis]) for axis in (0, 1))
        np.testing.assert_allclose(slope[seam], expected[rows, cols], rtol=1e-5)
    ours = run(backend, "relative_elevation", dem, (4, 0), interior=interior)
    np.testing.assert_allclose(ours, oracle.relative_elevation(dem, 4)[inside], atol=1e-5)


def test_convergence_is_interpolated_between_nodes(backend):
    """A convergence that grows evenly over several nodes in both directions, on a plane that dips to grid north."""
    shape, step = (300, 1100), 128
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    dem = np.broadcast_to(rows * 1.0, shape).astype(np.float32)
    nodes = Nodes(1.0 + 1j * (np.arange(4)[:, None] * step * 1e-4 + np.arange(10) * step * 3e-4), step)
    aspect = run(backend, "aspect", dem, north=nodes)
    expected = np.degrees(np.arctan(rows * 1e-4 + cols * 3e-4))
    np.testing.assert_allclose(aspect, expected, rtol=1e-5, atol=1e-5)


def test_ndvi(backend):
    """Every rule of its definition, cell by cell."""
    nan = np.nan
    nir = np.float32([[0.5, 0.2, -0.1, 2.0, nan, 0.3, 0.0, -1.0]])
    red = np.float32([[0.1, 0.2, 0.4, 0.5, 0.1, nan, 0.0, -0.2]])
    ours = oracle.run_kernels(backend, ["ndvi"], {"nir": nir, "red": red})["ndvi"]
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, [[0.4 / 0.6, 0, -1, 0.5 / 1.5, nan, nan, nan, nan]], rtol=1e-6)


@pytest.mark.parametrize("name", ["terrain_ruggedness_index", "vector_ruggedness_measure", "dissection_index"])
def test_windows_look_beyond_the_core(backend, name):
    """An interior within a DEM has what the whole DEM has there."""
    dem, interior = oracle.rough((60, 70), np.random.default_rng(1), 0.03), Interior(9, 11, (30, 40))
    whole = run(backend, name, dem, 5)
    np.testing.assert_array_equal(run(backend, name, dem, 5, interior=interior), whole[9:39, 11:51])
