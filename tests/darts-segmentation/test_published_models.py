"""Model files of other programs: published layouts, foreign classes, several kinds in an ensemble."""

import hashlib
import sys
import types
from collections import OrderedDict, UserDict, UserList
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from darts_segmentation import (
    EnsembleV1,
    ModelCard,
    hash_model,
    model_info,
    save_model,
)
from darts_utils import ParameterError
from support.lanes import mostly_slow
from support.model_files import darts_v2, expected_of_published, found_probabilities
from support.segmentation import BANDS, UNET, random_tile, segmenter, small_unet


def _v1(network):
    config = {
        "model": UNET | {"encoder_weights": "imagenet", "in_channels": 3, "classes": 1},
        "input_combination": list(BANDS),
        "norm_factors": {"red": 1 / 3000, "ndvi": 1 / 20000, "slope": 1 / 90},
        "patch_size": 64,
    }
    return {"config": config, "statedict": network.state_dict()}


def _lightning(network):
    states = {f"model.{name}": value for name, value in network.state_dict().items()}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(states | {"loss.weight": torch.ones(3)}),
        "hyper_parameters": {"config": {"model": dict(UNET), "bands": list(BANDS)}, "learning_rate": 1e-3},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}}],
    }


def test_darts_v1_loads(tmp_path, network):
    path = tmp_path / "RTS_v1.pt"
    torch.save(_v1(network), path)
    np.testing.assert_array_equal(found_probabilities(path), expected_of_published(network))
    info = model_info(path)
    assert (info.kind, info.card.bands, info.card.patch_size) == ("DARTS v1", BANDS, 64)
    assert info.card.name == "RTS_v1"
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.size_bytes == path.stat().st_size
    assert info.parameters == sum(value.numel() for value in network.state_dict().values())


@pytest.mark.parametrize("bands", [list(BANDS), tuple(BANDS), {"bands": list(BANDS), "factors": [1.0, 2.0, 3.0]}])
def test_darts_v2_loads(tmp_path, network, bands):
    path = tmp_path / "RTS_v2.pt"
    torch.save(darts_v2(network, bands), path)
    assert model_info(path).kind == "DARTS v2"
    np.testing.assert_array_equal(found_probabilities(path), expected_of_published(network))


def test_lightning_loads(tmp_path, network):
    path = tmp_path / "epoch=3.ckpt"
    torch.save(_lightning(network), path)
    assert model_info(path).kind == "Lightning"
    np.testing.assert_array_equal(found_probabilities(path), expected_of_published(network))


def test_weights_of_a_compiled_network_load(tmp_path, network):
    states = {f"_orig_mod.{name}": value for name, value in network.state_dict().items()}
    torch.save(_v1(network) | {"statedict": states}, tmp_path / "a.pt")
    np.testing.assert_array_equal(found_probabilities(tmp_path / "a.pt"), expected_of_published(network))


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


@pytest.mark.parametrize(
    "kind",
    mostly_slow(_foreign_classes("old_pipeline.bands"), ("attribute", "user list of objects", "dict").__contains__),
)
def test_bands_of_a_foreign_class_load_without_its_module(tmp_path, network, foreign_module, kind):
    bands_class, arguments, band_class = _foreign_classes(foreign_module.__name__)[kind]
    foreign_module.Bands, foreign_module.Band = bands_class, band_class
    path = tmp_path / "RTS_v2.pt"
    torch.save(darts_v2(network, bands_class(*arguments)), path)
    del sys.modules["old_pipeline.bands"], sys.modules["old_pipeline"]
    allowed = torch.serialization.get_safe_globals()
    assert model_info(path).card.bands == BANDS
    np.testing.assert_array_equal(found_probabilities(path), expected_of_published(network))
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
    torch.save(darts_v2(network, Bands(list(BANDS))), tmp_path / "a.pt")
    assert model_info(tmp_path / "a.pt").card.bands == BANDS


def test_a_sigmoid_at_the_end_is_not_applied_twice(tmp_path, network):
    content = darts_v2(network, list(BANDS))
    content["config"]["model"]["activation"] = "sigmoid"
    torch.save(content, tmp_path / "a.pt")
    np.testing.assert_array_equal(found_probabilities(tmp_path / "a.pt"), expected_of_published(network))


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
