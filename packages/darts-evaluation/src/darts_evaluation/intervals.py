"""Intervals of figures that are ratios of sums over square blocks of ground, and of any other figure of blocks.

Objects lie in groups, so neither pixels nor objects are independent; square blocks of ground, large enough, are. A
ratio's interval comes from a studentised bootstrap over the blocks on a transformed scale (Efron and Tibshirani 1993,
"An Introduction to the Bootstrap", sections 12.5 and 12.6), with the jackknife's standard error inside and outside: the
percentile interval is too narrow where a few blocks hold most of the area, which they do with thaw slumps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["share", "ratio"]
"""What a ratio is: a share between 0 and 1, handled on the logit; or any positive ratio, on the logarithm."""

REPLICATES = 1999
FEWEST_BLOCKS = 20
"""Non-empty blocks below which an interval promises more than it holds."""
_LEVEL = 0.95
_LARGEST_LEVERAGE = 0.95
_BATCH = 200
"""Replicates at once: what they take in memory grows with the number of blocks."""


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval.

    Attributes:
        value: The figure, NaN where it is not defined.
        low: Lower end, NaN where there is none.
        high: Upper end, likewise.
        blocks: Non-empty blocks that it comes from.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    blocks: int = 0


def ratio(
    part: NDArray[np.floating],
    whole: NDArray[np.floating],
    scale: Scale = "share",
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Figure:
    """Return the ratio of two sums over blocks, with its interval.

    Args:
        part: Numerator of each block, 1-D float64, 0 or more.
        whole: Denominator of each block, likewise; blocks in which both are 0 are left alone.
        scale: "share" if the ratio lies between 0 and 1, "ratio" if it has no upper end.
        seed: Seed of the resampling.
        replicates: How often blocks are drawn.

    Returns:
        The ratio; without an interval where fewer than two blocks hold something, or all of them agree in 0 or 1.
    """
    used = (part != 0) | (whole != 0)
    a, b = np.asarray(part, float)[used], np.asarray(whole, float)[used]
    count = len(a)
    if count == 0 or b.sum() == 0:
        return Figure(float("nan"), blocks=count)
    value = a.sum() / b.sum()
    if count < 2 or value <= 0 or (scale == "share" and value >= 1):
        return Figure(float(value), blocks=count)
    error = _jackknife_error(np.ones((1, count)), a, b)[0]
    if not error > 0:
        return Figure(float(value), float(value), float(value), count)
    forward, inverse, slope = _SCALES[scale]
    rng, deviations = np.random.default_rng(seed), []
    for first in range(0, replicates, _BATCH):
        weights = rng.multinomial(count, np.full(count, 1 / count), min(_BATCH, replicates - first)).astype(float)
        sums = weights @ b
        drawn = np.divide(weights @ a, sums, out=np.full(len(sums), np.nan), where=sums > 0)
        errors = _jackknife_error(weights, a, b)
        usable = (errors > 0) & (drawn > 0) & ((drawn < 1) | (scale == "ratio"))
        deviations.append((forward(drawn[usable]) - forward(value)) / (errors[usable] * slope(drawn[usable])))
    low, high = np.quantile(np.concatenate(deviations), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    spread = error * slope(value)
    with np.errstate(over="ignore"):  # far out, the inverse is 0
        ends = inverse(forward(value) - high * spread), inverse(forward(value) - low * spread)
    return Figure(float(value), float(ends[0]), float(ends[1]), count)


def percentile(
    figure: Callable[[NDArray[np.float64]], float], blocks: int, *, seed: int = 0, replicates: int = 399
) -> Figure:
    """Return any figure of weighted blocks, with the percentile interval of the bootstrap.

    Args:
        figure: Computes the figure from a weight per block; NaN where it is not defined.
        blocks: Number of blocks.
        seed: Seed of the resampling.
        replicates: How often blocks are drawn.

    Returns:
        The figure.
    """
    value = float(figure(np.ones(blocks))) if blocks else float("nan")
    if blocks < 2 or not np.isfinite(value):
        return Figure(value, blocks=blocks)
    rng = np.random.default_rng(seed)
    drawn = [figure(rng.multinomial(blocks, np.full(blocks, 1 / blocks)).astype(float)) for _ in range(replicates)]
    found = np.array(drawn)[np.isfinite(drawn)]
    if not len(found):
        return Figure(value, blocks=blocks)
    low, high = np.quantile(found, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Figure(value, float(low), float(high), blocks)


def influence(part: NDArray[np.floating], whole: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how much each block moves the ratio of two sums, float64, up to a factor."""
    a, b = np.asarray(part, float), np.asarray(whole, float)
    return a - a.sum() / b.sum() * b if b.sum() else np.zeros(len(a))


def neighbours_agree(
    rows: NDArray[np.integer], cols: NDArray[np.integer], values: NDArray[np.floating], *, seed: int = 0
) -> bool:
    """Tell whether neighbouring blocks resemble one another: Moran's I over edges, one-sided at 5 %, by permutation.

    Args:
        rows: Row of each block, 1-D.
        cols: Column of each block, 1-D.
        values: What each block adds, see `influence`.
        seed: Seed of the permutations, which skewed sizes cannot mislead.

    Returns:
        Whether they do.
    """
    places = {(int(row), int(col)): index for index, (row, col) in enumerate(zip(rows, cols, strict=True))}
    pairs = [
        (index, places[near])
        for (row, col), index in places.items()
        for near in ((row + 1, col), (row, col + 1))
        if near in places
    ]
    deviations = np.asarray(values, float) - np.mean(values)
    if not pairs or not deviations.any():
        return False
    one, other = np.array(pairs).T
    found = (deviations[one] * deviations[other]).sum()
    shuffled = np.random.default_rng(seed).permuted(np.tile(deviations, (_PERMUTATIONS, 1)), axis=1)
    at_least = ((shuffled[:, one] * shuffled[:, other]).sum(axis=1) >= found).sum()
    return bool(at_least + 1 <= 0.05 * (_PERMUTATIONS + 1))


_PERMUTATIONS = 399
_SCALES: dict[str, tuple[Callable, Callable, Callable]] = {
    "share": (lambda x: np.log(x / (1 - x)), lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (x * (1 - x))),
    "ratio": (np.log, np.exp, lambda x: 1 / x),
}
"""Transformation, its inverse and its derivative."""


def _jackknife_error(weights: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray:
    """Return the jackknife's standard error of the ratio of weighted sums, for each row of weights."""
    count, sums = len(a), weights @ b
    safe = np.where(sums > 0, sums, 1)
    leverage = np.minimum(b / safe[:, None], _LARGEST_LEVERAGE)
    residuals = (a - (weights @ a / safe)[:, None] * b) / (1 - leverage)
    return np.where(sums > 0, np.sqrt((count - 1) / count * (weights * residuals**2).sum(axis=1)) / safe, 0)
