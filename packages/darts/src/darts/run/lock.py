"""The lock on an output directory: one run at a time writes into it, or several shards of one."""

import errno
import json
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict, cast

import psutil
from filelock import FileLock, Timeout

from darts.errors import ConfigurationError, FolderInUseError, NoFileLocksWarning
from darts.run.filelocks import has_flock, has_locks, is_locked
from darts_utils import write_atomically

LOCK_FILE = ".darts-run.lock"
HOLDER_FILE = ".darts-run.json"
OWNER_FILE = ".darts-run.owner"
"""Stands in for the lock where the file system has none: created exclusively, removed at the end."""

_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
_MOST_SHARDS = 3
WAIT_SECONDS = 0.3
"""For somebody who only looks whether the lock is held, and holds it for an instant."""


class LockMetadata(TypedDict, total=False):
    """What a file says of the process that holds something, or on which terms shards share it."""

    host: str
    process: int
    start: str
    process_start: float
    run: str | None
    shard: str
    digest: str
    of: int


class Holding(NamedTuple):
    """Whether a run holds an output directory.

    Attributes:
        state: "running", "free", or "unknown" where this machine cannot tell.
        run: Name of the run that holds it, or did so last, as far as it is known.
    """

    state: Literal["running", "free", "unknown"]
    run: str | None


@contextmanager
def folder_lock(folder: Path) -> Iterator[Callable[[str], None]]:
    """Hold a folder of results for one run until the block ends; the operating system frees it if the process dies.

    On a file system without locks a file that names host and process stands in for it; one that a dead process of this
    machine left is taken over.

    Args:
        folder: Folder of results. It must exist.

    Yields:
        A function that tells others the name of the run.

    Raises:
        FolderInUseError: If another run holds it. The message names its host, process and start.
        ConfigurationError: If this user may not write there.

    Warns:
        NoFileLocksWarning: If the file system has no locks.
    """
    holder = folder / HOLDER_FILE
    metadata = own_metadata()

    def tell(run: str) -> None:
        # Only for others to read: a run goes on without it.
        for path in (holder, owner):
            if path is not None:
                with suppress(OSError):
                    write_atomically(path, json.dumps({**metadata, "run": run}).encode(), durable=False)

    with ExitStack() as held:
        owner = None
        with refused_access(folder):
            if has_locks(folder):
                _lock(folder, held)
            else:
                owner = folder / OWNER_FILE
                own_file(owner, metadata, held)
                for shard in shard_owners(folder):
                    remove_if_stale(shard)
        held.callback(remove, holder)
        yield tell


