"""What stages that work with cupy share: whether it works, its stream, its memory, and the way to the host."""

import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from darts_utils.device import CPU, Device
from darts_utils.errors import DeviceFallbackWarning

if TYPE_CHECKING:
    import cupy

_Result = TypeVar("_Result")
_of_thread = threading.local()


def is_on_gpu(array: object) -> bool:
    """Tell whether an array is cupy's, without importing cupy.

    Args:
        array: Anything.

    Returns:
        Whether it lies in the memory of a GPU, for cupy.
    """
    return type(array).__module__.partition(".")[0] == "cupy"


@contextmanager
def working_on_gpu(cupy: ModuleType, index: int) -> Iterator[None]:
    """Work on a GPU until the block ends, beside what other threads and other libraries do there.

    The kernels and copies of the block run on a stream that this thread has for itself, behind everything that its
    current stream was given before. When the block ends, the host waits for them: what was made is complete for
    everybody, and what was read is no longer needed. Nothing else waits, and no memory is given back.

    Args:
        cupy: The module.
        index: Number of the GPU.

    Returns:
        A context manager.
    """
    with cupy.cuda.Device(index):
        streams = _of_thread.__dict__.setdefault("streams", {})
        if (cupy, index) not in streams:
            streams[cupy, index] = cupy.cuda.Stream(non_blocking=True)
        stream = streams[cupy, index]
        stream.wait_event(cupy.cuda.get_current_stream().record())
        try:
            with stream:
                yield
        finally:
            stream.synchronize()


def to_host(data: Any) -> Any:
    """Bring what lies on a GPU to the host, through page-locked memory and with one wait for all of it.

    Args:
        data: An array of numpy or cupy, a dict of such, or a DataArray or Dataset of xarray. Not changed.

    Returns:
        The same with arrays of numpy; what lies on the host, or is lazy, is passed on as it is.
    """
    if "cupy" not in sys.modules:  # so that nothing is read from a file to find out where it lies
        return data
    if hasattr(data, "variables"):
        arrays = {name: variable.data for name, variable in data.variables.items()}
        hosts = _copies({name: array for name, array in arrays.items() if is_on_gpu(array)})
        return data.assign({name: data[name].variable.copy(data=values) for name, values in hosts.items()})
    if isinstance(data, dict):
        return data | _copies({name: array for name, array in data.items() if is_on_gpu(array)})
    array = data.data if hasattr(data, "dims") else data
    if not is_on_gpu(array):
        return data
    host = _copies({"": array})[""]
    return host if array is data else data.copy(data=host)


def _copies(arrays: "Mapping[Hashable, cupy.ndarray]") -> dict[Hashable, np.ndarray]:
    """Return copies on the host of arrays of cupy."""
    hosts: dict[Hashable, np.ndarray] = {}
    cupy = sys.modules["cupy"]
    for index in sorted({array.device.id for array in arrays.values()}):
        with working_on_gpu(cupy, index):
            for name, array in arrays.items():
                if array.device.id == index:
                    hosts[name] = array.get(out=_pinned(cupy, array), blocking=False)
    return hosts


def _pinned(cupy: ModuleType, array: "cupy.ndarray") -> np.ndarray:
    memory = cupy.cuda.alloc_pinned_memory(max(array.nbytes, 1))
    return np.ndarray(array.shape, array.dtype, memory)


def free_gpu_memory(device: Device) -> int:
    """Count the bytes that can be allocated on a GPU: those that nobody has, and those that cupy or torch hold unused.

    Args:
        device: A GPU on which cupy works.

    Returns:
        Bytes.
    """
    cupy, torch = import_module("cupy"), sys.modules.get("torch")
    with cupy.cuda.Device(device.index) as gpu:
        free = int(gpu.mem_info[0]) + int(cupy.get_default_memory_pool().free_bytes())
    if torch is not None and torch.cuda.is_initialized():
        free += torch.cuda.memory_reserved(device.index) - torch.cuda.memory_allocated(device.index)
    return free


def within_gpu_memory(device: Device, compute: Callable[[Device], _Result], work: str, stacklevel: int = 2) -> _Result:
    """Compute with cupy on a device; on the CPU where the memory of the GPU does not suffice.

    Before that, what cupy and torch hold unused on the GPU is given back, and the GPU gets a second chance.

    Args:
        device: Where to compute.
        compute: Computes on the device that it is given; can be called again.
        work: What then happens on the CPU, for the sentence: "features are computed".
        stacklevel: Whose line the warning names: 2 is who called the caller.

    Returns:
        What `compute` returns.

    Warns:
        DeviceFallbackWarning: Where the CPU does the work. It is the same sentence each time.
    """
    if device.type == "cpu":
        return compute(device)
    for _ in range(2):
        try:
            return compute(device)
        except Exception as error:
            if not _is_shortage(error):
                raise
        # Outside the handler, for the traceback of the error holds on to what was allocated.
        _give_back(device)
    warnings.warn(
        f"The memory of {device} does not suffice. {work[0].upper()}{work[1:]} on the CPU.",
        DeviceFallbackWarning,
        stacklevel=stacklevel + 1,
    )
    return compute(CPU)


def _is_shortage(error: Exception) -> bool:
    of_cupy = type(error).__module__.startswith("cupy")
    return of_cupy and (isinstance(error, MemoryError) or "cudaErrorMemoryAllocation" in str(error))


def _give_back(device: Device) -> None:
    torch, cupy = sys.modules.get("torch"), sys.modules["cupy"]
    with cupy.cuda.Device(device.index):
        cupy.get_default_memory_pool().free_all_blocks()
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


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
