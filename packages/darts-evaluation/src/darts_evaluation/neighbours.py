"""Which blocks of ground lie near one another, whether those resemble one another, and what that costs an interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_evaluation.counts import Key

_REACH = 2
"""Blocks up to which neighbours are looked at."""
_PERMUTATIONS = 399
_LEVEL = 0.05


@dataclass(frozen=True)
class Neighbours:
    """The pairs of blocks of one CRS that lie near one another.

    Attributes:
        one: Index of the first block of each pair, 1-D int64; each pair is there once.
        other: Place of the second, likewise.
        steps: Rows or columns between them, whichever is more, likewise: 1 or 2.
        edge: Whether they share an edge, 1-D bool.
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    steps: NDArray[np.int64]
    edge: NDArray[np.bool_]

    @classmethod
    def of(cls, keys: Sequence[Key]) -> "Neighbours":
        """Find the pairs.

        Args:
            keys: CRS, row and column of each block, no two alike.
        """
        number_of = {key: number for number, key in enumerate(keys)}
        offsets = [(row, col) for row in range(_REACH + 1) for col in range(-_REACH, _REACH + 1) if (row, col) > (0, 0)]
        pairs = [
            (number, number_of[near], max(down, abs(right)), down + abs(right) == 1)
            for (crs, row, col), number in number_of.items()
            for down, right in offsets
            if (near := (crs, row + down, col + right)) in number_of
        ]
        one, other, steps, edge = np.array(pairs, np.int64).reshape(-1, 4).T
        return cls(one, other, steps, edge.astype(bool))

    def resemble(self, values: NDArray[np.floating], *, seed: int = 0) -> bool:
        """Tell whether blocks that share an edge resemble one another: Moran's I, one-sided at 5 %, by permutation.

        Args:
            values: What each block adds, 1-D, see `influence`.
            seed: Seed of the permutations, which skewed sizes cannot mislead.
        """
        deviations = np.asarray(values, float) - np.mean(values) if len(values) else np.zeros(0)
        if not self.edge.any() or not deviations.any():
            return False
        one, other = self.one[self.edge], self.other[self.edge]
        found = (deviations[one] * deviations[other]).sum()
        shuffled = np.random.default_rng(seed).permuted(np.tile(deviations, (_PERMUTATIONS, 1)), axis=1)
        at_least = ((shuffled[:, one] * shuffled[:, other]).sum(axis=1) >= found).sum()
        return bool(at_least + 1 <= _LEVEL * (_PERMUTATIONS + 1))

    def inflation(self, values: NDArray[np.floating], used: NDArray[np.bool_]) -> float:
        """Return by how much a standard error is too small that takes blocks for independent.

        The variance of a sum with the covariances of near blocks in it (Conley 1999, "GMM estimation with cross
        sectional dependence"), of those within one block and within two, whichever is more; corrected for the mean
        that was taken off.

        Args:
            values: What each block adds, 1-D, with a sum of 0, see `influence`.
            used: Blocks that hold something, 1-D bool.

        Returns:
            Factor of the standard error, 1 or more.
        """
        total, count = float((values[used] ** 2).sum()), int(used.sum())
        if not total:
            return 1.0
        both = used[self.one] & used[self.other]
        factors = [1.0]
        for reach in range(1, _REACH + 1):
            near = both & (self.steps <= reach)
            shared = 2 * float((values[self.one[near]] * values[self.other[near]]).sum())
            factors.append((1 + shared / total) / (1 - 2 * int(near.sum()) / count**2))
        return max(factors) ** 0.5


def influence(part: NDArray[np.floating], whole: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how much each block moves the ratio of two sums, float64, up to a factor."""
    a, b = np.asarray(part, float), np.asarray(whole, float)
    return a - a.sum() / b.sum() * b if b.sum() else np.zeros(len(a))
