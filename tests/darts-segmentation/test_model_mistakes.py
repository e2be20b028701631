"""Model files and cards that do not fit: each is named, with what was expected."""

import json

import pytest
import torch

from darts_segmentation import (
    ModelCard,
    ModelCardError,
    ModelFileError,
    ModelNotFoundError,
    ModelWeightsError,
    SMPSegmenter,
    hash_model,
    model_info,
    model_paths,
    read_model,
    save_model,
)
from darts_utils import ParameterError, UnknownBandError
from support.model_files import CARD, darts_v2
from support.segmentation import BANDS, UNET, random_tile


def _saved(path, network, change):
    content = darts_v2(network, list(BANDS))
    change(content)
    torch.save(content, path)
    return path


def _without(content, key):
    del content["statedict"][key]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda c: c.pop("config"), ModelCardError, "lacks 'config'; it has 'statedict'"),
        (lambda c: c.pop("statedict"), ModelCardError, "lacks 'statedict'; it has 'config'"),
        (lambda c: c["config"].pop("model"), ModelCardError, "lacks 'model'"),
        (lambda c: c["config"].pop("bands"), ModelCardError, "lacks 'bands'"),
        (lambda c: c["config"].update(bands="red"), ModelCardError, "no list of band names"),
        (lambda c: c["config"].update(bands=[1, 2, 3]), ModelCardError, "no list of band names"),
        (lambda c: c["config"].update(bands=["red", "ndvi"]), ModelCardError, "3 channels, but there are 2 bands"),
        (lambda c: c["config"].update(bands=["red", "red", "ndvi"]), ModelCardError, "contain red twice"),
        (lambda c: c["config"].update(bands=["red", "ndvi", "slop"]), UnknownBandError, "'slop'.*'slope'"),
        (lambda c: c["config"].update(input_combination=["ndvi", "red", "slope"]), ModelCardError, "they differ"),
        (lambda c: c["config"].update(model="unet"), ModelCardError, "'model' in the checkpoint is a str"),
        (lambda c: c["config"]["model"].pop("arch"), ModelCardError, "lacks 'arch'"),
        (lambda c: c["config"]["model"].update(arch="vnet"), ModelCardError, "'vnet' is unknown; known ones: unet"),
        (lambda c: c["config"]["model"].update(encoder_name="resnet17"), ModelCardError, "cannot be built.*`resnet17`"),
        (lambda c: c["config"]["model"].update(classes=2), ModelCardError, "2 output channels, and nothing says which"),
        (
            lambda c: c["config"]["model"].update(activation="tanh"),
            ModelCardError,
            "activation of the network is 'tanh'",
        ),
        (lambda c: c["config"]["model"].update(colour="red"), ModelCardError, "no argument 'colour'"),
        (lambda c: c["config"]["model"].update(checkpoint_path="x"), ModelCardError, "no argument 'checkpoint_path'"),
        (lambda c: c["config"]["model"].update(encoder_name="tu-hf-hub:a/b"), ModelCardError, "fetched from elsewhere"),
        (
            lambda c: c["config"]["model"].update(decoder_channels=[[1], 2]),
            ModelCardError,
            "decoder_channels.*not plain",
        ),
        (
            lambda c: c["config"]["model"].update(encoder_name="resnet34"),
            ModelWeightsError,
            "missing: encoder.conv1.weight, .* left over: encoder.features.0.0.weight",
        ),
        (lambda c: c["config"]["model"].update(decoder_channels=[16, 8, 4]), ModelWeightsError, "of another shape"),
        (lambda c: _without(c, "segmentation_head.0.bias"), ModelWeightsError, "missing: segmentation_head.0.bias"),
        (lambda c: c["statedict"].update(more=torch.ones(1)), ModelWeightsError, "left over: more"),
        (
            lambda c: c["statedict"].update({"segmentation_head.0.bias": torch.ones(1, dtype=torch.int64)}),
            ModelWeightsError,
            "of another kind: segmentation_head.0.bias is torch.int64 instead of torch.float32",
        ),
        (
            lambda c: c["statedict"].update({"segmentation_head.0.bias": torch.tensor([float("nan")])}),
            ModelWeightsError,
            "'segmentation_head.0.bias' has values that are NaN or infinite",
        ),
        (lambda c: c["statedict"].update({"segmentation_head.0.bias": 3.0}), ModelFileError, "expected a dense tensor"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, network, change, error, says):
    config = {"in_channels": 3}
    path = tmp_path / "a.pt"

    def changed(content):
        content["config"]["model"].update(config)
        change(content)

    with pytest.raises(error, match=f"(?s){says}"):
        SMPSegmenter(_saved(path, network, changed), "cpu")
    with pytest.raises(error, match=f"(?s){says}"):
        model_info(path)


