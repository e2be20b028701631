"""Which ground a model was trained on, as the ``training.json`` in its folder tells."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Required, TypedDict

import geopandas as gpd
import numpy as np
import shapely

from darts_segmentation import model_paths
from darts_training.errors import SamplesError
from darts_training.folds import Block, Folds
from darts_training.result import RECORD, FoldsRecord, Past, folds_from_json, folds_to_json

_MARGIN = 1e-3
"""Share of a block's edge by which it may reach into another block and does not lie on it."""


class Record(TypedDict, total=False):
    """What ``training.json`` tells of a model and its ground; see :class:`darts_training.result.TrainingMetadata`."""

    folds: Required[FoldsRecord | None]
    samples: Required[str]
    test: Required[list[int]]
    validation: Required[list[int]]
    ground: FoldsRecord | None
    earlier: list[Past]
    sha256: str


def home_of(model: Path) -> Path:
    """Return where the record of a model lies: its folder, also where the model is named by the weights in it.

    Examples:
        >>> home_of(Path("models/slumps/model.safetensors")).as_posix()
        'models/slumps'
        >>> home_of(Path("models/slumps")).as_posix()
        'models/slumps'
    """
    return model.parent if model_paths(model.parent)[0] == model else model


def read_record(path: Path) -> Record | None:
    """Read the record of a training; None for a model without one.

    Args:
        path: The model.

    Raises:
        SamplesError: If it is damaged.
    """
    file = home_of(path) / RECORD
    if not file.is_file():
        return None
    try:
        record: Record = json.loads(file.read_text("utf-8"))
        missing = {"folds", "samples", "test", "validation"} - set(record)
    except (OSError, ValueError) as error:
        raise SamplesError(f"{file} cannot be read ({error}).") from error
    if missing:
        raise SamplesError(f"{file} lacks {', '.join(sorted(missing))}.")
    return record


def folds_of(record: Record) -> Folds | None:
    """Return the blocks of the ground that a record tells of; None where it tells of none."""
    told = record["folds"] or record.get("ground")
    return folds_from_json(told) if told else None


def seen_blocks(record: Record, folds: Folds) -> set[Block]:
    """Return the blocks of a record's folds that were trained on."""
    held = {*record["test"], *record["validation"]} if record["folds"] else set()
    return {block for block, fold in folds.fold_of.items() if fold not in held}


def past_of(model: Path) -> list[Past]:
    """Return the trainings of a model, the first one first, those of the models that it went on from among them.

    Args:
        model: Its folder, or a file; that of weights in a folder stands for the folder.

    Returns:
        Of each `samples`, the SHA-256 of the samples where it was trained on all of them, else ""; and `ground`, the
        blocks that it was trained on, as :func:`darts_training.result.folds_to_json` writes them, or None where that is
        not known. Empty for a model without a record.

    Raises:
        SamplesError: If the record is damaged.
    """
    record = read_record(model)
    if record is None:
        return []
    ground, theirs = None, folds_of(record)
    if theirs is not None:
        ground = folds_to_json(replace(theirs, fold_of=dict.fromkeys(seen_blocks(record, theirs), 0)))
    return [*record.get("earlier", []), {"samples": "" if record["folds"] else record["samples"], "ground": ground}]


def seen_in(past: Sequence[Past], digest: str, folds: Folds, blocks: Sequence[Block]) -> set[Block]:
    """Return those of some blocks of which a part was trained on.

    Args:
        past: Trainings, see :func:`past_of`.
        digest: SHA-256 of the samples in whose ground the blocks lie.
        folds: Says where the blocks lie.
        blocks: The blocks.
    """
    if any(each["samples"] == digest for each in past):
        return set(blocks)
    found: set[Block] = set()
    for each in past:
        if each["ground"]:
            theirs = folds_from_json(each["ground"])
            seen = _ground(theirs, sorted(theirs.fold_of)).to_crs(folds.crs)
            hit = seen.sindex.query(_ground(folds, blocks, _MARGIN), predicate="intersects")[0]
            found |= {blocks[number] for number in np.unique(hit)}
    return found


def count_seen(model: Path, digest: str, folds: Folds, held: Sequence[int]) -> int:
    """Count the held-out blocks of which a model, or one that it went on from, was trained on a part, as far as known.

    Args:
        model: Its folder.
        digest: SHA-256 of the samples that are to be trained on.
        folds: Divides their ground.
        held: The folds that are held out.
    """
    return len(seen_in(past_of(model), digest, folds, folds.blocks(held)))


def _ground(folds: Folds, blocks: Sequence[Block], margin: float = 0.0) -> gpd.GeoSeries:
    """Return blocks as polygons, without a margin of their edges."""
    row, column = np.array(blocks, float).reshape(-1, 2).T
    (height, width), (y, x) = folds.size, folds.origin
    low, high = margin, 1 - margin
    sides = x + width * (column + low), y + height * (row + low), x + width * (column + high), y + height * (row + high)
    return gpd.GeoSeries(shapely.segmentize(shapely.box(*sides), min(folds.size) / 4), crs=folds.crs)
