"""The commands that look at runs: how far one is, how those before ended, and pages to look at one."""

import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import typer

import darts.report
from darts.cli.tables import print_table
from darts.run.folding import fold_ended
from darts.run.history import PastRun, draw_timings, list_runs
from darts.run.journal import STATUS_WORDS
from darts.run.running import running_runs
from darts.run.shard_history import group_shards
from darts.run.shards import ranges
from darts.run.status import RunStatus, run_status


def show_runs(output: Path) -> None:
    """Print the runs that wrote into a folder, with counts and times; fold the journals of those that were killed.

    Where runs were shards, it is said which of them are missing or have to run again.
    """
    fold_ended(output, running_runs(output))
    runs = list_runs(output)
    rows = (
        (run.name, run.succeeded, run.skipped, run.failed, run.empty, f"{run.last_change:%Y-%m-%d %H:%M:%S}",
         f"{run.busy_seconds:.1f} s", _state(run))
        for run in runs
    )  # fmt: skip
    columns = ("succeeded", "skipped", "failed", "empty", "last change (UTC)", "busy", "state")
    print_table(rows, "run (UTC)", *columns)
    for group in group_shards(runs):
        for line in group.lines():
            typer.echo(line)


def show_timings(output: Path, picture: Path | None, run: str | None) -> None:
    """Draw where the time of a run went."""
    typer.echo(f"picture: {draw_timings(output, picture or Path('timings.png'), run)}")


def _state(run: PastRun) -> str:
    of = "" if run.planned is None or run.done >= run.planned else f", {run.done} of {run.planned} done"
    return ("running" if run.running else "was killed" if run.killed and of else "ended") + of


def make_report(output: Path, out: Path | None, labels: Path | None, area: Path | None, tiles: Sequence[str]) -> None:
    """Write the report of the newest run into a folder of results, and say where it is."""
    index = darts.report.write_report(output, out, labels=labels, area=area, tiles=tiles)
    typer.echo(f"report: {index}")


def show_status(output: Path, run: str | None) -> None:
    """Print how far a run is: counts, rate, time left and the last failures."""
    for line in _lines(run_status(output, run)):
        typer.echo(line)


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
    counts = ", ".join(f"{number} {STATUS_WORDS[name]}" for name, number in status.counts.items() if number)
    lines = [
        f"run:      {status.name}{where}: {state}",
        f"tiles:    {status.done} of {total} done{_percent(status)}" + (f": {counts}" if counts else ""),
    ]
    goes_on = status.state != "ended"
    if goes_on or status.rate is not None:
        lines.append(f"rate:     {'not known yet' if status.rate is None else f'{status.rate:.1f} tiles per hour'}")
    if goes_on:
        lines.append(f"left:     {'not known yet' if status.time_left is None else _duration(status.time_left)}")
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
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // part} {smaller}"
    return f"{seconds} s"
