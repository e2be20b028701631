"""OpenVINO gives what torch gives, without torch, without telemetry, and says what it cannot do."""

import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import xarray as xr

from darts_segmentation import (
    BrokenModelError,
    ConversionError,
    EnsembleV1,
    MissingLibraryError,
    ModelWeightsError,
    SMPSegmenter,
    convert_model,
    hash_model,
    model_info,
    openvino_program,
    programfile,
    read_model,
    repeated_models,
    translation,
)
from darts_segmentation.scaling import NumpyScaler, Scaler
from darts_segmentation.vino import OpenVinoEngine
from darts_utils import DeviceError, ParameterError, get_band
from support.lanes import mostly_slow
from support.programs import BANDS, PROGRAM_FILES, write_network
from support.segmentation import random_tile

pytest.importorskip("openvino", reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def several(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("classes")
    return write_network(
        folder / "several", seed=1, classes=["slump", "detachment", "none"], target=["slump"], activation="softmax"
    )


def both(path, tile, engines=("torch", "openvino"), **options):
    options = {"patch_size": 64, "overlap": 16, **options}
    return [SMPSegmenter(path, "cpu", engine=engine).segment_tile(tile, **options) for engine in engines]


@pytest.mark.parametrize(
    "options",
    mostly_slow([{}, {"tta": "d4", "reflection": 7}, {"patch_size": 48, "overlap": 24}], lambda o: "tta" in o),
    ids=str,
)
def test_maps_are_those_of_torch(model, options):
    tile = random_tile((97, 130), BANDS, missing=0.1)
    tile["red"][:30, :40] = tile["ndvi"][:30, :40] = tile["slope"][:30, :40] = np.nan
    expected, found = both(model, tile, **options)
    assert np.isnan(expected["probabilities"]).any()
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-5, rtol=0)
    assert found["probabilities"].dtype == np.float32
    assert float(expected["probabilities"].std()) > 1e-3


@pytest.mark.slow
def test_members_and_classes_are_those_of_torch(model, several):
    tile = random_tile((70, 66), BANDS, missing=0.05)
    found, expected = (
        EnsembleV1({"one": model, "two": several}, "cpu", engine=engine).segment_tile(
            tile, patch_size=64, overlap=8, keep_inputs=True, keep_classes=True
        )
        for engine in ("openvino", "torch")
    )
    assert {"probabilities-two", "probabilities-std", "probabilities_detachment"} < set(found.variables)
    xr.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "architecture",
    mostly_slow(
        [
            {"arch": "unet", "encoder_name": "resnet34"},
            {"arch": "unet", "encoder_name": "mit_b0"},
            {"arch": "unetplusplus", "encoder_name": "efficientnet-b0"},
            {"arch": "deeplabv3plus", "encoder_name": "resnet18"},
            {"arch": "fpn", "encoder_name": "densenet121"},
            {"arch": "manet", "encoder_name": "resnet18"},
            {"arch": "segformer", "encoder_name": "resnet18"},
            {"arch": "upernet", "encoder_name": "tu-convnext_atto"},
        ],
        lambda _: False,
    ),
    ids=lambda architecture: "-".join(architecture.values()),
)
def test_architectures_of_users_give_the_same_map(tmp_path, architecture):
    path = write_network(tmp_path / "model", architecture)
    expected, found = both(path, random_tile((150, 140), BANDS), patch_size=128, overlap=32)
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-4, rtol=0)


def test_bf16_is_near_and_fp32_does_not_quietly_become_bf16(model):
    engine = OpenVinoEngine(None)
    if engine.fastest_format() != "bf16":
        pytest.skip("this processor does not multiply bfloat16")
    tile = random_tile((64, 64), BANDS)
    exact = both(model, tile)
    near = both(model, tile, engines=["openvino"], precision="bf16")[0]["probabilities"].values
    assert 1e-5 < np.abs(near - exact[0]["probabilities"].values).max() < 0.05
    auto = SMPSegmenter(model, "cpu", engine="openvino").segment_tile(tile, 64, 16, precision="auto")
    np.testing.assert_array_equal(auto["probabilities"], near)


