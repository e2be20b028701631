"""Choose the backend once per call, at the edge."""

from collections.abc import Callable
from typing import TypeVar

from darts_postprocessing.backends.base import Array, Backend
from darts_postprocessing.backends.cpu import CpuBackend
from darts_postprocessing.backends.cuda import CudaBackend
from darts_utils import Device, DeviceError, DeviceLike, is_on_gpu, resolve_device, try_cupy, within_gpu_memory

INSTALL = 'pip install "darts-postprocessing[cuda12]", or [cuda13] for CUDA 13'
TRIAL = try_cupy(INSTALL)
_WORK = "objects are made"
_Result = TypeVar("_Result")


def compute_on(device: DeviceLike, compute: Callable[[Backend], _Result], *arrays: Array) -> _Result:
    """Return what a computation gives on the backend for a device, see :func:`choose_device`.

    Args:
        device: As there.
        compute: Takes the active backend; can be called again, with that of the CPU where the memory of the GPU does
            not suffice, which is a DeviceFallbackWarning.
        *arrays: As there.
    """

    def compute_with(chosen: Device) -> _Result:
        backend = _backend_of(chosen)
        with backend.active():
            return compute(backend)

    # In a function of its own, so that every fallback warning points at one line and Python shows it once per run,
    # whichever public function asked: both warn for the caller of their caller.
    return within_gpu_memory(choose_device(device, *arrays), compute_with, _WORK, 1)


def choose_device(device: DeviceLike, *arrays: Array) -> Device:
    """Return the device that does the work.

    Args:
        device: "cpu", "cuda", "cuda:1", a GPU index, a :class:`darts_utils.Device`, or "auto": the first GPU with less
            than half of its memory in use. None takes the GPU on which one of the arrays lies, else the first GPU
            where one works. "auto" and None take the CPU where no GPU works.
        *arrays: The numpy or cupy arrays that the caller will work on.

    Returns:
        The device. Where a GPU was asked for and does not work, the CPU, with one DeviceFallbackWarning.

    Raises:
        ParameterError: If `device` is none of the above.
        DeviceError: If `device` is None and an array lies on a GPU on which cupy does not work.
    """
    if device is None:
        on_gpu = next((array for array in arrays if is_on_gpu(array)), None)
        if on_gpu is not None:
            home = Device("cuda", on_gpu.device.id)
            if reason := TRIAL(home):
                raise DeviceError(f"An array lies on {home}, but {reason}.")
            return home
    return resolve_device(device, trial=TRIAL, work=_WORK, fallback=True)


def _backend_of(device: Device) -> Backend:
    return CpuBackend() if device.type == "cpu" else CudaBackend.of(device)
