"""The command that shows how far a run is."""

import math
from datetime import timedelta
from pathlib import Path

import typer

from darts.run.shards import ranges
from darts.run.status import RunStatus, run_status

_WORDS = {"success": "succeeded", "skipped": "skipped", "failed": "failed", "empty": "without data"}


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
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // part} {smaller}"
    return f"{seconds} s"
