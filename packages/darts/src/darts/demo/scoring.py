"""Compare what a model found with the truth: pixels, and slumps as objects."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_utils import GridError, ParameterError

MIN_IOU = 0.5
"""Overlap from which an object counts as found. From one half on, no object can match two others (Kirillov et al.
2019, "Panoptic Segmentation", section 4.1)."""
MIN_PIXELS = 32
"""Slumps of which less lies in the valid area are not counted: the pipeline's default drops objects of that size."""


@dataclass(frozen=True)
class Score:
    """How well a map of slumps agrees with the truth, inside the valid area.

    Figures that would divide by zero are NaN.

    Attributes:
        iou: Pixels in both over pixels in either (intersection over union, Jaccard 1912).
        pixel_precision: Share of the mapped pixels that are slump.
        pixel_recall: Share of the slump pixels that are mapped.
        found: Slumps with a mapped object of their own.
        missed: Slumps without.
        false_alarms: Mapped objects without a slump of their own.
    """

    iou: float
    pixel_precision: float
    pixel_recall: float
    found: int
    missed: int
    false_alarms: int

    @property
    def precision(self) -> float:
        """Share of the mapped objects that are slumps."""
        return _ratio(self.found, self.found + self.false_alarms)

    @property
    def recall(self) -> float:
        """Share of the slumps that were mapped."""
        return _ratio(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.found, 2 * self.found + self.missed + self.false_alarms)


def score(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.integer],
    valid: NDArray[np.bool_] | None = None,
    min_iou: float = MIN_IOU,
    min_pixels: int = MIN_PIXELS,
) -> Score:
    """Score a map of slumps against the truth.

    Only pixels inside the valid area count. Mapped objects are 8-connected. A slump is found if it can be given a
    mapped object of its own whose intersection over union with it is at least `min_iou`; objects are given away such
    that as many slumps as possible are found.

    Args:
        predicted: (rows, columns) bool, True where a slump was mapped.
        truth: (rows, columns) integer, 0 outside slumps, else the slump's number.
        valid: (rows, columns) bool, True where results count; None for everywhere.
        min_iou: Overlap that makes a match, above 0 and at most 1.
        min_pixels: Slumps and mapped objects with fewer valid pixels are left out of the count of objects.

    Returns:
        The score.

    Raises:
        GridError: If the arrays differ in shape.
        ParameterError: If `min_iou` is not above 0 and at most 1.
    """
    from scipy import ndimage

    valid = np.ones(truth.shape, dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
    if not predicted.shape == truth.shape == valid.shape:
        raise GridError(
            f"The map has shape {predicted.shape}, the truth {truth.shape}, the valid area {valid.shape}; "
            "all three must lie on the same grid."
        )
    if not 0 < min_iou <= 1:
        raise ParameterError(f"min_iou is {min_iou}; expected a number above 0 and at most 1.")
    mapped = np.asarray(predicted, dtype=bool) & valid
    slumps = np.where(valid, truth, 0)
    both = int((mapped & (slumps > 0)).sum())
    of_map, of_truth = int(mapped.sum()), int((slumps > 0).sum())
    objects, _ = ndimage.label(mapped, structure=np.ones((3, 3), dtype=bool))
    overlaps = _overlaps(objects, slumps, min_pixels)
    found = _most_matches(overlaps >= min_iou)
    return Score(
        iou=_ratio(both, of_map + of_truth - both),
        pixel_precision=_ratio(both, of_map),
        pixel_recall=_ratio(both, of_truth),
        found=found,
        missed=overlaps.shape[1] - found,
        false_alarms=overlaps.shape[0] - found,
    )


def _overlaps(objects: NDArray[np.integer], slumps: NDArray[np.integer], min_pixels: int) -> NDArray[np.float64]:
    """Intersection over union of every mapped object (rows) with every slump (columns)."""
    object_sizes, slump_sizes = np.bincount(objects.ravel()), np.bincount(slumps.ravel())
    codes, counts = np.unique(objects.ravel().astype(np.int64) * len(slump_sizes) + slumps.ravel(), return_counts=True)
    shared = np.zeros((len(object_sizes), len(slump_sizes)))
    shared.flat[codes] = counts
    keep_objects = np.flatnonzero(object_sizes[1:] >= max(min_pixels, 1)) + 1
    keep_slumps = np.flatnonzero(slump_sizes[1:] >= max(min_pixels, 1)) + 1
    shared = shared[np.ix_(keep_objects, keep_slumps)]
    either = object_sizes[keep_objects][:, None] + slump_sizes[keep_slumps][None, :] - shared
    return shared / either


def _most_matches(possible: NDArray[np.bool_]) -> int:
    """Size of the largest one-to-one matching."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not possible.any():
        return 0
    return int((maximum_bipartite_matching(csr_array(possible), perm_type="column") >= 0).sum())


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
