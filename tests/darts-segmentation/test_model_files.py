"""Model files: what is written can be read, published layouts load, and what does not fit is named."""

import hashlib
import json
import sys
import types
from collections import OrderedDict, UserDict, UserList
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darts_segmentation import (
    EnsembleV1,
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
from darts_segmentation.network import load_network
from darts_utils import ParameterError, UnknownBandError
from support.segmentation import BANDS, UNET, random_tile, segmenter, small_unet

CARD = ModelCard(
    name="slumps",
    architecture=UNET,
    bands=BANDS,
    normalization={"red": (0.0, 0.3)},
    patch_size=64,
    training_data="made up",
    license="CC-BY-4.0",
    metrics={"iou": 0.5},
    description="for tests",
    version="1.2.0",
)


@pytest.fixture(scope="module")
def network():
    return small_unet()


def _probabilities(path, **options):
    tile = random_tile((70, 80), missing=0.1)
    return SMPSegmenter(path, "cpu").segment_tile(tile, 32, 8, **options)["probabilities"].values


def _expected(network, card=CARD):
    model = SMPSegmenter.from_network(network, card, "cpu")
    return model.segment_tile(random_tile((70, 80), missing=0.1), 32, 8)["probabilities"].values


# Our own format


@pytest.mark.parametrize("name", ["model", "slumps.safetensors"])
def test_a_saved_model_computes_what_the_network_computed(tmp_path, network, name):
    saved = save_model(tmp_path / "deep" / name, network, CARD)
    assert saved == tmp_path / "deep" / name
    np.testing.assert_array_equal(_probabilities(saved), _expected(network))
    assert SMPSegmenter(str(saved), "cpu").card == CARD
    assert sorted(path.name for path in saved.parent.rglob("*") if path.is_file()) == sorted(
        path.name for path in model_paths(saved)
    )


def test_the_same_model_gives_the_same_bytes(tmp_path, network):
    save_model(tmp_path / "a", network, CARD)
    save_model(tmp_path / "b", OrderedDict(reversed(network.state_dict().items())), CARD)
    assert hash_model(tmp_path / "a") == hash_model(tmp_path / "b")
    for one, other in zip(model_paths(tmp_path / "a"), model_paths(tmp_path / "b"), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_hash_is_that_of_weights_and_what_decides(tmp_path, network):
    weights, _ = model_paths(save_model(tmp_path / "a", network, CARD))
    decides = json.dumps(CARD.identity(), sort_keys=True).encode()
    assert hash_model(tmp_path / "a") == hashlib.sha256(weights.read_bytes() + decides).hexdigest()
    assert SMPSegmenter(tmp_path / "a", "cpu").model_hash == hash_model(tmp_path / "a")


def test_the_card_may_begin_with_a_byte_order_mark(tmp_path, network):
    _, card = model_paths(save_model(tmp_path / "a", network, CARD))
    card.write_bytes(b"\xef\xbb\xbf" + card.read_bytes().replace(b"\n", b"\r\n"))
    assert SMPSegmenter(tmp_path / "a", "cpu").card == CARD


def test_the_card_follows_the_extension(tmp_path, network):
    _, card = model_paths(save_model(tmp_path / "a", network, CARD))
    content = json.loads(card.read_text())
    assert content["mlm:name"] == "slumps"
    assert content["mlm:architecture"] == "unet"
    assert content["mlm:framework"] == "PyTorch"
    assert content["mlm:tasks"] == ["semantic-segmentation"]
    (given,) = content["mlm:input"]
    assert given["bands"] == list(BANDS)
    assert given["input"] == {
        "shape": [-1, 3, 64, 64],
        "dim_order": ["batch", "channel", "height", "width"],
        "data_type": "float32",
    }
    assert given["value_scaling"][0] == {"type": "min-max", "minimum": 0.0, "maximum": 0.3}
    assert content["mlm:output"][0]["result"]["shape"] == [-1, 1, 64, 64]
    assert content["mlm:hyperparameters"]["encoder_name"] == "mobilenet_v2"


texts = st.text(max_size=20)


@given(
    st.lists(st.sampled_from(["red", "green", "nir", "ndvi", "dem", "tc_wetness"]), min_size=1, unique=True),
    st.fixed_dictionaries(
        {"name": texts, "training_data": texts, "license": texts, "description": texts, "version": texts}
    ),
    st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False)),
    st.none() | st.integers(1, 4096),
    st.floats(-10, 10),
    st.floats(0.001, 10),
)
def test_a_card_survives_writing_and_reading(bands, fields, metrics, patch_size, low, span):
    card = ModelCard(
        architecture=UNET,
        bands=bands,
        metrics=metrics,
        patch_size=patch_size,
        normalization={bands[0]: (low, low + span)},
        **fields,
    )
    assert ModelCard.from_json(card.to_json()) == card