def test_patches_must_be_of_a_size_that_the_network_takes():
    import segmentation_models_pytorch as smp

    card = ModelCard(name="slumps", architecture={"arch": "linknet", "encoder_name": "resnet18"}, bands=BANDS)
    model = SMPSegmenter.from_network(smp.create_model(**card.architecture, encoder_weights=None), card, "cpu")
    with pytest.raises(
        ParameterError, match="patch_size is 40 px, but model 'slumps' takes multiples of 32 px; choose 32"
    ):
        model.segment_tile(random_tile((20, 20)), 40, 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("mlm:name"), "lacks 'mlm:name'"),
        (lambda c: c.pop("mlm:input"), "lacks 'mlm:input'"),
        (lambda c: c.pop("mlm:hyperparameters"), "lacks 'mlm:hyperparameters'"),
        (lambda c: c.update({"mlm:input": []}), "0 entries under 'mlm:input'"),
        (lambda c: c["mlm:input"][0].update(bands="red"), "'bands' in the model card is a str"),
        (lambda c: c["mlm:input"][0].update(value_scaling=[]), "one entry for each"),
        (lambda c: c["mlm:input"][0]["value_scaling"][0].update(type="z-score"), "expected type 'min-max'"),
        (lambda c: c["mlm:input"][0]["value_scaling"][0].update(minimum=1), "expected finite numbers, low < high"),
        (lambda c: c["mlm:input"][0]["value_scaling"][0].update(minimum="a"), r"expected \(low, high\)"),
        (lambda c: c["mlm:input"][0]["input"].update(shape=[-1, 3, 0, 0]), "patch size of a model card is 0"),
        (lambda c: c.update({"darts:card_version": 99}), "version 99, this release reads 1"),
        (lambda c: c.update({"license": 4}), "'license' in the model card is a int"),
    ],
)
def test_a_card_that_is_wrong_is_named(tmp_path, network, change, says):
    _, path = model_paths(save_model(tmp_path / "a", network, CARD))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ModelCardError, match=says) as caught:
        read_model(tmp_path / "a")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"), [("{", "is not JSON"), ("[]", "holds a JSON list"), ("[" * 100_000, "not JSON")]
)
def test_a_card_that_is_no_card_is_named(tmp_path, network, text, says):
    _, path = model_paths(save_model(tmp_path / "a", network, CARD))
    path.write_text(text)
    with pytest.raises(ModelCardError, match=says):
        read_model(tmp_path / "a")


def test_a_card_without_ranges_means_those_of_the_band_table(tmp_path, network):
    _, path = model_paths(save_model(tmp_path / "a", network, CARD))
    content = json.loads(path.read_text())
    content["mlm:input"][0]["value_scaling"] = None
    content["mlm:input"][0]["bands"] = [{"name": name} for name in BANDS]
    path.write_text(json.dumps(content))
    assert read_model(tmp_path / "a").card.normalization == {"red": (-0.1, 0.5), "ndvi": (-1, 1), "slope": (0, 90)}


def test_what_is_absent_is_named(tmp_path, network):
    with pytest.raises(ModelNotFoundError, match="no model at"):
        read_model(tmp_path / "nothing.pt")
    with pytest.raises(FileNotFoundError, match=r"no file .*model\.safetensors"):
        read_model(tmp_path)
    weights, card = model_paths(save_model(tmp_path / "a.safetensors", network, CARD))
    card.unlink()
    with pytest.raises(ModelNotFoundError, match=r"has no model card: there is no file .*a\.json"):
        read_model(weights)
    with pytest.raises(ModelNotFoundError, match=r"no file .*a\.json"):
        hash_model(weights)


def test_weights_that_do_not_fit_the_card_are_not_saved(tmp_path, network):
    with pytest.raises(
        ModelWeightsError, match=r"encoder\.features\.0\.0\.weight is \(32, 3, 3, 3\) instead of \(32, 2, 3, 3\)"
    ):
        save_model(tmp_path / "a", network, ModelCard(name="x", architecture=UNET, bands=["red", "ndvi"]))
    with pytest.raises(ModelWeightsError, match="'a' in the state dict is a list"):
        save_model(tmp_path / "a", {"a": [1]}, CARD)
    with pytest.raises(ModelCardError, match="cannot be written as JSON"):
        save_model(
            tmp_path / "a", network, ModelCard(name="x", architecture=UNET, bands=BANDS, metrics={"a": float("nan")})
        )
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("activation", ["sigmoid", "softmax2d", torch.nn.Sigmoid])
def test_a_network_that_returns_probabilities_is_refused(activation):
    """They would go through a sigmoid again, which leaves 0.5 to 0.73 of them."""
    smp = pytest.importorskip("segmentation_models_pytorch")
    card = ModelCard(name="a", architecture={"arch": "unet", "encoder_name": "resnet18"}, bands=["red"])
    if isinstance(activation, str):
        network = smp.create_model(**card.architecture, encoder_weights=None, activation=activation)
    else:
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), activation())
    with pytest.raises(ParameterError, match=r"The network 'a' ends in a S\w+, and so returns probabilities"):
        SMPSegmenter.from_network(network, card, "cpu")
    SMPSegmenter.from_network(smp.create_model(**card.architecture, encoder_weights=None), card, "cpu")
    SMPSegmenter.from_network(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), card, "cpu")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dim_order": ["batch", "height", "width", "channel"]}, "has the 'dim_order'"),
        ({"shape": [-1, 64, 64, 3]}, "has the 'input.shape'"),
        ({"shape": [-1, 2, 64, 96]}, "height and width alike"),
        ({"shape": [-1, 5, 64, 64]}, "the number of its bands, 2"),
        ({"shape": [64]}, "has the 'input.shape'"),
    ],
)
def test_a_card_with_another_input_than_its_network_takes_is_refused(given, says):
    card = ModelCard(name="x", architecture=UNET, bands=["red", "ndvi"], patch_size=64)
    content = card.to_dict()
    content["mlm:input"][0]["input"] |= given
    with pytest.raises(ModelCardError, match=says):
        ModelCard.from_dict(content)
    del content["mlm:input"][0]["input"]
    assert ModelCard.from_dict(content).patch_size is None
