"""The commands that look back at runs, and at the one that goes on."""

import math
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from darts.run.folding import fold_ended
from darts.run.history import PastRun, draw_timings, list_runs
from darts.run.running import running_runs
from darts.run.shard_history import group_shards
from darts.run.shards import ranges
from darts.run.status import RunStatus, run_status

_WORDS = {"success": "succeeded", "skipped": "skipped", "failed": "failed", "empty": "without data"}


def show_runs(output: Path) -> None:
    """Print the runs that wrote into a folder, with counts and times; fold the journals of those that were killed.

    Where runs were shards, it is said which of them are missing or have to run again.

    Args:
        output: Folder of results.
    """
    fold_ended(output, running_runs(output))
    columns = ("succeeded", "skipped", "failed", "empty", "last change (UTC)", "busy", "state")
    table = Table("run (UTC)", *columns, box=None)
    runs = list_runs(output)
    for run in runs:
        counts = (str(run.succeeded), str(run.skipped), str(run.failed), str(run.empty))
        change = f"{run.last_change:%Y-%m-%d %H:%M:%S}"
        table.add_row(run.name, *counts, change, f"{run.busy_seconds:.1f} s", _state(run))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    for group in group_shards(runs):
        for line in group.lines():
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def show_status(output: Path, run: str | None) -> None:
    """Print how far a run is: counts, rate, time left and the last failures.

    Args:
        output: Folder of results.
        run: Name of the run; default the newest one.
    """
    status = run_status(output, run)
    console = Console()
    for line in _lines(status):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def show_timings(output: Path, picture: Path | None, run: str | None) -> None:
    """Draw where the time of a run went.

    Args:
        output: Folder of results.
        picture: PNG file to write; default ``timings.png`` in the working directory.
        run: Name of the run; default the last one that computed something.
    """
    written = draw_timings(output, picture or Path("timings.png"), run)
    Console().print(f"picture: {written}", soft_wrap=True, highlight=False, markup=False)


def _state(run: PastRun) -> str:
    of = "" if run.planned is None or run.done >= run.planned else f", {run.done} of {run.planned} done"
    return ("running" if run.running else "was killed" if run.killed and of else "ended") + of


def _lines(status: RunStatus) -> list[str]:
    state: str = "running or not, this machine cannot tell" if status.state == "unknown" else status.state
    left_over = 0 if status.planned is None else status.planned - status.ended
    if status.state == "ended" and left_over > 0:
        how = "the same command goes on" if not status.shards else "run the shards below that are not done"
        state = f"{'was killed' if status.killed else 'ended early'} with {left_over} to go; {how}"
    if status.waits:
        state = "running, and waits for workers of its cluster"
    where = f" on {status.host}, process {status.pid}" if status.host else ""
    where += " and the other shards of its run" if status.shards else ""
    total = "an unknown number of" if status.planned is None else str(status.planned)
    counts = ", ".join(f"{number} {_WORDS[name]}" for name, number in status.counts.items() if number)
    lines = [
        f"run:      {status.name}{where}: {state}",
        f"tiles:    {status.done} of {total} done{_percent(status)}" + (f": {counts}" if counts else ""),
    ]
    goes_on = status.state != "ended"
    if goes_on or status.rate is not None:
        lines.append(f"rate:     {'not known yet' if status.rate is None else f'{status.rate:.1f} tiles per hour'}")
    if goes_on:
        left = "not known yet" if status.time_left is None else _duration(status.time_left)
        lines.append(f"left:     {left}")
    if status.quiet is not None:
        lines.append(f"last end: {_duration(status.quiet)} ago")
    elif goes_on and not status.ended:
        lines.append("last end: none yet")
    if status.shards:
        lines.append("shards:   " + "; ".join(f"{what} {ranges(numbers)}" for what, numbers in status.shards.items()))
    return lines + [f"failed:   {tile}: {error}" for tile, error in status.failures]


def _percent(status: RunStatus) -> str:
    return f" ({math.floor(100 * status.done / status.planned)} %)" if status.planned else ""


def _duration(time: timedelta) -> str:
    """Write a time in its two largest units.

    Examples:
        >>> _duration(timedelta(days=1, hours=2, minutes=3)), _duration(timedelta(seconds=61.4))
        ('1 d 2 h', '1 min 1 s')
    """
    seconds = round(time.total_seconds())
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        parts.append((number, unit))
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number} {unit}" for number, unit in parts[:2])
