"""darts-segmentation alone: a network becomes files, and the files segment a tile."""

import contextlib
import hashlib
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import xarray as xr

import darts_segmentation

ARCHITECTURE = {
    "arch": "unet",
    "encoder_name": "resnet18",
    "encoder_depth": 3,
    "encoder_weights": None,
    "decoder_channels": [16, 8, 8],
    "in_channels": 2,
    "classes": 1,
}


def save_network(path: Path, logit: float) -> None:
    """Save a network whose answer is known: the same logit everywhere."""
    network = smp.create_model(**ARCHITECTURE)
    torch.nn.init.zeros_(network.segmentation_head[0].weight)
    torch.nn.init.constant_(network.segmentation_head[0].bias, logit)
    card = darts_segmentation.ModelCard(name=path.stem, architecture=ARCHITECTURE, bands=["red", "ndvi"])
    assert darts_segmentation.save_model(path, network, card) == path


def try_models(folder: Path) -> None:
    for name, logit in (("a", -1.0), ("b", 2.0)):
        save_network(folder / f"{name}.safetensors", logit)
    weights, _ = darts_segmentation.model_paths(folder / "a.safetensors")
    decides = json.dumps(darts_segmentation.read_card(folder / "a.safetensors").identity(), sort_keys=True)
    expected = hashlib.sha256(weights.read_bytes() + decides.encode()).hexdigest()
    assert darts_segmentation.hash_model(folder / "a.safetensors") == expected
    copy = darts_segmentation.convert_model(folder / "a.safetensors", folder / "copy")
    assert darts_segmentation.read_model(copy).card.bands == ("red", "ndvi")
    models = {"a": folder / "a.safetensors", "b": folder / "b.safetensors", "copy": copy}
    assert darts_segmentation.repeated_models(models) == [["a", "copy"]]
    info = darts_segmentation.model_info(copy)
    assert info.card == darts_segmentation.read_model(folder / "a.safetensors").card
    assert darts_segmentation.read_card(folder / "a.safetensors") == info.card
    with contextlib.suppress(darts_segmentation.MissingLibraryError):
        assert darts_segmentation.openvino_program(copy) != copy
    with contextlib.suppress(darts_segmentation.MissingLibraryError, darts_segmentation.QuantisationError):
        darts_segmentation.quantise_model(copy, [], folder / "quantised")
    members = {name: folder / f"{name}.safetensors" for name in "ab"}
    file = darts_segmentation.write_ensemble(folder / "both.json", members, darts_segmentation.Calibration(2.0))
    assert darts_segmentation.is_ensemble_file(file)
    assert list(darts_segmentation.read_ensemble(file).members) == ["a", "b"]


def try_tile(folder: Path) -> None:
    rng = np.random.default_rng(0)
    red, ndvi = rng.random((2, 100, 70), np.float32)
    red[:10, :20] = ndvi[:10, :20] = np.nan
    tile = xr.Dataset({"red": (("y", "x"), red), "ndvi": (("y", "x"), ndvi)})
    models = {name: folder / f"{name}.safetensors" for name in "ab"}
    ensemble = darts_segmentation.EnsembleV1(models, device="cpu")
    assert ensemble.required_bands == ["red", "ndvi"]
    result = ensemble.segment_tile(tile, patch_size=64, overlap=16, batch_size=2, keep_inputs=True)
    first, second = (1 / (1 + math.exp(-logit)) for logit in (-1.0, 2.0))
    for name, value in {"-a": first, "-b": second, "": (first + second) / 2}.items():
        expected = np.where(np.isnan(red), np.nan, value)
        np.testing.assert_allclose(result[f"probabilities{name}"], expected, rtol=1e-5)
    alone = darts_segmentation.SMPSegmenter(models["a"], device="cpu").segment_tile(tile, patch_size=64, overlap=16)
    np.testing.assert_array_equal(alone["probabilities"], result["probabilities-a"])
    channels = [darts_segmentation.Channel("red", 0, 1), darts_segmentation.Channel("ndvi", 0, 1)]
    valid, patches = darts_segmentation.cut_patches(tile, channels, 64, 16)
    assert not valid[0, 0]
    assert {patch.values.shape for patch in patches} == {(2, 64, 64)}


with tempfile.TemporaryDirectory() as temporary:
    try_models(Path(temporary))
    try_tile(Path(temporary))
