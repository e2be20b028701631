"""Write an evaluation: figures as JSON, a report to read, and outlines to look at."""

import io
import json
import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from pyogrio.errors import DataLayerError, DataSourceError

from darts_evaluation.agreement import AGREED_IOU, Agreement
from darts_evaluation.evaluate import Evaluation
from darts_evaluation.intervals import FEWEST_BLOCKS, LEAST_BLOCKS, Figure, number_text
from darts_utils import write_atomically
from darts_utils.geopackage import settle_geopackage

FORMAT = 1
_PLOTS = ("reliability", "precision_recall", "size_classes")
_TITLES = {
    "pixels": "Pixels",
    "objects": "Objects",
    "outlines": "Outlines",
    "size": "Size",
    "probability": "Probability",
}
_HEADLINES = (
    ("pixels", "iou", "IoU of pixels"),
    ("pixels", "f1", "F1 of pixels"),
    ("pixels", "recall", "Recall of pixels"),
    ("objects", "f1@0.3", "F1 of objects at overlap 0.3"),
    ("objects", "f1@0.5", "F1 of objects at overlap 0.5"),
    ("objects", "recall@0.3", "Slumps found at overlap 0.3"),
    ("objects", "average_precision", "Average precision (COCO)"),
    ("size", "area_ratio", "Mapped area over labelled area"),
    ("probability", "calibration_error", "Calibration error"),
)


def write_report(evaluation: Evaluation, folder: str | os.PathLike[str], *, title: str = "Evaluation") -> list[Path]:
    """Write an evaluation into a folder.

    Args:
        evaluation: The figures.
        folder: Folder, created where absent. Files of an earlier report are replaced.
        title: Heading of the report.

    Returns:
        The files: `evaluation.json`, `evaluation.md`, plots as PNG, and `evaluation.gpkg` with the layers `hits`,
        `false_alarms`, `misses` and `not_seen`.

    Raises:
        OSError: If a file cannot be written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    drawings = _draw(evaluation)
    for name in set(_PLOTS) - set(drawings):  # of an earlier report
        (target / f"{name}.png").unlink(missing_ok=True)
    files = []
    for name, drawing in drawings.items():
        path = target / f"{name}.png"
        write_atomically(path, _png(drawing))
        files.append(path)
    for name, text in (
        ("evaluation.json", json.dumps(to_json(evaluation), indent=2) + "\n"),
        ("evaluation.md", _markdown(evaluation, title, list(drawings))),
    ):
        write_atomically(target / name, text.encode())
        files.append(target / name)
    files.append(_write_outlines(evaluation, target / "evaluation.gpkg"))
    return files


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as what JSON can express.

    Args:
        evaluation: The figures.

    Returns:
        Dicts, lists, text and numbers, as in `evaluation.json`; figures that are not defined are None.
    """
    found = evaluation.agreement
    return {
        "format": FORMAT,
        "block_m": evaluation.block_m,
        "blocks": evaluation.blocks,
        "has_label_area": evaluation.has_area,
        "notes": evaluation.notes,
        "figures": _figures(evaluation.figures),
        "tiles": {tile.name: _figures(tile.figures) for tile in evaluation.tiles},
        "tables": {
            name: {column: _plain(values) for column, values in table.items()}
            for name, table in evaluation.tables.items()
            if name != "objects_precision_recall"
        },
        "agreement": None
        if found is None
        else {
            "experts": found.experts,
            "median_iou": _number(found.median_iou),
            "median_f1": _number(found.median_f1),
            "is_agreed": found.is_agreed,
            "iou": [_plain(row) for row in found.iou],
            "f1": [_plain(row) for row in found.f1],
            "others_iou": _plain(found.others_iou),
            "others_f1": _plain(found.others_f1),
        },
    }


