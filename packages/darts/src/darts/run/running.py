"""Find out which runs go on in a folder of results, from any machine that sees it."""

import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from darts.run.filelocks import is_locked
from darts.run.journal import JOURNAL, journals, read_header
from darts.run.lock import LockMetadata, find_holder, is_alive, read_metadata, running_in, shard_owners
from darts.run.shards import ShardMetadata

State = Literal["running", "ended", "unknown"]


def running_runs(folder: Path) -> list[str]:
    """Return the names of the runs that go on, or may do so: what they write is left alone.

    A run locks its journal for as long as it lives. Where the file system has no locks, a run of another machine goes
    on until the file there that stands in for its lock is removed.
    """
    alone = running_in(folder)
    return [name for name in journals(folder) if name == alone or may_run(folder, name)]


def may_run(folder: Path, name: str) -> bool:
    """Say whether a run that locks its journal goes on, or whether that cannot be told."""
    locked = is_locked(folder / f"{name}{JOURNAL}")
    if locked is not None:
        return locked
    return _state_of(_owner_of(folder, name)) in ("running", "unknown")


def find_state(folder: Path, name: str, shards: ShardMetadata | None) -> State:
    """Say whether a run goes on, or that this machine cannot tell."""
    locked = is_locked(folder / f"{name}{JOURNAL}")
    if locked:
        return "running"
    if shards is None:
        holding = find_holder(folder)
        if holding.state == "free" or holding.run not in (None, name):
            return "ended"
        return "running" if holding.state == "running" and holding.run == name else "unknown"
    if locked is None:
        return _state_of(_owner_of(folder, name))
    # A shard that ends empties its file. Where one of another machine says something, either it was killed, or locks do
    # not reach from there to here.
    metadata = read_metadata(folder / shards.shard.lock_file)
    elsewhere = metadata.get("run") == name and metadata.get("host") != platform.node()
    return "unknown" if elsewhere else "ended"


def shard_runs(folder: Path) -> Iterator[tuple[str, ShardMetadata]]:
    """Yield names of runs of shards and what they knew, newest first; `darts runs` names those that cannot be read."""
    for name, journal in reversed(journals(folder).items()):
        with suppress(OSError, ValueError):
            metadata = ShardMetadata.of_header(read_header(journal))
            if metadata is not None:
                yield name, metadata


def _owner_of(folder: Path, name: str) -> LockMetadata:
    found = (read_metadata(path) for path in shard_owners(folder))
    return next((metadata for metadata in found if metadata.get("run") == name), LockMetadata())


def _state_of(metadata: LockMetadata) -> State:
    if not metadata:
        return "ended"
    if metadata.get("host") != platform.node():
        return "unknown"
    return "running" if is_alive(metadata) else "ended"
