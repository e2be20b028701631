"""What stages that work with cupy share, on a strict stand-in: streams, the way to the host, memory that runs out."""

import re
import sys
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from darts_utils import (
    Device,
    DeviceFallbackWarning,
    ValueRangeError,
    check_range,
    free_gpu_memory,
    mask_declared,
    range_sample,
    to_host,
    try_cupy,
    within_gpu_memory,
    working_on_gpu,
)
from support.cupy_standin import COUNTS, GpuArray, StandInCupy, Stream, on_gpu

GPU = Device("cuda", 0)


@pytest.fixture
def cupy(monkeypatch):
    cupy = StandInCupy(kept=100)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    COUNTS.clear()
    return cupy


def test_each_thread_has_a_stream_behind_what_was_there_before(cupy):
    seen = []

    def fail(is_same):
        raise RuntimeError("stop" if is_same else "another stream")

    def work():
        outer = Stream.current()
        with working_on_gpu(cupy, 0):
            first = Stream.current()
        with pytest.raises(RuntimeError, match="stop"), working_on_gpu(cupy, 0):
            fail(Stream.current() is first)
        assert Stream.current() is outer
        assert first.non_blocking
        assert first.behind == [outer, outer]
        seen.append(first)

    work()
    other = threading.Thread(target=work)
    other.start()
    other.join()
    assert seen[0] is not seen[1]
    assert COUNTS == {"waits": 4}  # one at the end of each block, also where it failed


def test_a_tile_comes_to_the_host_with_one_wait(cupy):
    rng = np.random.default_rng(0)
    tile = xr.Dataset(
        {
            "a": (("y", "x"), rng.random((5, 7), np.float32)),
            "b": (("y", "x"), rng.integers(0, 9, (5, 7), np.uint8), {"units": "1"}),
            "empty": (("z",), np.zeros(0)),
            "here": (("y", "x"), rng.random((5, 7))),
        },
        attrs={"tile_id": "x"},
    )
    given = on_gpu(tile).assign(here=tile["here"])
    assert to_host(given).identical(tile)
    assert COUNTS["waits"] == 1
    assert type(given["a"].data) is GpuArray
    assert to_host(given["b"]).identical(tile["b"])
    np.testing.assert_array_equal(to_host(given["a"].data), tile["a"])
    found = to_host({"a": given["a"].data, "here": tile["here"].values})
    np.testing.assert_array_equal(found["a"], tile["a"])
    assert found["here"] is tile["here"].values


def test_what_is_not_on_a_gpu_is_passed_on(monkeypatch, cupy):
    array = np.zeros(3)
    lazy = xr.Dataset({"a": ("x", array)}).chunk()
    assert to_host(array) is array
    assert to_host(lazy)["a"].chunks
    monkeypatch.delitem(sys.modules, "cupy")
    assert to_host(lazy) is lazy
    assert not COUNTS


def test_free_memory_counts_what_is_held_unused(monkeypatch, cupy):
    free = cupy.cuda.Device.mem_info[0]
    assert free_gpu_memory(GPU) == free + 100
    cuda = SimpleNamespace(is_initialized=lambda: True, memory_reserved=lambda _: 70, memory_allocated=lambda _: 50)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert free_gpu_memory(GPU) == free + 120


class OutOfMemoryError(MemoryError):
    __module__ = "cupy.cuda.memory"


class CUDARuntimeError(RuntimeError):
    __module__ = "cupy_backends.cuda.api.runtime"


def _fails(times, error):
    tried = []

    def compute(device):
        tried.append(str(device))
        if len(tried) <= times:
            raise error
        return device

    return compute, tried


@pytest.mark.parametrize(
    "error", [OutOfMemoryError("Out of memory allocating 8 bytes"), CUDARuntimeError("cudaErrorMemoryAllocation: out")]
)
def test_memory_that_runs_out_is_given_back_and_tried_again(monkeypatch, cupy, error):
    emptied = []
    cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: emptied.append(1))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    compute, tried = _fails(1, error)
    assert within_gpu_memory(GPU, compute, "features are computed") == GPU
    assert (tried, emptied, cupy.freed) == (["cuda:0"] * 2, [1], 1)
    compute, tried = _fails(2, error)
    sentence = r"^The memory of cuda:0 does not suffice\. Features are computed on the CPU\.$"
    with pytest.warns(DeviceFallbackWarning, match=sentence) as caught:
        assert within_gpu_memory(GPU, compute, "features are computed", stacklevel=1) == Device("cpu")
    assert tried == ["cuda:0", "cuda:0", "cpu"]
    assert caught[0].filename.endswith("test_gpu.py")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            compute, _ = _fails(0, error)
            within_gpu_memory(GPU, compute, "features are computed")


@pytest.mark.parametrize("error", [MemoryError("of the host"), ValueError("out of memory"), RuntimeError("shapes")])
def test_an_error_about_something_else_is_no_shortage(cupy, error):
    compute, tried = _fails(1, error)
    with pytest.raises(type(error)):
        within_gpu_memory(GPU, compute, "objects are made")
    assert tried == ["cuda:0"]
    assert not cupy.freed


def test_the_cpu_is_asked_once():
    compute, tried = _fails(1, OutOfMemoryError("x"))
    with pytest.raises(MemoryError):
        within_gpu_memory(Device("cpu"), compute, "objects are made")
    assert tried == ["cpu"]


@pytest.mark.parametrize("shape", [(1, 3), (47, 48), (95, 96), (97, 5000)])
def test_a_sample_of_a_sample_is_the_sample(shape):
    values = np.random.default_rng(0).random(shape)
    sample = range_sample(values)
    assert max(sample.shape) <= 96
    np.testing.assert_array_equal(range_sample(sample), sample)
    for given in (values, sample):
        with pytest.raises(ValueRangeError):
            check_range("red", given * 1000, 0, 1, taker="nobody", remedy="")


def test_real_numbers_on_a_gpu_are_masked_without_asking_them(cupy):
    values = np.array([[1.0, -9999.0, np.nan]], np.float32)
    found = mask_declared(GpuArray(values), {"nodata": -9999})
    assert not COUNTS
    np.testing.assert_array_equal(found.get(), mask_declared(values, {"nodata": -9999}))
    whole = np.array([[1, -9999]], np.int16)
    assert mask_declared(GpuArray(whole), {"nodata": 5}).dtype == np.int16


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError("libcublas.so.12: cannot open shared object file\nand more"),
            "OSError: libcublas.so.12: cannot open.*",
        ),
        (RuntimeError("no kernel image."), "RuntimeError: no kernel image"),
        (ValueError(), "ValueError: "),
    ],
    ids=["two lines", "a sentence", "nothing"],
)
def test_a_cupy_that_does_not_work_is_told_of_in_a_sentence(monkeypatch, cupy, error, said):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(cupy, "zeros", fail)
    assert re.fullmatch(rf"cupy does not work on it \({said}\)", try_cupy("pip install cupy")(GPU))


def test_a_cupy_is_believed_where_it_computes_what_is_right(monkeypatch, cupy):
    assert try_cupy("pip install cupy")(GPU) == ""


def test_a_cupy_that_computes_something_else_is_told_of(monkeypatch, cupy):
    ones = cupy.zeros(1, "uint8") + 1
    monkeypatch.setattr(cupy, "zeros", lambda *arguments: ones)
    assert try_cupy("pip install cupy")(GPU) == "cupy computes 2 where 1 is right"
