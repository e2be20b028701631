"""The kernels of each backend; those of the GPU where there is one, and their very code on numpy everywhere."""

import importlib.util

import numpy as np
import pytest

from darts_preprocessing.backends.arrays import ArrayBackend
from darts_preprocessing.backends.cpu import CpuBackend


def _gpu_backend():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("cupy is not installed")
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no CUDA device answers here: {error}")
    from darts_preprocessing.backends.gpu import GpuBackend

    return GpuBackend(0)


_MAKERS = {"cpu": CpuBackend, "arrays on numpy": lambda: ArrayBackend(np), "gpu": _gpu_backend}


@pytest.fixture(scope="session", params=["cpu", "arrays on numpy", pytest.param("gpu", marks=pytest.mark.gpu)])
def backend(request):
    return _MAKERS[request.param]()
