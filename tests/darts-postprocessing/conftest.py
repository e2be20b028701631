"""The backends under test, and small blocks, so that small images have many."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest import mock

import pytest

from darts_postprocessing.backends import Backend
from darts_postprocessing.backends.cpu import CpuBackend
from darts_postprocessing.backends.cuda import CudaBackend
from darts_utils import Device, rows, try_cupy
from support.cupy_standin import StandInCupy, label


@pytest.fixture(
    scope="session",
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu), "strict stand-in"],
)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend; the one for CUDA twice, on a GPU where one works and on a strict stand-in."""
    if request.param == "cpu":
        return CpuBackend()
    if request.param == "strict stand-in":
        return CudaBackend(StandInCupy(), label, 0)
    gpu = Device("cuda", 0)
    if reason := try_cupy("pip install cupy")(gpu):
        pytest.skip(f"no working GPU: {reason}")
    return CudaBackend.of(gpu)


@pytest.fixture(scope="session")
def small_blocks() -> Callable[[int, int], AbstractContextManager[None]]:
    """Give blocks of so many pixels, worked on by so many threads."""

    @contextmanager
    def patched(pixels: int, threads: int) -> Iterator[None]:
        with (
            mock.patch.object(rows, "BLOCK_PIXELS", pixels),
            mock.patch.object(rows, "usable_cpus", return_value=threads),
        ):
            yield

    return patched
