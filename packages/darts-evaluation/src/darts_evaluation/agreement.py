"""How far several experts agree on the same ground: what no map can be better than."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from darts_evaluation.errors import LabelsError
from darts_evaluation.labels import Labels
from darts_evaluation.matching import Overlaps, match

AGREED_IOU = 0.3
"""Median of the pairs' intersection over union below which there is no agreed truth."""
MATCH_IOU = 0.3
"""Overlap at which an object of one expert is one of another's."""


@dataclass(frozen=True)
class Agreement:
    """How far experts agree.

    Attributes:
        experts: Their names, sorted.
        iou: Intersection over union of what two of them marked, 2-D float64 by expert and expert.
        f1: F1 of the objects of two of them at an overlap of 0.3, likewise.
        others_iou: Of each with what at least half of the others marked, 1-D float64.
        others_f1: Likewise, of objects.
    """

    experts: list[str]
    iou: NDArray[np.float64]
    f1: NDArray[np.float64]
    others_iou: NDArray[np.float64]
    others_f1: NDArray[np.float64]

    @property
    def median_iou(self) -> float:
        """Median over the pairs that marked something, NaN for none."""
        return _median_of_pairs(self.iou)

    @property
    def median_f1(self) -> float:
        """Median over the pairs that marked something, NaN for none."""
        return _median_of_pairs(self.f1)

    @property
    def is_agreed(self) -> bool:
        """Whether the experts agree enough for there to be a truth to compare a map with, or all marked nothing."""
        return not self.median_iou < AGREED_IOU


def measure_agreement(labels: Labels, min_object_m2: float = 0.0) -> Agreement:
    """Compare experts pair by pair, and each with the majority of the others.

    Args:
        labels: Outlines of several experts; what lies beyond the area of the labels does not count.
        min_object_m2: Outlines of less area, square metres, do not count as objects.

    Returns:
        The comparison.

    Raises:
        LabelsError: If there are fewer than two experts.
    """
    experts = labels.experts
    if len(experts) < 2:
        raise LabelsError("There are labels by one expert only; agreement needs at least two.")
    metric = labels.to_crs(labels.equal_area_crs)
    drawn = {name: _drawn(metric.of(name)) for name in experts}
    count = len(experts)
    iou, f1 = np.eye(count), np.eye(count)
    for one in range(count):
        for other in range(one):
            iou[one, other] = iou[other, one] = _iou(drawn[experts[one]][1], drawn[experts[other]][1])
            f1[one, other] = f1[other, one] = _f1(drawn[experts[one]][0], drawn[experts[other]][0], min_object_m2)
    others = [_half_of([drawn[name][1] for name in experts if name != each]) for each in experts]
    return Agreement(
        experts,
        iou,
        f1,
        np.array([_iou(drawn[name][1], rest) for name, rest in zip(experts, others, strict=True)]),
        np.array(
            [_f1(drawn[each][0], _parts(rest), min_object_m2) for each, rest in zip(experts, others, strict=True)]
        ),
    )


def majority(labels: Labels) -> Labels:
    """Return the ground that at least half of the experts marked, as labels of nobody in particular.

    Args:
        labels: Outlines of several experts.

    Returns:
        The connected parts of that ground, in the CRS of `labels`.
    """
    metric = labels.to_crs(labels.equal_area_crs)
    shape = _half_of([_drawn(metric.of(name))[1] for name in labels.experts])
    outlines: gpd.GeoDataFrame = gpd.GeoDataFrame(
        {"expert": ""}, index=range(len(_parts(shape))), geometry=_parts(shape), crs=metric.outlines.crs
    )
    return Labels(outlines.to_crs(labels.outlines.crs), labels.area)


def _drawn(labels: Labels) -> tuple[list[BaseGeometry], BaseGeometry]:
    """Return the objects of one expert within the area, and all of them as one shape."""
    shapes = np.asarray(labels.outlines.geometry.values, dtype=object)
    if labels.area is not None:
        shapes = shapely.intersection(shapes, labels.area)
    kept = [shape for shape in shapes if shape.area > 0]
    return kept, shapely.union_all(kept)


def _half_of(shapes: list[BaseGeometry]) -> BaseGeometry:
    """Return the ground that at least half of some shapes cover."""
    lines = shapely.union_all([shapely.boundary(shape) for shape in shapes])
    parts = list(shapely.get_parts(shapely.polygonize([lines])))
    if not parts:
        return shapely.MultiPolygon()
    points = shapely.point_on_surface(parts)
    shapely.prepare(shapes)
    votes = sum(shapely.covers(shape, points).astype(int) for shape in shapes)
    return shapely.union_all(
        [part for part, n in zip(parts, np.atleast_1d(votes), strict=True) if 2 * n >= len(shapes)]
    )


def _parts(shape: BaseGeometry) -> list[BaseGeometry]:
    return [part for part in shapely.get_parts(shape) if shapely.get_dimensions(part) == 2]


def _iou(one: BaseGeometry, other: BaseGeometry) -> float:
    both = one.intersection(other).area
    either = one.area + other.area - both
    return both / either if either else float("nan")


def _f1(ours: list[BaseGeometry], theirs: list[BaseGeometry], least_m2: float) -> float:
    ours, theirs = ([shape for shape in shapes if shape.area >= least_m2] for shapes in (ours, theirs))
    if not len(ours) + len(theirs):
        return float("nan")
    hits = int((match(Overlaps.of(ours, theirs), MATCH_IOU) >= 0).sum())
    return 2 * hits / (len(ours) + len(theirs))


def _median_of_pairs(values: NDArray[np.float64]) -> float:
    pairs = values[np.triu_indices(len(values), 1)]
    known = pairs[np.isfinite(pairs)]
    return float(np.median(known)) if len(known) else float("nan")
