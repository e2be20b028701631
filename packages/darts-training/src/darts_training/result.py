"""What a training leaves: weights, card, MLM STAC Item, log, curves, and what was held out."""

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from darts_evaluation import Evaluation
from darts_segmentation import ModelCard, hash_model, model_paths, save_model
from darts_training.checkpoint import Progress
from darts_training.errors import writing
from darts_training.folds import Block, Folds, cover
from darts_training.options import TrainingOptions
from darts_training.samples import Samples
from darts_utils import atomic_path, write_atomically

RECORD, LOG, CURVES, ITEM = "training.json", "log.csv", "curves.png", "item.json"
MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
_FIGURES = {
    "iou": ("pixels", "iou"),
    "precision": ("pixels", "precision"),
    "recall": ("pixels", "recall"),
    "object_f1@0.3": ("objects", "f1@0.3"),
    "object_f1@0.5": ("objects", "f1@0.5"),
    "calibration_error": ("probability", "calibration_error"),
}
_PURPOSE = (
    "Maps retrogressive thaw slumps in images like those that it was trained on. Its figures were measured on ground "
    "of the same area that was held out; elsewhere, and in other images, it may be worse."
)


class FoldsRecord(TypedDict):
    """Folds as JSON has them: blocks with row, column and fold."""

    crs: str
    size: list[float]
    buffer: float
    count: int
    origin: list[float]
    blocks: list[list[int]]


class Past(TypedDict):
    """An earlier training: SHA-256 of the samples where it saw all of them, else ""; and the ground that it saw."""

    samples: str
    ground: FoldsRecord | None


@dataclass(frozen=True)
class TrainingMetadata:
    """What a training depends on, and what of the ground it did not see.

    Attributes:
        samples: SHA-256 of the samples.
        options: The options, as JSON has them.
        folds: CRS, size, buffer and folds of the blocks; None where all ground was trained on.
        test: Folds of the figures.
        validation: Folds by which the best round was chosen.
        origin: SHA-256 of the model that it went on from, "" for none.
    """

    samples: str
    options: dict[str, Any]
    folds: FoldsRecord | None
    test: tuple[int, ...]
    validation: tuple[int, ...]
    origin: str

    @classmethod
    def of(
        cls,
        samples: Samples,
        options: TrainingOptions,
        folds: Folds | None,
        test: tuple[int, ...],
        validation: tuple[int, ...],
        origin: str,
    ) -> "TrainingMetadata":
        """Collect what a training depends on."""
        return cls(
            samples.digest, options.to_json(), None if folds is None else folds_to_json(folds), test, validation, origin
        )

    @property
    def fingerprint(self) -> str:
        """Tells one training from another."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()


def folds_to_json(folds: Folds) -> FoldsRecord:
    """Return folds as JSON has them."""
    blocks = [[*block, fold] for block, fold in sorted(folds.fold_of.items())]
    return {
        "crs": folds.crs,
        "size": list(folds.size),
        "buffer": folds.buffer,
        "count": folds.count,
        "origin": list(folds.origin),
        "blocks": blocks,
    }


def folds_from_json(content: FoldsRecord) -> Folds:
    """Read what :func:`folds_to_json` returned."""
    fold_of: dict[Block, int] = {(int(row), int(column)): int(fold) for row, column, fold in content["blocks"]}
    size, origin = ((float(content[name][0]), float(content[name][1])) for name in ("size", "origin"))
    return Folds(content["crs"], size, float(content["buffer"]), fold_of, int(content["count"]), origin)


def write_log(folder: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the rounds so far as CSV.

    Raises:
        WritingError: If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]))
    writer.writeheader()
    writer.writerows(history)
    with writing(folder / LOG):
        write_atomically(folder / LOG, text.getvalue().encode(), durable=False)


def write_result(
    folder: Path,
    network: torch.nn.Module,
    card: ModelCard,
    samples: Samples,
    metadata: TrainingMetadata,
    progress: Progress,
    evaluation: Evaluation | None,
    earlier: Sequence[Past] = (),
) -> None:
    """Write the model and all that belongs to it; ``training.json`` last, so that it stands for the whole.

    `earlier` are the trainings of the model that it went on from, see :func:`darts_training.seen.past_of`.

    Raises:
        WritingError: If something cannot be written.
    """
    figures = {} if evaluation is None else _figures(evaluation) | {"blocks": float(evaluation.blocks)}
    bounds = _bounds(samples)
    card = replace(
        card,
        patch_size=metadata.options["crop"] or samples.format.patch_size,
        pixel_size=_pixel_size(samples),
        metrics=figures,
        training_data=_describe(samples, bounds, metadata, evaluation),
        description=card.description or _PURPOSE,
    )
    with writing(folder):
        _draw_curves(folder / CURVES, progress.history)
        save_model(folder, network, card)
        item = make_item(card, bounds, _times(samples))
        write_atomically(folder / ITEM, (json.dumps(item, indent=2) + "\n").encode())
        record = {
            "fingerprint": metadata.fingerprint,
            **vars(metadata),
            "ground": folds_to_json(cover(samples)) if metadata.folds is None else None,
            "earlier": list(earlier),
            "epochs": len(progress.history),
            "best_epoch": progress.best_epoch or len(progress.history),
            "threads": progress.threads,
            "figures": figures,
            "blocks": 0 if evaluation is None else evaluation.blocks,
            "sha256": hash_model(folder),
        }
        write_atomically(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def _figures(evaluation: Evaluation) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, (group, figure) in _FIGURES.items():
        each = evaluation.figures.get(group, {}).get(figure)
        if each is not None:
            found |= {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
    return {name: round(float(value), 4) for name, value in found.items() if math.isfinite(value)}


def _describe(
    samples: Samples, bounds: tuple[float, ...], metadata: TrainingMetadata, evaluation: Evaluation | None
) -> str:
    west, south, east, north = (f"{value:.3f}" for value in bounds)
    held = "" if metadata.folds is None else " Blocks were held out for the figures; training.json names them."
    if evaluation is not None:
        edge = f"{evaluation.block_m / 1000:g} km"
        held += f" The figures come from {evaluation.blocks} blocks of {edge} × {edge} that hold something."
    source = f" of {samples.format.source}" if samples.format.source else ""
    return (
        f"{samples.count} patches of {len(samples.tiles)} images{source} between {west} and {east} degrees east, "
        f"{south} and {north} degrees north; SHA-256 of the samples {samples.digest}.{held}"
    )


def _pixel_size(samples: Samples) -> float | None:
    """Return the median edge in metres of the pixels of all patches; None where a grid is not metric."""
    units = {axis.unit_name for crs in {tile.crs for tile in samples.tiles} for axis in CRS(crs).axis_info}
    if units != {"metre"}:
        return None
    areas = np.repeat(
        [abs(tile.transform.determinant) for tile in samples.tiles], [len(tile) for tile in samples.tiles]
    )
    return float(np.sqrt(np.median(areas)))


def _bounds(samples: Samples) -> tuple[float, float, float, float]:
    """Return west, south, east and north of the tiles in degrees; west is more than east across 180°."""
    corners = []
    for tile in samples.tiles:
        height, width = tile.shape
        edges = [tile.transform @ corner for corner in ((0.0, 0.0), (float(width), float(height)))]
        (left, right), (bottom, top) = (sorted(edge[axis] for edge in edges) for axis in (0, 1))
        to_degrees = Transformer.from_crs(tile.crs, "EPSG:4326", always_xy=True)
        corners.append(to_degrees.transform_bounds(left, bottom, right, top))
    west, south, east, north = np.array(corners).T
    first, last = _shortest_arc(west, east)
    return first, float(south.min()), last, float(north.max())


def _shortest_arc(west: NDArray[np.float64], east: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the shortest arc of longitudes, -180…180, that holds all those given."""
    order = np.argsort(west % 360)
    start = (west % 360)[order]
    reach = np.maximum.accumulate(start + ((east - west) % 360)[order])
    widest = int(np.argmax(np.append(start[1:], start[0] + 360) - reach))
    ends = (start[(widest + 1) % len(start)], reach[widest])
    first, last = (float((end + 180) % 360 - 180) for end in ends)
    return first, last


