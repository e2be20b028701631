"""The choice of a backend, made once at the edge."""

from collections.abc import Collection
from typing import Any

from darts_preprocessing.backends.compilation import finish_compilation
from darts_preprocessing.backends.interface import Backend
from darts_utils import Device, is_on_gpu, try_cupy

TRIAL = try_cupy('pip install "darts-preprocessing[cuda12]", or [cuda13] for CUDA 13')
"""Whether cupy computes on a GPU, for :func:`darts_utils.resolve_device`."""


def backend_for(device: Device, features: Collection[str]) -> Backend:
    """Return the kernels that run on a device, ready to compute the features."""
    if device.type == "cuda":
        from darts_preprocessing.backends.gpu import GpuBackend

        return GpuBackend(device.index)
    from darts_preprocessing.backends.cpu import CpuBackend

    finish_compilation(features)
    return CpuBackend()


def backend_of(array: Any, features: Collection[str]) -> Backend:
    """Return the kernels that run where an array lies, ready to compute the features."""
    if is_on_gpu(array):
        return backend_for(Device("cuda", array.device.id), features)
    return backend_for(Device("cpu"), features)
