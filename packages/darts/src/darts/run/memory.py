"""Begin a tile ahead of time only where it fits into memory."""

import logging
import threading
from collections.abc import Callable

from darts.run.cancel import Stop

logger = logging.getLogger(__name__)

_SHARE_OF_TILE = 2.5
"""Memory that a tile takes on its way, in units of its size when it has all its features: measured with the stages of
this release, which hold the tile, a normalised copy of its bands, and buffers."""
_POLL_SECONDS = 0.1


def available_memory() -> int:
    """Return the bytes that this process can still take: of the machine, or of its control group where that is less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit = _read_number("/sys/fs/cgroup/memory.max")
    used = _read_number("/sys/fs/cgroup/memory.current")
    return free if limit is None or used is None else min(free, limit - used)


def _read_number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
            return int(file.read())
    except (OSError, ValueError):
        return None  # "max" where there is no limit


class MemoryGate:
    """Lets a further tile begin only while the memory for it is there; a lone tile may always begin.

    The first tile tells how large tiles are, so until one has been loaded only one is under way.

    Args:
        available: Returns the bytes that are free.
    """

    def __init__(self, available: Callable[[], int] = available_memory) -> None:
        self._available = available
        self._lock = threading.Lock()
        self._largest = 0
        self._under_way = 0

    def enter(self, stop: Stop) -> bool:
        """Wait until a tile may begin.

        Args:
            stop: Ends the waiting.

        Returns:
            False if the run is to stop.
        """
        while not stop.requested:
            with self._lock:
                if self._under_way == 0 or (self._largest and self._available() > _SHARE_OF_TILE * self._largest):
                    self._under_way += 1
                    return True
            stop.wait(_POLL_SECONDS)
        return False

    def measure(self, nbytes: int) -> None:
        """Learn the size of a tile that has all its features."""
        with self._lock:
            self._largest = max(self._largest, nbytes)

    def leave(self) -> None:
        """Note that a tile has ended."""
        with self._lock:
            self._under_way -= 1
