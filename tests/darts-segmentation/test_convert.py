"""Converted models compute what the originals compute."""

import json

import numpy as np
import pytest
import torch

from darts_segmentation import (
    ConversionError,
    ModelCard,
    SMPSegmenter,
    convert_model,
    hash_model,
    read_model,
    save_model,
)
from darts_utils import ParameterError
from support.segmentation import BANDS, UNET, random_tile, small_unet


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "RTS_v2.pt"
    config = {"model": dict(UNET), "bands": list(BANDS)}
    torch.save({"config": config, "statedict": small_unet().state_dict()}, path)
    return path


@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_a_checkpoint_becomes_our_own_format(tmp_path, checkpoint, name):
    out = convert_model(checkpoint, tmp_path / "new" / name)
    assert out == tmp_path / "new" / name
    assert read_model(out).card == read_model(checkpoint).card
    tile = random_tile((50, 60))
    found, expected = (SMPSegmenter(path, "cpu").segment_tile(tile, 32, 8) for path in (out, checkpoint))
    np.testing.assert_array_equal(found["probabilities"].values, expected["probabilities"].values)
    again = convert_model(out, tmp_path / "again")
    assert hash_model(again) == hash_model(out)


@pytest.mark.slow
def test_a_program_of_torch_computes_the_same(tmp_path, checkpoint):
    out = convert_model(checkpoint, tmp_path / "model.pt2", "torch-export")
    program = torch.export.load(out).module()
    network = small_unet()
    for shape in ((1, 3, 32, 40), (3, 3, 64, 24)):
        patches = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(program(patches), network(patches), rtol=0, atol=1e-5)
    content = json.loads((tmp_path / "model.json").read_text())
    assert ModelCard.from_dict(content) == read_model(checkpoint).card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.pt2"]


@pytest.mark.slow
def test_an_onnx_model_computes_the_same(tmp_path, checkpoint):
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'darts-segmentation[onnx]'")
    import onnxruntime

    out = convert_model(checkpoint, tmp_path / "model.onnx", "onnx")
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["tile"]
    assert [entry.name for entry in session.get_outputs()] == ["logits"]
    network = small_unet()
    for shape in ((1, 3, 32, 40), (3, 3, 64, 24)):
        patches = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        (found,) = session.run(None, {"tile": patches.numpy()})
        np.testing.assert_allclose(found, network(patches).numpy(), rtol=0, atol=1e-4)
    assert json.loads((tmp_path / "model.json").read_text())["mlm:framework"] == "ONNX"


def test_a_missing_library_is_named(tmp_path, checkpoint, monkeypatch):
    from darts_segmentation import convert

    monkeypatch.setattr(convert, "_ONNX_MODULES", ("no_such_onnx",))
    with pytest.raises(
        ConversionError, match=r"no_such_onnx is not installed; `pip install 'darts-segmentation\[onnx\]'`"
    ):
        convert_model(checkpoint, tmp_path / "model.onnx", "onnx")


def test_an_architecture_of_one_size_is_exported_for_that(tmp_path, monkeypatch):
    class Rigid(torch.nn.Module):
        def forward(self, patches):
            return (patches * torch.ones((3, 16, 16))).sum(dim=1, keepdim=True)

    from darts_segmentation import convert

    monkeypatch.setattr(convert, "load_network", lambda card, states: Rigid().eval())
    path = save_model(tmp_path / "a", small_unet(), _card(16))
    program = torch.export.load(convert_model(path, tmp_path / "a.pt2", "torch-export")).module()
    assert program(torch.ones((5, 3, 16, 16))).shape == (5, 1, 16, 16)


def test_an_architecture_that_cannot_be_traced_is_named(tmp_path, monkeypatch):
    class Undecided(torch.nn.Module):
        def forward(self, patches):
            return patches[:, :1] if patches.sum().item() > 0 else patches[:, 1:2]

    from darts_segmentation import convert

    monkeypatch.setattr(convert, "load_network", lambda card, states: Undecided().eval())
    path = save_model(tmp_path / "a", small_unet(), _card(16))
    with pytest.raises(ConversionError, match="cannot be exported"):
        convert_model(path, tmp_path / "a.pt2", "torch-export")
    assert not (tmp_path / "a.pt2").exists()


@pytest.mark.slow
def test_an_export_that_computes_something_else_is_not_written(tmp_path, checkpoint, monkeypatch):
    load = torch.export.load

    class Wrong:
        def __init__(self, path):
            self.program = load(path).module()

        def module(self):
            return lambda patches: self.program(patches) + 0.1

    monkeypatch.setattr(torch.export, "load", Wrong)
    with pytest.raises(ConversionError, match=r"differs from the original by up to 0\.02"):
        convert_model(checkpoint, tmp_path / "model.pt2", "torch-export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "target", "says"),
    [
        ("a", "pickle", "format is 'pickle'; expected one of 'safetensors', 'onnx', 'torch-export'"),
        ("a.pt", "safetensors", "cannot hold a model in our own format"),
        ("a.safetensors", "onnx", "expected the ending '.onnx'"),
        ("a.pt", "torch-export", "expected the ending '.pt2'"),
    ],
)
def test_what_to_write_is_checked_first(tmp_path, out, target, says):
    with pytest.raises(ParameterError, match=says):
        convert_model(tmp_path / "absent.pt", tmp_path / out, target)


def _card(patch_size):
    return ModelCard(name="a", architecture=UNET, bands=BANDS, patch_size=patch_size)
