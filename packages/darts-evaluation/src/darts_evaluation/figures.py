"""The figures: pixels, objects, outlines, size and probability, each with its interval."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from darts_evaluation.counts import BlockCounts, Key, by_block
from darts_evaluation.intervals import Figure, Resampling
from darts_evaluation.matching import COCO_THRESHOLDS, Overlaps, Ranking, match, precision_recall
from darts_evaluation.neighbours import Neighbours, influence
from darts_evaluation.objects import SIZE_CLASSES_M2
from darts_evaluation.outlines import WIDTHS_PX, outline_distances
from darts_evaluation.probability import calibration_error, reliability, thresholds

OVERLAPS = tuple(np.round(np.arange(0.1, 1.0, 0.1), 1).tolist())
"""Overlaps at which objects are matched."""
HEADLINE_OVERLAPS = (0.3, 0.5)
_SPACING_M = 1.0
Tables: TypeAlias = dict[str, dict[str, NDArray[np.float64]]]
"""What is drawn: columns by name, by name of the table."""


@dataclass(frozen=True)
class Objects:
    """Mapped objects and labels that count.

    Attributes:
        overlaps: Their overlaps.
        confidence: Mean probability of each object, 1-D, NaN where it is not known.
        object_m2: Area of each object, 1-D.
        label_m2: Area of each label, 1-D.
        object_keys: Block of each object.
        label_keys: Block of each label.
        object_shapes: Shape of each object, in metres.
        label_shapes: Shape of each label, in metres.
    """

    overlaps: Overlaps
    confidence: NDArray[np.float64]
    object_m2: NDArray[np.float64]
    label_m2: NDArray[np.float64]
    object_keys: Sequence[Key]
    label_keys: Sequence[Key]
    object_shapes: Sequence[BaseGeometry]
    label_shapes: Sequence[BaseGeometry]

    def pairs(self, least: float) -> NDArray[np.int64]:
        """Return the label of each object at an overlap, -1 for none."""
        return match(self.overlaps, least)

    def best_iou(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the overlap of each object with its label, NaN for none."""
        known = {
            (one, other): iou
            for one, other, iou in zip(
                self.overlaps.objects.tolist(), self.overlaps.labels.tolist(), self.overlaps.iou.tolist(), strict=True
            )
        }
        return np.array([known.get((one, int(other)), np.nan) for one, other in enumerate(pairs)], float)

    @cached_property
    def ranking(self) -> Ranking:
        """The objects by falling confidence."""
        return Ranking.of(self.overlaps, np.nan_to_num(self.confidence))

    def part(self, objects: NDArray[np.bool_], labels: NDArray[np.bool_]) -> "Objects":
        """Return some of the objects and labels."""
        new_object, new_label = np.cumsum(objects) - 1, np.cumsum(labels) - 1
        both = objects[self.overlaps.objects] & labels[self.overlaps.labels]
        overlaps = Overlaps(
            new_object[self.overlaps.objects[both]],
            new_label[self.overlaps.labels[both]],
            self.overlaps.iou[both],
            int(objects.sum()),
            int(labels.sum()),
        )
        chosen, kept = np.flatnonzero(objects).tolist(), np.flatnonzero(labels).tolist()
        return replace(
            self,
            overlaps=overlaps,
            confidence=self.confidence[objects],
            object_m2=self.object_m2[objects],
            label_m2=self.label_m2[labels],
            object_keys=[self.object_keys[number] for number in chosen],
            label_keys=[self.label_keys[number] for number in kept],
            object_shapes=[self.object_shapes[number] for number in chosen],
            label_shapes=[self.label_shapes[number] for number in kept],
        )


def figures_of(
    counts: BlockCounts, objects: Objects, *, has_area: bool, resembling: bool, seed: int = 0
) -> tuple[dict[str, dict[str, Figure]], Tables]:
    """Compute all figures.

    Args:
        counts: What was counted in pixels, by block.
        objects: What was mapped and labelled.
        has_area: Whether it is known where the labels are complete; else figures that need it are left out.
        resembling: Whether neighbouring blocks resemble one another, which widens the intervals.
        seed: Seed of the resampling.

    Returns:
        The figures by group and name, and tables to draw.
    """
    inflation = 1.0
    if resembling:
        hit, alarm, miss = (counts.sums[name] for name in ("hit", "alarm", "miss"))
        inflation = Neighbours.of(counts.keys).inflation(
            influence(2 * hit, 2 * hit + alarm + miss), hit + alarm + miss > 0
        )

    def over(keys: Iterable[Key]) -> Resampling:
        return Resampling(sorted(set(keys)), resembling, inflation, seed)

    tables: Tables = {}
    ground, both = over(counts.keys), over([*objects.object_keys, *objects.label_keys])
    pairs = objects.pairs(HEADLINE_OVERLAPS[0])
    matching = np.flatnonzero(pairs >= 0).tolist()
    matched = over(objects.object_keys[number] for number in matching)
    figures = {
        "pixels": _pixels(counts, has_area, ground),
        "objects": _objects(objects, has_area, both, tables),
        "outlines": _outlines(counts, objects, has_area, over, matched),
        "size": _sizes(counts, objects, has_area, ground, both, matched),
    }
    if has_area and counts.histogram.area_m2.sum():
        figures["probability"] = _probability(counts, ground, tables)
    return figures, tables


