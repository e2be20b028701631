"""The lock of a shard: several shards of one run write into one output directory, and nobody else does meanwhile.

Each shard locks a file of its own, so that none runs twice, and shares the lock on the directory. What they must have
in common, digest of the configuration and number of shards, stands in a file beside it, written by who comes first.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from darts.errors import FolderInUseError
from darts.run import lock
from darts.run.filelocks import has_flock, has_locks, is_locked, try_lock, unlock
from darts.run.shards import Shard
from darts_utils import write_atomically

TERMS_FILE = ".darts-run.shards"
_WAIT_SECONDS = 2.0
"""For shards that begin at the same time, as those of an array do, and agree one after the other."""
_POLL_SECONDS = 0.02


@contextmanager
def shard_lock(folder: Path, shard: Shard, digest: str) -> Iterator[Callable[[str], None]]:
    """Hold a folder of results for one shard until the block ends, together with other shards of the same run.

    On a file system without locks, files that name host and process stand in for them, as for
    :func:`darts.run.lock.folder_lock`.

    Args:
        folder: Folder of results. It must exist.
        shard: The shard.
        digest: Digest of the configuration; shards of another one are refused.

    Yields:
        A function that tells others the name of the run.

    Raises:
        FolderInUseError: If the same shard runs already, or something else writes into the folder: a run that is no
            shard, or shards of another number or configuration.
        ConfigurationError: If this user may not write there.

    Warns:
        NoFileLocksWarning: If the file system has no locks.
    """
    metadata = lock.own_metadata() | {"shard": str(shard), "digest": digest}
    with ExitStack() as held:
        with lock.refused_access(folder):
            if has_flock() and has_locks(folder):
                yield_to = _hold(folder, shard, metadata, held)
                _share(folder, {"digest": digest, "of": shard.of}, shard.lock_file, held)
            else:
                yield_to = _own(folder, shard, metadata, held)
        yield yield_to


def _hold(folder: Path, shard: Shard, metadata: lock.LockMetadata, held: ExitStack) -> Callable[[str], None]:
    """Lock the shard's own file, which says who does it."""
    path = folder / shard.lock_file
    file = _open(path, held)
    if not _try_for_a_while(lambda: try_lock(file), lock.WAIT_SECONDS):
        raise FolderInUseError(
            f"Shard {shard} runs already into {folder}: {lock.describe(lock.read_metadata(path))}. Wait for it, or run "
            "another one."
        )

    def tell(run: str | None) -> None:
        with suppress(OSError):  # Only for others to read.
            os.ftruncate(file, 0)
            if run is not None:
                os.pwrite(file, json.dumps({**metadata, "run": run}).encode(), 0)

    tell("")
    held.callback(tell, None)
    return tell


def _share(folder: Path, terms: lock.LockMetadata, own: str, held: ExitStack) -> None:
    """Share the lock on the folder with shards that have the same terms."""
    path = folder / TERMS_FILE
    file = _open(folder / lock.LOCK_FILE, held)

    def agree() -> bool:
        if try_lock(file):  # Nobody is there: these terms count from now on.
            write_atomically(path, json.dumps(terms).encode(), durable=False)
            lock.remove(folder / lock.HOLDER_FILE)
        if not try_lock(file, shared=True):
            return False
        if lock.read_metadata(path) == terms:
            return True
        # Those of shards that run; or of some that ran, and somebody just looked whether the folder is locked.
        unlock(file)
        return False

    if not _try_for_a_while(agree, _WAIT_SECONDS):
        raise FolderInUseError(_why_not(folder, terms, own))
    held.callback(_leave, file, path)


def _leave(file: int, terms: Path) -> None:
    if try_lock(file):  # The last one.
        lock.remove(terms)


def _why_not(folder: Path, terms: lock.LockMetadata, own: str) -> str:
    other = lock.read_metadata(folder / TERMS_FILE)
    if not is_locked(folder / lock.LOCK_FILE) and other:
        what = "number of shards" if other.get("of") != terms["of"] else "configuration"
        return (
            f"Shards of another {what} write into {folder}: {lock.describe_shards(folder, own)}. Wait for them, give "
            "all shards the same options, or choose another output folder."
        )
    return (
        f"Another run writes into {folder}: {lock.describe(lock.read_metadata(folder / lock.HOLDER_FILE))}. "
        "Wait for it, or choose another output folder."
    )


def _own(folder: Path, shard: Shard, metadata: lock.LockMetadata, held: ExitStack) -> Callable[[str], None]:
    """Keep others out by a file of the shard's own, on a file system without locks."""
    owner = folder / shard.owner_file
    lock.own_file(owner, metadata, held)
    whole = folder / lock.OWNER_FILE
    if whole.exists():
        lock.remove_if_stale(whole)
    for other in lock.shard_owners(folder):
        found = lock.read_metadata(other)
        if found.get("digest") != metadata["digest"] or not other.name.endswith(f"of{shard.of}.owner"):
            lock.remove_if_stale(other)

    def tell(run: str) -> None:
        with suppress(OSError):
            write_atomically(owner, json.dumps({**metadata, "run": run}).encode(), durable=False)

    return tell


def _open(path: Path, held: ExitStack) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    held.callback(os.close, file)
    return file


def _try_for_a_while(attempt: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not attempt():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
