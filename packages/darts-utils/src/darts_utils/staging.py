"""Fill a folder out of sight and put it in place in one step, so that it is never seen half-done.

Beside the target, on the same file system, stands a work folder `.darts-export-<hash of the name>-<random>`. It holds
a lock file, locked for as long as its writer lives, and `new`, the folder that becomes the target. A work folder whose
lock is free belongs to a writer that was killed, and the next writer of the same target removes it.
"""

import errno
import hashlib
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WORK = ".darts-export-"
_LOCK = "lock"
_OTHER_HOST_SECONDS = 24 * 3600
_ATTEMPTS = 100
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replaced_folder(target: Path, failed: Callable[[str], Exception] = OSError) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` when the block ends, and vanishes if it raises.

    Args:
        target: The folder to make or to replace as a whole. Its parent is made if need be.
        failed: Makes the error of a message, where the folder cannot be made or put in place.

    Yields:
        The folder to fill. At the end its files and folders are synced to disk, then it is renamed to `target`; on
        Linux an existing target is exchanged with it in one step, elsewhere there is a moment without a target.

    Raises:
        OSError: If the folder cannot be made or put in place, or what `failed` makes instead.
    """
    parent = target.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        work, lock = _open_work_folder(target)
    except OSError as error:
        raise failed(_message(f"{parent} cannot be written to", error)) from error
    new = work / "new"
    try:
        yield new
        try:
            _sync(new)
            _put_in_place(new, target, work)
            _sync_folder(parent)
        except OSError as error:
            raise failed(_message(f"{target} could not be put in place", error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(lock)
        # Windows removes no open file, the lock among them.
        shutil.rmtree(work, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Remove the work folders of writers of `target` that no longer live."""
    for work in target.parent.glob(f"{_prefix(target)}*"):
        _remove_if_dead(work)


def remove_interrupted(folder: Path) -> None:
    """Remove what exports into folders of this one left when they were killed, whichever tile they wrote.

    An export removes what an earlier one of the same tile left; a tile that is finished is not exported again, though,
    and the kill may have come just after its results were put in place.

    Args:
        folder: The folder that the tiles' folders stand in. Where it is absent there is nothing to remove.
    """
    for work in folder.glob(f"{_WORK}*"):
        _remove_if_dead(work)


def carry_over(old: Path, new: Path, names: Iterable[str]) -> None:
    """Take files and folders of the old folder along into the new one, without copying where links work.

    Args:
        old: The folder that will be replaced.
        new: The folder that replaces it; what stands there already wins.
        names: What to take along.
    """
    for name in names:
        source, target = old / name, new / name
        if target.exists():
            continue
        # What has just gone need not come along.
        with suppress(FileNotFoundError):
            if source.is_dir() and not source.is_symlink():
                shutil.copytree(source, target, symlinks=True, copy_function=_link)
            else:
                _link(source, target)


def _link(source: Path | str, target: Path | str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _prefix(target: Path) -> str:
    # A hash, since the name itself may be as long as a name can be.
    return f"{_WORK}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _open_work_folder(target: Path) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        work = target.parent / f"{_prefix(target)}{secrets.token_hex(6)}"
        work.mkdir()
        try:
            lock = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            continue
        except OSError:
            shutil.rmtree(work, ignore_errors=True)
            raise
        # Another writer that took the folder for a leftover may hold the lock, or have removed the folder by now.
        if try_lock(lock) is False or not is_same_file(work / _LOCK, lock):
            os.close(lock)
            continue
        try:
            os.write(lock, socket.gethostname().encode())
            (work / "new").mkdir()
        except OSError:
            shutil.rmtree(work, ignore_errors=True)
            os.close(lock)
            raise
        return work, lock
    raise OSError(errno.EBUSY, "no work folder of its own after many attempts", str(target.parent))


def _remove_if_dead(work: Path) -> None:
    try:
        lock = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT)
    except OSError:
        return  # gone already, or not ours to remove
    try:
        locked = try_lock(lock)
        host = os.read(lock, 255).decode(errors="replace")
        here = host in ("", socket.gethostname())
        old = time.time() - os.fstat(lock).st_mtime > _OTHER_HOST_SECONDS
        # A lock need not be seen by another machine, nor exist at all on every file system.
        if (locked and here) or (locked is not False and old):
            shutil.rmtree(work, ignore_errors=True)
    finally:
        os.close(lock)


def try_lock(lock: int) -> bool | None:
    """Lock an open file without waiting.

    Args:
        lock: Its descriptor; the lock ends when it is closed.

    Returns:
        True: locked. False: another holds it. None: no locks here.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_same_file(path: Path, descriptor: int) -> bool:
    """Tell whether a path still leads to a file that was opened, and not to nothing or to another one."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _put_in_place(new: Path, target: Path, work: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            if not target.exists():
                new.rename(target)
            elif not _exchange(new, target):
                target.rename(work / f"old-{attempt}")
                new.rename(target)
        except OSError as error:
            # Another writer was faster with its rename: look again.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST) or not new.exists():
                raise
        else:
            return
    raise OSError(errno.EBUSY, "other writers keep replacing it", str(target))


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step. False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    if renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        # A file of several links was taken along from a folder that was synced.
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1:
            descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    for path in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems refuse to sync a folder, and then need no sync.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _message(what: str, error: OSError) -> str:
    return f"{what}: {error.strerror or error}. Free some space, or choose a folder that you may write to."
