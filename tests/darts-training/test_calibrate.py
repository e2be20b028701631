"""Calibration: what over- and under-confident models say becomes what is found, on ground that was not fitted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr

from darts_segmentation import EnsembleV1, ModelCard, SMPSegmenter, hash_model, read_ensemble, read_model, save_model
from darts_training import SampleFormat, SamplesError, calibrate, finish_samples, fit_temperature
from support.training import CHANNELS, labelled_tile, make_samples

UNET = {"arch": "unet", "encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [8, 8, 8]}
CARD = ModelCard(name="a", architecture=UNET, bands=["red", "ndvi"], normalization={"red": (0, 0.5)})


@pytest.mark.parametrize("temperature", [0.25, 0.6, 1.0, 2.5, 6.0])
def test_the_temperature_of_a_simulated_model_is_found(temperature):
    rng = np.random.default_rng(1)
    logits = rng.normal(-1.0, 2.0, 200_000)
    truth = rng.random(logits.size) < 1 / (1 + np.exp(-logits))
    told = temperature * logits
    found = fit_temperature(lambda t: 1 / (1 + np.exp(-told / t)), truth)
    assert found == pytest.approx(temperature, rel=0.03)


def simulated(folder, factor, seed=3):
    """Save a network that says ``factor`` times the logit of the truth's frequency, and samples that follow it."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(seed)
    network = smp.create_model(**UNET, encoder_weights=None, in_channels=2, classes=1).eval()
    head = network.segmentation_head[0]
    form = SampleFormat(channels=CHANNELS, patch_size=64, overlap=0)
    tiles = folder / "samples"
    samples = make_samples(tiles, seeds=range(2), form=form, size=126)
    with torch.no_grad():
        logits = network(torch.from_numpy(samples.tiles[0].read(0)[0])[None])
        head.weight.mul_(2 / logits.std())
        head.bias.copy_((head.bias - logits.mean()) * 2 / logits.std())
        logits = network(torch.from_numpy(samples.tiles[0].read(0)[0])[None])
        head.bias.sub_(logits.mean())
    plain = save_model(folder / "plain", network, CARD)
    rng = np.random.default_rng(seed)
    for tile in samples.tiles:
        stored = zarr.open_group(tile.path, mode="r+")["y"]
        for index in range(len(tile)):
            values, labels = tile.read(index)
            with torch.no_grad():
                p = network(torch.from_numpy(values)[None]).sigmoid()[0, 0].numpy()
            drawn = (rng.random(p.shape) < p).astype(np.uint8)
            stored[index] = np.where(labels == 255, 255, drawn)
    with torch.no_grad():
        head.weight.mul_(factor)
        head.bias.mul_(factor)
    return save_model(folder / "told", network, CARD), finish_samples(tiles), plain


@pytest.mark.slow
@pytest.mark.parametrize("factor", [pytest.param(0.3, marks=pytest.mark.slow), 4.0])
def test_errors_fall_on_blocks_that_were_not_fitted(tmp_path, factor):
    model, samples, plain = simulated(tmp_path, factor)
    found = calibrate([model], samples, tmp_path / "new", block_m=200, device="cpu")
    assert found.calibration.parameter == pytest.approx(factor, rel=0.05)
    assert found.calibration.ece_before > 0.05
    assert found.calibration.ece_after <= 0.02
    tile, _ = labelled_tile(9)
    given = {"patch_size": 64, "overlap": 16}
    calibrated = SMPSegmenter(tmp_path / "new", "cpu").segment_tile(tile, **given)["probabilities"].values
    honest = SMPSegmenter(plain, "cpu").segment_tile(tile, **given)["probabilities"].values
    np.testing.assert_allclose(calibrated, honest, atol=0.02)


@pytest.mark.slow
def test_an_ensemble_is_calibrated_as_one(tmp_path):
    model, samples, plain = simulated(tmp_path, 4.0)
    found = calibrate([model, plain], samples, tmp_path / "both", block_m=200, device="cpu")
    file = read_ensemble(found.path)
    assert file.calibration == found.calibration
    assert list(file.members) == ["told", "plain"]
    assert found.calibration.ece_after < found.calibration.ece_before
    tile, _ = labelled_tile(9)
    mean = EnsembleV1(file.members, "cpu").segment_tile(tile, 64, 16)["probabilities"].values
    both = EnsembleV1.from_file(found.path, "cpu").segment_tile(tile, 64, 16)["probabilities"].values
    np.testing.assert_array_equal(both > 0.5, mean > 0.5)
    assert np.nanmax(np.abs(both - mean)) > 0.01


