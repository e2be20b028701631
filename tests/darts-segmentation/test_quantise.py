"""A network becomes one of eight-bit integers only where its map stays."""

import numpy as np
import pytest

from darts_segmentation import (
    MissingLibraryError,
    QuantisationError,
    SMPSegmenter,
    hash_model,
    model_info,
    quantise,
    quantise_model,
)
from darts_segmentation.quantise import _compare
from darts_utils import MissingBandError, ParameterError
from support.programs import BANDS
from support.segmentation import random_tile

pytest.importorskip("nncf", reason="nncf is not installed")


@pytest.fixture(scope="module")
def tiles():
    return [random_tile((128, 128), BANDS, seed=seed) for seed in range(2)]


@pytest.fixture(autouse=True)
def _few_patches(monkeypatch):
    monkeypatch.setattr(quantise, "_PATCH_PX", 32)
    monkeypatch.setattr(quantise, "_MOST_PATCHES", 8)


@pytest.mark.slow
def test_a_quantised_model_has_eight_bits_says_what_it_costs_and_runs(converted, tiles, tmp_path):
    cost = quantise_model(converted, tiles, tmp_path / "new", least_iou=0)
    assert 0.3 < cost.iou < 1
    assert cost.patches == 4
    assert "FakeQuantize" in (tmp_path / "new" / "model.xml").read_text()
    assert (tmp_path / "new" / "model.bin").stat().st_size < 0.5 * (converted / "model.bin").stat().st_size
    info = model_info(tmp_path / "new")
    assert info.card.metrics["int8_iou"] == pytest.approx(cost.iou, abs=1e-5)
    assert info.card.metrics["int8_patches"] == 4
    assert hash_model(tmp_path / "new") != hash_model(converted)
    exact, rough = (
        SMPSegmenter(path, engine="openvino").segment_tile(tiles[0], 64, 16)["probabilities"].values
        for path in (converted, tmp_path / "new")
    )
    assert 1e-5 < np.abs(exact - rough).mean() < 0.05
    with pytest.raises(QuantisationError, match=r"draws another map: .* expected at least 1"):
        quantise_model(converted, tiles, tmp_path / "refused", least_iou=1)
    assert not (tmp_path / "refused").exists()


def test_the_cost_is_that_of_valid_pixels():
    rng = np.random.default_rng(0)
    patches = [(rng.random((1, 1, 20, 20), np.float32), rng.random((20, 20)) < 0.7) for _ in range(5)]
    cost = _compare(lambda patch: patch[0, 0], lambda patch: patch[0, 0] ** 1.1, patches)
    first = np.concatenate([patch[0, 0][valid] for patch, valid in patches]).astype(float)
    second = first**1.1
    both, either = (first >= 0.5) & (second >= 0.5), (first >= 0.5) | (second >= 0.5)
    assert cost.iou == both.sum() / either.sum() < 1
    assert cost.mean_difference == pytest.approx(np.abs(first - second).mean(), rel=1e-5)
    assert (cost.patches, cost.pixels) == (5, either.sum())


def test_patches_to_learn_from_are_drawn_from_all_tiles_alike(converted, monkeypatch):
    monkeypatch.setattr(quantise, "_MOST_PATCHES", 60)
    card = model_info(converted).card
    tiles = [random_tile((160, 160), BANDS, seed=seed) for seed in range(8)]
    for number, tile in enumerate(tiles):
        tile["red"][:] = number / 100
    drawn = quantise._draw_patches(iter(tiles), card)
    levels, counts = np.unique([patch[0, 0].max() for patch, _ in drawn], return_counts=True)
    assert (len(drawn), len(levels)) == (60, 8)
    assert counts.min() >= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values, counted: (values[1:], counted), "expected 3 bands"),
        (lambda values, counted: (values, counted[1:]), r"where it is compared \(15, 16\)"),
        (lambda values, counted: (values[0], counted), r"has the shape \(16, 16\)"),
        (lambda values, counted: (values + 9000, counted), r"values from 9000 to 9001; expected bands scaled to 0…1"),
        (lambda values, counted: (values * np.nan, counted), "values from nan to nan"),
    ],
)
def test_patches_that_a_network_never_gets_are_refused(converted, tmp_path, change, message):
    values = np.linspace(0, 1, 3 * 256, dtype=np.float32).reshape(3, 16, 16)
    with pytest.raises(QuantisationError, match=message):
        quantise_model(converted, [lambda: change(values, np.ones((16, 16), bool))] * 4, tmp_path / "new", least_iou=0)
    assert not (tmp_path / "new").exists()


def test_what_cannot_work_is_said(converted, tiles, tmp_path, monkeypatch):
    out = tmp_path / "new"
    with pytest.raises(ParameterError, match="least_iou is 97"):
        quantise_model(converted, tiles, out, least_iou=97)
    with pytest.raises(MissingBandError, match="slope"):
        quantise_model(converted, [tiles[0].drop_vars("slope")], out)
    with pytest.raises(QuantisationError, match="have 0 patches with data"):
        quantise_model(converted, [], out)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    with pytest.raises(ParameterError, match="new or holds one"):
        quantise_model(converted, tiles, tmp_path / "taken")
    monkeypatch.setattr(quantise.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match=r"darts-segmentation\[quantise\]"):
        quantise_model(converted, tiles, out)
    assert not out.exists()
