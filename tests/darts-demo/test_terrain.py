"""The made-up ground: water runs down, lakes are flat, noise has the moments and wavelengths that are asked for."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from darts_demo import terrain as terrain_module
from darts_demo.drainage import flow_tree, river_profile
from darts_demo.noise import double, fractal, smoothstep
from darts_demo.terrain import make_terrain

HEIGHTS = arrays(np.float64, st.tuples(st.integers(3, 9), st.integers(3, 9)), elements=st.integers(0, 20).map(float))


def fill_levels(height: np.ndarray, outlets: np.ndarray) -> np.ndarray:
    """Lowest level over which each cell can drain: priority flood (Barnes et al. 2014), the textbook way."""
    level = np.full(height.shape, np.inf)
    queue = [(height[cell], cell) for cell in map(tuple, np.argwhere(outlets))]
    heapq.heapify(queue)
    while queue:
        z, (row, column) = heapq.heappop(queue)
        if level[row, column] <= z:
            continue
        level[row, column] = z
        for r in range(max(row - 1, 0), min(row + 2, height.shape[0])):
            for c in range(max(column - 1, 0), min(column + 2, height.shape[1])):
                if np.isinf(level[r, c]):
                    heapq.heappush(queue, (max(z, height[r, c]), (r, c)))
    return level


@given(HEIGHTS)
def test_every_cell_drains_over_the_lowest_pass(height):
    outlets = np.zeros(height.shape, dtype=bool)
    outlets[0] = True
    tree = flow_tree(height, outlets, 10.0)
    highest = height.ravel().copy()
    for cell in tree.order:
        if tree.receiver[cell] != cell:
            highest[cell] = max(highest[cell], highest[tree.receiver[cell]])
    np.testing.assert_array_equal(highest.reshape(height.shape), fill_levels(height, outlets))


@given(HEIGHTS)
def test_drained_area_adds_up_and_profiles_rise_upstream(height):
    outlets = np.zeros(height.shape, dtype=bool)
    outlets[:, 0] = True
    tree = flow_tree(height, outlets, 10.0)
    expected = np.full(height.size, 100.0)
    for cell in tree.order[::-1]:
        if tree.receiver[cell] != cell:
            expected[tree.receiver[cell]] += expected[cell]
    np.testing.assert_allclose(tree.area, expected)
    assert tree.area[outlets.ravel()].sum() == pytest.approx(100.0 * height.size)
    profile = river_profile(tree, height.ravel(), 10.0, steepest=0.4, concavity=0.3)
    inner = tree.receiver != np.arange(height.size)
    rise = (profile - profile[tree.receiver])[inner] / tree.distance[inner]
    np.testing.assert_allclose(rise, 0.4 * (tree.area[inner] / 100) ** -0.3)
    np.testing.assert_array_equal(profile[~inner], height.ravel()[~inner])


def test_doubling_keeps_planes():
    rows, columns = np.mgrid[:7, :9].astype(np.float32)
    fine = double(3 * rows - 2 * columns)
    r, c = np.mgrid[:12, :16] / 2 + 0.5
    np.testing.assert_allclose(fine[:-1, :-1], (3 * r - 2 * c)[:-1, :-1], atol=1e-5)


@pytest.mark.parametrize(("longest", "shortest"), [(8, 1), (40, 1), (200, 1), (200, 16)])
def test_noise_has_mean_zero_deviation_one_and_the_wavelengths_asked_for(longest, shortest):
    noise = fractal(np.random.default_rng(1), (301, 402), longest, shortest, 0.7)
    assert noise.dtype == np.float32
    assert noise.shape == (301, 402)
    assert noise.mean() == pytest.approx(0, abs=1e-5)
    assert noise.std() == pytest.approx(1, abs=1e-5)
    window = np.hanning(301)[:, None] * np.hanning(402)
    power = np.abs(np.fft.fft2(noise * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(301)[:, None], np.fft.fftfreq(402)[None, :])
    assert power[frequency > 2 / shortest].sum() < 1e-3 * power.sum()
    assert power[(frequency > 0.4 / longest)].sum() > 0.5 * power.sum()


def test_smoothstep_works_in_both_directions():
    np.testing.assert_allclose(smoothstep(np.array([0.0, 1, 2, 3]), 1, 3), [0, 0, 0.5, 1])
    np.testing.assert_allclose(smoothstep(np.array([0.0, 1, 2, 3]), 3, 1), [1, 1, 0.5, 0])


@pytest.fixture(scope="module")
def terrain():
    return make_terrain(np.random.default_rng(5), 500, 420, 3.0)


@pytest.mark.parametrize("rows", [160, 163])
def test_the_fine_grid_lies_where_the_coarse_one_does(rows):
    columns, cell = 96, 3.0
    shape = terrain_module._coarse_shape(rows, columns)
    middle = (rows / 2, columns / 2)
    border = terrain_module._BORDER
    coarse = terrain_module._grid(shape, 8 * cell, tuple(border + part / 8 for part in middle))
    for metres, expected in zip(coarse, terrain_module._grid((rows, columns), cell, middle), strict=True):
        np.testing.assert_allclose(terrain_module._refine(metres, rows, columns), expected, atol=cell / 2 + 1e-3)


def test_streams_run_in_the_bottom_of_their_valleys(terrain):
    stream = (terrain.stream == 0) & (terrain.drained > 2e5) & (terrain.floodplain == 0) & (terrain.lake > 150)
    assert stream.sum() > 100
    below = {}
    for shift in range(-30, 31, 6):  # cells, along both diagonals
        moved = [ndimage.shift(terrain.height, (shift, sign * shift), order=0, mode="nearest") for sign in (1, -1)]
        below[shift] = float(np.mean(moved, axis=0)[stream].mean())
    assert min(below, key=below.get) == 0


def test_terrain_has_the_shape_asked_for_and_plausible_relief(terrain):
    assert terrain.height.shape == (500, 420)
    assert terrain.height.dtype == np.float32
    slope = np.degrees(np.arctan(np.hypot(*np.gradient(terrain.height, 3.0))))
    assert 20 < np.ptp(terrain.height) < 250
    assert np.median(slope) < 15


def test_lakes_are_flat_and_lie_in_hollows(terrain):
    labels, count = ndimage.label(terrain.water == 3)
    assert count > 0
    for number in range(1, count + 1):
        lake = labels == number
        assert np.ptp(terrain.height[lake]) == 0
        shore = ndimage.binary_dilation(lake) & (terrain.water == 0)
        assert terrain.height[shore].min() > terrain.height[lake].max() - 0.5
    np.testing.assert_array_equal(terrain.depth > 0, terrain.water > 0)


def test_the_river_falls_along_its_valley(terrain):
    river = terrain.water == 1
    assert river.any()
    water = terrain.height[river]
    # 0.4 % over at most the diagonal of the area.
    assert np.ptp(water) <= 0.004 * 3.0 * np.hypot(500, 420) + 1e-3
    assert (terrain.floodplain[river] > 0.9).all()
