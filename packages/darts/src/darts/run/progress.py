"""Tell the person in front of the screen how far a run is: a bar, or plain lines where there is no terminal."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from darts.run.fingerprint import STAGE_PACKAGES
from darts.run.journal import STATUS_WORDS, TileRecord
from darts.run.names import counted

if TYPE_CHECKING:
    from darts.run.records import RunRecords

logger = logging.getLogger(__name__)


class Reporter:
    """Shows tile and stage while a run goes on.

    On a terminal a progress bar; elsewhere one log line per tile.

    Args:
        total: Number of tiles.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._progress: Progress | None = None
        self._task = TaskID(0)

    @contextmanager
    def showing(self) -> Iterator["Reporter"]:
        """Show the bar, where there is a terminal, until the block ends."""
        console = log_console()
        if not console.is_terminal:
            yield self
            return
        text = TextColumn("{task.description}", markup=False)
        with Progress(text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as self._progress:
            self._task = self._progress.add_task("starting", total=self._total)
            yield self
        self._progress = None

    def stage(self, tile_id: str, name: str) -> None:
        """Say that a stage of a tile begins."""
        logger.debug("Tile %s: %s.", tile_id, name)
        if self._progress is not None:
            self._progress.update(self._task, description=f"{tile_id}: {name}")

    def end(self, tile: TileRecord) -> None:
        """Say how a tile ended; one that is retried was counted before."""
        again = tile.attempt > 1
        self._done += not again
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done)
        prefix = f"[{self._done}/{self._total}] {tile.tile_id}" + (f", attempt {tile.attempt}" if again else "")
        if tile.status == "skipped":
            logger.info("%s: finished already.", prefix)
        elif tile.status == "empty":
            logger.info("%s is empty: %s", prefix, tile.error)
        elif tile.status == "failed":
            logger.error("%s failed: %s", prefix, tile.error)
        else:
            logger.info("%s: %s in %.1f s.", prefix, tile.status, sum(tile.stages.values()))


def summarise(records: "RunRecords", startup_seconds: float = 0.0) -> str:
    """Say in three lines how the tiles of a run ended, where the results are and where time went."""
    counts = {word: records.count(status) for status, word in STATUS_WORDS.items()} | {"not done": records.undone}
    always = ("succeeded", "skipped", "failed")
    parts = [f"{number} {word}" for word, number in counts.items() if number > 0 or word in always]
    seconds = {"start-up": startup_seconds, **records.seconds()}
    seconds = {stage: value for stage, value in seconds.items() if value}
    longest = sorted(seconds.items(), key=lambda item: -item[1])
    times = ", ".join(f"{stage} {value:.1f} s" for stage, value in longest) or "nothing was computed"
    of = "" if records.shards is None else f"Shard {records.shards.shard}: "
    told = f"{of}{counted(records.planned, 'tile')}: {', '.join(parts)}."
    return f"{told}\nResults: {records.folder}\nTime: {times}."


LOGGERS = ("darts", *(name.replace("-", "_") for name in (*STAGE_PACKAGES, "darts-training")))
"""Names of the packages' loggers."""


def console_handler(level: int = logging.INFO, *, plain: bool = False) -> logging.Handler:
    """Make what shows log lines on the standard error stream: in colours on a terminal, else plain lines with times.

    Args:
        level: Lines below it are not shown.
        plain: Plain lines on a terminal as well.
    """
    if plain or not sys.stderr.isatty():
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    else:
        handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False, log_time_format="%H:%M:%S")
    handler.setLevel(level)
    return handler


@contextmanager
def heard() -> Iterator[None]:
    """Show what a run says in the block on the console, where the program has set up no logging of its own."""
    silent = [name for name in LOGGERS if not logging.getLogger(name).hasHandlers()]
    with _logging_to(console_handler(), silent, logging.DEBUG):
        yield


@contextmanager
def _logging_to(handler: logging.Handler, names: Iterable[str], level: int) -> Iterator[None]:
    """Have loggers hand lines to a handler until the block ends, and let those of a level pass where it is not 0."""
    loggers = [logging.getLogger(name) for name in names]
    before = [each.level for each in loggers]
    for each in loggers:
        each.addHandler(handler)
        each.setLevel(level or each.level)
    try:
        yield
    finally:
        for each, was in zip(loggers, before, strict=True):
            each.removeHandler(handler)
            each.setLevel(was if level else each.level)


class _RunLogHandler(logging.FileHandler):
    """Writes the log of a run as far as the disk takes it: a run goes on without, and the screen has the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        # The first record opens the file, which logging does not guard.
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging gives it
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def run_log(path: Path, level: int = logging.NOTSET) -> Iterator[None]:
    """Write what DARTS logs during the block into a file, with the whole of every error.

    Args:
        path: The file.
        level: Lines from which on are written; default those that the loggers let pass.
    """
    handler = _RunLogHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    with closing(handler), _logging_to(handler, LOGGERS, level):
        yield


@contextmanager
def warnings_once() -> Iterator[None]:
    """Log each warning of the block once; a filter that turns it into an error is left to do so."""
    seen: set[tuple[str, str]] = set()

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        key = (category.__name__, str(message))
        if key not in seen:
            seen.add(key)
            logger.warning("%s (%s)", message, category.__name__)
            logger.debug("The warning came from %s:%d.", filename, lineno)

    with warnings.catch_warnings():
        # torch filters this one while it is imported; another thread that restores its own filters undoes that.
        warnings.filterwarnings("ignore", message="Warning only once for all operators")
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def log_console() -> Console:
    """Return the console that log lines go to, so that bar and lines do not write over each other."""
    handlers = logging.getLogger("darts").handlers
    return next((handler.console for handler in handlers if hasattr(handler, "console")), Console(stderr=True))
