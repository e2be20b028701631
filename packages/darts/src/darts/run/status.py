"""How far a run is, from its journal alone: while it goes on, and from any machine that sees the folder."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from darts.errors import ConfigurationError
from darts.run.folding import was_killed
from darts.run.journal import STATUSES, Entry, Status, journals, read_entries, read_header
from darts.run.running import State, find_state, shard_runs
from darts.run.shards import ShardMetadata

_RECENT = 200
"""Tiles whose ends give the rate."""
_FAILURES = 10
_GOING: tuple[State, ...] = ("running", "unknown")


@dataclass(frozen=True)
class RunStatus:
    """How far a run is, or all shards of one together.

    Attributes:
        name: Name of the run; of shards that of the newest.
        state: "running", "ended", or "unknown" where this machine cannot tell.
        host: Machine that it was started on, if known.
        pid: Its process there, if known.
        start: When it started, UTC, if known.
        planned: Tiles that it has to do, if known.
        counts: Tiles that ended, by status.
        rate: Tiles per hour that were taken through the stages lately; None before the first.
        time_left: What the rest will take at this rate; None where the run has ended or that is not known.
        failures: Name and error of the last tiles that failed and were not done since, at most ten, the latest last.
        quiet: Time since the last tile ended; None before the first, or where that is not known.
        waits: Whether it goes on, and no worker of its cluster has come yet.
        killed: Whether it was killed, and did not end by itself; of shards whether any was.
        shards: Numbers of the shards by what is known of them: "done", "running", "unknown", "to run again", which
            ended before all of their tiles were done or had other ones, or "missing", which have tiles and never ran;
            empty where the status is that of one run.
    """

    name: str
    state: State
    host: str | None
    pid: int | None
    start: datetime | None
    planned: int | None
    counts: Mapping[Status, int]
    rate: float | None
    time_left: timedelta | None
    failures: list[tuple[str, str]]
    quiet: timedelta | None
    waits: bool = False
    killed: bool = False
    shards: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """Tiles that ended, whatever the status."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Tiles that ended and did not fail."""
        return self.ended - self.counts["failed"]


def run_status(output: Path, run: str | None = None) -> RunStatus:
    """Find out how far a run is.

    Args:
        output: Folder of results.
        run: Name of the run; default the newest one, and where that is a shard, all shards of the same run.

    Returns:
        What its journal tells, or those of all shards.

    Raises:
        ConfigurationError: If there is no such run, none that keeps a journal (as of release 0.2), or its journal
            cannot be read.
    """
    found = journals(output)
    if not found:
        if not output.is_dir():
            raise ConfigurationError(f"There is no folder {output}; name the folder of the results.")
        if any(output.glob("*.results.parquet")):
            raise ConfigurationError(f"The runs in {output} are of release 0.1, which kept no journal; they are ended.")
        raise ConfigurationError(f"There is no journal of a run in {output}; name the folder of the results.")
    name = run if run is not None else list(found)[-1]
    if name not in found:
        raise ConfigurationError(f"There is no run {name!r} in {output}; there are {', '.join(found)}.")
    now = datetime.now(UTC)
    try:
        shards = ShardMetadata.of_header(read_header(found[name])) if run is None else None
        if shards is None:
            return _status(output, name, found[name], now)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The journal of the run {name} cannot be read: {error}") from error
    latest: dict[int, tuple[ShardMetadata, str]] = {}
    for shard, metadata in shard_runs(output):
        if shard in found and metadata.division == shards.division:
            latest.setdefault(metadata.shard.number, (metadata, shard))
    return _together(name, {metadata: _status(output, shard, found[shard], now) for metadata, shard in latest.values()})


def _status(output: Path, name: str, journal: Path, now: datetime) -> RunStatus:
    header = read_header(journal)
    state, start = find_state(output, name, ShardMetadata.of_header(header)), _timestamp(header.get("start"))
    seen = _Seen(read_entries(journal))
    counts: dict[Status, int] = {status: seen.counts[status] for status in STATUSES}
    plan = _typed(header.get("planned"), dict) or {}
    rate = _rate(seen.ends, start, None if state == "ended" else now)
    left = _left(plan, counts)
    is_served = header.get("executor") != "dask" or any(output.glob(f"{name}.worker-*.log"))
    return RunStatus(
        name=name,
        state=state,
        host=_typed(header.get("host"), str),
        pid=_typed(header.get("pid"), int),
        start=start,
        planned=_typed(plan.get("total"), int),
        counts=counts,
        rate=rate,
        time_left=None if left is None or not rate or state == "ended" else timedelta(hours=left / rate),
        failures=seen.failures,
        quiet=None if seen.last is None else max(now - seen.last, timedelta(0)),
        waits=state == "running" and not is_served,
        killed=state == "ended" and was_killed(output, name),
    )


