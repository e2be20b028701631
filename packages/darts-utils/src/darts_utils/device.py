"""Choose the device that does the work, and say in a sentence why a GPU cannot."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
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
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Gpu:
    used: int
    total: int

    @property
    def is_free(self) -> bool:
        return self.used < self.total / 2


def resolve_device(
    device: DeviceLike = None,
    *,
    trial: Callable[[Device], str] | None = None,
    work: str = "the work is done",
    fallback: bool = False,
    warn: bool = False,
    stacklevel: int = 2,
) -> Device:
    """Turn what the caller asked for into a device that works.

    Args:
        device: "cpu"; "cuda" (the first GPU), "cuda:1" or a GPU index; "auto", the first GPU with less than half of its
            memory in use, or that does not tell; None, the first GPU where one works. "auto" and None mean the CPU
            where there is no such GPU. Anything that prints as one of these will do, a ``torch.device`` for example.
        trial: Lets a GPU compute what the caller will need of it; returns why it cannot, or an empty text. None
            believes the driver, which knows what there is, not what works.
        work: What then happens on the CPU, for the sentence: "networks run".
        fallback: Take the CPU, with a :class:`DeviceFallbackWarning`, where the GPU asked for does not work.
        warn: Warn likewise where nobody asked for a GPU, and one that is there does not work.
        stacklevel: Whose line the warning names: 2 is who called the caller.

    Returns:
        The device.

    Raises:
        ParameterError: If `device` is none of the above.
        DeviceError: If a GPU was asked for, does not work, and `fallback` is False. The message names what is missing.

    Warns:
        DeviceFallbackWarning: See `fallback` and `warn`.

    Examples:
        >>> resolve_device("cpu")
        Device(type='cpu', index=0)
    """
    wanted = _parse(device)
    if wanted == CPU:
        return CPU
    gpus, reason = _visible_gpus()
    chosen = _choose(wanted, gpus)
    if chosen is None:
        if wanted in (None, "auto"):
            return CPU
        number = len(gpus or ())
        count = f"this process sees {number} GPU{'' if number == 1 else 's'}, counted from 0"
        return _give_up(f"Device {wanted} was asked for, but {reason or count}.", work, fallback, stacklevel)
    why_not = trial(chosen) if trial is not None else ""
    if not why_not and (gpus or trial is not None):
        return chosen
    why_not = " and ".join(filter(None, (reason, why_not)))
    if wanted not in (None, "auto"):
        return _give_up(f"Device {wanted} was asked for, but {why_not}.", work, fallback, stacklevel)
    if warn and gpus:
        return _give_up(f"There is a GPU, but {why_not}.", work, True, stacklevel)
    logger.debug("%s on the CPU: %s.", work, why_not)
    return CPU


def _choose(wanted: "Device | Literal['auto'] | None", gpus: "list[_Gpu] | None") -> Device | None:
    """Return the GPU that is meant, None where there is none; where the driver does not tell, it may be there."""
    if gpus is None:
        return wanted if isinstance(wanted, Device) else Device("cuda", 0)
    if wanted == "auto":
        index = next((index for index, gpu in enumerate(gpus) if gpu.is_free), None)
        return None if index is None else Device("cuda", index)
    chosen = Device("cuda", 0) if wanted is None else wanted
    return chosen if chosen.index < len(gpus) else None


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


def _give_up(message: str, work: str, fallback: bool, stacklevel: int) -> Device:
    if not fallback:
        raise DeviceError(f"{message} Choose another device, or 'cpu'.")
    warnings.warn(
        f"{message} {work[0].upper()}{work[1:]} on the CPU.", DeviceFallbackWarning, stacklevel=stacklevel + 2
    )
    return CPU


def _visible_gpus() -> tuple[list[_Gpu] | None, str]:
    """List the GPUs that CUDA shows to this process, None where nobody tells, and say why there is none.

    Asks the driver's management library, which, unlike CUDA itself, leaves no trace in the process and survives a fork.
    It counts by PCI bus, as CUDA does for GPUs of one model, and for all with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, f"no NVIDIA driver answers here ({error})"
    try:
        gpus = [_Gpu(*_memory(pynvml, handle)) for handle in _visible_handles(pynvml)]
    except pynvml.NVMLError as error:
        return None, f"the NVIDIA driver does not tell which GPUs there are ({error})"
    finally:
        pynvml.nvmlShutdown()
    if gpus:
        return gpus, ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
    return [], f"no GPU is visible to this process{shown}"


def _memory(pynvml: ModuleType, handle: object) -> tuple[int, int]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        # A GPU that shares the CPU's memory does not tell, and neither does one that this user may not inspect.
        return 0, 1
    return int(memory.used), int(memory.total)


def _visible_handles(pynvml: ModuleType) -> list[object]:
    """Return a handle for each GPU that ``CUDA_VISIBLE_DEVICES`` names, or for every GPU where it is not set.

    As CUDA does, stops at the first entry that names no GPU, takes the beginning of a UUID for the whole where it is
    unique (CUDA Programming Guide, section "CUDA environment variables"), and shows no GPU at all where one is named
    twice.
    """
    every = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return every
    handles: dict[str, object] = {}
    for entry in visible.split(","):
        handle = _handle_by_name(pynvml, every, entry.strip())
        if handle is None:
            break
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        if uuid in handles:
            return []
        handles[uuid] = handle
    return list(handles.values())


def _handle_by_name(pynvml: ModuleType, every: list[object], entry: str) -> object:
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
