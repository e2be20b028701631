"""Make one dataset out of many results, and inspect it."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from darts.cli.tables import print_table
from darts.run.names import counted
from darts_dataset import LeftOutWarning, build, check, info


def run_build(results: Sequence[Path], out: Path, previous: Path | None, **chosen: Any) -> None:
    """Build or update a dataset, and say what is in it.

    Raises:
        SystemExit: With code 1 if results of a scene were left out.
    """
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("ignore", LeftOutWarning)  # The list below says the same.
        built = build(results, out, previous, **chosen)
    for note in notes:
        typer.echo(f"note: {note.message}")
    for path, reason in built.left_out.items():
        typer.echo(f"left out: {path}: {reason}")
    typer.echo(
        f"{_contents(built.scenes, built.looks, built.detections, built.objects)}; "
        f"{counted(len(built.written), 'part')} made, {len(built.reused)} as before."
    )
    typer.echo(f"dataset: {built.path}")
    if built.left_out:
        raise SystemExit(1)


def _contents(scenes: int, looks: int, detections: int, objects: int) -> str:
    counts = (counted(scenes, "scene"), counted(looks, "look"), counted(detections, "detection"))
    return f"{', '.join(counts)}, {counted(objects, 'object')} by year"


def run_check(folder: Path) -> None:
    """Check a dataset, and list what is wrong.

    Raises:
        SystemExit: With code 1 if something is wrong.
    """
    found = check(folder)
    for sentence in found.failures:
        typer.echo(sentence)
    for sentence in found.notes:
        typer.echo(f"note: {sentence}")
    if found.failures:
        raise SystemExit(1)
    typer.echo(f"{folder} is whole.")


def show_info(folder: Path) -> None:
    """Print what is in a dataset."""
    found = info(folder)
    typer.echo(
        _contents(found["scenes"], found["looks"], found["detections"], found["objects"])
        + (f" in the months {', '.join(map(str, found['season']))}" if found["season"] else "")
    )
    rows = [
        (
            year,
            each["objects"],
            f"{each['area_km2']:.3f}",
            f"{each['majority_area_km2']:.3f}",
            f"{each['seen_km2']:.1f}",
            *each["links"].values(),
        )
        for year, each in found["years"].items()
    ]
    columns = ("km² in any look", "km² in at least half", "km² seen", "same", "merged", "split", "new", "gone")
    print_table(rows, "year", "objects", *columns)
