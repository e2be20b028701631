"""Everything that is counted in one tile, by blocks of ground, and how tiles and blocks add up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_evaluation.ground import PERCENTS, Ground, areal_scales
from darts_evaluation.outlines import WIDTHS_PX, boundary_counts
from darts_evaluation.probability import Histogram

Key = tuple[str, int, int]
"""A block: CRS, row and column."""

_EDGES = ("mapped", "mapped_right", "truth", "truth_found", "inner_both", "inner_either")


@dataclass
class BlockCounts:
    """Sums by block.

    Attributes:
        keys: The blocks.
        sums: By name, 1-D float64 with a value per block. Pixels are counted in square metres, so that tiles of
            different pixel sizes add up; `mapped_2` and so on are boundary pixels by distance, in metres of boundary.
        slump: Ground that is slump by block and percent, 2-D, square metres.
        other: Ground that is not, likewise.
    """

    keys: list[Key]
    sums: dict[str, NDArray[np.float64]]
    slump: NDArray[np.float64]
    other: NDArray[np.float64]

    @property
    def histogram(self) -> Histogram:
        """Probabilities against the truth, by block."""
        return Histogram(self.slump, self.other)

    def merged(self, factor: int = 1) -> "BlockCounts":
        """Add up blocks that are one, and squares of `factor` × `factor` blocks."""
        wide = [(crs, row // factor, col // factor) for crs, row, col in self.keys]
        keys = sorted(set(wide))
        index_of = {key: number for number, key in enumerate(keys)}
        index = np.array([index_of[key] for key in wide], np.int64)
        sums = {name: np.bincount(index, values, len(keys)).astype(float) for name, values in self.sums.items()}
        return BlockCounts(keys, sums, _add_rows(self.slump, index, len(keys)), _add_rows(self.other, index, len(keys)))

    @classmethod
    def together(cls, parts: Sequence["BlockCounts"]) -> "BlockCounts":
        """Put the blocks of several tiles together, those that are one added up."""
        keys = [key for part in parts for key in part.keys]
        names = list(dict.fromkeys(name for part in parts for name in part.sums))
        sums = {
            name: np.concatenate([part.sums.get(name, np.zeros(len(part.keys))) for part in parts]) for name in names
        }
        return cls(
            keys, sums, np.concatenate([part.slump for part in parts]), np.concatenate([part.other for part in parts])
        ).merged()

    def non_empty(self) -> "BlockCounts":
        """Leave out blocks without labelled slump and without mapped slump."""
        return self.where((self.sums["hit"] + self.sums["alarm"] + self.sums["miss"]) > 0)

    def where(self, kept: NDArray[np.bool_]) -> "BlockCounts":
        """Return some of the blocks."""
        keys = [key for key, is_kept in zip(self.keys, kept, strict=True) if is_kept]
        return BlockCounts(
            keys, {name: values[kept] for name, values in self.sums.items()}, self.slump[kept], self.other[kept]
        )


def count_ground(ground: Ground, block_m: float) -> BlockCounts:
    """Count the pixels of a tile by blocks.

    Args:
        ground: The tile.
        block_m: Edge of a block in metres.

    Returns:
        The counts; `alarm` and `right` stand for ground on which nobody looked, where the labelled area is not known.
    """
    blocks = ground.blocks(block_m)
    middle = (np.array([key[1:] for key in blocks.keys], float).reshape(-1, 2) + 0.5) * block_m
    # By block, so that all tiles of a CRS count the same ground alike.
    pixel_m2 = abs(ground.transform.a * ground.transform.e) / areal_scales(middle[:, 1], middle[:, 0], ground.crs)
    mapped, truth, valid = ground.mapped, ground.truth, ground.valid
    labelled = np.ones(valid.shape, bool) if ground.labelled is None else ground.labelled
    unseen = ~ground.seen if ground.unseen is None else ground.unseen
    recovered = np.zeros(valid.shape, bool) if ground.recovered is None else ground.recovered
    # Labelled ground that was never seen, and that another tile had not seen and this one has, slump and in all.
    masks = {
        "hit": mapped & truth & valid,
        "alarm": mapped & ~truth & valid,
        "miss": ~mapped & truth & valid,
        "right": ~mapped & ~truth & valid,
        "unseen_slump": labelled & truth & unseen,
        "unseen": labelled & unseen,
        "recovered_slump": labelled & truth & recovered,
        "recovered": labelled & recovered,
    }
    sums: dict[str, NDArray] = {name: blocks.count(mask) * pixel_m2 for name, mask in masks.items()}
    edge_m = float(abs(ground.transform.a))
    edges = boundary_counts(mapped, truth, valid)
    for name in _EDGES:
        for width in WIDTHS_PX:
            sums[f"{name}_{width}"] = blocks.count(edges[name][width]) * edge_m
    slump: NDArray = np.zeros((len(blocks.keys), PERCENTS))
    other = slump
    if ground.probability is not None:
        known = valid & (ground.probability < PERCENTS)
        slump = blocks.histogram(ground.probability, known & truth, PERCENTS) * pixel_m2[:, None]
        other = blocks.histogram(ground.probability, known & ~truth, PERCENTS) * pixel_m2[:, None]
    return BlockCounts(blocks.keys, sums, slump, other)


def by_block(keys: Iterable[Key], values: NDArray[np.generic], blocks: Sequence[Key]) -> NDArray[np.float64]:
    """Add up values of objects by block.

    Args:
        keys: The block of each object.
        values: A value of each, 1-D.
        blocks: The blocks; objects in others are left out.
    """
    index_of = {key: number for number, key in enumerate(blocks)}
    index = np.array([index_of.get(key, -1) for key in keys], np.int64)
    kept = index >= 0
    return np.bincount(index[kept], np.asarray(values, float)[kept], len(blocks)).astype(float)


def _add_rows(values: NDArray[np.float64], index: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    result = np.zeros((count, values.shape[1]))
    np.add.at(result, index, values)
    return result