def test_batch_normalisation_is_folded_into_convolutions(model):
    network = SMPSegmenter(model, "cpu", engine="openvino")._member.network
    compiled = network._compile((1, 3, 64, 64), "fp32", 1).get_compiled_model()
    layers = {node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ops()}
    assert "Convolution" in layers
    assert not [name for name in layers if name in ("Multiply", "ScaleShift") or "Norm" in name]


def test_numpy_scales_as_torch_does_to_the_last_bit():
    rng = np.random.default_rng(0)
    channels = [_channel(name) for name in BANDS]
    patches = np.stack([rng.uniform(2 * c.low - 1, 2 * c.high + 1, (2, 40, 40)) for c in channels], axis=1)
    patches = patches.astype(np.float32)
    patches[rng.random(patches.shape) < 0.2] = np.nan
    patches[0, 0, 0, :2] = np.inf, -np.inf
    expected = torch.from_numpy(patches.copy())
    Scaler(channels, torch.device("cpu")).scale(expected)
    NumpyScaler(channels).scale(patches)
    np.testing.assert_array_equal(patches, expected.numpy())


def _channel(name):
    from darts_segmentation.bands import Channel

    return Channel(name, get_band(name).low, get_band(name).high)


_ALONE = """
    import socket, sys, threading, json
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was tried")
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
    before = threading.active_count()
    import numpy as np, xarray as xr
    from darts_segmentation import SMPSegmenter
    red = np.linspace(0, 0.3, 64 * 64, dtype="float32").reshape(64, 64)
    tile = xr.Dataset({name: (("y", "x"), red) for name in ("red", "ndvi", "slope")})
    result = SMPSegmenter(sys.argv[1], engine="openvino").segment_tile(tile, patch_size=64, overlap=16)
    loaded = [name for name in sys.modules if name.partition(".")[0] in ("torch", "openvino_telemetry", "timm")]
    print(json.dumps([loaded, threading.active_count() - before, float(result["probabilities"].mean())]))
"""