def test_weights_in_half_precision_load(tmp_path, network):
    states = {
        name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()
    }
    save_model(tmp_path / "a", states, CARD)
    loaded = load_network(CARD, read_model(tmp_path / "a").states)
    for name, value in loaded.state_dict().items():
        assert value.dtype == (torch.float32 if states[name].is_floating_point() else states[name].dtype)
        assert torch.equal(value, states[name].to(value.dtype))


def test_loading_leaves_no_trace_in_torch(tmp_path, network):
    path = save_model(tmp_path / "a", network, CARD)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    SMPSegmenter(path, "cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.is_grad_enabled()


# Published layouts


def _v1(network):
    config = {
        "model": UNET | {"encoder_weights": "imagenet", "in_channels": 3, "classes": 1},
        "input_combination": list(BANDS),
        "norm_factors": {"red": 1 / 3000, "ndvi": 1 / 20000, "slope": 1 / 90},
        "patch_size": 64,
    }
    return {"config": config, "statedict": network.state_dict()}


def _v2(network, bands):
    return {"config": {"model": dict(UNET), "bands": bands}, "statedict": network.state_dict()}


def _lightning(network):
    states = {f"model.{name}": value for name, value in network.state_dict().items()}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(states | {"loss.weight": torch.ones(3)}),
        "hyper_parameters": {"config": {"model": dict(UNET), "bands": list(BANDS)}, "learning_rate": 1e-3},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}}],
    }


def _expected_published(network):
    return _expected(network, ModelCard(name="x", architecture=UNET, bands=BANDS))


def test_darts_v1_loads(tmp_path, network):
    path = tmp_path / "RTS_v1.pt"
    torch.save(_v1(network), path)
    np.testing.assert_array_equal(_probabilities(path), _expected_published(network))
    info = model_info(path)
    assert (info.kind, info.card.bands, info.card.patch_size) == ("DARTS v1", BANDS, 64)
    assert info.card.name == "RTS_v1"
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.size_bytes == path.stat().st_size
    assert info.parameters == sum(value.numel() for value in network.state_dict().values())


@pytest.mark.parametrize("bands", [list(BANDS), tuple(BANDS), {"bands": list(BANDS), "factors": [1.0, 2.0, 3.0]}])
def test_darts_v2_loads(tmp_path, network, bands):
    path = tmp_path / "RTS_v2.pt"
    torch.save(_v2(network, bands), path)
    assert model_info(path).kind == "DARTS v2"
    np.testing.assert_array_equal(_probabilities(path), _expected_published(network))


def test_lightning_loads(tmp_path, network):
    path = tmp_path / "epoch=3.ckpt"
    torch.save(_lightning(network), path)
    assert model_info(path).kind == "Lightning"
    np.testing.assert_array_equal(_probabilities(path), _expected_published(network))


def test_weights_of_a_compiled_network_load(tmp_path, network):
    states = {f"_orig_mod.{name}": value for name, value in network.state_dict().items()}
    torch.save(_v1(network) | {"statedict": states}, tmp_path / "a.pt")
    np.testing.assert_array_equal(_probabilities(tmp_path / "a.pt"), _expected_published(network))


def _foreign_classes(module):
    """Classes named Bands as others may have written them; each is filled with the bands in its own way."""

    @dataclass
    class Band:
        name: str
        factor: float = 1.0
        offset: float = 0.0

    @dataclass(slots=True)
    class SlottedBand:
        name: str
        factor: float = 1.0

    class WithAttribute:
        def __init__(self, bands):
            self.bands = bands
            self.factors = [1.0, 1.0, 1.0]

    class AsUserList(UserList):
        pass

    class AsUserDict(UserDict):
        pass

    class AsList(list):
        pass

    class AsDict(dict):
        pass

    class ByArguments:
        def __init__(self, *arguments):
            self.arguments = arguments

        def __reduce__(self):
            return type(self), self.arguments

    names = list(BANDS)
    kinds = {
        "attribute": (WithAttribute, (names,), None),
        "user list": (AsUserList, (names,), None),
        "user list of objects": (AsUserList, ([Band(name) for name in names],), Band),
        "user list of slotted objects": (AsUserList, ([SlottedBand(name) for name in names],), SlottedBand),
        "user dict": (AsUserDict, ({"bands": names},), None),
        "list": (AsList, (names,), None),
        "list of objects": (AsList, ([Band(name) for name in names],), Band),
        "dict": (AsDict, ({"bands": names, "factors": [1.0, 1.0, 1.0]},), None),
        "arguments": (ByArguments, (names,), None),
    }
    for bands, _, band in kinds.values():
        for name, kind in (("Bands", bands), ("Band", band)):
            if kind is not None:
                kind.__module__, kind.__qualname__, kind.__name__ = module, name, name
    return kinds


