"""How the demo model is trained: samples that are what they claim, by the package that trains all models."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from darts.demo import arcticdem_dataset, make_landscape, optical_dataset, train
from darts.demo.evaluate import summarize
from darts.demo.train import BANDS
from darts_evaluation import Figure
from darts_preprocessing import preprocess_v2
from darts_utils import normalize_band


def small(monkeypatch):
    monkeypatch.setattr(train, "_SIZE_PX", 128)
    monkeypatch.setattr(train, "_SAMPLE_PX", 160)
    monkeypatch.setattr(train, "_OVERLAP_PX", 0)
    monkeypatch.setattr(train, "_PATCH_PX", 64)
    monkeypatch.setattr(train, "_SLUMPS_PER_KM2", 20.0)


@pytest.mark.slow
def test_samples_hold_the_bands_that_inference_would_see(monkeypatch, tmp_path):
    small(monkeypatch)
    samples = train.make_samples(tmp_path, [5])
    values, labels = samples.tiles[0].read(0)
    inside = np.s_[16:144, 16:144]  # the mirrored border is (160 − 128) / 2 wide
    landscape = make_landscape(5, 128, 20.0)
    tile = preprocess_v2(optical_dataset(landscape), arcticdem_dataset(landscape), None, device="cpu")
    for name, band in zip(BANDS, values, strict=True):
        expected = normalize_band(tile[name].values, name)
        np.testing.assert_allclose(band[inside], expected, atol=6e-4, err_msg=name)
    truth = landscape.label > 0
    hidden = (landscape.udm[4:6] > 0).any(axis=0) & truth
    counts = ~np.isnan(landscape.reflectance[0]) & ~hidden
    assert truth.any()
    np.testing.assert_array_equal(labels[inside], np.where(counts, truth, 255))


def test_a_card_tells_the_mean_and_the_worst():
    found = [
        SimpleNamespace(figures={"pixels": {"iou": Figure(iou)}, "objects": {"f1@0.5": Figure(f1)}})
        for iou, f1 in ((0.5, 2 / 3), (0.7, 1.0))
    ]
    assert summarize(found) == {
        "mean_iou": 0.6,
        "lowest_iou": 0.5,
        "mean_object_f1": pytest.approx((2 / 3 + 1) / 2, abs=1e-3),
        "lowest_object_f1": pytest.approx(2 / 3, abs=1e-3),
    }


@pytest.mark.slow
def test_the_command_writes_a_model_that_loads(tmp_path, monkeypatch):
    from darts_segmentation import SMPSegmenter

    monkeypatch.setattr(train, "TRAINING_SEEDS", range(1000, 1001))
    monkeypatch.setattr(train, "TEST_SEEDS", range(2000, 2001))
    small(monkeypatch)
    monkeypatch.setattr(train, "_SIZE_PX", 256)
    monkeypatch.setattr(train, "_SAMPLE_PX", 288)
    train.main(["--output", str(tmp_path / "model.safetensors"), "--steps", "2"])
    model = SMPSegmenter(tmp_path / "model.safetensors", device="cpu")
    assert list(model.required_bands) == list(BANDS)
    card = json.loads((tmp_path / "model.json").read_text())
    assert set(card["darts:metrics"]) == {"mean_iou", "lowest_iou", "mean_object_f1", "lowest_object_f1"}
    assert "seeds 1000 to 1000" in card["darts:training_data"]
