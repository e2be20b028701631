"""Which ground a model was trained on, as the ``training.json`` in its folder tells."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_training.errors import SamplesError
from darts_training.folds import Block, Folds
from darts_training.result import RECORD, folds_from_json

if TYPE_CHECKING:
    import geopandas as gpd

_MARGIN = 1e-3
"""Share of a block's edge by which it may reach into another block and does not lie on it."""


def read_record(path: Path) -> dict[str, Any] | None:
    """Read the record of a training; None for a model without one.

    Raises:
        SamplesError: If it is damaged.
    """
    file = path / RECORD
    if not file.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        missing = {"folds", "samples", "test", "validation"} - set(record)
    except (OSError, ValueError) as error:
        raise SamplesError(f"{file} cannot be read ({error}).") from error
    if missing:
        raise SamplesError(f"{file} lacks {', '.join(sorted(missing))}.")
    return record


def folds_of(record: dict[str, Any]) -> Folds | None:
    """Return the blocks of the ground that a record tells of; None where it tells of none."""
    told = record["folds"] or record.get("ground")
    return folds_from_json(told) if told else None


def seen_blocks(record: dict[str, Any], folds: Folds) -> set[Block]:
    """Return the blocks of a record's folds that were trained on."""
    held = {*record["test"], *record["validation"]} if record["folds"] else set()
    return {block for block, fold in folds.fold_of.items() if fold not in held}


def count_seen(model: Path, digest: str, folds: Folds, held: Sequence[int]) -> int:
    """Count the held-out blocks of which a model was trained on a part, as far as it tells.

    Args:
        model: Its folder.
        digest: SHA-256 of the samples that are to be trained on.
        folds: Divides their ground.
        held: The folds that are held out.
    """
    record, blocks = read_record(model), folds.blocks(held)
    if record is None:
        return 0
    theirs = folds_of(record)
    if record["folds"] is None and record["samples"] == digest:
        return len(blocks)
    if theirs is None:
        return 0
    seen = _ground(theirs, sorted(seen_blocks(record, theirs))).to_crs(folds.crs)
    return len(np.unique(seen.sindex.query(_ground(folds, blocks, _MARGIN), predicate="intersects")[0]))


def _ground(folds: Folds, blocks: Sequence[Block], margin: float = 0.0) -> "gpd.GeoSeries":
    """Return blocks as polygons, without a margin of their edges."""
    import geopandas as gpd
    import shapely

    row, column = np.array(blocks, float).reshape(-1, 2).T
    (height, width), (y, x) = folds.size, folds.origin
    low, high = margin, 1 - margin
    sides = x + width * (column + low), y + height * (row + low), x + width * (column + high), y + height * (row + high)
    return gpd.GeoSeries(shapely.segmentize(shapely.box(*sides), min(folds.size) / 4), crs=folds.crs)
