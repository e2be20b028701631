"""A stand-in for torch's streams on machines without a GPU; for cupy's arrays see :mod:`support.cupy_standin`.

Streams carry clocks, so that a wait for something that was never recorded is seen to wait for nothing.
"""

import contextlib
import weakref
from typing import Any

import torch


class Stream:
    """A stream: what it has seen is a set of marks, which events carry from one stream to another."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: set[int] = set()
        self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    def wait_event(self, event: "Event") -> None:
        self.seen |= event.seen


class Event:
    """An event; what it was recorded after, it brings along."""

    def __init__(self, cuda: "StandInCuda") -> None:
        self._cuda = cuda
        self.seen: set[int] = set()
        self._behind: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.mark: int | None = None

    def record(self) -> None:
        stream = self._cuda.stream_now
        self.mark = self._cuda.next_mark()
        stream.seen.add(self.mark)
        self.seen = set(stream.seen)
        self._behind, stream.pending = stream.pending, []

    def synchronize(self) -> None:
        self._cuda.waits += self.mark is not None
        self._cuda.host.seen |= self.seen
        for pinned, values in self._behind:
            self._cuda.copy(pinned, values)
        self._behind = []


class StandInCuda:
    """torch's streams and events, while its tensors lie on the CPU, where all is done at once.

    Attributes:
        stream_now: The current stream.
        host: What the host has waited for.
        waits: How often it has waited for something that was recorded.
        pinned: Bytes of page-locked memory that were copied into. They hold nothing before the host has waited.
        device_now: The current device, None outside of a ``torch.cuda.device``.
    """

    def __init__(self, monkeypatch: Any) -> None:
        self.stream_now = Stream("computing")
        self.host = Stream("host")
        self.waits = self.pinned = 0
        self._pinned: set[int] = set()
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

        def empty_of_host(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
            made = empty(*shape, **options)
            if pin_memory:
                self._pinned.add(made.data_ptr())
                weakref.finalize(made, self._pinned.discard, made.data_ptr())
            return made

        def copy(to: torch.Tensor, values: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
            if not non_blocking or to.data_ptr() not in self._pinned:
                return self.copy(to, values)
            self.pinned += to.nbytes
            self.stream_now.pending.append((to, values.clone()))
            return to.fill_(1)

        self.copy = torch.Tensor.copy_
        monkeypatch.setattr(torch, "empty", empty_of_host)
        monkeypatch.setattr(torch.Tensor, "copy_", copy)

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
