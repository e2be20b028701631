"""Whether cupy works on a GPU, found out by letting it, and whose memory an array lies in."""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any

from darts_utils.device import Device


def is_on_gpu(array: Any) -> bool:
    """Tell whether an array is cupy's, without importing cupy.

    Args:
        array: Anything.

    Returns:
        Whether it lies in the memory of a GPU, for cupy.
    """
    return type(array).__module__.partition(".")[0] == "cupy"


def try_cupy(install: str) -> Callable[[Device], str]:
    """Make the trial that :func:`resolve_device` asks for on behalf of whoever works with cupy.

    Args:
        install: The command that installs what is needed, for the sentence.

    Returns:
        A function of a GPU that returns why cupy does not work there, or an empty text where it does: where a kernel
        was compiled, ran and gave the right number. That cupy can be imported proves nothing.
    """
    return partial(_why_not, install)


def _why_not(install: str, device: Device) -> str:
    try:
        cupy = import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            return f"cupy is not installed ({install})"
        return _sentence(error)
    except Exception as error:  # noqa: BLE001  # a broken installation of CUDA raises anything, down to OSError
        return _sentence(error)
    return _tried(cupy, device.index)


@cache
def _tried(cupy: ModuleType, index: int) -> str:
    try:
        with cupy.cuda.Device(index):
            found = int(cupy.asnumpy(cupy.zeros(1, "uint8") + 1)[0])
    except Exception as error:  # noqa: BLE001  # as above
        return _sentence(error)
    return "" if found == 1 else f"cupy computes {found} where 1 is right"


def _sentence(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"cupy does not work on it ({type(error).__name__}: {first})"
