"""How far probabilities can be trusted: Brier score, calibration, and the threshold that would have been best."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_evaluation.ground import PERCENTS

BINS = 15
"""Bins of equal width in which mean probability and frequency are compared (Guo et al. 2017, "On calibration of modern
neural networks")."""

_VALUES = np.arange(PERCENTS) / 100
_BIN_OF = np.minimum((np.arange(PERCENTS) * BINS) // 100, BINS - 1)


@dataclass(frozen=True)
class Histogram:
    """On how much ground that is slump each percent was given, and on how much that is not.

    Attributes:
        slump: 2-D by block and percent (0 to 100), square metres, so that tiles of different pixel sizes add up.
        other: Likewise.
    """

    slump: NDArray[np.float64]
    other: NDArray[np.float64]

    @property
    def squared_errors(self) -> NDArray[np.float64]:
        """Sum of squared differences of probability and truth in each block, times the ground."""
        return self.slump @ (1 - _VALUES) ** 2 + self.other @ _VALUES**2

    @property
    def area_m2(self) -> NDArray[np.float64]:
        """Ground of each block with a probability, square metres."""
        return (self.slump + self.other).sum(axis=1)

    def total(self, weights: NDArray[np.floating] | None = None) -> "tuple[NDArray, NDArray]":
        """Return the two histograms of all blocks, weighted."""
        if weights is None:
            return self.slump.sum(axis=0), self.other.sum(axis=0)
        return weights @ self.slump, weights @ self.other


def calibration_error(slump: NDArray, other: NDArray) -> float:
    """Return the expected calibration error: the mean gap of the bins, by their share of the pixels.

    Args:
        slump: Pixels that are slump by percent, 1-D, or their area.
        other: Those that are not, likewise.

    Returns:
        Between 0 and 1, NaN without pixels.
    """
    table = reliability(slump, other)
    count = table["pixels"].sum()
    if count == 0:
        return float("nan")
    gaps = np.abs(table["probability"] - table["frequency"])
    return float(np.nansum(gaps * table["pixels"]) / count)


def reliability(slump: NDArray, other: NDArray) -> dict[str, NDArray[np.float64]]:
    """Compare mean probability and frequency of slump in bins.

    Args:
        slump: Pixels that are slump by percent, 1-D, or their area.
        other: Those that are not, likewise.

    Returns:
        By name, 1-D over the bins: `pixels`, `probability`, `frequency`; NaN in bins without pixels.
    """
    pixels = np.bincount(_BIN_OF, slump + other, minlength=BINS)
    given = np.bincount(_BIN_OF, (slump + other) * _VALUES, minlength=BINS)
    right = np.bincount(_BIN_OF, slump, minlength=BINS)
    empty = np.where(pixels > 0, pixels, np.nan)
    return {"pixels": pixels.astype(float), "probability": given / empty, "frequency": right / empty}


def thresholds(slump: NDArray, other: NDArray) -> dict[str, NDArray[np.float64]]:
    """Return precision, recall and F1 of pixels for each threshold on the probability.

    Args:
        slump: Pixels that are slump by percent, 1-D, or their area.
        other: Those that are not, likewise.

    Returns:
        By name, 1-D over thresholds: `threshold` (0.00 to 1.00, a pixel counts as slump from there on), `precision`
        (NaN where nothing is mapped), `recall`, `f1`.
    """
    hits, alarms = (np.cumsum(each[::-1])[::-1].astype(float) for each in (slump, other))
    total = float(slump.sum())
    mapped = hits + alarms
    precision = np.divide(hits, mapped, out=np.full(PERCENTS, np.nan), where=mapped > 0)
    recall = hits / total if total else np.full(PERCENTS, np.nan)
    f1 = np.divide(2 * hits, mapped + total, out=np.full(PERCENTS, np.nan), where=(mapped + total) > 0)
    return {"threshold": _VALUES, "precision": precision, "recall": recall, "f1": f1}
