"""Keep two runs out of one folder of results."""

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from darts.errors import FolderInUseError
from darts_utils import write_atomically

LOCK_FILE = ".darts-run.lock"
HOLDER_FILE = ".darts-run.json"


@contextmanager
def folder_lock(folder: Path) -> Iterator[Callable[[str], None]]:
    """Hold a folder of results for one run until the block ends; the operating system frees it if the process dies.

    Args:
        folder: Folder of results. It must exist.

    Yields:
        A function that tells others the name of the run.

    Raises:
        FolderInUseError: If another run holds it. The message names its host, process and start.
    """
    from filelock import FileLock, Timeout

    holder = folder / HOLDER_FILE
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FolderInUseError(
            f"Another run writes into {folder}: {_describe(holder)}. Wait for it, or choose another output folder."
        ) from error
    facts = {
        "host": platform.node(),
        "process": os.getpid(),
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
    }

    def tell(run: str) -> None:
        write_atomically(holder, json.dumps({"run": run, **facts}).encode(), durable=False)

    try:
        yield tell
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def running_in(folder: Path) -> str | None:
    """Return the name of the run that holds a folder, None if none does.

    Args:
        folder: Folder of results.
    """
    from filelock import FileLock, Timeout

    path = folder / LOCK_FILE
    if not path.exists():
        return None
    lock = FileLock(path)
    try:
        with lock.acquire(timeout=0):
            return None
    except (Timeout, OSError):
        return str(_read(folder / HOLDER_FILE).get("run", "unknown"))


def _describe(holder: Path) -> str:
    facts = _read(holder)
    if not facts:
        return "its host and process are not known yet"
    return f"host {facts.get('host')}, process {facts.get('process')}, since {facts.get('start')}"


def _read(holder: Path) -> dict[str, object]:
    try:
        facts = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
