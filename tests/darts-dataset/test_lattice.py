"""Runs of pixels against masks: what outlines hold, who shares a pixel, what most looks have, and the way back."""

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy.ndimage import label

from darts_dataset.lattice import Grid, Segments, counted, find_grid, outline_segments, sharing_pairs, trace

SHAPE = (40, 30)


def outlines(mask: np.ndarray, grid: Grid, top: int, left: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the 8-connected objects of a mask as GDAL draws them, and their numbers as a raster."""
    numbers, count = label(mask, np.ones((3, 3)))
    transform = affine(grid, top, left)
    parts: list[list] = [[] for _ in range(count)]
    for shape, number in shapes(numbers.astype("int32"), mask=mask, transform=transform):
        rings = shape["coordinates"]
        parts[int(number) - 1].append(shapely.Polygon(rings[0], rings[1:]))
    return np.array([shapely.MultiPolygon(each) for each in parts], object), numbers


def affine(grid: Grid, top: int, left: int) -> Affine:
    size = grid.pixel_m
    return Affine(size, 0, grid.left + left * size, 0, -size, grid.bottom - top * size)


def masks_of(segments: Segments, owners: int, top: int, left: int) -> np.ndarray:
    found = np.zeros((owners, *SHAPE), np.int64)
    for owner, row, start, stop in zip(segments.owner, segments.row, segments.start, segments.stop, strict=True):
        found[owner, row - top, start - left : stop - left] += 1
    return found


@pytest.mark.parametrize("seed", range(3))
def test_outlines_are_their_pixels_and_come_back(seed):
    rng = np.random.default_rng(seed)
    grid = Grid("EPSG:32608", 3.0, 1.25, 2.5)
    top, left = (int(each) for each in rng.integers(-9000, 2_000_000, 2))
    drawn, numbers = outlines(rng.random(SHAPE) < rng.uniform(0.05, 0.95), grid, top, left)
    assert find_grid(drawn[0], "EPSG:32608", 3.0) == grid
    segments = outline_segments(drawn, grid)
    expected = np.stack([numbers == number for number in range(1, len(drawn) + 1)])
    np.testing.assert_array_equal(masks_of(segments, len(drawn), top, left), expected)
    np.testing.assert_array_equal(segments.counts(len(drawn)), expected.sum(axis=(1, 2)))
    again = trace(segments.joined(), len(drawn), grid)
    assert shapely.is_valid(again).all()
    assert shapely.equals(again, drawn).all()


@pytest.mark.parametrize("seed", range(3))
def test_unions_majorities_and_pairs_are_those_of_masks(seed):
    rng = np.random.default_rng(seed)
    grid = Grid("EPSG:32608", 10.0, 0.0, 0.0)
    looks = rng.random((5, *SHAPE)) < rng.uniform(0.1, 0.7)
    parts = [outlines(mask, grid, 7, -3) for mask in looks]
    drawn = np.concatenate([each for each, _ in parts])
    segments = outline_segments(drawn, grid)
    everything = Segments(np.zeros_like(segments.owner), segments.row, segments.start, segments.stop)
    np.testing.assert_array_equal(masks_of(everything.joined(), 1, 7, -3)[0], looks.any(axis=0))
    for least in range(1, 7):
        found = counted(everything, np.array([least]))
        np.testing.assert_array_equal(masks_of(found, 1, 7, -3)[0], looks.sum(axis=0) >= least)
        if least < 6 and len(found.owner):
            area = shapely.area(trace(found, 1, grid)[0])
            assert area == pytest.approx(100 * (looks.sum(axis=0) >= least).sum())
    offsets = np.cumsum([0, *(len(each) for each, _ in parts)])
    expected = {
        (offsets[one] + a - 1, offsets[other] + b - 1)
        for one in range(5)
        for other in range(one + 1, 5)
        for a, b in zip(parts[one][1].ravel(), parts[other][1].ravel(), strict=True)
        if a and b
    }
    assert {tuple(pair) for pair in sharing_pairs(segments)} == expected


def test_what_leaves_the_edges_of_pixels_is_no_run():
    grid = Grid("EPSG:32608", 3.0, 0.0, 0.0)
    square = np.array([shapely.box(0, 0, 6, 3)], object)
    assert len(outline_segments(square, grid).row) == 1
    assert outline_segments(shapely.transform(square, lambda xy: xy + 0.1), grid) is None
    assert outline_segments(np.array([shapely.Polygon([(0, 0), (3, 0), (0, 3)])], object), grid) is None


def test_an_owner_without_runs_has_no_outline():
    grid = Grid("EPSG:32608", 3.0, 0.0, 0.0)
    segments = Segments(*(np.array([value]) for value in (1, 0, 0, 2)))
    first, second = trace(segments, 2, grid)
    assert first.is_empty
    burnt = rasterize([second], (1, 2), transform=affine(grid, 0, 0))
    assert burnt.all()
