"""The command that says how good a map is."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

import darts_evaluation
from darts_evaluation import Evaluation, Figure

_SHOWN = (
    ("pixels", "iou", "IoU of pixels"),
    ("pixels", "recall", "recall of pixels"),
    ("objects", "f1@0.3", "F1 of objects, overlap 0.3"),
    ("objects", "f1@0.5", "F1 of objects, overlap 0.5"),
    ("objects", "recall@0.3", "slumps found, overlap 0.3"),
    ("size", "area_ratio", "mapped / labelled area"),
    ("probability", "calibration_error", "calibration error"),
)


def run_evaluation(
    predictions: list[Path],
    labels: Path,
    area: Path | None,
    out: Path,
    expert_column: str | None,
    block_km: float | None,
    **chosen: Any,
) -> None:
    """Compare maps with labels, print the headline figures and write the report."""
    with warnings.catch_warnings():
        # The report's notes say the same.
        warnings.simplefilter("ignore", darts_evaluation.FewBlocksWarning)
        warnings.simplefilter("ignore", darts_evaluation.NoLabelAreaWarning)
        block_m = None if block_km is None else 1000 * block_km
        found = darts_evaluation.evaluate(
            predictions,
            darts_evaluation.read_labels(labels, area, expert_column=expert_column),
            block_m=block_m,
            **chosen,
        )
    for note in found.notes:
        typer.echo(f"note:   {note}")
    print_figures(found, _SHOWN)
    if found.agreement is not None:
        iou, f1 = (Figure(each).value_text() for each in (found.agreement.median_iou, found.agreement.median_f1))
        typer.echo(f"{'experts among themselves:':28}IoU {iou}, F1 of objects {f1} (medians of pairs)")
    if (out / "evaluation.json").exists():
        typer.echo(f"note:   the evaluation that was in {out} is replaced.")
    darts_evaluation.write_report(found, out)
    typer.echo(f"{'report:':28}{out / 'evaluation.md'}")
    if area is None:
        typer.echo("Name the area in which the labels are complete with --area, to learn about false alarms.")


def print_figures(evaluation: Evaluation, shown: Iterable[tuple[str, str, str]], width: int = 28) -> None:
    """Print figures with their intervals, as far as an evaluation has them.

    Args:
        evaluation: The evaluation.
        shown: Group and name of each, and what it is called.
        width: Characters up to where the figures begin.
    """
    for group, name, text in shown:
        figure = evaluation.figures.get(group, {}).get(name)
        if figure is not None:
            typer.echo(f"{text + ': ':{width}}{figure.value_text()} (95 %: {figure.interval_text()})")
