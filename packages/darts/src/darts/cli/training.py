"""Make training data, train, calibrate, and say what came of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

import darts_training
from darts.cli.evaluation import figure_text
from darts.cli.logs import start_logging
from darts.cli.rounds import showing_rounds
from darts.run.codes import code_of_failures
from darts.run.training_data import make_training_data

if TYPE_CHECKING:
    from darts.pipelines.sequential_v2 import _BasePipeline
    from darts_evaluation import Evaluation
    from darts_training import TrainingOptions

_SHOWN = (("pixels", "iou", "IoU of pixels"), ("objects", "f1@0.3", "F1 of objects, overlap 0.3"))


def run_creation(
    pipeline: "_BasePipeline",
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

    Args:
        pipeline: Where tiles come from, and how they are preprocessed.
        labels: Vector file of outlines.
        area: Vector file of the area in which they are complete.
        out: Folder of the samples.
        bands: What the samples show; None for those of the model that the pipeline names, or the default.
        sample_size: Edge of a sample in pixels.
        sample_overlap: Pixels that samples share.
        ignore_border: Border around slumps that is not labelled, pixels.
        half: Whether to write float16.

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
        typer.echo(f"{made.outside} labels lie outside the area and were left out.")
    if made.samples is not None:
        with_slump = sum(int((tile.slump > 0).sum()) for tile in made.samples.tiles)
        typer.echo(f"{made.samples.count} samples of {len(made.samples.tiles)} tiles, {with_slump} with slumps: {out}")
    for name in made.failed:
        typer.echo(f"failed: {name}")
    if made.failed or made.samples is None:
        raise SystemExit(code_of_failures(made.errors.values()) or 1)


def run_training(
    data: Path,
    out: Path,
    options: "TrainingOptions",
    *,
    folds: int | None,
    block_m: float,
    buffer_m: float,
    base: Path | None,
    texts: dict[str, str],
    device: str | None,
    verbosity: int,
) -> None:
    """Train, with a bar or log lines, and print how good the model is on held-out ground.

    Args:
        data: Folder of the samples.
        out: Folder of the model, or with `folds` of the models.
        options: How.
        folds: For cross validation the number of folds; None for one model, without one fifth of the ground.
        block_m: Edge of the blocks, metres.
        buffer_m: Distance between what is trained on and what is held out, metres.
        base: Model to go on from.
        texts: Fields of the card.
        device: As for inference.
        verbosity: As for `start_logging`.
    """
    start_logging(verbosity)
    console = Console()
    samples = darts_training.read_samples(data)
    divided = darts_training.make_folds(samples, folds or 5, block_m=block_m, buffer_m=buffer_m)
    with showing_rounds(options.epochs, folds) as shown:
        given: dict[str, Any] = {"base": base, "device": device, "on_step": shown.step, "texts": texts}
        if folds is None:
            trained = darts_training.train(samples, out, options, folds=divided, **given)
            evaluation, paths = trained.evaluation, [trained.path]
        else:
            models, evaluation = darts_training.cross_validate(
                samples, out, options, folds=divided, on_fold=shown.fold, **given
            )
            paths = [each.path for each in models]
    if evaluation is not None:
        _show(console, evaluation)
    for path in paths:
        console.print(f"model: {path}", soft_wrap=True, highlight=False, markup=False)


def run_calibration(models: Sequence[Path], data: Path, out: Path, *, block_m: float, device: str | None) -> None:
    """Calibrate, and print what it brought.

    Args:
        models: Model files or folders.
        data: Folder of the samples.
        out: What to write.
        block_m: Edge of the blocks, metres.
        device: As for inference.
    """
    found = darts_training.calibrate(models, darts_training.read_samples(data), out, block_m=block_m, device=device)
    each = found.calibration
    typer.echo(
        f"temperature {each.parameter:.3f}, fitted on {found.pixels} pixels of {found.blocks} blocks; calibration "
        f"error on the others {each.ece_before:.4f} before, {each.ece_after:.4f} after."
    )
    typer.echo(f"model: {found.path}")


def _show(console: Console, evaluation: "Evaluation") -> None:
    for group, name, text in _SHOWN:
        figure = evaluation.figures.get(group, {}).get(name)
        if figure is not None:
            line = f"{text}: {figure_text(figure)}"
            console.print(line, soft_wrap=True, highlight=False, markup=False)
