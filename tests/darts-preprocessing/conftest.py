"""The kernels of each backend; those of the GPU where there is one, and on a strict stand-in everywhere."""

import pytest

from darts_preprocessing.backends.arrays import GpuBackend
from darts_preprocessing.backends.cpu import CpuBackend
from darts_utils import Device, try_cupy
from support.cupy_standin import StandInCupy


def _gpu_backend():
    gpu = Device("cuda", 0)
    if reason := try_cupy("pip install cupy")(gpu):
        pytest.skip(f"no working GPU: {reason}")
    return GpuBackend.of(gpu)


_MAKERS = {"cpu": CpuBackend, "strict stand-in": lambda: GpuBackend(StandInCupy()), "gpu": _gpu_backend}


@pytest.fixture(scope="session", params=["cpu", "strict stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def backend(request):
    return _MAKERS[request.param]()
