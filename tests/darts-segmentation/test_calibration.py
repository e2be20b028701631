"""Calibration: a temperature on the logits of one model, or on the mean of several; nothing else changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from darts_segmentation import (
    Calibration,
    EnsembleV1,
    ModelCard,
    ModelCardError,
    ModelNotFoundError,
    ModelWeightsError,
    RepeatedModelWarning,
    convert_model,
    hash_model,
    read_card,
    read_ensemble,
    repeated_models,
    save_model,
    write_ensemble,
)
from darts_segmentation.arrays import scaled
from darts_segmentation.network import load_network
from support.segmentation import BANDS, UNET, PixelNetwork, random_tile, segmenter, small_unet

CARD = ModelCard(name="a model", architecture=UNET, bands=BANDS)


def save(path, seed, **fields):
    torch.manual_seed(seed)
    from segmentation_models_pytorch import create_model

    network = create_model(**CARD.architecture, encoder_weights=None)
    return save_model(path, network, replace(CARD, **fields))


def logit(p):
    return np.log(p) - np.log1p(-p)


def test_a_temperature_divides_the_logits():
    network, tile = PixelNetwork([1.0, -2.0, 3.0]), random_tile((40, 30), missing=0.1)
    plain = segmenter(network).segment_tile(tile, 16, 0)["probabilities"].values
    cold = segmenter(network, calibration=Calibration(0.4)).segment_tile(tile, 16, 0)["probabilities"].values
    expected = 1 / (1 + np.exp(-logit(plain.astype(float)) / 0.4))
    np.testing.assert_allclose(cold, expected, atol=2e-6)
    np.testing.assert_array_equal(plain > 0.5, cold > 0.5)


def test_an_ensemble_is_calibrated_after_averaging_and_its_members_are_not(tmp_path):
    tile = random_tile((40, 30), missing=0.1)
    for seed in (0, 1):
        save(tmp_path / f"plain-{seed}", seed)
        save(tmp_path / f"own-{seed}", seed, calibration=Calibration(3.0 + seed))
    plain = EnsembleV1({str(seed): tmp_path / f"plain-{seed}" for seed in (0, 1)}, "cpu")
    members = {str(seed): tmp_path / f"own-{seed}" for seed in (0, 1)}
    file = write_ensemble(tmp_path / "ensemble.json", members, Calibration(0.5))
    options = {"patch_size": 64, "overlap": 0, "keep_inputs": True}
    expected = plain.segment_tile(tile, **options)
    found = EnsembleV1.from_file(file, "cpu").segment_tile(tile, **options)
    for seed in "01":
        np.testing.assert_array_equal(found[f"probabilities-{seed}"], expected[f"probabilities-{seed}"])
    mean = expected["probabilities"].values.astype(float)
    np.testing.assert_allclose(found["probabilities"], 1 / (1 + np.exp(-2 * logit(mean))), atol=2e-6)


def test_an_ensemble_without_calibration_changes_no_bit(tmp_path):
    members = {str(seed): save(tmp_path / str(seed), seed) for seed in (0, 1)}
    file = write_ensemble(tmp_path / "both.json", members)
    tile = random_tile((40, 30))
    one, other = (
        each.segment_tile(tile, 64, 0) for each in (EnsembleV1(members, "cpu"), EnsembleV1.from_file(file, "cpu"))
    )
    np.testing.assert_array_equal(one["probabilities"], other["probabilities"])


def test_a_model_under_two_names_is_named(tmp_path):
    members = {str(number): save(tmp_path / str(number), number == 1) for number in range(3)}
    with pytest.warns(RepeatedModelWarning, match="members '0' and '2' of the ensemble .* weighs 2 times") as caught:
        EnsembleV1(members, "cpu")
    assert [each.filename for each in caught] == [__file__]


def test_a_model_beside_what_it_was_converted_into_is_named(tmp_path):
    network = small_unet(seed=4)
    config = {"model": dict(UNET), "bands": list(BANDS)}
    torch.save({"config": config, "statedict": network.state_dict()}, tmp_path / "old.pt")
    old, new = tmp_path / "old.pt", convert_model(tmp_path / "old.pt", tmp_path / "new")
    other = save_model(tmp_path / "other", small_unet(seed=5), read_card(new))
    assert hash_model(old) != hash_model(new)
    models = {"other": other, "old": old, "new": new}
    assert repeated_models(models) == [["old", "new"]]
    assert repeated_models({"old": old, "other": other}) == []
    warm = save_model(tmp_path / "warm", network, replace(read_card(new), calibration=Calibration(2.0)))
    assert repeated_models({"old": old, "warm": warm}) == []
    with pytest.warns(RepeatedModelWarning, match="members 'old' and 'new' of the ensemble .* weighs 2 times"):
        EnsembleV1(models, "cpu")


@pytest.mark.slow
def test_what_decides_enters_the_hash_and_texts_do_not(tmp_path):
    plain = hash_model(save(tmp_path / "a", 0))
    same = {"description": "b", "license": "MIT", "metrics": {"iou": 1.0}, "name": "other", "training_data": "x"}
    assert hash_model(save(tmp_path / "b", 0, **same)) == plain
    ranges = dict(CARD.normalization) | {"red": (0.0, 0.7)}
    others = [{"calibration": Calibration(2.0)}, {"calibration": Calibration(3.0)}, {"normalization": ranges}]
    hashes = {hash_model(save(tmp_path / str(i), 0, **fields)) for i, fields in enumerate(others)}
    assert len(hashes | {plain, hash_model(save(tmp_path / "c", 1))}) == 5


def test_a_card_keeps_its_calibration(tmp_path):
    card = replace(CARD, calibration=Calibration(1.5, 0.1, 0.01))
    assert ModelCard.from_json(card.to_json()) == card
    assert "darts:calibration" not in CARD.to_dict()
    for wrong in ({"method": "isotonic"}, {"method": "temperature", "parameter": 0}, 3, {"method": "temperature"}):
        with pytest.raises(ModelCardError):
            ModelCard.from_dict(CARD.to_dict() | {"darts:calibration": wrong})


def test_an_ensemble_whose_member_was_changed_is_refused(tmp_path):
    members = {str(seed): save(tmp_path / str(seed), seed) for seed in (0, 1)}
    file = write_ensemble(tmp_path / "e.json", members, Calibration(2.0))
    before = read_ensemble(file)
    (tmp_path / "moved").mkdir()
    for name in ("0", "1", "e.json"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    moved = tmp_path / "moved" / "e.json"
    assert read_ensemble(moved).sha256 == before.sha256
    save(tmp_path / "moved" / "1", 7)
    with pytest.raises(ModelWeightsError, match="'1'"):
        read_ensemble(moved)
    content = json.loads(moved.read_text())
    for broken in ("[]", "{", json.dumps(content | {"darts:ensemble_version": 9})):
        moved.write_text(broken)
        with pytest.raises(ModelCardError):
            read_ensemble(moved)
    with pytest.raises(ModelNotFoundError):
        read_ensemble(tmp_path / "none.json")


def test_the_network_of_a_calibrated_card_loads(tmp_path):
    from darts_segmentation import read_model

    model = read_model(save(tmp_path / "a", 0, calibration=Calibration(2.0)))
    assert model.card.calibration == Calibration(2.0)
    assert load_network(model.card, model.state_dict) is not None


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_temperature_does_the_same_to_arrays_of_every_engine(kind):
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.random(1000), [0, 1, np.nan]]).astype(np.float32)
    given = values.copy() if kind == "numpy" else torch.from_numpy(values.copy())
    found = np.asarray(Calibration(2.5).apply(given))
    with np.errstate(divide="ignore"):
        expected = 1 / (1 + np.exp(-logit(values.astype(np.float64)) / 2.5))
    np.testing.assert_allclose(found, expected, atol=1e-6, equal_nan=True)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(given), values)
    np.testing.assert_array_equal(found[1000:1002], [0, 1])


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_logits_of_few_bits_are_divided_as_float32(kind):
    values = np.linspace(-9, 9, 301).astype(np.float16)
    found = scaled(values if kind == "numpy" else torch.from_numpy(values), 1.7)
    np.testing.assert_allclose(np.asarray(found), values.astype(np.float64) / 1.7, rtol=2e-7)