def _figures(groups: dict[str, dict[str, Figure]]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        group: {
            name: {end: _number(getattr(each, end)) for end in ("value", "low", "high")} | {"blocks": each.blocks}
            for name, each in figures.items()
        }
        for group, figures in groups.items()
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(values: Iterable[float]) -> list[float | None]:
    return [_number(value) for value in np.asarray(values, float).tolist()]


def _markdown(evaluation: Evaluation, title: str, drawings: list[str]) -> str:
    lines = [f"# {title}", ""]
    lines += [f"> {note}" for note in evaluation.notes] + ([""] if evaluation.notes else [])
    found = evaluation.agreement
    if found is not None:
        lines += [_about_experts(found), ""]
    lines += ["| | value | 95 % interval |", "|---|---|---|"]
    for group, name, text in _HEADLINES:
        figure = evaluation.figures.get(group, {}).get(name)
        if figure is not None:
            lines.append(f"| {text} | {figure.value_text()} | {figure.interval_text()} |")
    lines += [
        "",
        _about_blocks(evaluation),
        "",
    ]
    lines += [f"![{name}]({name}.png)\n" for name in drawings]
    for group, figures in evaluation.figures.items():
        lines += [f"## {_TITLES[group]}", "", "| figure | value | 95 % interval |", "|---|---|---|"]
        lines += [f"| {name} | {each.value_text()} | {_interval(each)} |" for name, each in figures.items()]
        lines.append("")
    if len(evaluation.tiles) > 1:
        lines += [
            "## Tiles",
            "",
            "| tile | IoU | F1 of objects at 0.3 | recall of objects at 0.3 |",
            "|---|---|---|---|",
        ]
        for tile in evaluation.tiles:
            cells = (tile.figures.get(group, {}).get(name) for group, name in _TILE_COLUMNS)
            lines.append(f"| {tile.name} | {' | '.join('' if each is None else each.value_text() for each in cells)} |")
        lines.append("")
    if found is not None:
        lines += ["## Experts", "", "| expert | IoU with the others | F1 with the others |", "|---|---|---|"]
        rows = zip(found.experts, found.others_iou, found.others_f1, strict=True)
        lines += [f"| {name} | {number_text(iou)} | {number_text(f1)} |" for name, iou, f1 in rows]
        lines.append("")
    return "\n".join(lines)


def _about_experts(found: Agreement) -> str:
    head = f"{len(found.experts)} experts drew the labels. Two of them agree"
    iou, f1 = number_text(found.median_iou, 2), number_text(found.median_f1, 2)
    if not found.is_agreed:
        return (
            f"{head} with an IoU of {iou} in the median, below {AGREED_IOU}: there is no agreed truth here, and the "
            "figures below are no verdict."
        )
    return (
        f"{head} with an IoU of {iou} and an F1 of objects of {f1} in the median: no map can be expected to agree "
        "better with them."
    )


def _about_blocks(evaluation: Evaluation) -> str:
    edge = f"{evaluation.block_m / 1000:g} km"
    return (
        f"Intervals come from {evaluation.blocks} blocks of ground of {edge} × {edge} that hold something; those of "
        f"figures from fewer than {FEWEST_BLOCKS} are too narrow, and say from how many; from fewer than "
        f"{LEAST_BLOCKS} there is none, nor is one given that would say nothing. Overlap is intersection over union."
    )


_TILE_COLUMNS = (("pixels", "iou"), ("objects", "f1@0.3"), ("objects", "recall@0.3"))


def _interval(figure: Figure) -> str:
    """Return the interval; sums, which come from no blocks, have none."""
    return figure.interval_text() if figure.blocks else ""


def _draw(evaluation: Evaluation) -> dict[str, Drawing]:
    """Draw what there is to draw, without touching the state of pyplot."""
    drawings = {}
    tables = evaluation.tables
    if "reliability" in tables:
        table = tables["reliability"]
        drawings["reliability"] = drawing = _figure()
        axes = drawing.add_subplot()
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        axes.plot(table["probability"], table["frequency"], marker="o", color="#b5402a")
        axes.set(xlabel="mean probability", ylabel="share that is slump", xlim=(0, 1), ylim=(0, 1))
        axes.set_title("Reliability of the probabilities", fontsize=10)
    if "thresholds" in tables or "objects_precision_recall" in tables:
        drawings["precision_recall"] = drawing = _figure()
        axes = drawing.add_subplot()
        for name, text, colour in (
            ("thresholds", "pixels", "#2a6db5"),
            ("objects_precision_recall", "objects, 0.5", "#b5402a"),
        ):
            if name in tables:
                axes.plot(tables[name]["recall"], tables[name]["precision"], label=text, color=colour)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title("Precision against recall over all thresholds", fontsize=10)
        axes.legend(loc="lower left", fontsize=8)
    classes = {
        name.partition(" ")[2]: each
        for name, each in evaluation.figures["objects"].items()
        if name.startswith("recall@0.3 ") and math.isfinite(each.value)
    }
    if classes:
        drawings["size_classes"] = drawing = _figure()
        axes = drawing.add_subplot()
        values = np.array([each.value for each in classes.values()])
        axes.bar(list(classes), values, color="#2a6db5")
        for position, each in enumerate(classes.values()):
            if math.isfinite(each.low) and math.isfinite(each.high):
                axes.plot([position, position], [each.low, each.high], color="0.2", linewidth=1)
        axes.set(ylabel="share found", ylim=(0, 1.02))
        axes.set_title("Slumps found by size", fontsize=10)
    return drawings


def _figure() -> Drawing:
    drawing = Drawing(figsize=(4.6, 3.6), dpi=120, layout="tight")
    FigureCanvasAgg(drawing)
    return drawing


def _png(drawing: Drawing) -> bytes:
    content = io.BytesIO()
    drawing.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _write_outlines(evaluation: Evaluation, path: Path) -> Path:
    layers = {"hit": "hits", "false alarm": "false_alarms", "miss": "misses", "not seen": "not_seen"}
    options = {"driver": "GPKG", "geometry_type": "Unknown", "engine": "pyogrio"}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".evaluation-") as folder:
        draft = Path(folder) / path.name
        try:
            for kind, layer in layers.items():
                part = evaluation.outlines[evaluation.outlines["kind"] == kind]
                version = None if draft.exists() else {"VERSION": "1.3"}
                part.to_file(draft, layer=layer, dataset_options=version, **options)
        except (DataLayerError, DataSourceError) as error:
            raise OSError(f"{path.name}: {error}") from error
        settle_geopackage(draft)
        write_atomically(path, draft.read_bytes())
    return path
