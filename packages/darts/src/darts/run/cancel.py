"""End a run on purpose: on Ctrl-C, SIGTERM or SIGHUP, or because too much failed."""

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import darts_acquisition

logger = logging.getLogger(__name__)


_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]


def exit_code_of(signum: int) -> int:
    """Return the exit code of a run that a signal ended: 130 for SIGINT, 143 for SIGTERM and SIGHUP."""
    return 130 if signum == signal.SIGINT else 143


class RunInterrupted(KeyboardInterrupt):
    """A signal ended the run. What was finished stays, and the records are complete.

    Attributes:
        code: Exit code, see :func:`exit_code_of`.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.code = exit_code_of(signum)


class CancellationToken:
    """Whether a run should end early, and how. Safe to ask from any thread; a pickled one has the state of that moment.

    Attributes:
        signum: Number of the signal that asked for it, None where something else did.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signum: int | None = None

    def __getstate__(self) -> tuple[bool, int | None]:
        return self.requested, self.signum

    def __setstate__(self, state: tuple[bool, int | None]) -> None:
        self.__init__()  # type: ignore[misc]
        requested, self.signum = state
        if requested:
            self._event.set()

    @property
    def requested(self) -> bool:
        """Whether no further tile should begin."""
        return self._event.is_set()

    @property
    def immediate(self) -> bool:
        """Whether not even the tiles under way should be waited for, other than one that is being written."""
        return self.requested and self.signum is not None

    def cancel(self, signum: int | None = None) -> None:
        """Ask for the end; with a signal's number, without waiting for tiles under way."""
        self.signum = signum
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the end is asked for; return whether it is."""
        return self._event.wait(seconds)


class _LeftBehind:
    """Threads that a run whose signal came left in the middle of a tile, or that a worker leaves while it opens.

    Python, until 3.13, unwinds such a thread where it comes back from native code after the interpreter has ended, and
    C++ then aborts the process. So the process ends before that, with the code of the run.
    """

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._code = 0
        # While this is imported, so that it comes after whatever is registered later.
        atexit.register(self._end)

    def add(self, threads: Iterable[threading.Thread], signum: int) -> None:
        """Remember threads that may be in native code when this process ends, and the signal that asked for its end."""
        self._threads += threads
        self._code = exit_code_of(signum)

    def _end(self) -> None:
        if any(thread.is_alive() for thread in self._threads):
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(self._code)


left_behind = _LeftBehind()


@contextmanager
def cancelling_on_signals(
    token: CancellationToken, fetches: "darts_acquisition.FetchCancellation | None" = None
) -> Iterator[None]:
    """Let the first signal of the block cancel the run; a second one ends the process at once.

    Downloads end with the first one as well; the block's end waits until what they have fetched is kept. Outside the
    main thread, where Python takes no signals, nothing changes.
    """

    def handle(signum: int) -> None:
        token.cancel(signum)
        if fetches is not None:
            fetches.requested = True
        logger.warning("Stopping: what is being written is finished first. Once more ends the run at once.")

    with _handling_signals(handle):
        yield
        if token.immediate and fetches is not None:
            fetches.wait()


@contextmanager
def raising_on_signals() -> Iterator[None]:
    """Raise on the first signal of the block and end its downloads; a second one ends the process at once.

    Outside the main thread, where Python takes no signals, nothing changes.

    Raises:
        RunInterrupted: If there is a signal.
    """
    fetches = darts_acquisition.FetchCancellation()

    def handle(signum: int) -> None:
        fetches.requested = True
        raise RunInterrupted(signum)

    with darts_acquisition.cancellable(fetches), _handling_signals(handle):
        yield


def heeded_signals() -> list[signal.Signals]:
    """Return the signals that end a run: Ctrl-C, SIGTERM, and a lost terminal unless ``nohup`` has that one ignored."""
    return [number for number in _SIGNALS if number.name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def _handling_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Call a function on the first signal of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def handle_first(signum: int, _frame: object) -> None:
        if received:
            os._exit(exit_code_of(signum))
        received.append(signum)
        handle(signum)

    before = {number: signal.signal(number, handle_first) for number in heeded_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
