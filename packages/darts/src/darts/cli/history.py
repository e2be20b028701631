"""The commands that look back at runs."""

from pathlib import Path

import typer

from darts.cli.tables import print_table
from darts.run.folding import fold_ended
from darts.run.history import PastRun, draw_timings, list_runs
from darts.run.running import running_runs
from darts.run.shard_history import group_shards


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
