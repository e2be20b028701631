"""The kernels on bare arrays."""

import numpy as np
import pytest

from darts_postprocessing import kernels
from darts_utils import GridError, ParameterError
from support.postprocessing import binarize_plainly, erode_plainly, make_scene


@pytest.fixture(scope="module")
def scene():
    return make_scene(120, 30)


@pytest.mark.parametrize("edge_size", [None, 0, 2])
def test_erode(scene, edge_size):
    eroded = kernels.erode(scene[1], 4, edge_size, "cpu")
    np.testing.assert_array_equal(eroded, erode_plainly(scene[1], 4, 4 if edge_size is None else edge_size))


@pytest.mark.parametrize("min_object_size", [0, 1, 12, 10**6])
def test_binarize(scene, min_object_size):
    probs, mask = scene
    everywhere = np.ones(probs.shape)
    for usable in (None, mask):
        np.testing.assert_array_equal(
            kernels.binarize(probs, 0.5, min_object_size, usable, "cpu"),
            binarize_plainly(probs, 0.5, min_object_size, everywhere if usable is None else usable),
        )


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32])
def test_binary_images(scene, dtype):
    image = (scene[0] > 0.5).astype(dtype)
    np.testing.assert_array_equal(kernels.binarize(image, 0, 12, device="cpu"), kernels.binarize(scene[0], 0.5, 12))


def test_percent(scene):
    percent = np.nan_to_num(scene[0] * 100).astype(np.uint8)
    np.testing.assert_array_equal(
        kernels.binarize(percent, 50.5, 12, device="cpu"),
        binarize_plainly(percent, 50.5, 12, np.ones(percent.shape)),
    )


def test_what_a_masked_array_hides_is_neither_usable_nor_an_object(scene):
    probs, mask = scene
    hidden = np.random.default_rng(0).random(probs.shape) < 0.02
    np.testing.assert_array_equal(
        kernels.erode(np.ma.array(mask, mask=hidden), 3, device="cpu"), kernels.erode(np.where(hidden, 0, mask), 3)
    )
    np.testing.assert_array_equal(
        kernels.binarize(np.ma.array(probs, mask=hidden), 0.5, 12, device="cpu"),
        kernels.binarize(np.where(hidden, 0, probs), 0.5, 12),
    )


def test_lists_are_arrays():
    assert kernels.binarize([[0.2, 0.9], [0.9, 0.1]], 0.5, 2).tolist() == [[False, True], [True, False]]


def test_mistakes(scene):
    probs, mask = scene
    with pytest.raises(GridError, match=r"mask has shape \(120, 119\), values \(120, 120\)"):
        kernels.binarize(probs, 0.5, 1, mask[:, 1:])
    with pytest.raises(ParameterError, match="mask has 3 dimensions; expected 2"):
        kernels.erode(mask[None], 1)
    with pytest.raises(ParameterError, match=r"threshold is -1\.0; expected 0 or more"):
        kernels.binarize(probs, -1, 1)
