"""Choose the device that does the work, and say in a sentence why a GPU cannot."""

import importlib.util
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from darts_utils.errors import DeviceError, DeviceFallbackWarning, ParameterError


@dataclass(frozen=True)
class Device:
    """The CPU, or one CUDA GPU.

    Attributes:
        type: "cpu" or "cuda".
        index: Number of the GPU as CUDA counts the visible ones; 0 on the CPU.
    """

    type: Literal["cpu", "cuda"]
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.type == "cpu" else f"cuda:{self.index}"


DeviceLike: TypeAlias = "str | int | Device | None"
"""How callers name a device: "cpu", "cuda", "cuda:1", "auto", a GPU index, a :class:`Device`, or None."""

CPU = Device("cpu")


@dataclass(frozen=True)
class _Gpu:
    used: int
    total: int

    @property
    def is_free(self) -> bool:
        return self.used < self.total / 2


def resolve_device(
    device: DeviceLike = None, *, needs: Sequence[str] = (), install: str = "", fallback: bool = False
) -> Device:
    """Turn what the caller asked for into a device that works.

    Args:
        device: "cpu"; "cuda" (the first GPU), "cuda:1" or a GPU index; "auto", the first GPU with less than half of its
            memory in use; None, the first GPU where one works. "auto" and None mean the CPU where there is no such GPU.
        needs: Modules without which the GPU is of no use to the caller, for example ``["cupy"]``.
        install: The command that installs `needs`, for the message.
        fallback: Take the CPU, with a :class:`DeviceFallbackWarning`, where the GPU asked for does not work.

    Returns:
        The device.

    Raises:
        ParameterError: If `device` is none of the above.
        DeviceError: If a GPU was asked for, does not work, and `fallback` is False. The message names what is missing.

    Examples:
        >>> resolve_device("cpu")
        Device(type='cpu', index=0)
    """
    wanted = _parse(device)
    if wanted == CPU:
        return CPU
    try:
        gpus = _visible_gpus()
        _require_modules(needs, install)
    except DeviceError as error:
        if wanted in (None, "auto"):
            return CPU
        return _give_up(str(wanted), str(error), fallback)
    if wanted is None:
        return Device("cuda", 0)
    if wanted == "auto":
        free = (index for index, gpu in enumerate(gpus) if gpu.is_free)
        index = next(free, None)
        return CPU if index is None else Device("cuda", index)
    if wanted.index >= len(gpus):
        plural = "" if len(gpus) == 1 else "s"
        return _give_up(str(wanted), f"this process sees {len(gpus)} GPU{plural}, counted from 0", fallback)
    return wanted


def _parse(device: DeviceLike) -> Device | Literal["auto"] | None:
    if device is None or isinstance(device, Device):
        return device
    text = str(device).strip().lower()
    if text == "auto":
        return "auto"
    if text == "cpu":
        return CPU
    if text == "cuda":
        return Device("cuda", 0)
    number = text.removeprefix("cuda:")
    if number.isdecimal() and not isinstance(device, bool):
        return Device("cuda", int(number))
    raise ParameterError(f"device is {device!r}; expected 'cpu', 'cuda', 'cuda:1', 'auto', a GPU index or None.")


def _give_up(wanted: str, reason: str, fallback: bool) -> Device:
    message = f"Device {wanted} was asked for, but {reason}."
    if not fallback:
        raise DeviceError(f"{message} Choose another device, or 'cpu'.")
    warnings.warn(f"{message} The CPU does the work.", DeviceFallbackWarning, stacklevel=4)
    return CPU


def _require_modules(needs: Sequence[str], install: str) -> None:
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        how = f" ({install})" if install else ""
        raise DeviceError(f"{' and '.join(missing)} is not installed{how}")


def _visible_gpus() -> list[_Gpu]:
    """List the GPUs that CUDA shows to this process, in CUDA's order.

    Asks the driver's management library, which, unlike CUDA itself, leaves no trace in the process and survives a fork.

    Raises:
        DeviceError: If there is no driver or no visible GPU.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise DeviceError(f"no NVIDIA driver answers here ({error})") from error
    try:
        gpus = []
        for handle in _visible_handles(pynvml):
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            gpus.append(_Gpu(int(memory.used), int(memory.total)))
    except pynvml.NVMLError as error:
        raise DeviceError(f"the NVIDIA driver does not tell which GPUs there are ({error})") from error
    finally:
        pynvml.nvmlShutdown()
    if not gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        raise DeviceError(f"no GPU is visible to this process{shown}")
    return gpus


def _visible_handles(pynvml):  # type: ignore[no-untyped-def]
    """Yield a handle for each entry of CUDA_VISIBLE_DEVICES, or for every GPU where it is not set.

    As CUDA does, stops at the first entry that names no GPU (CUDA C++ Programming Guide, CUDA environment variables).
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = pynvml.nvmlDeviceGetCount()
    entries = [str(index) for index in range(count)] if visible is None else visible.split(",")
    for entry in (text.strip() for text in entries):
        if entry.isdecimal() and int(entry) < count:
            yield pynvml.nvmlDeviceGetHandleByIndex(int(entry))
        elif entry.startswith(("GPU-", "MIG-")):
            yield pynvml.nvmlDeviceGetHandleByUUID(entry)
        else:
            return
