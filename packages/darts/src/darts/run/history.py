"""Look back at the runs that wrote into a folder."""

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from darts.errors import ConfigurationError
from darts.run.folding import has_lost_lines, is_folded, journal_table, read_about, was_killed
from darts.run.journal import JOURNAL, STAGES, STATUSES, by_age, journals, latest, read_entries, read_header
from darts.run.running import running_runs
from darts.run.shards import ShardMetadata

logger = logging.getLogger(__name__)

_RESULTS = ".results.parquet"


@dataclass(frozen=True)
class PastRun:
    """One run, as its records tell.

    Attributes:
        name: Name of the run, which begins with its start in UTC.
        succeeded: Tiles that were computed.
        skipped: Tiles that were finished already.
        failed: Tiles that failed.
        last_change: When its records last changed, UTC.
        busy_seconds: Seconds that all stages of all tiles took together.
        running: Whether it is going on now.
        empty: Tiles whose images hold no data.
        planned: Tiles that it had to do; None where that is not known.
        shards: What it knew of the shards of the run; None where it was none of them.
        killed: Whether it was killed, and did not end by itself.
    """

    name: str
    succeeded: int
    skipped: int
    failed: int
    last_change: datetime
    busy_seconds: float
    running: bool
    empty: int = 0
    planned: int | None = None
    shards: ShardMetadata | None = None
    killed: bool = False

    @property
    def done(self) -> int:
        """Tiles that ended and did not fail."""
        return self.succeeded + self.skipped + self.empty


def list_runs(output: Path) -> list[PastRun]:
    """List the runs that wrote into a folder of results, oldest first.

    A run is told of by its Parquet files, or by its journal where that says more. One whose records are damaged, or
    belong to something else, is left out with a warning in the log that names the file.

    Args:
        output: Folder of results.

    Returns:
        The runs.

    Raises:
        ConfigurationError: If there are no records.
    """
    running = running_runs(output)
    found = (_look_at(output, name, name in running) for name in _names(output))
    return [run for run in found if run is not None]


def read_run(output: Path, run: str | None = None) -> tuple[str, pd.DataFrame, int | None]:
    """Read the table of a run that wrote into a folder of results, by default the newest; its shards are one run.

    Runs begin with their start, by the clock of their machine: whoever has just ended one names it.

    Returns:
        Name of the run (of several shards, the newest one), a row per tile as :class:`darts.run.records.RunRecords`
        describes it, and the number of tiles that it had to do, those of shards that never ran among them, where that
        is known.

    Raises:
        ConfigurationError: If there is no run whose records can be read.
    """
    newest, whole = "", None
    read: dict[int, pd.DataFrame] = {}
    total: int | None = None
    divided: list[ShardMetadata] = []
    for name in reversed(_names(output)) if run is None else [run]:
        about = _about(output, name)
        metadata = ShardMetadata.of_header(about)
        division = None if metadata is None else metadata.division
        number = 0 if metadata is None else metadata.shard.number
        if (newest and division != whole) or number in read:
            continue
        table = _read(output, name, "results.parquet", {"tile_id", "output_path", "status", "error"})
        if table is None:
            continue
        newest, whole, read[number] = newest or name, division, table
        if metadata is None:
            total = _planned(about)
            break
        divided.append(metadata)
    if not newest:
        raise ConfigurationError(f"The records of the runs in {output} cannot be read.")
    if divided:
        total = sum(max(divided, key=lambda metadata: metadata.listed).tiles)
    return newest, pd.concat([read[number] for number in sorted(read)], ignore_index=True), total


def draw_timings(output: Path, picture: Path, run: str | None = None) -> Path:
    """Draw how long each stage of each tile took in a run.

    Args:
        output: Folder of results.
        picture: PNG file to write.
        run: Name of the run; default the last one that computed something.

    Returns:
        The path of the picture.

    Raises:
        ConfigurationError: If there is no such run, or none that computed a tile.
    """
    from matplotlib.figure import Figure

    table = _timings(output, run)
    # A figure of its own, not one of pyplot, leaves nothing behind in the process.
    figure = Figure(figsize=(8, min(1.5 + 0.22 * len(table), 60)), layout="constrained")
    axes = figure.add_subplot()
    start = table.iloc[:, 0] * 0.0
    for stage in table.columns:
        axes.barh(table.index, table[stage], left=start, label=stage, height=0.8)
        start = start + table[stage]
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.legend(fontsize="small", ncols=2)
    axes.tick_params(axis="y", labelsize="x-small")
    figure.savefig(picture, dpi=120)
    return picture


