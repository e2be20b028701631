"""How the demo model is trained: patches that are what they claim, a loss that counts what it should, no chance."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from darts.demo import arcticdem_dataset, make_landscape, optical_dataset, train
from darts.demo.evaluate import summarize
from darts.demo.patches import BANDS, Example, draw_patches, make_example
from darts_evaluation import Figure
from darts_preprocessing import preprocess_v2
from darts_utils import normalize_band


def random_example(seed: int, slumps: bool = True) -> Example:
    """An example whose last band shows the truth."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((300, 300), bool)
    truth[40:60, 200:250] = slumps
    bands = rng.random((len(BANDS), 300, 300)).astype(np.float16)
    bands[-1] = truth
    return Example(bands, truth, rng.random((300, 300)) > 0.1)


def test_an_example_holds_the_bands_that_inference_would_see():
    example = make_example(5, 128, 3.0)
    landscape = make_landscape(5, 128, 3.0)
    tile = preprocess_v2(optical_dataset(landscape), arcticdem_dataset(landscape), None, device="cpu")
    assert example.bands.shape == (len(BANDS), 128, 128)
    for name, band in zip(BANDS, example.bands, strict=True):
        np.testing.assert_allclose(band, normalize_band(tile[name].values, name), atol=6e-4, err_msg=name)
    np.testing.assert_array_equal(example.truth, landscape.label > 0)
    missing = np.isnan(landscape.reflectance[0])
    hidden = ((landscape.udm[4] > 0) | (landscape.udm[5] > 0)) & example.truth
    np.testing.assert_array_equal(example.counts, ~missing & ~hidden)


def test_patches_turn_image_and_truth_alike_and_hold_slumps():
    examples = [random_example(0), random_example(1)]
    batches = draw_patches(np.random.default_rng(3), examples, count=6, size=64, near_slumps=1.0)
    shapes = set()
    for _ in range(8):
        bands, truth, counts = next(batches)
        assert bands.shape == (6, len(BANDS), 64, 64)
        assert truth.shape == counts.shape == (6, 1, 64, 64)
        assert {bands.dtype, truth.dtype, counts.dtype} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(bands[:, -1], truth[:, 0])
        assert truth.any(axis=(1, 2, 3)).all()
        assert 0 <= bands.min() < bands.max() <= 1
        shapes |= {tuple(np.ptp(np.argwhere(one[0]), axis=0) > 20) for one in truth}
    assert {(False, True), (True, False)} <= shapes  # some lie, some stand


def test_patches_come_from_everywhere_where_there_is_no_slump():
    batches = draw_patches(np.random.default_rng(3), [random_example(0, slumps=False)], 8, 64, near_slumps=1.0)
    _, truth, counts = next(batches)
    assert not truth.any()
    assert 0.85 < counts.mean() < 0.95


def test_the_loss_is_cross_entropy_plus_dice_where_errors_count():
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(2, 1, 8, 8)), (rng.random((2, 1, 8, 8)) > 0.7).astype(float)
    counts = (rng.random((2, 1, 8, 8)) > 0.3).astype(float)
    p = 1 / (1 + np.exp(-logits))
    entropy = -(counts * (truth * np.log(p) + (1 - truth) * np.log(1 - p))).sum() / counts.sum()
    dice = 1 - (2 * (p * truth * counts).sum() + 1) / ((p * counts).sum() + (truth * counts).sum() + 1)
    given = train._loss(*(torch.from_numpy(part) for part in (logits, truth, counts)))
    assert float(given) == pytest.approx(entropy + dice)
    wrong = np.where(counts > 0, logits, -99 * logits)
    again = train._loss(*(torch.from_numpy(part) for part in (wrong, truth, counts)))
    assert float(again) == pytest.approx(float(given))


def test_training_repeats_itself_and_leaves_torch_as_it_was(monkeypatch):
    monkeypatch.setattr(train, "_PATCH_PX", 64)
    torch.set_num_threads(2)
    torch.manual_seed(42)
    state = torch.random.get_rng_state()
    one, other = (train.train([random_example(0)], steps=2).state_dict() for _ in range(2))
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)
    untrained = train.build().state_dict()
    assert any(not torch.equal(one[name], untrained[name]) for name in one)


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
    monkeypatch.setattr(train, "_SIZE_PX", 256)
    monkeypatch.setattr(train, "_PATCH_PX", 64)
    train.main(["--output", str(tmp_path / "model.safetensors"), "--steps", "2"])
    model = SMPSegmenter(tmp_path / "model.safetensors", device="cpu")
    assert list(model.required_bands) == list(BANDS)
    card = json.loads((tmp_path / "model.json").read_text())
    assert set(card["darts:metrics"]) == {"mean_iou", "lowest_iou", "mean_object_f1", "lowest_object_f1"}
    assert "seeds 1000 to 1000" in card["darts:training_data"]