def _together(name: str, parts: Mapping[ShardMetadata, RunStatus]) -> RunStatus:
    """Return how far all shards of a run are, those included that never began."""
    listed = max(parts, key=lambda metadata: metadata.listed)
    tiles = listed.tiles
    shards: dict[str, list[int]] = {}
    for metadata, part in sorted(parts.items(), key=lambda item: item[0].shard.number):
        is_done = part.done >= (part.planned or 0) and not metadata.differs_from(listed)
        known = part.state if part.state != "ended" else "done" if is_done else "to run again"
        shards.setdefault(known, []).append(metadata.shard.number)
    begun = {metadata.shard.number for metadata in parts}
    missing = [number for number, count in enumerate(tiles) if count and number not in begun]
    going = [part for part in parts.values() if part.state != "ended"]
    rates = [part.rate for part in going if part.rate is not None]
    left = [part.time_left for part in going]
    newest = next(part for part in parts.values() if part.name == name)
    return replace(
        newest,
        state=next((state for state in _GOING if state in shards), "ended"),
        host=None,
        pid=None,
        start=min((part.start for part in parts.values() if part.start is not None), default=None),
        planned=sum(tiles),
        counts={status: sum(part.counts[status] for part in parts.values()) for status in newest.counts},
        rate=sum(rates) if rates else None,
        time_left=None if None in left or not left else max(time for time in left if time is not None),
        failures=[failure for part in parts.values() for failure in part.failures][-_FAILURES:],
        quiet=min((part.quiet for part in parts.values() if part.quiet is not None), default=None),
        waits=False,
        killed=any(part.killed for part in parts.values()),
        shards=shards | ({"missing": missing} if missing else {}),
    )


class _Seen:
    """What the lines of a journal say together; of several about one tile the last one counts."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        statuses: dict[str, Status] = {}
        failed: dict[str, tuple[str, str]] = {}
        ends: deque[str | None] = deque(maxlen=_RECENT)
        last = None
        for entry in entries:
            path, status = entry["output_path"], entry["status"]
            last = entry.get("ended")
            statuses[path] = status
            failed.pop(path, None)
            if status == "failed":
                failed[path] = entry["tile_id"], entry["error"]
            if status != "skipped":
                ends.append(last)
        self.counts: Counter[Status] = Counter(statuses.values())
        self.failures = list(failed.values())[-_FAILURES:]
        self.last = _timestamp(last)
        self.ends = sorted(time for time in map(_timestamp, ends) if time is not None)


def _rate(ends: list[datetime], start: datetime | None, now: datetime | None) -> float | None:
    """Return tiles per hour over the last ends, fewer where a run that goes on has ended none for long.

    The first tiles are counted from the start, later ones from the end of the one before them.
    """
    if len(ends) < _RECENT and start is not None:
        ends = [min([start, *ends]), *ends]
    spans = [ends[-1] - ends[0]] if len(ends) > 1 else []
    rates = [(len(ends) - 1) / (span / timedelta(hours=1)) for span in spans if span > timedelta(0)]
    if rates and now is not None and now > ends[-1]:
        rates.append(len(ends) / ((now - ends[0]) / timedelta(hours=1)))
    return min(rates, default=None)


def _left(plan: Mapping[str, Any], counts: Mapping[Status, int]) -> int | None:
    total, to_compute = _typed(plan.get("total"), int), _typed(plan.get("to_compute"), int)
    if total is None:
        return None
    done = sum(counts.values())
    left = total - done
    if to_compute is not None:  # Finished tiles that are not noted yet take no time.
        left = min(left, to_compute - (done - counts["skipped"]))
    return max(left, 0)


def _timestamp(text: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _typed(value: object, kind: type) -> Any:
    return value if isinstance(value, kind) else None
