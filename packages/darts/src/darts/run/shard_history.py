"""Look at the shards of a run together: which of them are missing, and which have to run again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darts.run.history import PastRun
from darts.run.running import shard_runs
from darts.run.shards import ShardMetadata, ranges

_TIME = len("2026-01-31_12-00-00")
"""What the name of a run begins with: its start, UTC."""


@dataclass(frozen=True)
class ShardGroup:
    """The runs of the shards of one run: those with the same configuration and the same number of shards.

    Attributes:
        runs: The last run of each shard by the shard's number.
        newest: What the one that listed the tiles last knew of all shards.
        finished_by: A later run without shards that did all of its tiles, no fewer than theirs; None if there is none.
    """

    runs: Mapping[int, PastRun]
    newest: ShardMetadata
    finished_by: str | None = None

    @property
    def of(self) -> int:
        """Number of shards."""
        return self.newest.shard.of

    @property
    def missing(self) -> list[int]:
        """Shards that have tiles and never ran."""
        return [number for number in range(self.of) if number not in self.runs and self.newest.tiles[number]]

    @property
    def running(self) -> list[int]:
        """Shards that go on now."""
        return [number for number, run in self.runs.items() if run.running]

    @property
    def outdated(self) -> list[int]:
        """Shards whose tiles are others now than when they ran: scenes came or went since."""
        known = [run.shards for run in self.runs.values() if run.shards is not None]
        return [
            own.shard.number
            for own in known
            if any(later.listed > own.listed and own.differs_from(later) for later in known)
        ]

    @property
    def unfinished(self) -> list[int]:
        """Shards that ended before all of their tiles were done."""
        return [
            number
            for number, run in self.runs.items()
            if not run.running and (run.failed or run.done < (run.planned or 0))
        ]

    def lines(self) -> list[str]:
        """Say it in plain words, a sentence each."""
        done = sum(run.succeeded + run.skipped + run.empty for run in self.runs.values())
        first = min(run.name for run in self.runs.values())
        if self.finished_by is not None:
            return [f"{self.of} shards (since {first[:_TIME]}), whose tiles {self.finished_by} finished."]
        ran = f"{self.of} shards, of which {len(self.runs)} ran (since {first[:_TIME]})"
        parts = {
            "running": self.running,
            "missing, never ran": self.missing,
            "to run again, tiles came or went since": self.outdated,
            "to run again, not all done": [number for number in self.unfinished if number not in self.outdated],
        }
        told = [f"  {what}: {ranges(numbers)}" for what, numbers in parts.items() if numbers]
        return [f"{ran}: {done} of {sum(self.newest.tiles)} tiles are done.", *told]


def group_shards(runs: Sequence[PastRun]) -> list[ShardGroup]:
    """Group the runs of shards.

    Args:
        runs: Runs that wrote into one folder, oldest first.

    Returns:
        The groups, the one with the newest run last.
    """
    groups: dict[tuple[str, int], list[PastRun]] = {}
    for run in runs:
        if run.shards is not None:
            key = run.shards.division
            groups[key] = [*groups.pop(key, []), run]
    found = []
    for members in groups.values():
        latest = {run.shards.shard.number: run for run in members if run.shards is not None}
        newest = max((run.shards for run in members if run.shards is not None), key=lambda metadata: metadata.listed)
        last = max(run.name[:_TIME] for run in latest.values())
        finishers = [run.name for run in runs if run.name[:_TIME] >= last and _did_all(run, sum(newest.tiles))]
        found.append(ShardGroup(dict(sorted(latest.items())), newest, finishers[-1] if finishers else None))
    return found


def _did_all(run: PastRun, tiles: int) -> bool:
    planned = run.planned or 0
    return run.shards is None and not run.failed and run.done >= planned >= tiles


def other_division(output: Path, own: ShardMetadata) -> int | None:
    """Return into how many shards the same run was divided last; None where it was as now, or never."""
    others = (metadata for _, metadata in shard_runs(output))
    last = next((each.shard.of for each in others if each.digest == own.digest), own.shard.of)
    return None if last == own.shard.of else last
