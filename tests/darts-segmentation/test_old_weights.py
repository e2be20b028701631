"""Weights and options of older releases of smp: what it still takes, loads here and computes what it computes there."""

import warnings

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from darts_segmentation import ModelCardError, ModelWeightsError, SMPSegmenter, convert_model, read_model, save_model
from darts_segmentation.network import load_network
from support.segmentation import random_tile

BANDS = ["red", "ndvi", "slope"]
SAME = {"encoder_name": "resnet18", "in_channels": 3, "classes": 1}
OLD_OPTIONS = {
    "unet": {"decoder_use_batchnorm": True},
    "unetplusplus": {"decoder_use_batchnorm": False},
    "manet": {"decoder_use_batchnorm": False},
    "linknet": {"decoder_use_batchnorm": False},
    "pspnet": {"psp_use_batchnorm": False},
    "pan": {"upscale_mode": "nearest"},
    "upernet": {"decoder_use_batchnorm": False},  # which smp takes and does not heed
}
LOADED_BY_DEFAULT = ("deeplabv3plus", "segformer")
"""One architecture of each kind; unet, pspnet and pan are loaded by default with options of old names."""
ARCHITECTURES = sorted(set(smp.MODEL_ARCHITECTURES_MAPPING) - {"dpt"})


def _plain(architecture, seed=0):
    """The network as smp itself makes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return smp.create_model(**architecture, encoder_weights=None).eval()


def _saved(path, architecture, states):
    torch.save({"config": {"model": architecture, "bands": BANDS}, "statedict": states}, path)
    return path


def _check(path, architecture, rename=lambda name: name, size=128):
    """Save a network under old names, load it with smp and here, and compare what both compute."""
    states = {rename(name): value for name, value in _plain(architecture).state_dict().items()}
    _saved(path, architecture, states)
    plain = _plain(architecture, seed=1)
    plain.load_state_dict(dict(states))
    model = read_model(path)
    found = load_network(model.card, model.state_dict)
    patches = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(found(patches), plain(patches))
    return plain, len(set(states) - set(plain.state_dict()))


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=() if arch in LOADED_BY_DEFAULT else pytest.mark.slow) for arch in ARCHITECTURES]
)
def test_every_architecture_loads(tmp_path, arch):
    _check(tmp_path / "a.pt", {"arch": arch, **SAME})


@pytest.mark.slow
def test_a_transformer_loads(tmp_path):
    architecture = {"arch": "dpt", "encoder_name": "tu-vit_tiny_patch16_224", "in_channels": 3, "classes": 1}
    _check(tmp_path / "a.pt", architecture, size=224)


@pytest.mark.parametrize(
    "arch",
    [pytest.param(arch, marks=() if arch in ("unet", "pan") else pytest.mark.slow) for arch in OLD_OPTIONS],
)
def test_options_of_old_names_load_where_smp_takes_them(tmp_path, arch):
    _check(tmp_path / "a.pt", {"arch": arch, **SAME} | OLD_OPTIONS[arch])


@pytest.mark.slow
@pytest.mark.parametrize(
    "option", [{"decoder_use_batchnorm": False}, {"psp_use_batchnorm": True}, {"upscale_mode": "nearest"}]
)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_option_of_an_old_name_does_what_it_does_in_smp(tmp_path, arch, option):
    _check(tmp_path / "a.pt", {"arch": arch, **SAME} | option)


def _old_deeplab(name):
    for new, old in {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}.items():
        if name.startswith(new):
            return name.replace(new, old)
    return name


def _old_encoder(name):
    return name.replace("encoder.model.", "encoder.", 1).replace(".stages_", ".stages.")


@pytest.mark.parametrize(
    ("architecture", "rename"),
    [
        pytest.param({"arch": "deeplabv3", **SAME}, _old_deeplab, marks=pytest.mark.slow),
        *(
            pytest.param({"arch": "unet", **SAME, "encoder_name": name}, _old_encoder, marks=marks)
            for name, marks in (
                ("timm-regnetx_002", ()),
                ("timm-gernet_s", pytest.mark.slow),
                ("timm-res2net50_26w_4s", pytest.mark.slow),
                ("timm-resnest14d", pytest.mark.slow),
            )
        ),
    ],
)
def test_weights_of_old_names_load(tmp_path, architecture, rename):
    plain, renamed = _check(tmp_path / "a.pt", architecture, rename)
    assert renamed > 10
    tile = random_tile((60, 70))
    found = SMPSegmenter(tmp_path / "a.pt", "cpu").segment_tile(tile, 64, 16)["probabilities"].values
    card = read_model(tmp_path / "a.pt").card
    expected = SMPSegmenter.from_network(plain, card, "cpu").segment_tile(tile, 64, 16)["probabilities"].values
    np.testing.assert_array_equal(found, expected)
    # What is saved anew has today's names.
    converted = read_model(convert_model(tmp_path / "a.pt", tmp_path / "new"))
    assert set(converted.state_dict) == set(plain.state_dict())


def test_skipped_blocks_of_an_old_encoder_load(tmp_path):
    _check(tmp_path / "a.pt", {"arch": "unet", **SAME, "encoder_name": "timm-skresnet18"})


def test_old_names_that_do_not_fit_are_named(tmp_path):
    architecture = {"arch": "deeplabv3", **SAME}
    states = {_old_deeplab(name): value for name, value in _plain(architecture).state_dict().items()}
    del states["decoder.1.weight"]
    states["decoder.3.weight"] = torch.ones(1)
    path = _saved(tmp_path / "a.pt", architecture, states)
    with pytest.raises(ModelWeightsError, match=r"missing: decoder\.conv\.weight; left over: decoder\.3\.weight"):
        SMPSegmenter(path, "cpu")
    with pytest.raises(ModelWeightsError, match=r"missing: decoder\.conv\.weight"):
        save_model(tmp_path / "b", states, read_model(path).card)


def test_an_old_option_with_a_value_that_means_nothing_is_named(tmp_path):
    architecture = {"arch": "unet", **SAME, "decoder_use_batchnorm": "sometimes"}
    path = _saved(tmp_path / "a.pt", architecture, {"a": torch.ones(1)})
    with pytest.raises(ModelCardError, match="cannot be built"):
        SMPSegmenter(path, "cpu")
