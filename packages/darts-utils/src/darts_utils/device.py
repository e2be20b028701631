"""Choose the device that does the work, and say in a sentence why a GPU cannot."""

import contextlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias

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
            memory in use, or that does not tell; None, the first GPU where one works. "auto" and None mean the CPU
            where there is no such GPU. Anything that prints as one of these will do, a ``torch.device`` for example.
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
    gpus, reasons = _visible_gpus()
    reasons += _missing_modules(needs, install)
    if reasons:
        if wanted in (None, "auto"):
            return CPU
        return _give_up(str(wanted), " and ".join(reasons), fallback)
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
    if device is None:
        return None
    text = str(device).strip().lower()
    if text == "auto":
        return "auto"
    if text == "cpu":
        return CPU
    if text == "cuda":
        return Device("cuda", 0)
    number = text.removeprefix("cuda:")
    if number.isdecimal():
        return Device("cuda", int(number))
    raise ParameterError(f"device is {device!r}; expected 'cpu', 'cuda', 'cuda:1', 'auto', a GPU index or None.")


def _give_up(wanted: str, reason: str, fallback: bool) -> Device:
    message = f"Device {wanted} was asked for, but {reason}."
    if not fallback:
        raise DeviceError(f"{message} Choose another device, or 'cpu'.")
    # The warning points at the line that called the function that called resolve_device.
    warnings.warn(f"{message} The CPU does the work.", DeviceFallbackWarning, stacklevel=4)
    return CPU


def _missing_modules(needs: Sequence[str], install: str) -> list[str]:
    missing = [name for name in needs if not _is_installed(name)]
    if not missing:
        return []
    how = f" ({install})" if install else ""
    return [f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed{how}"]


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        # The parent of a dotted name is absent; or the module is loaded and was made without a spec.
        return sys.modules.get(name) is not None


def _visible_gpus() -> tuple[list[_Gpu], list[str]]:
    """List the GPUs that CUDA shows to this process, and say why where there is none.

    Asks the driver's management library, which, unlike CUDA itself, leaves no trace in the process and survives a fork.
    It counts by PCI bus, as CUDA does for GPUs of one model, and for all with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [], [f"no NVIDIA driver answers here ({error})"]
    try:
        gpus = [_Gpu(*_memory(pynvml, handle)) for handle in _visible_handles(pynvml)]
    except pynvml.NVMLError as error:
        return [], [f"the NVIDIA driver does not tell which GPUs there are ({error})"]
    finally:
        pynvml.nvmlShutdown()
    if gpus:
        return gpus, []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
    return [], [f"no GPU is visible to this process{shown}"]


def _memory(pynvml: ModuleType, handle: Any) -> tuple[int, int]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        # A GPU that shares the CPU's memory does not tell, and neither does one that this user may not inspect.
        return 0, 1
    return int(memory.used), int(memory.total)


def _visible_handles(pynvml: ModuleType) -> list[Any]:
    """Return a handle for each GPU that ``CUDA_VISIBLE_DEVICES`` names, or for every GPU where it is not set.

    As CUDA does, stops at the first entry that names no GPU, takes the beginning of a UUID for the whole where it is
    unique (CUDA Programming Guide, section "CUDA environment variables"), and shows no GPU at all where one is named
    twice.
    """
    every = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return every
    handles: dict[str, Any] = {}
    for entry in visible.split(","):
        handle = _handle_by_name(pynvml, every, entry.strip())
        if handle is None:
            break
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        if uuid in handles:
            return []
        handles[uuid] = handle
    return list(handles.values())


def _handle_by_name(pynvml: ModuleType, every: list[Any], entry: str) -> Any:
    """Return the handle of the GPU that an entry of ``CUDA_VISIBLE_DEVICES`` names, None where it names none."""
    if entry.isdecimal():
        return every[int(entry)] if int(entry) < len(every) else None
    if entry.startswith("GPU-"):
        matches = [handle for handle in every if pynvml.nvmlDeviceGetUUID(handle).startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    if entry.startswith("MIG-"):
        with contextlib.suppress(pynvml.NVMLError):
            return pynvml.nvmlDeviceGetHandleByUUID(entry)
    return None
