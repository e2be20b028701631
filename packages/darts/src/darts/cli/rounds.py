"""Tell how far a training is: a bar on a terminal, else log lines."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from darts.run.progress import log_console

if TYPE_CHECKING:
    from darts_training.checkpoint import Progress

logger = logging.getLogger(__name__)

_LINE_SECONDS = 60.0


class Rounds:
    """Shows the rounds of a training.

    Args:
        epochs: Rounds of each model, at most.
        folds: Models of a cross validation; None for a single model.
        bar: Where it is shown; None for a log line per round, and each minute.
    """

    def __init__(self, epochs: int, folds: int | None, bar: Bar | None) -> None:
        self._epochs, self._folds, self._bar = epochs, folds, bar
        self._before = ""
        self._task = TaskID(0) if bar is None else bar.add_task("training", total=None)
        self._said = monotonic()

    def fold(self, number: int) -> None:
        """Say which fold of a cross validation begins, from 0 on."""
        self._before = f"fold {number + 1} of {self._folds}, "

    def step(self, progress: "Progress", total: int) -> None:
        """Say that a batch is done, of so many in all."""
        done = progress.step * self._epochs / total
        best = f", best F1 {progress.best_score[0]:.2f}" if progress.best_epoch else ""
        text = f"{self._before}round {math.ceil(done)} of {self._epochs}"
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.step, total=total, description=text + best)
        elif done == math.ceil(done):
            logger.info("%s: loss %.4f%s.", text.capitalize(), progress.history[-1]["loss"], best)
            self._said = monotonic()
        elif monotonic() - self._said >= _LINE_SECONDS:
            logger.info("%s: batch %d of %d.", text.capitalize(), progress.step, total)
            self._said = monotonic()


@contextmanager
def showing_rounds(epochs: int, folds: int | None) -> Iterator[Rounds]:
    """Show how far a training is, until the block ends, see :class:`Rounds`."""
    console = log_console()
    if not console.is_terminal:
        yield Rounds(epochs, folds, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console) as bar:
        yield Rounds(epochs, folds, bar)
