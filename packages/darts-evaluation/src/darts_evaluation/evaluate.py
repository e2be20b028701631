"""Compare maps with labels: per tile, and in all over the union of the tiles."""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from darts_evaluation import datasets
from darts_evaluation.agreement import Agreement, majority, measure_agreement
from darts_evaluation.blocks import enlarge
from darts_evaluation.collecting import Collection
from darts_evaluation.counts import BlockCounts, Key
from darts_evaluation.errors import FewBlocksWarning, LabelsError, PredictionsError
from darts_evaluation.figures import Objects, Tables, figures_of
from darts_evaluation.fragments import JOIN_PX, Shapes
from darts_evaluation.ground import ground_areas
from darts_evaluation.intervals import FEWEST_BLOCKS, LEAST_BLOCKS, Figure
from darts_evaluation.labels import Labels, check_labels
from darts_evaluation.matching import Overlaps
from darts_evaluation.objects import LEAST_SHARE
from darts_evaluation.predictions import TileMap, find_results, read_tile_map
from darts_utils import ResultFolder
from darts_utils.results import describe_mixture

SMALL_AREA_M2 = 1e9
"""Evaluated ground up to which blocks of 1 km are taken, beyond it blocks of 10 km."""
BLOCKS_M = (1_000, 10_000)
HEADLINE = (0.3, 0.5)
"""Overlaps at which objects are hits in the outlines that are written."""
_Given: TypeAlias = str | os.PathLike[str] | TileMap


@dataclass(frozen=True)
class TileFigures:
    """Figures of one tile.

    Attributes:
        name: Name of the tile.
        figures: By group and name.
    """

    name: str
    figures: dict[str, dict[str, Figure]]


@dataclass(frozen=True)
class Evaluation:
    """How good a map is.

    Attributes:
        figures: By group ("pixels", "objects", "outlines", "size", "probability") and name, over all tiles.
        tiles: The same for each tile; its ground that an earlier tile holds too counts only there. Of a dataset, none.
        block_m: Edge of the blocks behind the intervals, metres.
        blocks: Non-empty blocks.
        has_area: Whether it is known where the labels are complete; without it there are no figures about false alarms.
        agreement: How far several experts agree with one another, None for one.
        outlines: Hits, false alarms, misses and what was never seen, with `kind`, `iou`, `tile` and `area_m2`; in the
            CRS of the tiles, or EPSG:6931 (6932 in the south) where they have several.
        tables: Curves and tables to draw: by name, each a dict of columns.
        notes: Sentences that a reader of the figures must know.
    """

    figures: dict[str, dict[str, Figure]]
    tiles: list[TileFigures]
    block_m: float
    blocks: int
    has_area: bool
    agreement: Agreement | None
    outlines: gpd.GeoDataFrame
    tables: Tables
    notes: list[str] = field(default_factory=list)


