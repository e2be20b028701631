"""The stand-in for cupy is as strict as cupy, and offers nothing that cupy and cucim do not have."""

import importlib
import inspect

import numpy as np
import pytest

from darts_postprocessing.postprocess import CUCIM_AVAILABLE
from support import cupy_standin
from support.cupy_standin import GpuArray, StandInCupy


@pytest.mark.parametrize(
    "attempt",
    [
        lambda array, host: np.asarray(array),
        lambda array, host: array + host,
        lambda array, host: host + array,
        lambda array, host: host > array,
        lambda array, host: np.where(array > 0, host, array),
        lambda array, host: np.stack([array, host]),
        lambda array, host: np.add(array, array, out=host),
        lambda array, host: array[host > 0],
        lambda array, host: array.__setitem__(0, host[0]),
        lambda array, host: StandInCupy().maximum(array, host),
        lambda array, host: StandInCupy().stack([array, host]),
        lambda array, host: array.astype(np.uint8) > 0.5,
        lambda array, host: StandInCupy().greater(array.astype(np.uint8), 254.95),
    ],
)
def test_what_cupy_refuses_or_does_otherwise_is_an_error(attempt):
    with pytest.raises(TypeError):
        attempt(GpuArray(np.ones((2, 2))), np.ones((2, 2)))


def test_what_numpy_hands_over_stays_on_the_device():
    array = GpuArray(np.array([[1.0, np.nan]]))
    for result in (np.isnan(array), np.where(array > 0, np.nan, array), array.sum(), array.any(), 2 / array, -array.T):
        assert type(result) is GpuArray
    assert float((array == array).sum()) == 1
    assert not hasattr(StandInCupy(), "nanmedian")


def test_cupy_and_cucim_have_what_is_used_of_them():
    """Their wheels can be imported without a GPU."""
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("cupy is not installed; its wheels weigh a gigabyte")
    cupy = importlib.import_module("cupy")
    names = cupy_standin.FUNCTIONS | cupy_standin.TYPES | {"asarray", "asnumpy", "from_dlpack", "ndarray"}
    assert not [name for name in sorted(names) if not hasattr(cupy, name)]
    methods = [
        "all",
        "any",
        "astype",
        "copy",
        "get",
        "max",
        "min",
        "ravel",
        "reshape",
        "sum",
        "transpose",
        "view",
        "device",
        "flags",
        "T",
        "real",
        "imag",
    ]
    assert not [name for name in methods if not hasattr(cupy.ndarray, name)]
    assert callable(cupy.add.at)
    of_cuda = ("Device", "Stream", "get_current_stream", "alloc_pinned_memory")
    assert not [name for name in of_cuda if not hasattr(cupy.cuda, name)]
    assert not [name for name in ("record", "wait_event", "synchronize") if not hasattr(cupy.cuda.Stream, name)]
    assert hasattr(cupy.cuda.Device, "mem_info")
    if CUCIM_AVAILABLE:
        label = importlib.import_module("cucim.skimage.measure").label
        assert {"connectivity", "return_num"} <= set(inspect.signature(label).parameters)
