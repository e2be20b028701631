"""The choice of a backend, made once at the edge."""

from typing import Any

from darts_preprocessing.backends.interface import Backend
from darts_utils import Device


def backend_for(device: Device) -> Backend:
    """Return the kernels that run on a device."""
    if device.type == "cuda":
        from darts_preprocessing.backends.gpu import GpuBackend

        return GpuBackend(device.index)
    from darts_preprocessing.backends.cpu import CpuBackend

    return CpuBackend()


def backend_of(array: Any) -> Backend:
    """Return the kernels that run where an array lies."""
    if type(array).__module__.partition(".")[0] == "cupy":
        return backend_for(Device("cuda", array.device.id))
    return backend_for(Device("cpu"))
