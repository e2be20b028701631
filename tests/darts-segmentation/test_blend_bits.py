"""Blending on tensors rounds once per pixel and patch, so that maps keep their bits from release to release."""

import numpy as np
import pytest
import torch

from darts_segmentation.blend import Blend
from darts_segmentation.grid import PatchGrid


@pytest.mark.parametrize(("shape", "size", "overlap"), [((90, 130), 64, 24), ((64, 64), 64, 0), ((200, 70), 96, 48)])
def test_blend_multiplies_and_adds_in_one_step(shape, size, overlap):
    rng = np.random.default_rng(5)
    grid = PatchGrid.plan(shape, size, overlap, 0)
    everywhere = np.ones(shape, bool)
    blend, expected = Blend(grid, torch.device("cpu")), torch.zeros(shape)
    for row, column in grid.with_valid_pixels(everywhere):
        patch = torch.from_numpy(rng.random((size, size), dtype=np.float32))
        (tile_y, patch_y), (tile_x, patch_x) = grid.y.inside(row), grid.x.inside(column)
        down = torch.from_numpy(grid.y.weights)[row, patch_y, None]
        across = torch.from_numpy(grid.x.weights)[column, patch_x]
        expected[tile_y, tile_x] = torch.addcmul(expected[tile_y, tile_x], patch[patch_y, patch_x] * down, across)
        blend.add([(row, column)], patch[None])
    np.testing.assert_array_equal(blend.finish(everywhere).numpy(), expected.clamp(max=1).numpy())
