"""Set up logging for the command: short on the console, everything in the file."""

import contextlib
import logging
from datetime import UTC, datetime
from pathlib import Path

from darts.errors import ConfigurationError
from darts.run.names import process_names
from darts.run.progress import LOGGERS, console_handler


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
    handlers: list[logging.Handler] = [console_handler(logging.DEBUG if verbosity else logging.INFO, plain=plain)]
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