@contextmanager
def refused_access(folder: Path) -> Iterator[None]:
    """Make of a lock that this user may not take an error of the configuration.

    Raises:
        ConfigurationError: If the block is refused access.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FolderInUseError) or error.errno not in _NO_ACCESS:
            raise
        raise ConfigurationError(
            f"The output folder {folder} cannot be locked for this run ({error.strerror}: {error.filename}). "
            "Ask its owner for the right to write there, or choose another output folder."
        ) from error


def running_in(folder: Path) -> str | None:
    """Return the name of the run that holds a folder, None if none does.

    Where the file system has no locks, a run of another machine holds the folder until its file there is removed.
    """
    holding = find_holder(folder)
    held = holding.state == "running" or (holding.state == "unknown" and (folder / OWNER_FILE).exists())
    return holding.run or "unknown" if held else None


def find_holder(folder: Path) -> Holding:
    """Find out whether a run holds a folder, from any machine that sees it."""
    owner = folder / OWNER_FILE
    if owner.exists():
        metadata = read_metadata(owner)
        run = _name_in(metadata)
        if metadata.get("host") != platform.node():
            return Holding("unknown", run)
        return Holding("running" if is_alive(metadata) else "free", run)
    metadata = read_metadata(folder / HOLDER_FILE)
    run = _name_in(metadata)
    path = folder / LOCK_FILE
    if not path.exists():
        return Holding("free", run)
    held = is_locked(path)
    if held is None and not has_flock():
        held = _is_locked_by_filelock(path)
    if held is None:
        return Holding("unknown", run)
    if held:
        return Holding("running", run)
    # A run that ends removes the holder's file. Where one of another machine is left, either the run was killed, or
    # locks do not reach from there to here.
    return Holding("unknown" if metadata.get("host") not in (None, platform.node()) else "free", run)


def _lock(folder: Path, held: ExitStack) -> None:
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=WAIT_SECONDS, poll_interval=0.05)
    except Timeout as error:
        who = describe_shards(folder) or describe(read_metadata(folder / HOLDER_FILE))
        raise FolderInUseError(
            f"Another run writes into {folder}: {who}. Wait for it, or choose another output folder."
        ) from error
    held.callback(lock.release)


def own_file(owner: Path, metadata: LockMetadata, held: ExitStack) -> None:
    """Create the file that stands in for a lock, and remove it in the end.

    Raises:
        FolderInUseError: If it is there, and its process lives or cannot be seen from here.

    Warns:
        NoFileLocksWarning: That this is how others are kept out.
    """
    warnings.warn(
        f"The file system of {owner.parent} has no file locks; {owner.name} keeps other runs out instead.",
        NoFileLocksWarning,
        stacklevel=5,
    )
    for _ in range(3):
        try:
            with owner.open("x", encoding="utf-8") as file:
                file.write(json.dumps(metadata))
        except FileExistsError:
            remove_if_stale(owner)
            continue
        held.callback(_give_back, owner, metadata)
        return
    raise _in_use(owner, read_metadata(owner))


def _give_back(owner: Path, metadata: LockMetadata) -> None:
    """Remove our own file, not one that somebody put there after removing ours."""
    if {**read_metadata(owner), "run": None} == {**metadata, "run": None}:
        remove(owner)


def remove_if_stale(owner: Path) -> None:
    """Remove what a dead process of this machine left.

    Raises:
        FolderInUseError: If the process lives, runs on another machine, or is not known.
    """
    metadata = read_metadata(owner)
    if metadata.get("host") != platform.node() or is_alive(metadata):
        raise _in_use(owner, metadata)
    # Taken aside first, and looked at once more: another process may have taken the folder over meanwhile.
    aside = owner.with_name(f"{owner.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        owner.rename(aside)
        if read_metadata(aside) != metadata:
            aside.rename(owner)
            raise _in_use(owner, read_metadata(owner))
        remove(aside)


def _in_use(owner: Path, metadata: LockMetadata) -> FolderInUseError:
    return FolderInUseError(
        f"Another run writes into {owner.parent}: {describe(metadata)}. Wait for it, or choose another output folder. "
        f"If that process does not run any more, remove {owner}."
    )


def _is_locked_by_filelock(path: Path) -> bool | None:
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None


def shard_owners(folder: Path) -> list[Path]:
    """Return the files that stand in for the locks of shards."""
    return sorted(folder.glob(".darts-run.s*of*.owner"))


def describe_shards(folder: Path, besides: str = "") -> str:
    """Say which shards write into a folder, nothing where none does, besides the one of a lock file."""
    held = [path for path in sorted(folder.glob(".darts-run.s*of*.lock")) if path.name != besides and is_locked(path)]
    found = [f"shard {metadata.get('shard')} on {describe(metadata)}" for metadata in map(read_metadata, held)]
    more = f", and {len(found) - _MOST_SHARDS} more" if len(found) > _MOST_SHARDS else ""
    return "; ".join(found[:_MOST_SHARDS]) + more


def own_metadata() -> LockMetadata:
    """Return what tells others which process this is."""
    return {
        "host": platform.node(),
        "process": os.getpid(),
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
        "process_start": psutil.Process().create_time(),
    }


def is_alive(metadata: LockMetadata) -> bool:
    """Say whether the process of this machine that is named still runs, and is not another one with its number."""
    try:
        begun = psutil.Process(int(metadata["process"])).create_time()
        return abs(begun - float(metadata["process_start"])) < 2  # The clock may be set while it runs.
    except (psutil.NoSuchProcess, LookupError, TypeError, ValueError):
        return False
    except psutil.Error:
        return True


def describe(metadata: LockMetadata) -> str:
    """Say which process it is."""
    if not metadata:
        return "its host and process are not known yet"
    return f"host {metadata.get('host')}, process {metadata.get('process')}, since {metadata.get('start')}"


def _name_in(metadata: LockMetadata) -> str | None:
    name = metadata.get("run")
    return name if isinstance(name, str) else None


def read_metadata(holder: Path) -> LockMetadata:
    """Read what a file says of the process that holds something; empty where it says nothing that is understood."""
    try:
        metadata = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("LockMetadata", metadata) if isinstance(metadata, dict) else {}


def remove(path: Path) -> None:
    """Remove a file, if that is possible."""
    with suppress(OSError):
        path.unlink()