def evaluate(
    predictions: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Sequence[TileMap],
    labels: Labels,
    *,
    model: str | None = None,
    year: int | None = None,
    block_m: float | None = None,
    min_object_m2: float = 0.0,
    seed: int = 0,
) -> Evaluation:
    """Say how good maps are.

    A pixel counts where the tile is reliable (its extent, with a probability) and the labels are complete; an object or
    a label counts if at least half of it lies there, and is cut to it. What lies elsewhere is neither right nor wrong,
    nor is an object on a label of which less was seen. Ground that several tiles hold counts for the first of them by
    name.

    Args:
        predictions: Folders of results, of single tiles or of folders that hold them; or a dataset of darts-dataset,
            which is drawn onto a grid where the labels are; or the maps themselves.
        labels: The labels, see `read_labels`. Of several experts, ground counts as slump that at least half of them
            marked.
        model: Member of the ensemble, None for the ensemble as a whole.
        year: Year of the dataset, None for its only one.
        block_m: Edge of the blocks that the intervals come from, metres; None for 1 km, or 10 km where more than
            1,000 km² are evaluated, doubled as long as neighbouring blocks resemble one another.
        min_object_m2: Mapped objects and labels of less area, square metres, do not count as objects; their pixels do.
        seed: Seed of the resampling.

    Returns:
        The figures, with 95 % intervals.

    Raises:
        InputTypeError: If `labels` are none, but a path for example.
        PredictionsError: If there are no results, two of one tile, or a file is absent or damaged; or if a dataset has
            not the year, or has several and none was named.
        GridError: If a metre of a tile's grid is none on the ground.
        LabelsError: If no label and no labelled ground lies in any tile.
    """
    check_labels(labels)
    agreement = measure_agreement(labels, min_object_m2) if len(labels.experts) > 1 else None
    truth = majority(labels) if agreement is not None else labels
    smallest_m = block_m or float(min(BLOCKS_M))
    collection = Collection(truth, smallest_m)
    given: list[_Given] = [predictions] if isinstance(predictions, str | os.PathLike) else list(predictions)
    dataset = _dataset(given, model, year)
    folders = [] if dataset is not None else _folders(given)
    for tile in _tiles(given, folders, model) if dataset is None else datasets.dataset_maps(dataset, truth, year):
        collection.add(tile)
    counts = _all_counts(collection, truth)
    if block_m is not None:
        factor, resembling = enlarge(counts, fixed=True)
    else:
        factor, resembling = enlarge(counts, BLOCKS_M[1] // BLOCKS_M[0] if collection.ground_m2 > SMALL_AREA_M2 else 1)
    crs = _matching_crs(collection, truth)
    objects, found, barely, seen = _counted(collection, crs, min_object_m2, dataset is not None)
    whole = _matched(objects, found, factor)
    compute = partial(figures_of, has_area=truth.area is not None, resembling=resembling, seed=seed)
    figures, tables = compute(counts.merged(factor), whole)
    tiles = [TileFigures(name, figures) for name in collection.counts]
    if dataset is not None:
        tiles = []
    elif len(tiles) > 1:
        tiles = [
            TileFigures(name, compute(each.merged(factor), _part(whole, objects, found, name))[0])
            for name, each in collection.counts.items()
        ]
    filled = len(counts.merged(factor).non_empty().keys)
    notes = _notes(filled, truth, agreement, len(barely.shapes), resembling)
    if mixture := describe_mixture(folder.manifest for folder in folders):
        notes.append(f"The tiles were not made alike, so that the figures are those of no one map: {mixture}.")
    outlines = _outlines(whole, objects, found, _never_seen(truth, seen, crs), crs)
    if truth.area is None:
        outlines = outlines[outlines["kind"] != "false alarm"].reset_index(drop=True)
    return Evaluation(
        figures, tiles, smallest_m * factor, filled, truth.area is not None, agreement, outlines, tables, notes
    )


def _dataset(given: list[_Given], model: str | None, year: int | None) -> Path | None:
    """Return the dataset that was given, None for results or maps."""
    found = [Path(each) for each in given if isinstance(each, str | os.PathLike) and datasets.is_dataset(Path(each))]
    if found and (len(given) > 1 or model is not None):
        raise PredictionsError(f"{found[0]} is a dataset; expected nothing beside it, and no name of a model.")
    if year is not None and not found:
        raise PredictionsError(f"The year {year} was named; expected one with a dataset only.")
    return found[0] if found else None


def _folders(given: list[_Given]) -> list[ResultFolder]:
    """Return the results of tiles that were given; nothing where the maps themselves were."""
    paths = [each for each in given if not isinstance(each, TileMap)]
    if paths and len(paths) < len(given):
        raise PredictionsError(f"Beside maps, {paths[0]} was given; expected maps or folders of results.")
    return [] if given and not paths else find_results(paths)


def _tiles(given: list[_Given], folders: list[ResultFolder], model: str | None) -> Iterable[TileMap]:
    for folder in folders:
        yield read_tile_map(folder, model)
    maps = [each for each in given if isinstance(each, TileMap)]
    if len({tile.name for tile in maps}) < len(maps):
        raise PredictionsError("Two maps have one name; expected a name of its own for each.")
    for tile in sorted(maps, key=lambda tile: tile.name):
        yield replace(tile, objects=tile.objects.reset_index(drop=True))


def _all_counts(collection: Collection, labels: Labels) -> BlockCounts:
    if not collection.counts:
        raise LabelsError("The labels hold neither an outline nor an area; expected one of them.")
    counts = BlockCounts.together(list(collection.counts.values()))
    for name in ("unseen", "unseen_slump"):  # What one tile has not seen a later one may have.
        counts.sums[name] = counts.sums[name] - counts.sums[name.replace("unseen", "recovered")]
    labelled = counts.sums["hit"] + counts.sums["miss"] + counts.sums["unseen"]
    if not labelled.any() and not (labels.area is not None and collection.ground_m2):
        raise LabelsError("No label and no labelled ground lies in any of the tiles; see whether they overlap.")
    return counts


def _matching_crs(collection: Collection, labels: Labels) -> str:
    """Return the CRS in which shapes are matched: that of the tiles, where all have one, else an equal-area one."""
    found = {crs for part in collection.counts.values() for crs, _, _ in part.keys}
    return found.pop() if len(found) == 1 else labels.equal_area_crs


def _counted(
    collection: Collection, crs: str, least_m2: float, is_dataset: bool
) -> tuple[Shapes, Shapes, Shapes, NDArray[np.int64]]:
    """Return the objects and labels that count, labels of which too little was seen, and places of those that were."""
    fragments = collection.objects.to_crs(crs)
    numbers = fragments.by_owner() if is_dataset else fragments.by_touch(JOIN_PX * collection.pixel_m)
    objects = Shapes.of(fragments, numbers, crs)
    fragments = collection.labels.to_crs(crs)
    labels = Shapes.of(fragments, fragments.by_owner(), crs)
    counts = labels.share >= LEAST_SHARE
    barely = labels.take(np.flatnonzero(~counts))
    seen = labels.owners[counts]
    labels = labels.take(np.flatnonzero(counts & (labels.area_m2 >= least_m2)))
    objects = objects.take(np.flatnonzero((objects.share >= LEAST_SHARE) & (objects.area_m2 >= least_m2)))
    return _without(objects, barely, labels), labels, barely, seen


def _matched(objects: Shapes, labels: Shapes, factor: int) -> Objects:
    return Objects(
        Overlaps.of(objects.shapes, labels.shapes),
        objects.values,
        objects.area_m2,
        labels.area_m2,
        _wide(objects.keys, factor),
        _wide(labels.keys, factor),
        objects.shapes,
        labels.shapes,
    )


def _part(whole: Objects, objects: Shapes, labels: Shapes, tile: str) -> Objects:
    return whole.part(*(np.array([each == tile for each in shapes.tiles], bool) for shapes in (objects, labels)))


def _never_seen(labels: Labels, seen: NDArray[np.int64], crs: str) -> gpd.GeoSeries:
    """Return the labels of which less than half was seen, so far as the CRS reaches."""
    rest = np.setdiff1d(np.arange(len(labels.outlines)), seen)
    never = labels.outlines.geometry.iloc[rest].to_crs(crs)
    return never[np.isfinite(shapely.bounds(never.to_numpy()).reshape(-1, 4)).all(axis=1)]


def _outlines(whole: Objects, objects: Shapes, labels: Shapes, never: gpd.GeoSeries, crs: str) -> gpd.GeoDataFrame:
    pairs = whole.pairs(HEADLINE[0])
    hit = pairs >= 0
    missed = np.setdiff1d(np.arange(len(labels.shapes)), pairs[hit])
    shapes = [*objects.shapes, *(labels.shapes[index] for index in missed), *never]
    kinds = [*np.where(hit, "hit", "false alarm").tolist(), *["miss"] * len(missed), *["not seen"] * len(never)]
    tiles = [*objects.tiles, *(labels.tiles[index] for index in missed), *[""] * len(never)]
    iou = [*whole.best_iou(pairs).tolist(), *[np.nan] * (len(missed) + len(never))]
    table = pd.DataFrame({"kind": kinds, "tile": tiles, "iou": iou})
    result = gpd.GeoDataFrame(table, geometry=gpd.GeoSeries(shapes, crs=crs), crs=crs)
    result["area_m2"] = ground_areas(shapes, crs)
    return result


def _notes(blocks: int, labels: Labels, agreement: Agreement | None, barely: int, resembling: bool) -> list[str]:
    notes = []
    if labels.area is None:
        notes.append(
            "Nothing says where the labels are complete, so nothing is said about false alarms: there is no "
            "precision, no F1 and no IoU."
        )
    if blocks < FEWEST_BLOCKS:
        notes.append(
            f"Blocks of ground that hold something: {blocks}. Intervals need at least {LEAST_BLOCKS}, and promise more "
            f"than they hold below {FEWEST_BLOCKS}."
        )
        warnings.warn(notes[-1], FewBlocksWarning, stacklevel=3)
    if resembling:
        notes.append("Neighbouring blocks resemble one another; the intervals are widened by what they share.")
    if barely:
        notes.append(f"{barely} labels lie with less than {LEAST_SHARE:.0%} on ground that was seen and do not count.")
    if agreement is not None and not agreement.is_agreed:
        notes.append(
            "The experts do not agree on what is a slump here; there is no agreed truth, and no verdict. If they drew "
            "different places, leave out the column with their names."
        )
    return notes


def _without(objects: Shapes, ignored: Shapes, labels: Shapes) -> Shapes:
    """Leave out objects of which half lies on labels that do not count, and that touch none that does."""
    if not ignored.shapes or not objects.shapes:
        return objects
    shapes = np.asarray(objects.shapes, dtype=object)
    union = shapely.union_all(ignored.whole)
    inside = shapely.area(shapely.intersection(shapes, union)) >= LEAST_SHARE * shapely.area(shapes)
    inside[shapely.STRtree(labels.shapes).query(shapes, predicate="intersects")[0]] = False
    return objects.take(np.flatnonzero(~inside))


def _wide(keys: Iterable[Key], factor: int) -> list[Key]:
    return [(crs, row // factor, col // factor) for crs, row, col in keys]
