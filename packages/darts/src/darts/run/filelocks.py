"""Locks of the file system on files, which it frees when their process dies; some file systems have none."""

import errno
import tempfile
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def has_flock() -> bool:
    """Say whether this system has flock(2), the only lock here that several processes can share."""
    return fcntl is not None


def has_locks(folder: Path) -> bool:
    """Ask a file system for locks by taking one on a file that has no name."""
    if not has_flock():
        return True
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
    return True


def try_lock(file: "IO[bytes] | int", *, shared: bool = False) -> bool:
    """Lock an open file unless somebody else has locked it; a lock that is held already is changed.

    Args:
        file: The file, or its descriptor.
        shared: Whether others may hold a shared lock as well.

    Returns:
        Whether it is locked now; False also where there are no locks.
    """
    if not has_flock():
        return False
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def unlock(file: "IO[bytes] | int") -> None:
    """Give back what :func:`try_lock` took."""
    fcntl.flock(file, fcntl.LOCK_UN)


def is_locked(path: Path) -> bool | None:
    """Say whether a file is locked exclusively; None where it cannot be found out."""
    if not has_flock():
        return None
    try:
        with path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
