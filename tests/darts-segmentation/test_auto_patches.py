"""Patches of a size that DARTS chooses: fewest pixels, near what the network knows, nothing else changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_segmentation.grid import PatchGrid, auto_patch_size, even_starts, patch_starts, plan_axis
from darts_utils import ParameterError
from support.segmentation import BANDS, BlurNetwork, PixelNetwork, random_tile, segmenter

SIZES = [*range(500, 3000, 7), *range(3000, 12001, 101), 1024, 2000, 2048, 4096, 8000]


def computed(shape, patch_size, overlap=256, *, even):
    """Count the pixels of all patches of a tile, by laying them."""
    grid = PatchGrid.plan(shape, patch_size, overlap, 0, even=even)
    return len(grid.y.starts) * len(grid.x.starts) * patch_size**2


def test_no_size_computes_more_than_the_default():
    sizes = [auto_patch_size((size, size), 256, 0, None, 32) for size in SIZES]
    assert set(sizes) <= set(range(832, 1313, 32))
    for size, chosen in zip(SIZES, sizes, strict=True):
        axis = range(max(size + 2, 1024) - 1024 + 1)
        default = len(patch_starts(len(axis) + 1023, 1024, 256)) * 1024
        assert len(even_starts(max(size + 2, chosen), chosen, 256)) * chosen <= default, size


@pytest.mark.parametrize(("size", "most"), [(2000, 1.40), (2048, 1.40), (8000, 1.75), (1024, 1.07)])
def test_usual_sizes_compute_few_pixels(size, most):
    chosen = auto_patch_size((size, size), 256, 0, None, 32)
    assert (
        1
        <= computed((size, size), chosen, even=True) / size**2
        <= most
        < computed((size, size), 1024, even=False) / size**2
    )


@pytest.mark.parametrize("trained", [None, 256, 1024, 1500, 2048])
@pytest.mark.parametrize("multiple", [32, 224])
def test_a_tile_of_the_size_that_the_network_knows_is_one_patch(trained, multiple):
    size = max(trained or 0, 1024)
    chosen = auto_patch_size((size, size), 256, 0, trained, multiple)
    assert chosen % multiple == 0
    assert chosen >= size + 2
    assert PatchGrid.plan((size, size), chosen, 256, 0, even=True).x.starts == (-((chosen - size) // 2),)


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 100))
def test_even_patches_cover_share_enough_and_are_as_few_as_can_be(patch_size, overlap, more):
    overlap = min(overlap, patch_size // 2)
    length = patch_size + more
    starts = even_starts(length, patch_size, overlap)
    assert (starts[0], starts[-1] + patch_size) == (0, length)
    steps = np.diff(starts)
    assert np.all((steps > 0) & (steps <= patch_size - overlap))
    assert len(starts) == len(patch_starts(length, patch_size, overlap))
    if len(steps):
        assert steps.max() - steps.min() <= 1


@given(st.integers(1, 150), st.integers(2, 40), st.integers(0, 20), st.integers(0, 9))
def test_weights_of_even_patches_sum_to_one(size, patch_size, overlap, reflection):
    axis = plan_axis(size, patch_size, min(overlap, patch_size // 2), reflection, even=True)
    total = np.zeros(size)
    for index, weights in enumerate(axis.weights):
        tile, patch = axis.inside(index)
        total[tile] += weights[patch]
    np.testing.assert_allclose(total, 1, rtol=0, atol=3e-7)


def test_a_network_that_looks_at_pixels_gives_the_same_map():
    tile = random_tile((90, 1300), missing=0.1)
    model = segmenter(PixelNetwork([1.5, -2.0, 0.7]))
    expected = model.segment_tile(tile)["probabilities"]
    found = model.segment_tile(tile, patch_size="auto")["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_the_network_sees_patches_of_the_size_that_was_chosen():
    network = BlurNetwork(3, 1)
    sizes = []
    network.forward = lambda patches: sizes.append(patches.shape[2:]) or patches[:, :1]
    segmenter(network, patch_size=1100).segment_tile(random_tile((60, 1300)), patch_size="auto", overlap=100)
    assert sizes == [(896, 896)] * 2


@pytest.mark.parametrize("values", [{"patch_size": "large"}, {"patch_size": "auto", "overlap": 513}], ids=str)
def test_what_cannot_work_is_refused(values):
    with pytest.raises(ParameterError, match=r"or 'auto'|at most 512"):
        segmenter(PixelNetwork([1.0] * len(BANDS))).segment_tile(random_tile((20, 20)), **values)
