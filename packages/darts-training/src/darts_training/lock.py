"""One training at a time in a folder, whichever machines see it.

The lock is a file in the folder, locked for as long as the training lives, that names its host and process. Where the
lock of a file is not seen by other machines, or the file system has none, the file shows that its training lives: it is
touched every few seconds.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from darts_training.errors import TrainingError
from darts_utils.staging import is_same_file, try_lock

logger = logging.getLogger(__name__)

LOCK_FILE = ".darts-training.lock"
BEAT_SECONDS = 10.0
"""How often a training touches its file."""
WATCH_SECONDS = 35.0
"""How long a file has to stay untouched for its training to be dead, where no lock says so."""
_ATTEMPTS = 10


@contextmanager
def training_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for one training until the block ends.

    What a killed training of this machine left is taken over at once, where the file system has locks; what one of
    another machine left, when it has not shown for a while that it lives.

    Args:
        folder: Folder of the model. It must exist.

    Raises:
        TrainingError: If another training holds it. The message names its host, process and start.
        OSError: If the file cannot be written.
    """
    path = folder / LOCK_FILE
    lock = _take(path)
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, lock, ended), name="darts-training-lock", daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()
        _give_back(path, lock, is_locked=os.name != "nt")


def _take(path: Path) -> int:
    """Create the file and lock it; return its descriptor."""
    for _ in range(_ATTEMPTS):
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            _remove_if_dead(path)
            continue
        # Somebody who takes the new file for a leftover may hold its lock, or have removed it by now.
        if try_lock(lock) is False or not is_same_file(path, lock):
            os.close(lock)
            continue
        start = datetime.now(UTC).isoformat(timespec="seconds")
        metadata = {"host": socket.gethostname(), "process": os.getpid(), "start": start}
        try:
            os.write(lock, json.dumps(metadata).encode())
        except OSError:
            _give_back(path, lock, is_locked=os.name != "nt")
            raise
        return lock
    raise _in_use(path, {})


def _give_back(path: Path, lock: int, *, is_locked: bool) -> None:
    """Remove a file that was opened, unless another has taken its place, and close it.

    One that is locked is removed before the lock is free. Windows, which removes no open file, has no such locks.
    """
    is_there = is_same_file(path, lock)
    if not is_locked:
        os.close(lock)
    if is_there:
        with suppress(OSError):
            path.unlink()
    if is_locked:
        os.close(lock)


def _remove_if_dead(path: Path) -> None:
    """Remove the file of a training that does not live any more.

    Raises:
        TrainingError: If it lives.
    """
    try:
        lock = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    locked, metadata = try_lock(lock), _read(path)
    is_dead = locked and metadata.get("host") in (None, socket.gethostname())
    if locked is False or not (is_dead or _stays_untouched(path, metadata)):
        os.close(lock)
        raise _in_use(path, metadata)
    _give_back(path, lock, is_locked=bool(locked))


def _stays_untouched(path: Path, metadata: dict[str, object]) -> bool:
    """Watch a file for as long as a living training would not leave it untouched."""
    logger.info("Looking whether the training in %s goes on (%s).", path.parent, _describe(metadata))
    before, end = _touched(path), time.monotonic() + WATCH_SECONDS
    while time.monotonic() < end:
        time.sleep(min(1.0, WATCH_SECONDS / 10))
        now = _touched(path)
        if now != before:
            return now is None  # it has ended
    return True


def _touched(path: Path) -> int | None:
    """Return when a file was touched last, as its server says now; None where it is gone."""
    try:
        with path.open("rb") as file:  # to open it is what makes a network file system ask
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _beat(path: Path, lock: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with suppress(OSError):
            if is_same_file(path, lock):
                os.utime(path)


def _read(path: Path) -> dict[str, object]:
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _describe(metadata: dict[str, object]) -> str:
    if not metadata:
        return "its host and process are not known yet"
    return f"host {metadata.get('host')}, process {metadata.get('process')}, since {metadata.get('start')}"


def _in_use(path: Path, metadata: dict[str, object]) -> TrainingError:
    return TrainingError(
        f"Another training writes into {path.parent}: {_describe(metadata)}. Wait for it, or train into another folder."
    )
