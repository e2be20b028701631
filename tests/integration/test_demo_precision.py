"""The demo model finds the same slumps when it computes in 16 bits."""

import numpy as np
import pytest

from darts.demo.model_file import demo_model
from darts_demo import make_inputs
from darts_preprocessing import preprocess_v2
from darts_segmentation import EnsembleV1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "patch_size", "overlap"), [(320, 128, 32), pytest.param(2048, 1024, 256, marks=pytest.mark.slow)]
)
def test_bf16_binarises_like_fp32(size, patch_size, overlap):
    tile = preprocess_v2(*make_inputs(size), device="cpu")
    ensemble = EnsembleV1({"demo": demo_model()}, "cpu")
    full = ensemble.segment_tile(tile, patch_size, overlap)["probabilities"].values
    reduced = ensemble.segment_tile(tile, patch_size, overlap, precision="bf16")["probabilities"].values
    assert np.nanmax(full) > 0.5  # there is something to find
    np.testing.assert_array_equal(np.isnan(reduced), np.isnan(full))
    assert np.mean((reduced > 0.5) == (full > 0.5)) >= 0.999
