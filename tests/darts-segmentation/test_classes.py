"""Models of several classes: which of them are thaw slumps, by sigmoid or softmax, alone and in an ensemble."""

import json

import numpy as np
import pytest
import torch

from darts_segmentation import (
    EnsembleV1,
    ModelCard,
    ModelCardError,
    OutputError,
    SMPSegmenter,
    convert_model,
    model_paths,
    read_model,
    save_model,
)
from darts_segmentation.classes import Outputs
from support.segmentation import BANDS, UNET, card, normalized, random_tile, segmenter

NAMES = ("background", "slump", "detachment", "stable_slump")
THREE = {"classes": NAMES[:3], "target": ("slump",), "activation": "softmax"}


class ClassNetwork(torch.nn.Module):
    """Weighs the channels of each pixel for each class; looks at no other pixel."""

    def __init__(self, classes, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weights", 3 * torch.randn((classes, 3, 1, 1), generator=generator))

    def forward(self, patches):
        return torch.nn.functional.conv2d(patches, self.weights)


def _directly(network, tile, activation):
    """Probabilities of all classes over the whole tile, (classes, y, x), in float64."""
    weights = network.weights[:, :, 0, 0].double().numpy()
    logits = np.tensordot(weights, normalized(tile), axes=1)
    valid = np.any([~np.isnan(tile[name].values) for name in BANDS], axis=0)
    if activation == "sigmoid":
        values = 1 / (1 + np.exp(-logits))
    else:
        raised = np.exp(logits - logits.max(axis=0))
        values = raised / raised.sum(axis=0)
    return np.where(valid, values, np.nan)


def _fields(activation, target, count=4):
    return {"classes": NAMES[:count], "target": target, "activation": activation}


@pytest.mark.parametrize("tta", [None, "d4"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("target", [("slump",), ("slump", "stable_slump"), ("stable_slump", "background")])
def test_the_target_is_a_class_or_the_sum_of_some(activation, target, tta):
    network = ClassNetwork(4)
    tile = random_tile((40, 50), missing=0.1)
    model = segmenter(network, **_fields(activation, target))
    found = model.segment_tile(tile, 16, 4, tta=tta, keep_classes=True)
    expected = _directly(network, tile, activation)
    chosen = [NAMES.index(name) for name in target]
    total = np.minimum(expected[chosen].sum(axis=0), 1)
    np.testing.assert_allclose(found["probabilities"].values, total, rtol=0, atol=2e-6)
    others = [name for name in NAMES if target != (name,)]
    assert {str(name) for name in found.data_vars} == {*BANDS, "probabilities", *(f"probabilities_{n}" for n in others)}
    for name in others:
        layer = found[f"probabilities_{name}"]
        np.testing.assert_allclose(layer.values, expected[NAMES.index(name)], rtol=0, atol=2e-6)
        assert layer.attrs == {"long_name": f"probability of {name}", "units": "1"}
        assert layer.dtype == np.float32
    plain = model.segment_tile(tile, 16, 4, tta=tta)
    assert {str(name) for name in plain.data_vars} == {*BANDS, "probabilities"}
    np.testing.assert_array_equal(plain["probabilities"], found["probabilities"])


def test_a_sum_of_independent_classes_is_no_more_than_one():
    network = ClassNetwork(2)
    network.weights[:] = 20
    model = segmenter(network, classes=["a", "b"], target=["a", "b"], activation="sigmoid")
    found = model.segment_tile(random_tile((20, 20)), 8, 2)["probabilities"].values
    assert found.max() == 1


def test_members_with_and_without_classes_are_averaged():
    tile = random_tile((40, 50), missing=0.1)
    networks = {"one": ClassNetwork(1), "three": ClassNetwork(3, 1), "four": ClassNetwork(4, 2)}
    fields = {"one": {}, "three": THREE, "four": _fields("sigmoid", ("slump", "stable_slump"))}
    models = {name: segmenter(network, **fields[name]) for name, network in networks.items()}
    found = EnsembleV1.from_segmenters(models).segment_tile(tile, 16, 4, keep_inputs=True, keep_classes=True)
    alone = {name: model.segment_tile(tile, 16, 4, keep_classes=True) for name, model in models.items()}
    for name in models:
        np.testing.assert_allclose(found[f"probabilities-{name}"], alone[name]["probabilities"], rtol=0, atol=1e-6)
    mean = np.mean([one["probabilities"].values for one in alone.values()], axis=0)
    np.testing.assert_allclose(found["probabilities"], mean, rtol=0, atol=1e-6)
    knowing = {
        "background": ["three", "four"],
        "detachment": ["three", "four"],
        "stable_slump": ["four"],
        "slump": ["three", "four"],  # of "three" the target, of "four" a part of it
    }
    alone["three"]["probabilities_slump"] = alone["three"]["probabilities"]
    for name, members in knowing.items():
        mean = np.mean([alone[member][f"probabilities_{name}"].values for member in members], axis=0)
        np.testing.assert_allclose(found[f"probabilities_{name}"], mean, rtol=0, atol=1e-6)


def test_a_network_of_another_number_of_classes_is_named():
    with pytest.raises(OutputError, match=r"shape \(\d+, 4, 8, 8\); expected \(\d+, 3, 8, 8\)"):
        segmenter(ClassNetwork(4), **THREE).segment_tile(random_tile((20, 20)), 8, 2)


# The card


def test_classes_survive_writing_and_reading(tmp_path):
    import segmentation_models_pytorch as smp

    written = ModelCard(name="x", architecture=UNET, bands=BANDS, **THREE)
    network = smp.create_model(**written.architecture, encoder_weights=None)
    saved = save_model(tmp_path / "a", network, written)
    assert read_model(saved).card == written
    content = json.loads(model_paths(saved)[1].read_text())
    (output,) = content["mlm:output"]
    assert output["result"]["shape"] == [-1, 3, -1, -1]
    assert output["classification:classes"] == [{"value": n, "name": name} for n, name in enumerate(NAMES[:3])]
    assert (content["darts:target"], content["darts:activation"]) == (["slump"], "softmax")
    found = SMPSegmenter(saved, "cpu").segment_tile(random_tile((40, 40)), 32, 8, keep_classes=True)
    total = found["probabilities"] + found["probabilities_background"] + found["probabilities_detachment"]
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-5)


def test_a_card_of_one_class_is_written_as_ever():
    content = card().to_dict()
    assert content["mlm:output"][0]["classification:classes"] == [{"value": 1, "name": "thaw-slump"}]
    assert not {"darts:target", "darts:activation"} & set(content)
    assert list(content["mlm:hyperparameters"])[:2] == ["in_channels", "classes"]
    named = card(classes=["slump"])
    assert (named.target, named.activation) == (("slump",), "sigmoid")
    assert ModelCard.from_dict(named.to_dict()) == named


def test_classes_are_in_the_order_of_their_values():
    content = card(**THREE).to_dict()
    content["mlm:output"][0]["classification:classes"].reverse()
    assert ModelCard.from_dict(content) == card(**THREE)
    del content["mlm:output"]
    with pytest.raises(ModelCardError, match="3 output channels, and nothing says which"):
        ModelCard.from_dict(content)


@pytest.mark.parametrize(
    ("architecture", "fields", "says"),
    [
        ({"classes": 2}, {}, "has 2 output channels, and nothing says which of them are thaw slumps"),
        ({}, {"classes": ["a", "b"], "activation": "softmax"}, "has 2 output channels, and nothing says which"),
        ({}, {"classes": ["a", "b"], "target": "b"}, "2 output channels does not say how logits become"),
        (
            {"classes": 3},
            {"classes": ["a", "b"], "target": "b", "activation": "softmax"},
            "3 .*but 2 classes are named",
        ),
        ({}, {"classes": ["a", "b"], "target": "c", "activation": "softmax"}, "target 'c' is none of the classes a, b"),
        ({}, {"classes": ["a", "a"], "target": "a", "activation": "softmax"}, "contain one twice"),
        (
            {},
            {"classes": ["a", "b c"], "target": "a", "activation": "softmax"},
            r"\['a', 'b c'\]; expected names of letters",
        ),
        ({}, {"classes": ["a", 1], "target": "a", "activation": "softmax"}, r"\['a', 1\]; expected names of letters"),
        ({}, {"classes": [], "target": [], "activation": "softmax"}, r"\[\]; expected names of letters"),
        ({}, {"classes": ["a", "b"], "target": [], "activation": "softmax"}, "target of a model are"),
        ({}, {"classes": ["a", "b"], "target": "a", "activation": "argmax"}, "activation of a model is 'argmax'"),
        ({}, {"activation": "softmax"}, "softmax of one output channel is 1 everywhere"),
        ({"activation": "softmax2d"}, {}, "softmax of one output channel is 1 everywhere"),
        ({"activation": "sigmoid"}, {**THREE}, "is 'softmax', but its architecture has 'sigmoid'"),
        ({"activation": "argmax2d"}, {**THREE}, "activation of the network is 'argmax2d'"),
        ({"activation": ["sigmoid"]}, {}, r"activation of the network is \['sigmoid'\]"),
    ],
)
def test_classes_that_say_too_little_or_contradict_themselves_are_named(architecture, fields, says):
    with pytest.raises(ModelCardError, match=says):
        ModelCard(name="x", architecture=UNET | architecture, bands=BANDS, **fields)


def test_an_activation_of_the_architecture_is_enough():
    for built, means in (("softmax2d", "softmax"), ("softmax", "softmax"), ("sigmoid", "sigmoid")):
        fields = {"classes": ["a", "b"], "target": "b"}
        made = ModelCard(name="x", architecture=UNET | {"activation": built}, bands=BANDS, **fields)
        assert made.outputs == Outputs(("a", "b"), ("b",), means)
    assert made.outputs.target_channels == [1]
    assert made.outputs.others == {"a": 0}


@pytest.mark.parametrize(
    "described", [5, [1, 2], [{"value": 1}], [{"name": "a"}], [{"value": None, "name": "a"}, {"value": 1}]]
)
def test_classes_of_a_card_that_cannot_be_read_are_named(described):
    content = card(**THREE).to_dict()
    content["mlm:output"][0]["classification:classes"] = described
    with pytest.raises(ModelCardError, match="'classification:classes' in the model card cannot be read"):
        ModelCard.from_dict(content)


@pytest.mark.parametrize("values", [("10", "2", "3"), (1, 1, 2), (0.0, 1.0, 2.0), (True, 2, 3)])
def test_classes_without_an_order_are_refused(values):
    """As texts, "10" comes before "2", and the probabilities of another class would be mapped."""
    content = card(**THREE).to_dict()
    for entry, value in zip(content["mlm:output"][0]["classification:classes"], values, strict=True):
        entry["value"] = value
    with pytest.raises(ModelCardError, match="do not have whole numbers as 'value', each another one"):
        ModelCard.from_dict(content)


# Checkpoints


def _checkpoint(path, config, key=None):
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    network = smp.create_model(**UNET, encoder_weights=None, in_channels=3, classes=3)
    config = {"model": UNET | {"classes": 3}, "bands": list(BANDS)} | config
    if key == "lightning":
        states = {f"model.{name}": value for name, value in network.state_dict().items()}
        torch.save({"hyper_parameters": {"config": config}, "state_dict": states}, path)
    else:
        torch.save({"config": config, "statedict": network.state_dict()}, path)
    return network.eval()


@pytest.mark.parametrize("kind", ["darts", "lightning"])
def test_a_checkpoint_that_names_its_classes_loads(tmp_path, kind):
    network = _checkpoint(
        tmp_path / "a.ckpt",
        {name: list(value) if name != "activation" else value for name, value in THREE.items()},
        kind,
    )
    tile = random_tile((40, 40))
    found = SMPSegmenter(tmp_path / "a.ckpt", "cpu").segment_tile(tile, 64, 0)["probabilities"].values
    expected = segmenter(network, **THREE).segment_tile(tile, 64, 0)["probabilities"].values
    np.testing.assert_array_equal(found, expected)


def test_a_checkpoint_that_does_not_name_its_classes_is_refused_and_can_be_converted(tmp_path):
    network = _checkpoint(tmp_path / "a.ckpt", {"classes": 3, "target": 7})  # numbers that mean something else
    for read in (read_model, lambda path: SMPSegmenter(path, "cpu"), lambda path: convert_model(path, tmp_path / "b")):
        with pytest.raises(ModelCardError, match=r"a\.ckpt: The network has 3 output channels, and nothing says which"):
            read(tmp_path / "a.ckpt")
    converted = convert_model(tmp_path / "a.ckpt", tmp_path / "b", **THREE)
    assert read_model(converted).card.outputs == Outputs(**THREE)
    tile = random_tile((40, 40))
    found = SMPSegmenter(converted, "cpu").segment_tile(tile, 64, 0)["probabilities"].values
    np.testing.assert_array_equal(found, segmenter(network, **THREE).segment_tile(tile, 64, 0)["probabilities"].values)
    again = convert_model(converted, tmp_path / "c", target=["detachment"])
    assert read_model(again).card.outputs.target == ("detachment",)
    with pytest.raises(ModelCardError, match=r"3 .*but 2 classes"):
        convert_model(converted, tmp_path / "d", classes=["a", "b"], target="b")
