"""Hand tiles from lane to lane in their order, however many threads a lane has."""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from darts.run.task import TileWork


class Slot:
    """The slot of a tile in a link: it is there before the tile is ready, and may stay empty."""

    def __init__(self) -> None:
        self._work: Future[TileWork | None] = Future()
        self.is_end = False

    def put(self, work: TileWork | None) -> None:
        """Put a tile here, or None where it ended."""
        if not self._work.done():
            self._work.set_result(work)

    def end(self) -> None:
        """Say that no tile follows."""
        self.is_end = True
        self.put(None)

    def wait(self) -> TileWork | None:
        """Return the tile once it is ready, None where it ended."""
        return self._work.result()


class Link:
    """Slots between two lanes, in the order of the tiles.

    Args:
        size: Most slots at once.
    """

    def __init__(self, size: int) -> None:
        self._slots: queue.Queue[Slot] = queue.Queue(size)

    def reserve(self) -> Slot:
        """Return a new slot after all others, once there is room for it."""
        slot = Slot()
        self._slots.put(slot)
        return slot

    def __iter__(self) -> Iterator[TileWork]:
        while True:
            slot = self._slots.get()
            work = slot.wait()
            if slot.is_end:
                return
            if work is not None:
                yield work


class Crew:
    """The threads of a lane. Each takes the next tile while no other does, and has its slot in the next one by then.

    Args:
        source: Tiles from the lane before.
        sink: Leads to the next lane; None after the last one.
        size: Number of threads.
    """

    def __init__(self, source: Iterator[TileWork], sink: Link | None, size: int) -> None:
        self._source, self._sink, self.size = source, sink, size
        self._taking = threading.Lock()
        self._exhausted = False
        self._left = 0

    @property
    def is_last(self) -> bool:
        """Whether no lane follows this one."""
        return self._sink is None

    def __iter__(self) -> Iterator[tuple[TileWork, Slot]]:
        slot = Slot()
        try:
            while True:
                with self._taking:
                    if self._exhausted:
                        return
                    slot = Slot() if self._sink is None else self._sink.reserve()
                    work = next(self._source, None)
                    if work is None:
                        self._exhausted = True
                        slot.end()
                        return
                yield work, slot
        finally:  # A thread that breaks leaves no slot for which the next lane would wait for ever.
            slot.put(None)

    def leave(self) -> bool:
        """Note that a thread ends; return whether it was the last one."""
        with self._taking:
            self._left += 1
            is_last = self._left == self.size
            if is_last and not self._exhausted and self._sink is not None:
                self._sink.reserve().end()
            return is_last


class Exports:
    """Tiles that are being written: worth waiting for when a run is cancelled."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until none is being written."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)
