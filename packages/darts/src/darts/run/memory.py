"""Begin a tile ahead of time only where it fits into memory."""

import threading
from collections.abc import Callable

from darts.run.cancel import CancellationToken
from darts.run.heap import free_in_heap
from darts_utils import available_memory

_SHARE_OF_TILE = 2.5
"""Memory that a tile takes on its way, in units of its size when it has all its features: measured with the stages of
this release, which hold the tile, a normalised copy of its bands, and buffers."""
_POLL_SECONDS = 0.1


class MemoryGate:
    """Lets a further tile begin only while the memory for it is there; a lone tile may always begin.

    The first tile tells how large tiles are, so until one has been loaded only one is under way.

    Args:
        available: Returns the bytes that are free; by default those that the process can still take, and those that it
            holds unused.
    """

    def __init__(self, available: Callable[[], int] | None = None) -> None:
        self._available = available or (lambda: available_memory() + free_in_heap())
        self._lock = threading.Lock()
        self._largest = 0
        self._under_way = 0

    def enter(self, cancel: CancellationToken) -> bool:
        """Wait until a tile may begin.

        Returns:
            False if the run is cancelled.
        """
        while not cancel.requested:
            with self._lock:
                if self._under_way == 0 or (self._largest and self._available() > _SHARE_OF_TILE * self._largest):
                    self._under_way += 1
                    return True
            cancel.wait(_POLL_SECONDS)
        return False

    def measure(self, nbytes: int) -> None:
        """Learn the size of a tile that has all its features."""
        with self._lock:
            self._largest = max(self._largest, nbytes)

    def leave(self) -> None:
        """Note that a tile has ended."""
        with self._lock:
            self._under_way -= 1
