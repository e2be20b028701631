"""A stand-in for torch's streams on machines without a GPU; for cupy's arrays see :mod:`support.cupy_standin`.

Streams carry clocks, so that a wait for something that was never recorded is seen to wait for nothing.
"""

import contextlib
from typing import Any

import torch


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
