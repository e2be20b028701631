"""Files that appear whole or not at all, and what their writers leave behind when they are killed.

A writer fills a draft beside the file and renames it when it is whole. The draft of ``name`` is called
``.{name}.{pid}-{random}.partial``, where ``random`` begins with six digits that stand for the machine.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DRAFT = re.compile(r"\..+\.(?P<pid>[1-9][0-9]{0,9})-(?P<machine>[0-9a-f]{6})[0-9a-f]{8}\.partial", re.DOTALL)
_NAME_BYTES = 255 - len("..4294967295-01234501234567.partial")
"""Bytes of a file's name that its draft's name has room for."""
_FORGOTTEN_SECONDS = 24 * 3600


@contextmanager
def atomic_path(path: "os.PathLike[str] | str", *, durable: bool = True) -> Iterator[Path]:
    """Yield a draft that takes the place of `path` when the block ends, and vanishes if it raises.

    Several may write one path at once: each has a draft of its own, and who ends last wins. A writer that is killed
    leaves the old content, and its draft for :func:`remove_partials`.

    Args:
        path: The file to make or to replace; its folder must exist. A link stays one: what it leads to is replaced. A
            folder can be made in the same way, but none is replaced that holds something.
        durable: Sync the content, then the name, to disk, so that a power cut cannot leave an empty or a mixed file.

    Returns:
        A context manager that gives the draft, a path in the folder of the file. Nothing is there yet; its name ends in
        ".partial" whatever `path` is.

    Raises:
        FileExistsError: If a device or a pipe is there.
        OSError: If the draft was not made, cannot be synced, or cannot be put in place.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder) / "list.txt") as draft:
        ...         _ = draft.write_text("whole")
        ...     [file.name for file in Path(folder).iterdir()]
        ['list.txt']
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise FileExistsError(errno.EEXIST, "neither a file nor a folder, and not to be replaced by one", str(path))
    draft = target.with_name(_draft_name(target.name))
    try:
        yield draft
        if durable:
            _sync(draft)
        draft.replace(target)
    finally:
        _remove(draft)
    if durable:
        _sync_folder(target.parent)


def write_atomically(path: "os.PathLike[str] | str", content: bytes, *, durable: bool = True) -> None:
    """Write a file that appears whole or not at all, see :func:`atomic_path`.

    Args:
        path: The file to make or to replace; its folder must exist.
        content: All of it.
        durable: Sync it to disk.

    Raises:
        OSError: If it cannot be written. The old content is still there.
    """
    with atomic_path(path, durable=durable) as draft:
        draft.write_bytes(content)


def remove_partials(folder: "os.PathLike[str] | str") -> list[Path]:
    """Remove the drafts of :func:`atomic_path` whose writers are dead.

    A draft's writer is dead if it ran on this machine, since its last start, and its process is gone; what other
    machines do cannot be seen, so that any draft which nothing has written to for a day counts as well. Everything
    else, whatever its name, is left alone.

    Args:
        folder: Where to look, not in folders below it. If it is absent, there is nothing to remove.

    Returns:
        What was removed.
    """
    try:
        drafts = [(path, match) for path in Path(folder).iterdir() if (match := _DRAFT.fullmatch(path.name))]
    except FileNotFoundError:
        return []
    machine = _machine()
    dead = [
        path
        for path, match in drafts
        if (match["machine"] == machine and not _is_alive(int(match["pid"]))) or _is_forgotten(path)
    ]
    for path in dead:
        _remove(path)
    return dead


def _draft_name(name: str) -> str:
    short = os.fsencode(name)[:_NAME_BYTES].decode(errors="ignore") or "_"
    return f".{short}.{os.getpid()}-{_machine()}{secrets.token_hex(4)}.partial"


def _machine() -> str:
    """Return six digits for what gives this process its number: a start of a machine, or a container on it."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text("ascii") + os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:
        start = socket.gethostname()
    return hashlib.sha256(start.encode()).hexdigest()[:6]


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # where os.kill would end the process
        import psutil

        return bool(psutil.pid_exists(pid))
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _is_forgotten(draft: Path) -> bool:
    try:
        written = [path.lstat().st_mtime for path in (draft, *draft.rglob("*"))]
    except OSError:
        return False  # somebody works on it
    return time.time() - max(written) > _FORGOTTEN_SECONDS


def _remove(draft: Path) -> None:
    # An error here would hide the one that ended the block.
    with suppress(OSError):
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def _sync(draft: Path) -> None:
    inside = sorted(draft.rglob("*")) if draft.is_dir() else []
    for path in (*inside, draft):
        if path.is_dir():
            _sync_folder(path)
        elif not path.is_symlink():
            descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    # Some network file systems refuse to sync a folder, and then need no sync.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
