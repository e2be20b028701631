"""The command that says how good a map is."""

import warnings
from pathlib import Path

from rich.console import Console

from darts_evaluation import FewBlocksWarning, Figure, NoLabelAreaWarning, evaluate, read_labels, write_report

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
    *,
    model: str | None,
    year: int | None,
    block_km: float | None,
    expert_column: str | None,
    min_area: float,
) -> None:
    """Compare maps with labels, print the headline figures and write the report.

    Args:
        predictions: Folders of results, or one dataset.
        labels: Vector file of labels.
        area: Vector file of the area in which they are complete.
        out: Folder of the report.
        model: Member of the ensemble, None for all.
        year: Year of the dataset.
        block_km: Edge of the blocks behind the intervals, kilometres.
        expert_column: Column of the labels that names who drew them.
        min_area: Square metres below which objects and labels do not count as objects.
    """
    console = Console()
    with warnings.catch_warnings():
        # The report's notes say the same.
        warnings.simplefilter("ignore", FewBlocksWarning)
        warnings.simplefilter("ignore", NoLabelAreaWarning)
        found = evaluate(
            predictions,
            read_labels(labels, area, expert_column=expert_column),
            model=model,
            year=year,
            block_m=None if block_km is None else 1000 * block_km,
            min_object_m2=min_area,
        )
    for note in found.notes:
        console.print(f"note:   {note}", soft_wrap=True, highlight=False, markup=False)
    for group, name, text in _SHOWN:
        figure = found.figures.get(group, {}).get(name)
        if figure is not None:
            console.print(f"{text + ':':28}{figure_text(figure)}", soft_wrap=True, highlight=False, markup=False)
    if found.agreement is not None:
        iou, f1 = (Figure(each).value_text() for each in (found.agreement.median_iou, found.agreement.median_f1))
        agreement = f"IoU {iou}, F1 of objects {f1} (medians of pairs)"
        console.print(f"{'experts among themselves:':28}{agreement}", soft_wrap=True, highlight=False, markup=False)
    if (out / "evaluation.json").exists():
        console.print(
            f"note:   the evaluation that was in {out} is replaced.", soft_wrap=True, highlight=False, markup=False
        )
    write_report(found, out)
    console.print(f"{'report:':28}{out / 'evaluation.md'}", soft_wrap=True, highlight=False, markup=False)
    if area is None:
        console.print("Name the area in which the labels are complete with --area, to learn about false alarms.")


def figure_text(figure: Figure) -> str:
    """Return a figure and its interval as they are printed."""
    return f"{figure.value_text()} (95 %: {figure.interval_text()})"
