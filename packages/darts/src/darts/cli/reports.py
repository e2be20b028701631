"""The command that writes pages to look at a run."""

from collections.abc import Sequence
from pathlib import Path

import typer

from darts.report import write_report


def make_report(output: Path, out: Path | None, labels: Path | None, area: Path | None, tiles: Sequence[str]) -> None:
    """Write the report of the newest run into a folder of results, and say where it is.

    Args:
        output: Folder of results.
        out: Folder of the report; None for the folder `report` in that of the results.
        labels: Vector file of labels.
        area: Vector file of the area in which they are complete.
        tiles: Names of tiles that get a page where there are more than 100.
    """
    index = write_report(output, out, labels=labels, area=area, tiles=tiles)
    typer.echo(f"report: {index}")