@pytest.mark.slow
def test_ground_that_was_trained_on_is_left_out(tmp_path):
    model, samples, _ = simulated(tmp_path, 4.0)
    tile = samples.tiles[0]
    row = int(tile.transform.f // 200)
    blocks = [[row - r, 2500 + c, 0] for r in range(1, 8) for c in range(7)]
    folds = {"crs": tile.crs, "size": [200, 200], "buffer": 0, "count": 2, "origin": [0, 0], "blocks": blocks}
    record = {"folds": folds, "samples": samples.digest, "test": [1], "validation": []}
    (model / "training.json").write_text(json.dumps(record))
    (model / "item.json").write_text('{"id": "told", "properties": {}}')
    part = calibrate([model], samples, tmp_path / "new", device="cpu")
    whole = sum(int((each.read_labels() != 255).sum()) for each in samples.tiles)
    assert part.pixels < 0.75 * whole / 2
    named = record | {"sha256": hash_model(tmp_path / "new")}
    assert json.loads((tmp_path / "new" / "training.json").read_text()) == named
    stated = json.loads((tmp_path / "new" / "model.json").read_text())["darts:calibration"]
    item = json.loads((tmp_path / "new" / "item.json").read_text())
    assert item == {"id": "told", "properties": {"darts:calibration": stated}}
    (model / "item.json").write_text("{}")
    with pytest.raises(SamplesError, match=r"item.json is no STAC Item \(KeyError"):
        calibrate([model], samples, tmp_path / "c", device="cpu")
    record["folds"] = None
    (model / "training.json").write_text(json.dumps(record))
    with pytest.raises(SamplesError, match="all of these samples"):
        calibrate([model], samples, tmp_path / "b", device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["", "model.safetensors"], ids=["folder", "weights"])
def test_a_model_calibrated_in_place_is_the_one_that_its_record_names(tmp_path, weights):
    model, samples, _ = simulated(tmp_path, 4.0)
    tile, before = samples.tiles[0], hash_model(model)
    row = int(tile.transform.f // 200)
    blocks = [[row - r, 2500 + c, 0] for r in range(1, 8) for c in range(7)]
    folds = {"crs": tile.crs, "size": [200, 200], "buffer": 0, "count": 2, "origin": [0, 0], "blocks": blocks}
    record = {"sha256": before, "folds": folds, "samples": samples.digest, "test": [1], "validation": [], "epochs": 3}
    (model / "training.json").write_text(json.dumps(record))
    (model / "item.json").write_text('{"id": "told", "properties": {}}')
    found = calibrate([model / weights], samples, model / weights, device="cpu")
    whole = sum(int((each.read_labels() != 255).sum()) for each in samples.tiles)
    assert found.pixels < 0.75 * whole / 2  # what the record says was seen is left out
    assert hash_model(model) != before
    assert json.loads((model / "training.json").read_text()) == record | {"sha256": hash_model(model)}
    item = json.loads((model / "item.json").read_text())
    assert item["properties"]["darts:calibration"]["parameter"] == found.calibration.parameter


@pytest.mark.slow
def test_other_bands_doubled_names_and_too_little_ground_are_refused(tmp_path):
    model, samples, _ = simulated(tmp_path, 1.0)
    network = read_model(model).state_dict
    other = save_model(tmp_path / "other", network, replace(CARD, normalization={"red": (0, 0.7)}))
    with pytest.raises(SamplesError, match="make samples for this model"):
        calibrate([other], samples, tmp_path / "a")
    with pytest.raises(SamplesError, match="one name"):
        calibrate([other, other], samples, tmp_path / "a")
    with pytest.raises(SamplesError, match=r"1 blocks .* 1 of them with slumps; .* smaller blocks \(block_m\)"):
        calibrate([model], samples, tmp_path / "a", block_m=1e7)
    second = save_model(tmp_path / "second", network, CARD)
    for folder, size in ((model, 200), (second, 300)):
        folds = {"crs": "EPSG:32608", "size": [size, size], "buffer": 0, "count": 2, "origin": [0, 0], "blocks": []}
        record = {"folds": folds, "samples": samples.digest, "test": [1], "validation": []}
        (folder / "training.json").write_text(json.dumps(record))
    with pytest.raises(SamplesError, match="with other blocks each"):
        calibrate([model, second], samples, tmp_path / "a")
