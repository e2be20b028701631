"""A GPU that the driver names and nothing can use: every function falls back with a true sentence, or says why not."""

import contextlib
import importlib
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

import darts_postprocessing as post
import darts_preprocessing as pre
from darts.demo import SampleArea, demo_model, make_sample_area
from darts_segmentation import EnsembleV1, SMPSegmenter
from darts_utils import DartsWarning, DeviceError, DeviceFallbackWarning
from support.commands import run_darts
from support.driver import ONE_GPU, show_gpus
from support.lanes import mostly_slow
from support.preprocessing import make_geobox, make_tile

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device works here")

ASKED = (None, "auto", "cuda")


class _Broken:
    """Finds cupy, and fails to load it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "cupy":
            raise OSError("libcublas.so.12: cannot open shared object file")


def _without_toolkit() -> ModuleType:
    def zeros(*arguments: object) -> None:
        raise RuntimeError("Failed to find libnvrtc.so")

    cupy = ModuleType("cupy")
    cupy.zeros, cupy.asnumpy = zeros, np.asarray
    cupy.cuda = SimpleNamespace(Device=lambda index: contextlib.nullcontext())
    return cupy


@pytest.fixture(params=["absent", "broken", "without toolkit"])
def cupy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A GPU, and a cupy that is of no use; returns what is said of it."""
    show_gpus(monkeypatch, ONE_GPU)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    if request.param == "absent":
        monkeypatch.setitem(sys.modules, "cupy", None)
        return r"cupy is not installed \(pip install"
    if request.param == "broken":
        monkeypatch.setattr(sys, "meta_path", [_Broken(), *sys.meta_path])
        return r"cupy does not work on it \(OSError: libcublas\.so\.12"
    monkeypatch.setitem(sys.modules, "cupy", _without_toolkit())
    return r"cupy does not work on it \(RuntimeError: Failed to find libnvrtc"


PROBABILITIES = xr.DataArray(np.float32([[0.9, 0.9, 0.1], [0.1, 0.9, 0.1]]), dims=("y", "x"), name="probabilities")
MASK = xr.ones_like(PROBABILITIES, dtype=np.uint8)
TILE = xr.Dataset({"probabilities": PROBABILITIES, "quality_data_mask": 2 * MASK})
PLAIN = make_tile(make_geobox((5, 6), 10.0), 0)
WITH_CUPY = {
    "preprocess_v2": lambda device: pre.preprocess_v2(PLAIN, None, None, device=device),
    "erode_mask": lambda device: post.erode_mask(MASK, 1, device),
    "binarize": lambda device: post.binarize(PROBABILITIES, 0.5, 2, MASK, device),
    "prepare_export": lambda device: post.prepare_export(TILE, quality_level=1, mask_erosion_size=0, device=device),
    "kernels.erode": lambda device: post.kernels.erode(MASK.values, 1, device=device),
    "kernels.binarize": lambda device: post.kernels.binarize(PROBABILITIES.values, 0.5, 2, device=device),
}


@pytest.mark.parametrize("name", WITH_CUPY)
@pytest.mark.parametrize("asked", ASKED)
def test_without_a_cupy_that_works_the_cpu_is_taken(cupy: str, asked: str | None, name: str) -> None:
    importlib.import_module("darts_postprocessing.kernels")
    expected = WITH_CUPY[name]("cpu")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DartsWarning)
        found = WITH_CUPY[name](asked)
    assert found.equals(expected) if hasattr(found, "equals") else np.array_equal(found, expected)
    if asked != "cuda":
        assert not caught
        return
    (warning,) = caught
    assert warning.category is DeviceFallbackWarning
    with pytest.warns(DeviceFallbackWarning, match=rf"^Device cuda:0 was asked for, but {cupy}.* on the CPU\.$"):
        warnings.warn(warning.message, stacklevel=1)


def test_compiling_ahead_asks_nobody(cupy: str) -> None:
    for asked in ASKED:
        pre.compile_kernels(["ndvi"], device=asked)


@pytest.mark.parametrize(
    "make", [lambda device: EnsembleV1({"a": demo_model()}, device), lambda d: SMPSegmenter(demo_model(), d)]
)
@pytest.mark.parametrize("asked", ASKED)
def test_without_a_torch_that_works_networks_run_on_the_cpu_or_say_why_not(monkeypatch, make, asked) -> None:
    show_gpus(monkeypatch, ONE_GPU)
    if asked == "cuda":
        with pytest.raises(
            DeviceError, match=rf"cuda:0 was asked for, but torch {re.escape(torch.__version__)} cannot use it \("
        ):
            make(asked)
        return
    with pytest.warns(DeviceFallbackWarning, match=r"^There is a GPU, but torch .* Networks run on the CPU\.$"):
        assert make(asked).device == torch.device("cpu")


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=128)


@pytest.mark.parametrize(("asked", "code"), mostly_slow([(None, 0), ("auto", 0), ("cuda", 2)], ("cuda", 2).__eq__))
def test_the_command_runs_or_ends_before_the_first_tile(monkeypatch, area, tmp_path: Path, asked, code) -> None:
    show_gpus(monkeypatch, ONE_GPU)
    monkeypatch.setitem(sys.modules, "cupy", None)
    given = [] if asked is None else ["--device", asked]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        ended, said = run_darts(
            tmp_path,
            *("inference", "planet-sequential", "--scenes-dir", area.scenes_dir),
            *("--arcticdem-dir", area.arcticdem_dir, "--tcvis-dir", area.tcvis_dir, "--model-files", demo_model()),
            *("--output-data-dir", tmp_path / "results", "--patch-size", 128, "--overlap", 16, "--offline", *given),
        )
    assert ended == code, said[-3000:]
    done = list((tmp_path / "results").rglob("manifest.json"))
    assert len(done) == (code == 0)
    told = " ".join(said.split())
    assert ("asked for" in told) == (code == 2)
    assert f"torch {torch.__version__} cannot use it" in told
