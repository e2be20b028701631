"""Pair mapped objects with labels: one to one, as many as possible, as well as possible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

COCO_THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
"""Overlaps over which COCO averages precision (Lin et al. 2014, "Microsoft COCO")."""
_RECALLS = np.linspace(0, 1, 101)
_ROUNDING = 1e-6
"""By how much an overlap may lie below a threshold: areas of shapes far from the origin are no more exact than that."""


@dataclass(frozen=True)
class Overlaps:
    """The pairs of objects and labels that overlap.

    Attributes:
        objects: Place of the object of each pair, 1-D int64.
        labels: Place of its label, likewise.
        iou: Intersection over union of the two, 1-D float64, above 0.
        object_count: Number of all objects.
        label_count: Number of all labels.
    """

    objects: NDArray[np.int64]
    labels: NDArray[np.int64]
    iou: NDArray[np.float64]
    object_count: int
    label_count: int

    @classmethod
    def of(cls, objects: Sequence | NDArray, labels: Sequence | NDArray) -> "Overlaps":
        """Measure the overlaps of two lists of shapes.

        Args:
            objects: Valid polygons or multipolygons of shapely in one projected CRS.
            labels: Likewise, in the same CRS.

        Returns:
            The pairs, by object and label.
        """
        ours, theirs = np.asarray(objects, dtype=object), np.asarray(labels, dtype=object)
        if not len(ours) or not len(theirs):
            none = np.zeros(0, np.int64)
            return cls(none, none, np.zeros(0), len(ours), len(theirs))
        one, other = shapely.STRtree(theirs).query(ours, predicate="intersects")
        order = np.lexsort((other, one))
        one, other = one[order].astype(np.int64), other[order].astype(np.int64)
        shared = shapely.area(shapely.intersection(ours[one], theirs[other]))
        both = shapely.area(ours)[one] + shapely.area(theirs)[other] - shared
        iou = np.divide(shared, both, out=np.zeros(len(shared)), where=both > 0)
        kept = iou > 0
        return cls(one[kept], other[kept], np.minimum(iou[kept], 1.0), len(ours), len(theirs))


def reaches(iou: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Return which overlaps are at least `least`, but for rounding."""
    return iou >= least - _ROUNDING


def match(overlaps: Overlaps, least: float) -> NDArray[np.int64]:
    """Pair objects and labels one to one: the most pairs, and among those the largest sum of overlaps.

    Args:
        overlaps: The overlaps.
        least: Intersection over union that a pair must have.

    Returns:
        For each object the place of its label, -1 where it has none, 1-D int64.
    """
    result = np.full(overlaps.object_count, -1, np.int64)
    enough = reaches(overlaps.iou, least)
    one, other, iou = overlaps.objects[enough], overlaps.labels[enough], overlaps.iou[enough]
    alone = (np.bincount(one, minlength=overlaps.object_count)[one] == 1) & (
        np.bincount(other, minlength=overlaps.label_count)[other] == 1
    )
    result[one[alone]] = other[alone]
    one, other, iou = one[~alone], other[~alone], iou[~alone]
    if not len(one):
        return result
    total = overlaps.object_count + overlaps.label_count
    graph = coo_array((np.ones(len(one), np.int8), (one, other + overlaps.object_count)), shape=(total, total))
    groups = connected_components(graph, directed=False)[1][one]
    order = np.argsort(groups, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        rows, row = np.unique(one[part], return_inverse=True)
        cols, col = np.unique(other[part], return_inverse=True)
        gain = np.zeros((len(rows), len(cols)))
        # A pair more is worth more than any sum of overlaps.
        gain[row, col] = 1 + min(gain.shape) + iou[part]
        for r, c in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if gain[r, c]:
                result[rows[r]] = cols[c]
    return result


@dataclass(frozen=True)
class Ranking:
    """Objects by falling confidence, and which of them are hits at the thresholds of COCO.

    Attributes:
        order: Places of the objects, 1-D int64.
        hits: 2-D bool, by threshold and place in `order`.
    """

    order: NDArray[np.int64]
    hits: NDArray[np.bool_]

    @classmethod
    def of(cls, overlaps: Overlaps, confidence: NDArray[np.floating]) -> "Ranking":
        """Let the objects choose their labels, the most confident first, as COCO's evaluation does.

        Args:
            overlaps: The overlaps.
            confidence: One number per object, 1-D; of equal ones the earlier object goes first.
        """
        order = np.argsort(-np.asarray(confidence, float), kind="stable")
        begin = np.searchsorted(overlaps.objects, np.arange(overlaps.object_count + 1))
        hits = np.zeros((len(COCO_THRESHOLDS), len(order)), bool)
        for number, least in enumerate(COCO_THRESHOLDS):
            taken = np.zeros(overlaps.label_count, bool)
            hopeful = np.zeros(overlaps.object_count, bool)
            hopeful[overlaps.objects[reaches(overlaps.iou, least)]] = True
            for rank in np.flatnonzero(hopeful[order]):
                each = order[rank]
                pairs = slice(begin[each], begin[each + 1])
                labels, iou = overlaps.labels[pairs], overlaps.iou[pairs]
                free = np.flatnonzero(~taken[labels] & reaches(iou, least))
                if len(free):
                    taken[labels[free[np.argmax(iou[free])]]] = True
                    hits[number, rank] = True
        return cls(order, hits)

    def average_precision(self, label_weight: float, object_weights: NDArray[np.floating] | None = None) -> float:
        """Return the average precision over COCO's thresholds, interpolated at 101 recalls.

        Args:
            label_weight: Sum of the weights of all labels, which is their number where each counts once.
            object_weights: Weight of each object, in the order that they were given in; None for 1.

        Returns:
            Between 0 and 1, NaN without labels.
        """
        weights = np.ones(len(self.order)) if object_weights is None else np.asarray(object_weights, float)[self.order]
        if label_weight <= 0:
            return float("nan")
        if not len(weights):
            return 0.0
        precision, recall = precision_recall(self.hits, weights, label_weight)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        first_reached = np.array([np.searchsorted(row, _RECALLS, side="left") for row in recall])
        reached = np.take_along_axis(best, np.minimum(first_reached, len(weights) - 1), axis=1)
        return float(np.where(first_reached < len(weights), reached, 0).mean())


def precision_recall(
    hits: NDArray[np.bool_], weights: NDArray[np.floating], total: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and recall after each object, by falling confidence.

    Args:
        hits: Whether each is a hit, 1-D, or 2-D by threshold and object.
        weights: Weight of each, 1-D.
        total: Sum of the weights of all labels.
    """
    right, all_of_them = np.cumsum(hits * weights, axis=-1), np.cumsum(weights)
    precision = np.divide(right, all_of_them, out=np.zeros(right.shape), where=all_of_them > 0)
    return precision, right / total
