"""The choice of a backend, made once at the edge."""

from collections.abc import Collection
from typing import Any

from darts_preprocessing.backends.arrays import GpuBackend
from darts_preprocessing.backends.compilation import finish_compilation
from darts_preprocessing.backends.cpu import CpuBackend
from darts_preprocessing.backends.interface import Backend
from darts_preprocessing.backends.jit import Kernel
from darts_utils import Device, is_on_gpu, try_cupy

TRIAL = try_cupy('pip install "darts-preprocessing[cuda12]", or [cuda13] for CUDA 13')
"""Whether cupy computes on a GPU, for :func:`darts_utils.resolve_device`."""


def backend_for(device: Device, kernels: Collection[Kernel]) -> Backend:
    """Return what computes on a device; on the CPU, when the kernels are compiled that it will call."""
    if device.type == "cuda":
        return GpuBackend.of(device)
    finish_compilation(kernels)
    return CpuBackend()


def backend_of(array: Any, kernels: Collection[Kernel]) -> Backend:
    """Return what computes where an array lies; see :func:`backend_for`."""
    if is_on_gpu(array):
        return backend_for(Device("cuda", array.device.id), kernels)
    return backend_for(Device("cpu"), kernels)
