"""The choice of a backend, made once at the edge."""

from collections.abc import Collection
from typing import Any

from darts_preprocessing.backends.compilation import finish_compilation
from darts_preprocessing.backends.interface import Backend
from darts_utils import Device


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
    if type(array).__module__.partition(".")[0] == "cupy":
        return backend_for(Device("cuda", array.device.id), features)
    return backend_for(Device("cpu"), features)
