"""The commands that look back at runs."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from darts.run.folding import fold_ended
from darts.run.history import PastRun, draw_timings, list_runs
from darts.run.running import running_runs
from darts.run.shard_history import group_shards


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
