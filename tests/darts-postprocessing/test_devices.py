"""Which backend is chosen, what is said where it cannot be, and where results lie."""

import subprocess
import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
import xarray as xr

from darts_postprocessing import binarize, erode_mask, kernels, postprocess, prepare_export
from darts_postprocessing.backends import choose_device, cuda
from darts_postprocessing.backends.cuda import CudaBackend
from darts_utils import Device, DeviceFallbackWarning
from support.cupy_standin import GpuArray, StandInCupy, label
from support.driver import ONE_GPU, show_gpus
from support.postprocessing import make_scene


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def stand_in(monkeypatch):
    """A GPU 0 that is a strict stand-in."""
    cupy = StandInCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "find_label", lambda: label)
    show_gpus(monkeypatch, ONE_GPU)
    return cupy


@pytest.fixture
def tile():
    probs, quality = make_scene(100, 20)
    return xr.Dataset({"probabilities": (("y", "x"), probs), "quality_data_mask": (("y", "x"), quality)})


@pytest.mark.parametrize("wanted", ["cpu", None, "auto", Device("cpu")])
def test_the_cpu_is_taken_silently(no_gpu, wanted):
    assert choose_device(wanted, np.zeros((2, 2))) == Device("cpu")


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
    assert stand_in.freed == 0  # memory goes back only where somebody lacks it
    xr.testing.assert_identical(result, prepare_export(tile, device="cpu", quality_level=1, edge_objects="remove"))
    assert {type(result[name].data) for name in result.data_vars} == {np.ndarray}


def test_what_is_on_the_gpu_stays_there(stand_in, tile):
    expected = prepare_export(tile, device="cpu", quality_level=1)
    on_gpu = tile.assign(probabilities=(("y", "x"), GpuArray(tile["probabilities"].values)))
    assert type(on_gpu["probabilities"].data) is GpuArray
    result = prepare_export(on_gpu, quality_level=1)
    assert type(result["probabilities"].data) is GpuArray
    assert type(result["binarized_segmentation"].data) is GpuArray
    assert type(result["extent"].data) is np.ndarray
    for name in expected.data_vars:
        found = result[name].data
        np.testing.assert_array_equal(found.get() if isinstance(found, GpuArray) else found, expected[name].values)


def test_who_asks_for_the_cpu_gets_host_memory(tile):
    mask = tile["quality_data_mask"].values
    eroded = kernels.erode(GpuArray(mask), 3, device="cpu")
    assert type(eroded) is np.ndarray
    np.testing.assert_array_equal(eroded, kernels.erode(mask, 3, device="cpu"))


def test_none_takes_the_gpu_of_the_array(stand_in):
    array = GpuArray(np.zeros((2, 2), np.float32), index=3)
    assert choose_device(None, np.zeros((2, 2)), array) == Device("cuda", 3)
    backend = CudaBackend(stand_in, label, 3)
    assert backend.to_device(array) is array
    assert CudaBackend(stand_in, label, 0).to_device(array) is not array


def test_importing_needs_no_heavy_library():
    code = """
import sys, darts_postprocessing, darts_postprocessing.kernels, darts_postprocessing.backends.cuda
heavy = {"torch", "cupy", "cupyx", "cucim", "rasterio", "skimage", "scipy", "xarray", "pandas", "dask"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_cucim_labels_where_it_is_installed_and_cupy_elsewhere(monkeypatch):
    def install(name, **functions):
        module = ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    def of_cucim(image, *, connectivity, return_num):
        return "cucim", image, connectivity, return_num

    for name in ("cucim", "cucim.skimage"):
        install(name)
    install("cucim.skimage.measure", label=of_cucim)
    ndimage = install("cupyx.scipy.ndimage", label=lambda image, structure: ("cupy", image, structure.sum()))
    for name in ("cupyx", "cupyx.scipy"):
        install(name, ndimage=ndimage)
    monkeypatch.setattr(cuda, "CUCIM_AVAILABLE", True)
    assert cuda.find_label()("image") == ("cucim", "image", 2, True)
    monkeypatch.setattr(cuda, "CUCIM_AVAILABLE", False)
    assert cuda.find_label()("image") == ("cupy", "image", 9)


def test_the_names_of_the_first_darts(monkeypatch, stand_in):
    assert (postprocess.binarize, postprocess.erode_mask, postprocess.prepare_export) == (
        binarize,
        erode_mask,
        prepare_export,
    )
    assert isinstance(postprocess.CUCIM_AVAILABLE, bool)
    assert postprocess.DEFAULT_DEVICE == "cuda"
    show_gpus(monkeypatch)
    assert postprocess.DEFAULT_DEVICE == "cpu"
    with pytest.raises(AttributeError, match="no attribute 'DEFAULT'"):
        _ = postprocess.DEFAULT