@pytest.fixture
def foreign_module():
    """A module that exists while the file is written, and no longer when it is read."""
    name = "old_pipeline.bands"
    modules = {"old_pipeline": types.ModuleType("old_pipeline"), name: types.ModuleType(name)}
    sys.modules.update(modules)
    yield modules[name]
    for known in modules:
        sys.modules.pop(known, None)


@pytest.mark.parametrize("kind", _foreign_classes("old_pipeline.bands"))
def test_bands_of_a_foreign_class_load_without_its_module(tmp_path, network, foreign_module, kind):
    bands_class, arguments, band_class = _foreign_classes(foreign_module.__name__)[kind]
    foreign_module.Bands, foreign_module.Band = bands_class, band_class
    path = tmp_path / "RTS_v2.pt"
    torch.save(_v2(network, bands_class(*arguments)), path)
    del sys.modules["old_pipeline.bands"], sys.modules["old_pipeline"]
    allowed = torch.serialization.get_safe_globals()
    assert model_info(path).card.bands == BANDS
    np.testing.assert_array_equal(_probabilities(path), _expected_published(network))
    assert "old_pipeline" not in sys.modules
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


def test_a_foreign_class_does_not_come_to_life(tmp_path, network, foreign_module):
    class Bands:
        def __init__(self, bands):
            self.bands = bands

        def __setstate__(self, state):
            raise AssertionError("foreign code ran")

    Bands.__module__, Bands.__qualname__ = foreign_module.__name__, "Bands"
    foreign_module.Bands = Bands
    torch.save(_v2(network, Bands(list(BANDS))), tmp_path / "a.pt")
    assert model_info(tmp_path / "a.pt").card.bands == BANDS


def test_files_of_several_kinds_make_an_ensemble(tmp_path, network):
    other = small_unet(("ndvi", "dem"), seed=1)
    torch.save(_v1(network), tmp_path / "a.pt")
    save_model(tmp_path / "b", other, ModelCard(name="b", architecture=UNET, bands=["ndvi", "dem"]))
    ensemble = EnsembleV1({"first": tmp_path / "a.pt", "second": str(tmp_path / "b")}, torch.device("cpu"))
    assert ensemble.model_names == ["first", "second"]
    assert ensemble.required_bands == [*BANDS, "dem"]
    assert ensemble.model_hashes == {"first": hash_model(tmp_path / "a.pt"), "second": hash_model(tmp_path / "b")}
    assert ensemble.device == torch.device("cpu")
    tile = random_tile((50, 60), bands=(*BANDS, "dem"))
    result = ensemble.segment_tile(tile, 32, 8, keep_inputs=True)
    first = segmenter(network).segment_tile(tile, 32, 8)["probabilities"]
    second = segmenter(other, ("ndvi", "dem")).segment_tile(tile, 32, 8)["probabilities"]
    np.testing.assert_allclose(result["probabilities"], (first + second) / 2, atol=1e-6)
    np.testing.assert_array_equal(result["probabilities-second"], second)


def test_names_of_an_ensemble_are_checked_before_files_are_read():
    for names in ({}, {"": "x"}, {"std": "x"}):
        with pytest.raises(ParameterError):
            EnsembleV1(names, "cpu")


# What does not fit


def _saved(path, network, change):
    content = _v2(network, list(BANDS))
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


def test_a_sigmoid_at_the_end_is_not_applied_twice(tmp_path, network):
    path = _saved(tmp_path / "a.pt", network, lambda content: content["config"]["model"].update(activation="sigmoid"))
    np.testing.assert_array_equal(_probabilities(path), _expected_published(network))


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
        (lambda c: c["mlm:input"][0]["input"].update(shape=[-1, 3, 64, 0]), "patch size of a model card is 0"),
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


def test_importing_the_package_imports_no_heavy_library():
    import subprocess

    code = (
        "import sys, darts_segmentation; "
        "print([name for name in ('torch', 'timm', 'segmentation_models_pytorch', 'xarray', 'safetensors') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert done.stdout.strip() == "[]"
