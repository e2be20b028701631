"""Postprocessing of a large tile against the best use of scikit-image, in one run, on one CPU's threads."""

import time
import tracemalloc

import numpy as np
import pytest
import xarray as xr

from darts_postprocessing import binarize, erode_mask, prepare_export
from support.postprocessing import make_scene

SIZE, OBJECTS = 8000, 12_500


@pytest.fixture(scope="module")
def tile():
    probs, quality = make_scene(SIZE, OBJECTS)
    return xr.Dataset({"probabilities": (("y", "x"), probs), "quality_data_mask": (("y", "x"), quality)})


def measure(benchmark, function, *arguments, **options):
    """Return the result and the median time of five rounds after one that warms up."""
    result = benchmark.pedantic(function, arguments, options, rounds=5, warmup_rounds=1)
    return result, benchmark.stats.stats.median


def once(function, *arguments):
    """Return the result and the time of one call."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def erode_with_scikit_image(mask, size):
    """Erode by a distance transform, which is faster there than a footprint; beyond the border all is valid."""
    from skimage.morphology import isotropic_erosion

    inner = slice(size + 1, -size - 1)
    return isotropic_erosion(np.pad(mask > 0, size + 1, constant_values=True), size)[inner, inner]


def binarize_with_scikit_image(probs, threshold, min_object_size, mask):
    """Label once, and look sizes and borders up by label, which is faster there than to remove small objects."""
    from skimage.measure import label

    labels = label(probs > threshold, connectivity=2)
    kept = np.bincount(labels.ravel()) >= min_object_size
    kept[labels[mask == 0]] = False
    kept[0] = False
    return kept[labels]


def test_erode_mask_is_15_times_faster_than_scikit_image(benchmark, tile):
    mask = tile["quality_data_mask"]
    expected, plain = once(erode_with_scikit_image, mask.values, 10)
    eroded, fast = measure(benchmark, erode_mask, mask, 10, "cpu", 0)
    np.testing.assert_array_equal(eroded.values, expected)
    benchmark.extra_info["times faster"] = plain / fast
    assert plain / fast >= 15


def test_radius_50_costs_at_most_three_times_radius_10(benchmark, tile):
    mask = tile["quality_data_mask"]
    _, wide = measure(benchmark, erode_mask, mask, 50, "cpu")
    narrow = np.median([once(erode_mask, mask, 10, "cpu")[1] for _ in range(5)])
    benchmark.extra_info["times slower"] = wide / narrow
    assert wide / narrow <= 3


def test_binarize_is_4_times_faster_than_scikit_image(benchmark, tile):
    probs, mask = tile["probabilities"], tile["quality_data_mask"]
    expected, plain = once(binarize_with_scikit_image, probs.values, 0.5, 32, mask.values)
    objects, fast = measure(benchmark, binarize, probs, 0.5, 32, mask, "cpu")
    np.testing.assert_array_equal(objects.values, expected)
    benchmark.extra_info["times faster"] = plain / fast
    assert plain / fast >= 4


@pytest.mark.parametrize("edge_objects", ["clip", "remove"])
def test_prepare_export_takes_less_than_a_second(benchmark, tile, edge_objects):
    _, seconds = measure(benchmark, prepare_export, tile, quality_level=1, device="cpu", edge_objects=edge_objects)
    assert seconds < 1


@pytest.mark.parametrize("edge_objects", ["clip", "remove"])
def test_prepare_export_takes_at_most_1200_mb_above_its_input(benchmark, tile, edge_objects):
    tracemalloc.start()
    try:
        benchmark.pedantic(
            prepare_export, (tile,), {"quality_level": 1, "device": "cpu", "edge_objects": edge_objects}, rounds=1
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    benchmark.extra_info["peak, MB"] = peak / 1e6
    assert peak < 1.2e9
