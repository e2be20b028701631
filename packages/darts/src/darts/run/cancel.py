"""End a run on purpose: on Ctrl-C, on SIGTERM, or because too much failed."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

    Downloads end with the first one as well; the block's end waits until what they have fetched is kept. Outside the
    main thread, where Python takes no signals, nothing changes.

    Args:
        stop: What is asked to stop.
    """
    from darts_acquisition.filling import wait_for_fillings
    from darts_acquisition.retry import stop_fetching

    def handle(signum: int) -> None:
        stop.request(signum)
        stop_fetching()
        logger.warning("Stopping: what is being written is finished first. Once more ends the run at once.")

    with _handling_signals(handle):
        yield
        if stop.at_once:
            wait_for_fillings()


@contextmanager
def raising_on_signals() -> Iterator[None]:
    """Raise on the first SIGINT or SIGTERM of the block and end its downloads; a second one ends the process at once.

    Outside the main thread, where Python takes no signals, nothing changes.

    Raises:
        RunInterrupted: If there is a signal.
    """
    from darts_acquisition.retry import stop_fetching

    def handle(signum: int) -> None:
        stop_fetching()
        raise RunInterrupted(signum)

    with _handling_signals(handle):
        yield


@contextmanager
def _handling_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Call a function on the first SIGINT or SIGTERM of the block; after the block fetching is allowed again."""
    from darts_acquisition.retry import allow_fetching

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def handle_first(signum: int, _frame: object) -> None:
        if received:
            os._exit(128 + signum)
        received.append(signum)
        handle(signum)

    before = {number: signal.signal(number, handle_first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            allow_fetching()
