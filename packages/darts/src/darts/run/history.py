"""Look back at the runs that wrote into a folder."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from darts.errors import ConfigurationError
from darts.run.lock import running_in
from darts.run.records import STAGES

if TYPE_CHECKING:
    import pandas as pd

_RESULTS = ".results.parquet"


@dataclass(frozen=True)
class PastRun:
    """One run, as its records tell.

    Attributes:
        name: Name of the run: its start in UTC.
        succeeded: Tiles that were computed.
        skipped: Tiles that were finished already.
        failed: Tiles that failed.
        last_change: When its records last changed, UTC.
        busy_seconds: Seconds that all stages of all tiles took together.
        running: Whether it is going on now.
    """

    name: str
    succeeded: int
    skipped: int
    failed: int
    last_change: datetime
    busy_seconds: float
    running: bool


def list_runs(output: Path) -> list[PastRun]:
    """List the runs that wrote into a folder of results, oldest first.

    Args:
        output: Folder of results.

    Returns:
        The runs.

    Raises:
        ConfigurationError: If there are no records.
    """
    import pandas as pd

    current = running_in(output)
    runs = []
    for path in _record_files(output):
        table = pd.read_parquet(path)
        counts = table["status"].value_counts()
        name = path.name.removesuffix(_RESULTS)
        runs.append(
            PastRun(
                name=name,
                succeeded=int(counts.get("success", 0)),
                skipped=int(counts.get("skipped", 0)),
                failed=int(counts.get("failed", 0)),
                last_change=datetime.fromtimestamp(path.stat().st_mtime, UTC),
                busy_seconds=float(table.filter(like="seconds_").sum().sum()),
                running=name == current,
            )
        )
    return runs


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


def _timings(output: Path, run: str | None) -> "pd.DataFrame":
    import pandas as pd

    names = [path.name.removesuffix(_RESULTS) for path in _record_files(output)]
    if run is not None and run not in names:
        raise ConfigurationError(f"There is no run {run!r} in {output}; there are {', '.join(names)}.")
    for name in [run] if run is not None else reversed(names):
        table = pd.read_parquet(output / f"{name}.timer.parquet").set_index("tile_id")[list(STAGES)]
        table = table.dropna(how="all").fillna(0.0)
        if len(table):
            return table
    raise ConfigurationError(f"No run in {output} computed a tile, so there are no timings.")


def _record_files(output: Path) -> list[Path]:
    found = (path for path in output.glob(f"*{_RESULTS}") if not path.name.startswith("."))
    files = sorted(found, key=lambda path: path.name.removesuffix(_RESULTS))
    if not files:
        raise ConfigurationError(f"There are no records of a run in {output}; name the folder of the results.")
    return files
