"""Strict stand-ins for a GPU: cupy's arrays and torch's streams, on machines without one.

Nothing is converted silently. An array of the stand-in is no array of numpy, refuses to become one, and refuses to be
mixed with one. Streams carry clocks, so that a wait for something that was never recorded is seen to wait for nothing.
"""

import contextlib
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch


class GpuArray:
    """What lies in the memory of a GPU, as cupy would hold it; a duck array, for xarray as well."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    dtype = property(lambda self: self._values.dtype)
    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    __module__ = "cupy"

    def __len__(self) -> int:
        return len(self._values)

    def get(self) -> np.ndarray:
        return self._values.copy()

    def copy(self) -> "GpuArray":
        return GpuArray(self._values.copy())

    def astype(self, dtype: Any) -> "GpuArray":
        return GpuArray(self._values.astype(dtype))

    def transpose(self, *axes: Any) -> "GpuArray":
        return GpuArray(self._values.transpose(*axes))

    def __getitem__(self, key: Any) -> "GpuArray":
        return GpuArray(self._values[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._values[key] = _own(value)

    def __add__(self, other: Any) -> "GpuArray":
        return GpuArray(self._values + _own(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> "GpuArray":
        return GpuArray(self._values - _own(other))

    def __mul__(self, other: Any) -> "GpuArray":
        return GpuArray(self._values * _own(other))

    def __truediv__(self, other: Any) -> "GpuArray":
        return GpuArray(self._values / _own(other))

    def __pow__(self, other: Any) -> "GpuArray":
        return GpuArray(self._values ** _own(other))

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()  # torch's tensors of this stand-in lie there too

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_function__(self, *arguments: Any) -> Any:
        return NotImplemented

    def __array_ufunc__(self, *arguments: Any, **options: Any) -> Any:
        return NotImplemented


def _own(other: Any) -> Any:
    if isinstance(other, GpuArray):
        return other._values
    if isinstance(other, int | float):
        return other
    raise TypeError(f"Unsupported type {type(other)}")


class StandInCupy(ModuleType):
    """The few functions of cupy that segmentation calls.

    Args:
        kept: Bytes that its pools hold and nobody uses.
    """

    ndarray = GpuArray
    __version__ = "14.0.0"

    def __init__(self, kept: int = 0) -> None:
        super().__init__("cupy")
        self.kept = kept

    def get_default_memory_pool(self) -> SimpleNamespace:
        return SimpleNamespace(free_bytes=lambda: self.kept, free_all_blocks=self._free)

    def get_default_pinned_memory_pool(self) -> SimpleNamespace:
        return SimpleNamespace(free_all_blocks=self._free)

    def _free(self) -> None:
        self.kept = 0

    def from_dlpack(self, tensor: torch.Tensor) -> GpuArray:
        assert isinstance(tensor, torch.Tensor)
        return GpuArray(np.from_dlpack(tensor))


class Stream:
    """A stream: what it has seen is a set of marks, which events carry from one stream to another."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: set[int] = set()

    def wait_event(self, event: "Event") -> None:
        self.seen |= event.seen


class Event:
    """An event; what it was recorded after, it brings along."""

    def __init__(self, cuda: "StandInCuda") -> None:
        self._cuda = cuda
        self.seen: set[int] = set()
        self.mark: int | None = None

    def record(self) -> None:
        stream = self._cuda.stream_now
        self.mark = self._cuda.next_mark()
        stream.seen.add(self.mark)
        self.seen = set(stream.seen)

    def synchronize(self) -> None:
        self._cuda.host.seen |= self.seen


class StandInCuda:
    """torch's streams and events, while its tensors lie on the CPU, where all is done at once.

    Attributes:
        stream_now: The current stream.
        host: What the host has waited for.
        device_now: The current device, None outside of a ``torch.cuda.device``.
    """

    def __init__(self, monkeypatch: Any) -> None:
        self.stream_now = Stream("computing")
        self.host = Stream("host")
        self.device_now: Any = None
        self._mark = 0
        empty = torch.empty
        fakes = {
            "Event": lambda: Event(self),
            "Stream": lambda device: Stream("copying"),
            "stream": self._use,
            "current_stream": lambda device=None: self.stream_now,
            "device": self._on,
            "empty_cache": lambda: None,
            "get_device_capability": lambda device=None: (8, 0),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        if hasattr(torch.accelerator, "empty_host_cache"):
            monkeypatch.setattr(torch.accelerator, "empty_host_cache", lambda: None)
        monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **options: empty(*shape, **options))

    def next_mark(self) -> int:
        self._mark += 1
        return self._mark

    @contextlib.contextmanager
    def _use(self, stream: Stream) -> Any:
        before, self.stream_now = self.stream_now, stream
        yield
        self.stream_now = before

    @contextlib.contextmanager
    def _on(self, device: Any) -> Any:
        before, self.device_now = self.device_now, device
        yield
        self.device_now = before


def on_gpu(tile: Any) -> Any:
    """Return a tile whose variables lie in the memory of the stand-in's GPU."""
    return tile.assign({name: variable.copy(data=GpuArray(variable.values)) for name, variable in tile.items()})
