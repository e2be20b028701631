"""What a network makes of held-out ground, and how good that is."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry import shape

from darts_evaluation import (
    Evaluation,
    FewBlocksWarning,
    Overlaps,
    TileMap,
    evaluate,
    make_labels,
    mapped_objects,
    match,
)
from darts_evaluation.fragments import JOIN_PX, join_touching
from darts_segmentation.blend import Blend
from darts_segmentation.grid import PatchGrid
from darts_training.folds import Folds
from darts_training.labels import SLUMP, UNLABELLED
from darts_training.samples import Samples, TileSamples

Predict = Callable[["NDArray[np.float32]"], "torch.Tensor"]
"""Takes patches (count, bands, y, x), returns probabilities (count, y, x) on the CPU."""

HEADLINE = 0.3
"""Intersection over union from which an object counts as found."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out ground of one tile.

    Attributes:
        tile: The samples that it comes from.
        probability: float32 (y, x), what the network says, blended as inference does.
        truth: bool (y, x), True in slumps.
        counts: bool (y, x), True where it is held out and labelled.
    """

    tile: TileSamples
    probability: NDArray[np.float32]
    truth: NDArray[np.bool_]
    counts: NDArray[np.bool_]


def predict_held_out(
    samples: Samples, folds: Folds, held: Iterable[int], predict: Predict, batch_size: int = 8
) -> list[HeldOut]:
    """Predict the ground of some folds, with its surroundings as in inference.

    Args:
        samples: The samples.
        folds: Divides their ground.
        held: The folds.
        predict: The network.
        batch_size: Patches at a time.

    Returns:
        The tiles in which something is held out and labelled.
    """
    size, wanted = samples.format.patch_size, list(held)
    found = []
    for tile in samples.tiles:
        grid = PatchGrid.plan(tile.shape, size, samples.format.overlap, 0)
        blend = Blend(grid, torch.device("cpu"))
        truth = np.full(tile.shape, UNLABELLED, np.uint8)
        counts = np.zeros(tile.shape, bool)
        batch: list[tuple[tuple[int, int], NDArray]] = []
        for index in range(len(tile)):
            inside = folds.inside(tile, index, size, wanted)
            values, labels = tile.read(index)
            if (inside & (labels != UNLABELLED)).any():
                position = (
                    grid.y.starts.index(int(tile.rows[index])), grid.x.starts.index(int(tile.columns[index])),
                )  # fmt: skip
                (tile_y, patch_y), (tile_x, patch_x) = grid.y.inside(position[0]), grid.x.inside(position[1])
                truth[tile_y, tile_x] = labels[patch_y, patch_x]
                counts[tile_y, tile_x] = (inside & (labels != UNLABELLED))[patch_y, patch_x]
                batch.append((position, values.astype(np.float32)))
            if batch and (len(batch) == batch_size or index == len(tile) - 1):
                blend.add([position for position, _ in batch], predict(np.stack([values for _, values in batch])))
                batch = []
        if counts.any():
            probability = blend.finish(np.ones(tile.shape, bool)).numpy()
            found.append(HeldOut(tile, probability, truth == SLUMP, counts))
    return found


def joined(before: HeldOut, part: HeldOut) -> HeldOut:
    """Put the held-out ground of one tile in two sets of folds together."""
    return replace(
        before,
        probability=np.where(part.counts, part.probability, before.probability),
        truth=np.where(part.counts, part.truth, before.truth),
        counts=before.counts | part.counts,
    )


def object_f1(found: Sequence[HeldOut], min_object_px: int, least_iou: float = HEADLINE) -> float:
    """Return the F1 of objects, one-to-one; 0 where there are neither objects nor slumps."""
    hits = total = 0
    for each in found:
        shapes = [
            _objects(each, mask & each.counts, min_object_px).geometry.to_numpy()
            for mask in (each.probability > 0.5, each.truth)
        ]
        hits += int((match(Overlaps.of(*shapes), least_iou) >= 0).sum())
        total += len(shapes[0]) + len(shapes[1])
    return 2 * hits / total if total else 0.0


def pixel_iou(found: Sequence[HeldOut]) -> float:
    """Return the intersection over union of pixels; 0 where there is nothing."""
    both = sum(int(((each.probability > 0.5) & each.truth & each.counts).sum()) for each in found)
    either = sum(int((((each.probability > 0.5) | each.truth) & each.counts).sum()) for each in found)
    return both / either if either else 0.0


def evaluate_held_out(found: Sequence[HeldOut], min_object_px: int, *, block_m: float | None = None) -> Evaluation:
    """Return all figures of held-out ground, with their intervals.

    Args:
        found: The ground.
        min_object_px: Objects and slumps of fewer pixels do not count as objects.
        block_m: Edge of the blocks behind the intervals, metres; None for that of the evaluation.
    """
    crs = found[0].tile.crs
    maps, truths, areas, tiles = [], [], [], []
    for each in found:
        mapped = (each.probability > 0.5) & each.counts
        percent = np.clip(np.round(100 * each.probability), 0, 100).astype(np.uint8)
        grid = (each.tile.crs, each.tile.transform)
        objects = _objects(each, mapped, 0)
        maps.append(TileMap(each.tile.tile_id, *grid, mapped, each.counts, objects, percent))
        truths.append(_objects(each, each.truth & each.counts, 0).to_crs(crs))
        tiles += [each.tile.tile_id] * len(truths[-1])
        areas.append(_outline(each).to_crs(crs))
    outlines = gpd.GeoDataFrame(pd.concat(truths, ignore_index=True), crs=crs)
    area = gpd.GeoSeries(pd.concat(areas, ignore_index=True), crs=crs)
    pixels = [(abs(each.tile.transform.a), abs(each.tile.transform.e)) for each in found]
    pixel_m2 = min(width * height for width, height in pixels)
    # A slump in several tiles is one label, by the rule that makes one object of what the map has of it.
    numbers = join_touching(outlines.geometry.tolist(), tiles, JOIN_PX * max(map(max, pixels)))
    outlines = outlines.dissolve(numbers).reset_index(drop=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewBlocksWarning)  # The number of blocks stands beside the figures.
        return evaluate(
            maps,
            make_labels(outlines, area),
            block_m=block_m,
            min_object_m2=max(min_object_px - 0.5, 0) * pixel_m2,
        )


def _objects(each: HeldOut, mask: NDArray[np.bool_], min_object_px: int) -> gpd.GeoDataFrame:
    objects = mapped_objects(mask, each.tile.transform, each.tile.crs)
    pixel = abs(each.tile.transform.a * each.tile.transform.e)
    return objects[objects.area >= (min_object_px - 0.5) * pixel]


def _outline(each: HeldOut) -> gpd.GeoSeries:
    parts = shapes(each.counts.astype(np.uint8), each.counts, transform=each.tile.transform)
    return gpd.GeoSeries([shape(part) for part, _ in parts], crs=each.tile.crs)
