"""Turn what the system says about a file that cannot be written into an error that helps."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from darts_export.errors import ExportError

Result = TypeVar("Result")


def attempt(folder: Path, task: Callable[[], Result]) -> Result:
    """Do something that writes for a folder, and return what it returns.

    Args:
        folder: The folder that will be replaced; it need not exist, its parent does.
        task: What to do.

    Raises:
        ExportError: If it raises an OSError; the message says how much space is free.
    """
    try:
        return task()
    except OSError as error:
        free = shutil.disk_usage(folder.parent).free
        raise ExportError(
            f"{folder} could not be written: {error}. {free / 1e6:.0f} MB are free there; the folder is as it was."
        ) from error
