"""What a single tiny scene with real labels can give: figures that the documentation states."""

import numpy as np
import pytest

from support import peel_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # three trainings of three folds


@pytest.fixture(scope="module")
def medians(shared_data, tmp_path_factory):
    """IoU and F1 of objects, the medians of three seeds, and the best that thresholds on NDVI reach."""
    folder = tmp_path_factory.mktemp("peel")
    samples = peel_training.make_samples(shared_data / "peel", folder / "samples")
    found = [peel_training.run_seed(samples, folder / str(seed), seed).evaluation.figures for seed in range(3)]
    figures = [(each["pixels"]["iou"].value, each["objects"]["f1@0.3"].value) for each in found]
    return np.median(figures, axis=0), peel_training.best_threshold(samples)


def test_models_map_strips_that_they_have_not_seen(medians):
    (iou, f1), (iou_of_ndvi, f1_of_ndvi) = medians
    assert iou >= 0.52
    assert iou >= iou_of_ndvi + 0.03
    assert f1 >= f1_of_ndvi + 0.15


def test_models_find_most_slumps_that_they_have_not_seen(medians):
    (_, f1), _ = medians
    assert f1 >= 0.70
