"""End a run on purpose: on Ctrl-C, on SIGTERM, or because too much failed."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)


class RunInterrupted(KeyboardInterrupt):
    """A signal ended the run. What was finished stays, and the records are complete.

    Attributes:
        code: Exit code by the shell's convention: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.code = 128 + signum


class Stop:
    """Whether a run should end early, and why. Safe to ask from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signum: int | None = None

    @property
    def requested(self) -> bool:
        """Whether no further tile should begin."""
        return self._event.is_set()

    @property
    def at_once(self) -> bool:
        """Whether not even the tiles under way should be waited for, other than one that is being written."""
        return self.requested and self.signum is not None

    def request(self, signum: int | None = None) -> None:
        """Ask for the end; with a signal's number, without waiting for tiles under way."""
        self.signum = signum
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the end is asked for; return whether it is."""
        return self._event.wait(seconds)


@contextmanager
def stopping_on_signals(stop: Stop) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM of the block into a request to stop; a second one ends the process at once.

    Outside the main thread, where Python takes no signals, nothing changes.

    Args:
        stop: What is asked to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, _frame: Any) -> None:
        if stop.at_once:
            os._exit(128 + signum)
        stop.request(signum)
        logger.warning("Stopping: what is being written is finished first. Once more ends the run at once.")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
