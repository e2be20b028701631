"""Choose the backend once per call, at the edge."""

from darts_postprocessing.backends.base import Array, Backend
from darts_postprocessing.backends.cpu import CpuBackend
from darts_postprocessing.backends.cuda import CudaBackend
from darts_utils import Device, DeviceError, DeviceLike, is_on_gpu, resolve_device, try_cupy

INSTALL = 'pip install "darts-postprocessing[cuda12]", or [cuda13] for CUDA 13'
TRIAL = try_cupy(INSTALL)


def choose_backend(device: DeviceLike, *arrays: Array) -> Backend:
    """Return the backend for a device.

    Args:
        device: "cpu", "cuda", "cuda:1", a GPU index, a :class:`darts_utils.Device`, or "auto": the first GPU with less
            than half of its memory in use. None takes the GPU on which one of the arrays lies, else the first GPU
            where one works. "auto" and None take the CPU where no GPU works.
        *arrays: The numpy or cupy arrays that the caller will work on.

    Returns:
        The backend. Where a GPU was asked for and does not work, that of the CPU, with one DeviceFallbackWarning.

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
            return CudaBackend.of(home)
    return _working_backend(device)


def _working_backend(wanted: DeviceLike) -> Backend:
    # In a function of its own, so that every fallback warning points at one line of choose_backend and Python shows it
    # once per run, whichever public function asked: resolve_device warns for the caller of its caller.
    device = resolve_device(wanted, trial=TRIAL, work="objects are made", fallback=True)
    return CpuBackend() if device.type == "cpu" else CudaBackend.of(device)
