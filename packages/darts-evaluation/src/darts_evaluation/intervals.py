"""Intervals of figures that are ratios of sums over square blocks of ground, and of any other figure of blocks.

Objects lie in groups, so neither pixels nor objects are independent; square blocks of ground, large enough, are. A
ratio's interval is studentised on a transformed scale. Its standard error is the jackknife's over the blocks, which for
a ratio of sums needs no drawing (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11). Its
quantile is Student's for as many blocks as hold the area effectively (Kish 1965, "Survey Sampling", section 11.7),
because a few blocks hold most of it with thaw slumps: the percentile interval is too narrow there, and drawn quantiles
of the studentised ratio are wider and cover less often.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from darts_evaluation.counts import Key
from darts_evaluation.neighbours import Neighbours, influence

Scale = Literal["share", "ratio"]
"""What a ratio is: a share between 0 and 1, handled on the logit; or any positive ratio, on the logarithm."""

REPLICATES = 399
FEWEST_BLOCKS = 20
"""Non-empty blocks below which an interval promises more than it holds."""
LEAST_BLOCKS = 5
"""Non-empty blocks below which there is no interval. Even the span from the worst to the best of n independent blocks
holds the middle of what they come from with a probability of 1 - 2^(1-n) only, that is 0.88 for four and 0.94 for five
(David and Nagaraja 2003, "Order Statistics", section 7.1): nothing that is computed from fewer is a 95 % interval."""
_BOUNDLESS = 100
"""An interval that holds shares below 1 % and above 99 %, or ratios this many times smaller and this many times larger
than the one found, says nothing."""
_LEVEL = 0.95
_LARGEST_LEVERAGE = 0.95


def number_text(value: float, decimals: int = 3, absent: str = "not given") -> str:
    """Return a number as people read it: large ones without decimals, a word for none."""
    if not math.isfinite(value):
        return absent
    return f"{value:.{decimals}f}" if abs(value) < 100 else f"{value:,.0f}"


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

    def value_text(self, decimals: int = 3) -> str:
        """Return the figure as people read it: large ones without decimals, "not defined" for none."""
        return number_text(self.value, decimals, "not defined")

    def interval_text(self, decimals: int = 3) -> str:
        """Return the interval as people read it, "not given" for none, and the blocks where they are too few."""
        few = f", {self.blocks} block{'s' * (self.blocks != 1)} only" if self.blocks < FEWEST_BLOCKS else ""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return f"not given{few if self.blocks else ''}"
        return f"{number_text(self.low, decimals)} to {number_text(self.high, decimals)}{few}"


@dataclass(frozen=True)
class Resampling:
    """How the intervals of figures over some blocks are made.

    Attributes:
        keys: The blocks.
        resembling: Whether neighbours resemble one another, so that standard errors are enlarged by what they share.
        inflation: By how much the intervals of figures that are no ratios are widened.
        seed: Seed of the bootstrap.
    """

    keys: Sequence[Key]
    resembling: bool = False
    inflation: float = 1.0
    seed: int = 0

    @cached_property
    def _neighbours(self) -> Neighbours | None:
        return Neighbours.of(self.keys) if self.resembling else None

    def ratio(self, part: NDArray[np.floating], whole: NDArray[np.floating], scale: Scale = "share") -> Figure:
        """Return the ratio of two sums over the blocks, see `ratio`."""
        return ratio(part, whole, scale, neighbours=self._neighbours)

    def percentile(
        self,
        figure: Callable[[NDArray[np.float64]], float],
        within: tuple[float, float] = (0.0, 1.0),
    ) -> Figure:
        """Return any figure of the weighted blocks, see `percentile`, whose interval ends within some limits."""
        found = percentile(figure, len(self.keys), seed=self.seed)
        low, high = (
            float(np.clip(found.value + self.inflation * (end - found.value), *within))
            for end in (found.low, found.high)
        )
        return Figure(found.value, low, high, found.blocks)


def ratio(
    part: NDArray[np.floating],
    whole: NDArray[np.floating],
    scale: Scale = "share",
    *,
    neighbours: Neighbours | None = None,
) -> Figure:
    """Return the ratio of two sums over blocks, with its interval.

    Args:
        part: Numerator of each block, 1-D float64, 0 or more.
        whole: Denominator of each block, likewise; blocks in which both are 0 are left alone.
        scale: "share" if the ratio lies between 0 and 1, "ratio" if it has no upper end.
        neighbours: Which blocks lie near one another, where those are not independent.

    Returns:
        The ratio; without an interval where fewer than `LEAST_BLOCKS` hold something, all of them agree in 0 or 1, or
        it would say nothing: from below 1 % to above 99 % of a share, from a 100th to 100 times a ratio.
    """
    used = (part != 0) | (whole != 0)
    a, b = np.asarray(part, float)[used], np.asarray(whole, float)[used]
    count = len(a)
    if count == 0 or b.sum() == 0:
        return Figure(float("nan"), blocks=count)
    value = a.sum() / b.sum()
    if count < LEAST_BLOCKS or value <= 0 or (scale == "share" and value >= 1):
        return Figure(float(value), blocks=count)
    error = _standard_error(a, b)
    if neighbours is not None:
        error *= neighbours.inflation(influence(part, whole), used)
    effective = b.sum() ** 2 / (b**2).sum()
    forward, inverse, slope = _SCALES[scale]
    reach = stdtrit(max(effective - 1, 1), (1 + _LEVEL) / 2) * error * slope(value)
    with np.errstate(over="ignore"):  # far out, the inverse is 0, or without end
        ends = inverse(forward(value) - reach), inverse(forward(value) + reach)
    edge = 1 / _BOUNDLESS
    least, most = (edge, 1 - edge) if scale == "share" else (value / _BOUNDLESS, value * _BOUNDLESS)
    if ends[0] < least and ends[1] > most:
        return Figure(float(value), blocks=count)
    return Figure(float(value), float(ends[0]), float(ends[1]), count)


def percentile(
    figure: Callable[[NDArray[np.float64]], float], blocks: int, *, seed: int = 0, replicates: int = REPLICATES
) -> Figure:
    """Return any figure of weighted blocks, with the percentile interval of the bootstrap.

    Args:
        figure: Computes the figure from a weight per block; NaN where it is not defined.
        blocks: Number of blocks.
        seed: Seed of the resampling.
        replicates: How often blocks are drawn.

    Returns:
        The figure; without an interval where there are fewer than `LEAST_BLOCKS`.
    """
    value = float(figure(np.ones(blocks))) if blocks else float("nan")
    if blocks < LEAST_BLOCKS or not np.isfinite(value):
        return Figure(value, blocks=blocks)
    rng = np.random.default_rng(seed)
    drawn = [figure(rng.multinomial(blocks, np.full(blocks, 1 / blocks)).astype(float)) for _ in range(replicates)]
    found = np.array(drawn)[np.isfinite(drawn)]
    if not len(found):
        return Figure(value, blocks=blocks)
    low, high = np.quantile(found, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Figure(value, float(low), float(high), blocks)


_SCALES: dict[str, tuple[Callable, Callable, Callable]] = {
    "share": (lambda x: np.log(x / (1 - x)), lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (x * (1 - x))),
    "ratio": (np.log, np.exp, lambda x: 1 / x),
}
"""Transformation, its inverse and its derivative."""


def _standard_error(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the jackknife's standard error of the ratio of two sums."""
    total = b.sum()
    residuals = (a - a.sum() / total * b) / (1 - np.minimum(b / total, _LARGEST_LEVERAGE))
    return float(np.sqrt((len(a) - 1) / len(a) * (residuals**2).sum()) / total)
