"""The commands that look back at runs."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from darts.run.history import draw_timings, list_runs


def show_runs(output: Path) -> None:
    """Print the runs that wrote into a folder, with counts and times.

    Args:
        output: Folder of results.
    """
    table = Table("run (UTC)", "succeeded", "skipped", "failed", "last change (UTC)", "busy", "state", box=None)
    for run in list_runs(output):
        counts = (str(run.succeeded), str(run.skipped), str(run.failed))
        change = f"{run.last_change:%Y-%m-%d %H:%M:%S}"
        table.add_row(run.name, *counts, change, f"{run.busy_seconds:.1f} s", "running" if run.running else "ended")
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def show_timings(output: Path, picture: Path | None, run: str | None) -> None:
    """Draw where the time of a run went.

    Args:
        output: Folder of results.
        picture: PNG file to write; default ``timings.png`` in the working directory.
        run: Name of the run; default the last one that computed something.
    """
    written = draw_timings(output, picture or Path("timings.png"), run)
    Console().print(f"picture: {written}", soft_wrap=True, highlight=False)
