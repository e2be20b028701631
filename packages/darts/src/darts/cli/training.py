"""Make training data, calibrate, and say what came of it."""

from collections.abc import Sequence
from pathlib import Path

import typer

import darts_training
from darts.run.codes import code_of_failures
from darts.run.names import counted
from darts.run.task import Pipeline
from darts.run.training_data import make_training_data


def run_creation(
    pipeline: Pipeline,
    *,
    labels: Path,
    area: Path,
    out: Path,
    bands: list[str] | None,
    sample_size: int,
    sample_overlap: int,
    ignore_border: int,
    half: bool,
) -> None:
    """Make training data.

    Raises:
        SystemExit: With code 1 if a tile failed, 75 if only services failed, or 1 if there are no samples.
    """
    made = make_training_data(
        pipeline,
        labels,
        area,
        out,
        bands=bands or (),
        patch_size=sample_size,
        overlap=sample_overlap,
        ignore_border=ignore_border,
        dtype="float16" if half else "float32",
    )
    if made.outside:
        typer.echo(f"Outside the area, and left out: {counted(made.outside, 'label')}.")
    if made.samples is not None:
        with_slump = sum(int((tile.slump > 0).sum()) for tile in made.samples.tiles)
        samples, tiles = counted(made.samples.count, "sample"), counted(len(made.samples.tiles), "tile")
        typer.echo(f"{samples} of {tiles}, {with_slump} with slumps: {out}")
    for name in made.failed:
        typer.echo(f"failed: {name}")
    if made.failed or made.samples is None:
        raise SystemExit(code_of_failures(made.errors.values()) or 1)


def run_calibration(models: Sequence[Path], data: Path, out: Path, *, block_m: float, device: str | None) -> None:
    """Calibrate, and print what it brought."""
    found = darts_training.calibrate(models, darts_training.read_samples(data), out, block_m=block_m, device=device)
    each = found.calibration
    typer.echo(
        f"temperature {each.parameter:.3f}, fitted on {found.pixels} pixels of {found.blocks} blocks; calibration "
        f"error on the others {each.ece_before:.4f} before, {each.ece_after:.4f} after."
    )
    typer.echo(f"model: {found.path}")
