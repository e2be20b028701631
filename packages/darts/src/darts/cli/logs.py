"""Set up logging for the command: short on the console, everything in the file."""

import contextlib
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

from darts.errors import ConfigurationError
from darts.run.names import process_names
from darts.run.progress import LOGGERS


def start_logging(verbosity: int = 0, log_dir: Path | None = None, plain: bool = False) -> None:
    """Send the log lines of all DARTS packages to the console and, where asked for, to a file.

    Args:
        verbosity: 0 a line per tile, 1 inner steps too, 2 also what libraries say.
        log_dir: Folder of the file ``darts_<time>-<host>-<pid>.log``, which gets everything and belongs to this process
            alone; None for no file.
        plain: Plain lines with times instead of coloured ones, for batch systems.

    Raises:
        ConfigurationError: If the file cannot be created.
    """
    handlers = [_console_handler(verbosity, plain)]
    if log_dir is not None:
        file = _new_file(log_dir)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        file.setLevel(logging.DEBUG)
        handlers.append(file)
    for name in LOGGERS:
        root = logging.getLogger(name)
        root.setLevel(logging.DEBUG)
        root.propagate = False
        root.handlers = list(handlers)
    if verbosity >= 2:
        logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


def _new_file(folder: Path) -> logging.FileHandler:
    """Create a log file that no other process has, on whatever machine it runs."""
    names = process_names(datetime.now(UTC))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            with contextlib.suppress(FileExistsError):
                return logging.FileHandler(folder / f"darts_{next(names)}.log", mode="x", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"A log file cannot be written into {folder}: {error.strerror or error}. Correct --log-dir."
        ) from error


def _console_handler(verbosity: int, plain: bool) -> logging.Handler:
    if plain or not sys.stderr.isatty():
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    else:
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False, log_time_format="%H:%M:%S")
    handler.setLevel(logging.DEBUG if verbosity else logging.INFO)
    return handler
