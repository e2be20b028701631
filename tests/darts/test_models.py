"""Which models a run takes: those that are named, or each network of the default folder once."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from darts.errors import ConfigurationError
from darts.run import plan
from darts.run.models import find_models
from darts_utils import DefaultPaths
from support import standin


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_models_are_named_after_their_files_and_folders(tmp_path: Path) -> None:
    one = _touch(tmp_path / "one.pt")
    folder = _touch(tmp_path / "v1.2" / "model.safetensors").parent
    assert find_models([one, folder], tmp_path) == {"one": one, "v1.2": folder}


def test_the_default_folder_gives_every_model_in_it(tmp_path: Path) -> None:
    _touch(tmp_path / "b.ckpt")
    _touch(tmp_path / "a.safetensors")
    _touch(tmp_path / "a.json")
    _touch(tmp_path / "c" / "model.safetensors")
    (tmp_path / "empty").mkdir()
    assert list(find_models(None, tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("names", [["missing.pt"], ["x/m.pt", "y/m.pt"], []])
def test_models_that_cannot_work(tmp_path: Path, names: list[str]) -> None:
    for name in names[1:] + names[:1] * (len(names) > 1):
        _touch(tmp_path / name)
    with pytest.raises(ConfigurationError, match=r"does not exist|Two models are called 'm'|is empty"):
        find_models([tmp_path / name for name in names], tmp_path)


def test_no_model_in_the_default_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"name one as model_files \(--model-files\)"):
        find_models(None, tmp_path / "models")


def test_a_copy_in_the_default_folder_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = standin.write_model(tmp_path / "b.safetensors", 0.5)
    (tmp_path / "c").mkdir()
    shutil.copy(one, tmp_path / "c" / "model.safetensors")
    shutil.copy(one.with_suffix(".json"), tmp_path / "c" / "model.json")
    standin.write_model(tmp_path / "a.safetensors", 0.25)
    with caplog.at_level(logging.WARNING):
        assert list(find_models(None, tmp_path)) == ["a", "b"]
    (said,) = caplog.messages
    assert said == f"{tmp_path / 'c'} is left out: it holds the same network as b.safetensors, which lies there, too."
    named = [tmp_path / "a.safetensors", one, tmp_path / "c"]
    assert list(find_models(named, tmp_path)) == ["a", "b", "c"]


def test_a_pipeline_without_named_models_takes_each_network_once(tmp_path: Path) -> None:
    folder = standin.make_folder(tmp_path, 1)
    models = tmp_path / "darts" / "models"
    one = standin.write_model(models / "a.safetensors", 0.5)
    for end in (".safetensors", ".json"):
        shutil.copy(one.with_suffix(end), models / f"b{end}")
    pipeline = standin.make_pipeline(folder, model_files=None, default_dirs=DefaultPaths(darts_dir=tmp_path / "darts"))
    assert pipeline.default_dirs.models == models
    assert list(plan(pipeline).context.models) == ["a"]
    pipeline = standin.make_pipeline(folder, model_files=[one, models / "b.safetensors"])
    assert list(plan(pipeline).context.models) == ["a", "b"]


@pytest.mark.slow
def test_a_checkpoint_and_what_it_was_converted_into_count_once(tmp_path: Path) -> None:
    import torch

    from darts_segmentation import convert_model
    from support.segmentation import BANDS, UNET, small_unet

    def write_checkpoint(name: str, seed: int) -> Path:
        config = {"model": {**UNET, "in_channels": len(BANDS), "classes": 1}, "bands": list(BANDS)}
        torch.save({"config": config, "statedict": small_unet(seed=seed).state_dict()}, tmp_path / name)
        return tmp_path / name

    original = write_checkpoint("rts.pt", 0)
    write_checkpoint("other.pt", 1)
    assert list(find_models(None, tmp_path)) == ["other", "rts"]
    convert_model(original, tmp_path / "rts")
    assert find_models(None, tmp_path) == {"other": tmp_path / "other.pt", "rts": tmp_path / "rts"}
    card = json.loads((tmp_path / "rts" / "model.json").read_text())
    shutil.copytree(tmp_path / "rts", tmp_path / "scaled")
    card["mlm:input"][0]["value_scaling"][0]["maximum"] = 0.7
    (tmp_path / "scaled" / "model.json").write_text(json.dumps(card))
    assert list(find_models(None, tmp_path)) == ["other", "rts", "scaled"]
