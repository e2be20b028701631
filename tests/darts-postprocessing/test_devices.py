"""Which backend is chosen, what is said where it cannot be, and where results lie."""

import subprocess
import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
import xarray as xr

from darts_postprocessing import binarize, erode_mask, kernels, prepare_export
from darts_postprocessing.backends import choose_backend
from darts_postprocessing.backends.cpu import CpuBackend
from darts_postprocessing.backends.cuda import CudaBackend
from darts_utils import Device, DeviceFallbackWarning
from support.driver import ONE_GPU, show_gpus
from support.postprocessing import CupyArray, StandInCupy, StandInNdimage, make_scene


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def stand_in(monkeypatch):
    """A GPU 0 on which "cupy" runs numpy."""
    cupy, cupyx, scipy = StandInCupy(), ModuleType("cupyx"), ModuleType("cupyx.scipy")
    scipy.ndimage = StandInNdimage()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    monkeypatch.setitem(sys.modules, "cupyx.scipy", scipy)
    show_gpus(monkeypatch, ONE_GPU)
    return cupy


@pytest.fixture
def tile():
    probs, quality = make_scene(100, 20)
    return xr.Dataset({"probabilities": (("y", "x"), probs), "quality_data_mask": (("y", "x"), quality)})


@pytest.mark.parametrize("wanted", ["cpu", None, "auto", Device("cpu")])
def test_the_cpu_is_taken_silently(no_gpu, wanted):
    assert isinstance(choose_backend(wanted, np.zeros((2, 2))), CpuBackend)


@pytest.mark.parametrize("wanted", ["cuda", 0, "cuda:1"])
def test_a_gpu_that_does_not_work_is_a_warning_that_names_what_is_missing(no_gpu, wanted, tile):
    with pytest.warns(DeviceFallbackWarning, match="no NVIDIA driver answers|no GPU is visible") as caught:
        result = prepare_export(tile, device=wanted, quality_level=1)
    assert len(caught) == 1
    xr.testing.assert_identical(result, prepare_export(tile, device="cpu", quality_level=1))


def test_cupy_missing(monkeypatch, tile):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.warns(
        DeviceFallbackWarning, match=r'cupy is not installed \(pip install "darts-postprocessing\[cuda12'
    ):
        erode_mask(tile["quality_data_mask"], 1, "cuda")
    erode_mask(tile["quality_data_mask"], 1)  # silently


def test_cupy_broken(monkeypatch, stand_in, tile):
    def fail(*_):
        raise OSError("libnvrtc.so.12: cannot open shared object file\nand more")

    monkeypatch.setattr(stand_in, "asnumpy", fail)
    message = (
        r"Device cuda:0 was asked for, but cupy does not work on it \(OSError: libnvrtc.so.12: cannot.*file\)\. Objects"
    )
    with pytest.warns(DeviceFallbackWarning, match=message):
        eroded = erode_mask(tile["quality_data_mask"], 1, "cuda")
    xr.testing.assert_identical(eroded, erode_mask(tile["quality_data_mask"], 1))  # None and "auto" say nothing
    xr.testing.assert_identical(eroded, erode_mask(tile["quality_data_mask"], 1, "auto"))


def test_the_warning_is_given_once_per_run(no_gpu, tile):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            mask = erode_mask(tile["quality_data_mask"], 1, "cuda")
            binarize(tile["probabilities"], 0.5, 1, mask, "cuda")
            kernels.erode(mask.values, 1, device="cuda")
            prepare_export(tile, device="cuda")
    assert [each.category for each in caught] == [DeviceFallbackWarning]


def test_the_warning_can_be_forbidden(no_gpu, tile):
    with pytest.raises(DeviceFallbackWarning):
        prepare_export(tile, device="cuda")


@pytest.mark.parametrize("wanted", ["cuda", None, 0])
def test_host_arrays_come_back_to_the_host(stand_in, tile, wanted):
    result = prepare_export(tile, device=wanted, quality_level=1, edge_objects="remove")
    assert stand_in.freed == 1
    xr.testing.assert_identical(result, prepare_export(tile, device="cpu", quality_level=1, edge_objects="remove"))
    assert {type(result[name].data) for name in result.data_vars} == {np.ndarray}


def test_what_is_on_the_gpu_stays_there(stand_in, tile):
    expected = prepare_export(tile, device="cpu", quality_level=1)
    on_gpu = tile.assign(probabilities=(("y", "x"), tile["probabilities"].values.view(CupyArray)))
    assert type(on_gpu["probabilities"].data) is CupyArray
    result = prepare_export(on_gpu, quality_level=1)
    assert type(result["probabilities"].data) is CupyArray
    assert type(result["binarized_segmentation"].data) is CupyArray
    assert type(result["extent"].data) is np.ndarray
    for name in expected.data_vars:
        np.testing.assert_array_equal(np.asarray(result[name].data), expected[name].values)


def test_who_asks_for_the_cpu_gets_host_memory(tile):
    mask = tile["quality_data_mask"].values
    eroded = kernels.erode(mask.view(CupyArray), 3, device="cpu")
    assert type(eroded) is np.ndarray
    np.testing.assert_array_equal(eroded, kernels.erode(mask, 3, device="cpu"))


def test_none_takes_the_gpu_of_the_array(stand_in):
    array = np.zeros((2, 2), np.float32).view(CupyArray)
    array.device = type(array.device)(id=3)
    backend = choose_backend(None, np.zeros((2, 2)), array)
    assert isinstance(backend, CudaBackend)
    assert backend._index == 3
    assert backend.to_device(array) is array
    assert CudaBackend(stand_in, StandInNdimage(), 0).to_device(array) is not array


def test_importing_needs_no_heavy_library():
    code = """
import sys, darts_postprocessing, darts_postprocessing.kernels, darts_postprocessing.backends.cuda
heavy = {"torch", "cupy", "cupyx", "cucim", "rasterio", "skimage", "scipy", "xarray", "pandas", "dask"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