def _outline(bounds: tuple[float, float, float, float]) -> dict[str, object]:
    """Return what bounds enclose as GeoJSON has it: in two parts across 180°."""
    west, south, east, north = bounds
    parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    rings = [[[low, south], [high, south], [high, north], [low, north], [low, south]] for low, high in parts]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def _times(samples: Samples) -> tuple[str, str]:
    times = [time for tile in samples.tiles if (time := _time(tile.time)) is not None] or [datetime.now(UTC)]
    start, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in (min(times), max(times)))
    return start, end


def _time(text: str) -> datetime | None:
    """Read a time, in UTC where it does not say; None where it is none, for which no training is to be lost."""
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def make_item(card: ModelCard, bounds: tuple[float, float, float, float], times: tuple[str, str]) -> dict[str, Any]:
    """Return the STAC Item of a model, after the Machine Learning Model extension.

    Args:
        card: The card.
        bounds: West, south, east and north of the ground that it was trained on, degrees; west is more than east for
            ground across 180°.
        times: First and last time of the images, ISO 8601.

    Returns:
        The Item as JSON has it; its assets lie beside it. A name that the extension does not allow is changed in
        `mlm:name`, and stays as it is in `id`; a licence that is no SPDX identifier becomes "other", and stays as it is
        in `darts:license`.
    """
    described = {name: value for name, value in card.to_dict().items() if value not in ("", {}, [])}
    described["mlm:name"] = _mlm_name(card.name)
    if card.license and not re.fullmatch(r"[\w.+-]+", card.license, re.ASCII):
        described |= {"license": "other", "darts:license": card.license}
    # MLM wants the bands that `mlm:input` names among the properties, where STAC 1.1 wants them of an asset as well.
    bands = [{"name": band} for band in card.bands]
    weights, text = model_paths(Path(card.name))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, CLASSIFICATION],
        "id": card.name,
        "geometry": _outline(bounds),
        "bbox": list(bounds),
        "properties": {
            "datetime": None,
            "start_datetime": times[0],
            "end_datetime": times[1],
            **described,
            "bands": bands,
        },
        "links": [],
        "assets": {
            "weights": {
                "href": f"./{weights.name}",
                "type": "application/octet-stream",
                "title": "Weights as safetensors",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "safetensors",
                "bands": bands,
            },
            "card": {"href": f"./{text.name}", "type": "application/json", "roles": ["metadata"]},
        },
    }


def _mlm_name(name: str) -> str:
    """Return a name as the extension has it: ASCII, three characters or more, the first of them a letter."""
    if re.fullmatch(r"[a-zA-Z][\w.\s-]+[a-zA-Z0-9]", name, re.ASCII):
        return name
    return "model-" + (re.sub(r"[^\w.\s-]", "-", name, flags=re.ASCII).strip("-_. ") or "0")


def _draw_curves(path: Path, history: Sequence[dict[str, float]]) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["loss"] for row in history], label="loss")
    for name, label in (("object_f1", "F1 of objects, validation"), ("iou", "IoU of pixels, validation")):
        if name in history[0]:
            axes.plot(epochs, [row[name] for row in history], label=label)
    axes.set_xlabel("round")
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_path(path, durable=False) as draft:
        figure.savefig(draft, format="png", dpi=110)