def test_a_process_of_its_own_needs_no_torch_and_asks_nobody(model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(_ALONE), str(openvino_program(model))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    loaded, threads, mean = json.loads(done.stdout.splitlines()[-1])
    assert (loaded, threads) == ([], 0)
    assert 0 < mean < 1
    assert list(home.iterdir()) == []  # OpenVINO's telemetry would keep who this is there


def test_a_model_is_translated_once_and_a_changed_one_again(model, tmp_path, cache, monkeypatch):
    first = openvino_program(model)
    assert first.is_relative_to(cache)
    monkeypatch.setattr("darts_segmentation.translation.translate", None)
    assert openvino_program(model) == first
    with pytest.raises(TypeError):
        openvino_program(write_network(tmp_path / "other", seed=5))
    assert not list((cache / "darts" / "openvino").glob(".*"))


def test_a_card_edited_after_translation_is_that_of_the_next_run(model, tmp_path):
    """The hash, under which programs are kept, leaves out texts and sizes; they may change without it."""
    path = shutil.copytree(model, tmp_path / "edited")
    first = SMPSegmenter(path, "cpu", engine="openvino")
    file = path / "model.json"
    content = json.loads(file.read_text("utf-8"))
    content |= {"license": "CC0-1.0", "darts:pixel_size": 3.0}
    content["mlm:input"][0]["input"]["shape"] = [-1, len(BANDS), 96, 96]
    file.write_text(json.dumps(content), "utf-8")
    then, now = first.card, SMPSegmenter(path, "cpu", engine="openvino").card
    assert hash_model(path) == first.model_hash
    assert (then.pixel_size, then.license) != (now.pixel_size, now.license)
    assert now == SMPSegmenter(path, "cpu").card
    assert (now.pixel_size, now.license, now.patch_size) == (3.0, "CC0-1.0", 96)


def test_a_cache_that_cannot_be_written_costs_time_only(model, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(
        "darts_segmentation.translation.translate", lambda path, out: [(out / name).touch() for name in PROGRAM_FILES]
    )
    assert all((openvino_program(model) / name).exists() for name in PROGRAM_FILES)
    assert "XDG_CACHE_HOME" in caplog.text


def test_a_converted_program_is_a_model_of_its_own(model, converted, tmp_path):
    path = shutil.copytree(converted, tmp_path / "program")
    assert sorted(file.name for file in path.iterdir()) == sorted(PROGRAM_FILES)
    assert openvino_program(path) == path
    info, of_torch = model_info(path), model_info(model)
    assert (info.kind, info.card) == ("OpenVINO", of_torch.card)
    assert 0 < info.parameters < of_torch.parameters  # whose encoder has stages that nothing uses
    assert hash_model(path) != hash_model(model)
    assert repeated_models({"program": path, "model": model}) == [["program", "model"]]
    before = hash_model(path)
    with (path / "model.xml").open("a") as file:
        file.write("\n")
    assert hash_model(path) != before
    with pytest.raises(BrokenModelError, match="choose engine 'openvino'"):
        read_model(path)
    with pytest.raises(ParameterError, match="name a folder that is new"):
        convert_model(model, model, "openvino")


def test_a_program_that_is_damaged_or_foreign_is_refused(converted, tmp_path):
    path = shutil.copytree(converted, tmp_path / "program")
    text = (path / "model.xml").read_text()
    (path / "model.xml").write_text(text.replace('<patch_divisor value="1"', '<patch_divisor value="8"'))
    with pytest.raises(ParameterError, match="multiples of 8 px"):
        EnsembleV1({"a": path}, engine="openvino").check_patch_size(100)
    (path / "model.xml").write_text(text.replace("patch_divisor", "other"))
    with pytest.raises(BrokenModelError, match="not written by DARTS"):
        SMPSegmenter(path, engine="openvino")
    (path / "model.xml").write_text(text[:200])
    with pytest.raises(BrokenModelError, match="no program that this OpenVINO reads"):
        SMPSegmenter(path, engine="openvino")


@pytest.mark.slow
def test_a_program_that_computes_something_else_is_not_written(model, tmp_path, monkeypatch):
    right = translation.run_once
    monkeypatch.setattr(translation, "run_once", lambda *args: right(*args) + 0.01)
    with pytest.raises(ConversionError, match="differs from the original"):
        convert_model(model, tmp_path / "program", "openvino")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_errors_of_translating_elsewhere_keep_their_class(model, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights.pop(next(iter(weights)))
    (tmp_path / "model.json").write_text((model / "model.json").read_text())
    save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(ModelWeightsError, match="missing"):
        openvino_program(tmp_path)


def test_what_openvino_cannot_do_is_said_before_a_tile_is_read(model, monkeypatch):
    with pytest.raises(DeviceError, match="computes on the CPU"):
        SMPSegmenter(model, "cuda", engine="openvino")
    with pytest.raises(ParameterError, match="'torch' or 'openvino'"):
        SMPSegmenter(model, "cpu", engine="onnx")
    ensemble = EnsembleV1({"a": model}, "cpu", engine="openvino")
    ensemble._engine._capabilities = frozenset(["FP32"])
    assert ensemble.number_format("auto") == "fp32"
    with pytest.raises(ParameterError, match="this processor computes in fp32"):
        ensemble.number_format("bf16")
    monkeypatch.setattr(programfile.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match="pip install"):
        SMPSegmenter(model, "cpu", engine="openvino")


def test_threads_and_number_formats_are_those_of_the_calling_thread():
    engine = OpenVinoEngine("cpu")
    usual = engine.settings
    with engine.threads(3), engine.computing("fp32"):
        assert engine.settings == ("fp32", 3)
        with engine.threads(1):
            assert engine.settings == ("fp32", 1)
        assert engine.settings == ("fp32", 3)
    assert engine.settings == usual
