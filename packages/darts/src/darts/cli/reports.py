"""The command that writes pages to look at a run."""

from collections.abc import Sequence
from pathlib import Path

import typer

from darts.report import write_report


def make_report(output: Path, out: Path | None, labels: Path | None, area: Path | None, tiles: Sequence[str]) -> None:
    """Write the report of the newest run into a folder of results, and say where it is."""
    index = write_report(output, out, labels=labels, area=area, tiles=tiles)
    typer.echo(f"report: {index}")