def _pixels(counts: BlockCounts, has_area: bool, ground: Resampling) -> dict[str, Figure]:
    hit, alarm, miss = (counts.sums[name] for name in ("hit", "alarm", "miss"))
    result = {"recall": ground.ratio(hit, hit + miss)}
    if has_area:
        result |= {
            "precision": ground.ratio(hit, hit + alarm),
            "f1": ground.ratio(2 * hit, 2 * hit + alarm + miss),
            "iou": ground.ratio(hit, hit + alarm + miss),
        }
        result["evaluated_km2"] = Figure(float((hit + alarm + miss + counts.sums["right"]).sum() / 1e6))
        result["not_seen_km2"] = Figure(float(counts.sums["unseen"].sum() / 1e6))
    result["slump_km2"] = Figure(float((hit + miss).sum() / 1e6))
    result["slump_not_seen_km2"] = Figure(float(counts.sums["unseen_slump"].sum() / 1e6))
    return result


def _objects(objects: Objects, has_area: bool, both: Resampling, tables: Tables) -> dict[str, Figure]:
    blocks = both.keys
    mapped = by_block(objects.object_keys, np.ones(len(objects.object_keys)), blocks)
    labelled = by_block(objects.label_keys, np.ones(len(objects.label_keys)), blocks)
    result: dict[str, Figure] = {}
    for least in OVERLAPS:
        pairs = objects.pairs(least)
        hit, found = pairs >= 0, np.zeros(len(objects.label_keys), bool)
        found[pairs[hit]] = True
        right = by_block(objects.object_keys, hit, blocks)
        caught = by_block(objects.label_keys, found, blocks)
        name = f"{least:.1f}"
        result[f"recall@{name}"] = both.ratio(caught, labelled)
        if has_area:
            result[f"precision@{name}"] = both.ratio(right, mapped)
            # Twice the hits: once where the object lies, once where its label does.
            result[f"f1@{name}"] = both.ratio(right + caught, mapped + labelled)
        if least in HEADLINE_OVERLAPS:
            _size_classes(objects, found, both, name, result)
    result["labels"] = Figure(float(len(objects.label_keys)))
    result["mapped"] = Figure(float(len(objects.object_keys)))
    if has_area and np.isfinite(objects.confidence).any():
        result["average_precision"] = _average_precision(objects, both)
        at = COCO_THRESHOLDS.index(0.5)
        hits, order = objects.ranking.hits[at], objects.ranking.order
        precision, recall = precision_recall(hits, np.ones(len(hits)), max(len(objects.label_keys), 1))
        tables["objects_precision_recall"] = {
            "confidence": objects.confidence[order], "precision": precision, "recall": recall,
        }  # fmt: skip
    return result


def _size_classes(
    objects: Objects, found: NDArray[np.bool_], both: Resampling, name: str, result: dict[str, Figure]
) -> None:
    for low, high in pairwise(SIZE_CLASSES_M2):
        inside = (objects.label_m2 >= low) & (objects.label_m2 < high)
        part, whole = (by_block(objects.label_keys, each, both.keys) for each in (found & inside, inside))
        ends = f"{low / 1e4:g}-{high / 1e4:g}" if np.isfinite(high) else f"{low / 1e4:g}-"
        result[f"recall@{name} {ends} ha"] = both.ratio(part, whole)


def _average_precision(objects: Objects, both: Resampling) -> Figure:
    number_of = {key: number for number, key in enumerate(both.keys)}
    of_object = np.array([number_of[key] for key in objects.object_keys], np.int64)
    of_label = np.array([number_of[key] for key in objects.label_keys], np.int64)
    ranking = objects.ranking

    def figure(weights: NDArray[np.float64]) -> float:
        return ranking.average_precision(float(weights[of_label].sum()), weights[of_object])

    return both.percentile(figure)


def _outlines(
    counts: BlockCounts,
    objects: Objects,
    has_area: bool,
    over: Callable[[Iterable[Key]], Resampling],
    matched: Resampling,
) -> dict[str, Figure]:
    result: dict[str, Figure] = {}
    edged = counts.where(counts.sums["mapped_1"] + counts.sums["truth_1"] > 0)
    ground = over(edged.keys)
    for width in WIDTHS_PX if has_area else ():
        mapped, right, truth, found, both, either = (
            edged.sums[f"{name}_{width}"]
            for name in ("mapped", "mapped_right", "truth", "truth_found", "inner_both", "inner_either")
        )
        result[f"boundary_f1@{width}px"] = _harmonic(right, mapped, found, truth, ground)
        result[f"boundary_iou@{width}px"] = ground.ratio(both, either)
    pairs = objects.pairs(HEADLINE_OVERLAPS[0])
    hit = np.flatnonzero(pairs >= 0).tolist()
    distances = outline_distances(
        [objects.object_shapes[number] for number in hit],
        [objects.label_shapes[pairs[number]] for number in hit],
        _SPACING_M,
    )
    keys = [objects.object_keys[number] for number in hit]
    result["distance_m"] = _weighted_median(distances, keys, matched)
    return result


