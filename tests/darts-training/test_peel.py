"""What a single tiny scene with real labels can give: figures that the documentation states."""

import numpy as np
import pytest

from support import peel_training


@pytest.mark.slow
def test_models_map_strips_that_they_have_not_seen(shared_data, tmp_path):
    samples = peel_training.make_samples(shared_data / "peel", tmp_path / "samples")
    iou_of_ndvi, f1_of_ndvi = peel_training.best_threshold(samples)
    found = [peel_training.run_seed(samples, tmp_path / str(seed), seed).evaluation.figures for seed in range(3)]
    iou = float(np.median([each["pixels"]["iou"].value for each in found]))
    f1 = float(np.median([each["objects"]["f1@0.3"].value for each in found]))
    assert iou >= 0.52
    assert f1 >= 0.70
    assert iou >= iou_of_ndvi + 0.03
    assert f1 >= f1_of_ndvi + 0.15
