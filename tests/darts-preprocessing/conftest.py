"""A tile with its auxiliary data, and the kernels of each backend: of the GPU on a strict stand-in everywhere."""

import pytest

import darts_preprocessing as dp
from darts_preprocessing.backends.arrays import GpuBackend
from darts_preprocessing.backends.cpu import CpuBackend
from darts_utils import Device, try_cupy
from support import preprocessing as oracle
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


@pytest.fixture(scope="module")
def geobox():
    return oracle.make_geobox((oracle.ROWS, oracle.COLS), origin=(503_000.3, 7_700_001.1))


@pytest.fixture(scope="module")
def tile(geobox):
    return oracle.make_tile(geobox)


@pytest.fixture(scope="module")
def arcticdem(geobox):
    return oracle.make_arcticdem(geobox)


@pytest.fixture(scope="module")
def tcvis(geobox):
    return oracle.make_tcvis(geobox)


@pytest.fixture(scope="module")
def result(tile, arcticdem, tcvis):
    return dp.preprocess_v2(tile, arcticdem, tcvis, tpi_outer_radius=oracle.RADIUS, device="cpu")