def _harmonic(right: NDArray, mapped: NDArray, found: NDArray, truth: NDArray, ground: Resampling) -> Figure:
    """Return the F1 of the two shares, with the percentile interval: it is no ratio of sums."""

    def figure(weights: NDArray[np.float64]) -> float:
        sums = [float(weights @ each) for each in (right, mapped, found, truth)]
        if not sums[1] and not sums[3]:
            return float("nan")
        # Where one of the two has no boundary, none is right: F1 is 0, as that of pixels is.
        precision, recall = (part / whole if whole else 0.0 for part, whole in (sums[:2], sums[2:]))
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    return ground.percentile(figure)


def _weighted_median(values: NDArray[np.float64], keys: Sequence[Key], matched: Resampling) -> Figure:
    number_of = {key: number for number, key in enumerate(matched.keys)}
    of_value = np.array([number_of[key] for key in keys], np.int64)
    order = np.argsort(values)

    def figure(weights: NDArray[np.float64]) -> float:
        cumulated = np.cumsum(weights[of_value[order]])
        if not len(cumulated) or not cumulated[-1]:
            return float("nan")
        # The middle of the two middle values where their number is even, as in numpy.
        low = values[order[np.searchsorted(cumulated, cumulated[-1] / 2, side="left")]]
        high = values[order[np.searchsorted(cumulated, cumulated[-1] / 2, side="right")]]
        return float((low + high) / 2)

    return matched.percentile(figure, (0.0, np.inf))


def _sizes(
    counts: BlockCounts, objects: Objects, has_area: bool, ground: Resampling, both: Resampling, matched: Resampling
) -> dict[str, Figure]:
    result: dict[str, Figure] = {}
    hit, alarm, miss = (counts.sums[name] for name in ("hit", "alarm", "miss"))
    if has_area:
        result["area_ratio"] = ground.ratio(hit + alarm, hit + miss, "ratio")
        mapped = by_block(objects.object_keys, np.ones(len(objects.object_keys)), both.keys)
        labelled = by_block(objects.label_keys, np.ones(len(objects.label_keys)), both.keys)
        result["count_ratio"] = both.ratio(mapped, labelled, "ratio")
    pairs = objects.pairs(HEADLINE_OVERLAPS[0])
    indices = np.flatnonzero(pairs >= 0).tolist()
    difference = objects.object_m2[indices] - objects.label_m2[pairs[indices]]
    keys = [objects.object_keys[number] for number in indices]
    blocks = matched.keys
    sums = by_block(keys, difference, blocks)
    numbers = by_block(keys, np.ones(len(keys)), blocks)
    squares = by_block(keys, difference**2, blocks)

    def limit(sign: float) -> Callable[[NDArray[np.float64]], float]:
        """Bland and Altman 1986, "Statistical methods for assessing agreement"."""

        def figure(weights: NDArray[np.float64]) -> float:
            count, total = float(weights @ numbers), float(weights @ sums)
            if count < 2:
                return float("nan")
            variance = max(float(weights @ squares) - total**2 / count, 0) / (count - 1)
            return total / count + sign * 1.96 * variance**0.5

        return figure

    result["area_bias_m2"] = matched.percentile(limit(0), (-np.inf, np.inf))
    result["area_limit_low_m2"] = matched.percentile(limit(-1), (-np.inf, np.inf))
    result["area_limit_high_m2"] = matched.percentile(limit(1), (-np.inf, np.inf))
    return result


def _probability(counts: BlockCounts, ground: Resampling, tables: Tables) -> dict[str, Figure]:
    histogram = counts.histogram
    slump, other = histogram.total()
    table = reliability(slump, other)
    tables["reliability"] = {"area_m2": table.pop("pixels"), **table}
    tables["thresholds"] = curve = thresholds(slump, other)
    result = {
        "brier": ground.ratio(histogram.squared_errors, histogram.area_m2),
        "calibration_error": ground.percentile(lambda weights: calibration_error(*histogram.total(weights))),
    }
    if np.isfinite(curve["f1"]).any():
        best = int(np.nanargmax(curve["f1"]))
        result["best_threshold"] = Figure(float(curve["threshold"][best]))
        hits, alarms = histogram.slump[:, best:].sum(axis=1), histogram.other[:, best:].sum(axis=1)
        total = histogram.slump.sum(axis=1)
        result["best_f1"] = ground.ratio(2.0 * hits, hits + alarms + total)
    return result
