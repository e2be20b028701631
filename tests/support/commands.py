"""Run the command `darts` in this process, and leave no trace of it but its files."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from darts.cli import run_command
from darts.run.progress import LOGGERS


def run_darts(folder: Path, *arguments: object) -> tuple[int, str]:
    """Run the command in a folder.

    Args:
        folder: Its working directory.
        arguments: Its words.

    Returns:
        Its exit code, and what it wrote to the terminal.
    """
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said), logging_restored():
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["darts", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command()
    return int(ended.value.code or 0), said.getvalue()


@contextmanager
def logging_restored() -> Iterator[None]:
    """Set up logging at the end as it was before, and close the files that it wrote meanwhile."""
    loggers = [logging.getLogger(), *map(logging.getLogger, LOGGERS)]
    before = [(logger, logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    try:
        yield
    finally:
        kept = {handler for *_, handlers in before for handler in handlers}
        new = {handler for logger in loggers for handler in logger.handlers} - kept
        for logger, level, propagate, handlers in before:
            logger.setLevel(level)
            logger.propagate = propagate
            logger.handlers = handlers
        for handler in new:
            handler.close()