def _look_at(output: Path, name: str, running: bool) -> PastRun | None:
    seconds = {f"seconds_{stage.lower().replace(' ', '_')}" for stage in STAGES}
    table = _read(output, name, "results.parquet", {"status"})
    if table is None:
        return None
    counts = Counter(table["status"])
    about = _about(output, name)
    return PastRun(
        name=name,
        succeeded=counts["success"],
        skipped=counts["skipped"],
        failed=counts["failed"],
        empty=counts["empty"],
        last_change=_last_change(output, name),
        busy_seconds=float(table[[column for column in table.columns if column in seconds]].sum().sum()),
        running=running,
        planned=_planned(about),
        shards=ShardMetadata.of_header(about),
        killed=not running and (output / f"{name}{JOURNAL}").exists() and was_killed(output, name),
    )


def _read(output: Path, name: str, kind: str, needed: set[str]) -> pd.DataFrame | None:
    """Read a table of a run from its Parquet file, or from its journal where there is none that holds all of it.

    Returns:
        The table; None where neither can be read, which the log then says.
    """
    path = output / f"{name}.{kind}"
    journal = output / f"{name}{JOURNAL}"
    if path.exists() and (not journal.exists() or is_folded(output, name) or has_lost_lines(output, name)):
        try:
            table = pd.read_parquet(path)
            _check(table, needed)
        except Exception as error:  # noqa: BLE001 - a damaged file may make the reader raise anything
            reason = " ".join(str(error).split())
            logger.warning("%s cannot be read as a record of a run (%s). Move or remove it.", path, reason)
        else:
            return table
    if journal.exists():
        try:
            read_header(journal)
            return journal_table(latest(read_entries(journal)), kind)
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read as the journal of a run (%s). Move or remove it.", journal, error)
    return None


def _check(table: pd.DataFrame, needed: set[str]) -> None:
    if missing := needed - set(table.columns):
        raise ValueError(f"it has no column {', '.join(sorted(missing))}")
    if "status" in needed and not table["status"].isin(STATUSES).all():
        raise ValueError("it has a status that this release does not know")


def _about(output: Path, name: str) -> dict[str, Any]:
    """Return what the records say of the run as a whole, from its Parquet files or else from its journal."""
    about = read_about(output / f"{name}{_RESULTS}")
    try:
        return about or read_header(output / f"{name}{JOURNAL}")
    except (OSError, ValueError):
        return {}


def _planned(about: dict[str, Any]) -> int | None:
    try:
        total = about["planned"]["total"]
    except (LookupError, TypeError):
        return None
    return total if isinstance(total, int) else None


def _last_change(output: Path, name: str) -> datetime:
    """Return when a tile was last noted: the journal's time, which folding does not change."""
    journal = output / f"{name}{JOURNAL}"
    path = journal if journal.exists() else output / f"{name}{_RESULTS}"
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _timings(output: Path, run: str | None) -> pd.DataFrame:
    names = _names(output)
    if run is not None and run not in names:
        raise ConfigurationError(f"There is no run {run!r} in {output}; there are {', '.join(names)}.")
    for name in [run] if run is not None else reversed(names):
        table = _read(output, name, "timer.parquet", {"tile_id", *STAGES})
        if table is None:
            continue
        table = table.set_index("tile_id")[list(STAGES)].dropna(how="all").fillna(0.0)
        if len(table):
            return table
    raise ConfigurationError(f"No run in {output} computed a tile, so there are no timings.")


def _names(output: Path) -> list[str]:
    results = {path.name.removesuffix(_RESULTS): path for path in output.glob(f"[!.]*{_RESULTS}")}
    names = list(by_age(results | journals(output)))
    if not names:
        if not output.is_dir():
            raise ConfigurationError(f"There is no folder {output}; name the folder of the results.")
        raise ConfigurationError(f"There are no records of a run in {output}; name the folder of the results.")
    return names
