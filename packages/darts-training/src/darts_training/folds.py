"""Folds of ground: square blocks, so that what is measured was never seen, with a distance between."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from darts_segmentation.grid import reflect_index
from darts_training.errors import SamplesError
from darts_training.labels import SLUMP, UNLABELLED
from darts_training.samples import Samples, TileSamples

Block = tuple[int, int]
"""Row and column of a block: coordinates beyond the origin divided by its edges, rounded down."""


@dataclass(frozen=True)
class Folds:
    """Which fold each block of ground belongs to.

    Attributes:
        crs: CRS in which the blocks are rectangles: that of the tiles where they share one.
        size: Edges of a block along y and x, in units of the CRS.
        buffer: Ground nearer than this to a held-out block is not trained on, in the same units.
        fold_of: Fold of each block that holds a label.
        count: Number of folds.
        origin: Where the block (0, 0) begins, y and x.

    Raises:
        SamplesError: If the buffer is wider than a block.
    """

    crs: str
    size: tuple[float, float]
    buffer: float
    fold_of: Mapping[Block, int]
    count: int
    origin: tuple[float, float] = (0.0, 0.0)
    _cache: dict[str, Transformer] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.buffer <= min(self.size):
            raise SamplesError(
                f"The buffer is {self.buffer:g}; expected 0 to the shorter edge of a block, {min(self.size):g}."
            )

    def blocks(self, folds: Iterable[int]) -> list[Block]:
        """List the blocks of some folds."""
        wanted = set(folds)
        return sorted(block for block, fold in self.fold_of.items() if fold in wanted)

    def inside(self, tile: TileSamples, index: int, patch_size: int, folds: Iterable[int]) -> NDArray[np.bool_]:
        """Return which pixels of a patch lie in blocks of some folds, 2-D bool; mirrored ones where they come from."""
        y, x = self._coordinates(tile, index, patch_size)
        return _among(np.floor(y / self.size[0]), np.floor(x / self.size[1]), set(self.blocks(folds)))

    def near(self, tile: TileSamples, index: int, patch_size: int, folds: Iterable[int]) -> NDArray[np.bool_]:
        """Return which pixels lie in blocks of some folds or within the buffer of one, likewise."""
        y, x = self._coordinates(tile, index, patch_size)
        blocks = set(self.blocks(folds))
        row, column = np.floor(y / self.size[0]), np.floor(x / self.size[1])
        up, left = y - row * self.size[0], x - column * self.size[1]
        gap_y = {-1: up, 0: np.zeros_like(y), 1: self.size[0] - up}
        gap_x = {-1: left, 0: np.zeros_like(x), 1: self.size[1] - left}
        result = np.zeros(y.shape, bool)
        for dy, from_row in gap_y.items():
            for dx, from_column in gap_x.items():
                close = np.hypot(from_row, from_column) < self.buffer if (dy or dx) else True
                result |= close & _among(row + dy, column + dx, blocks)
        return result

    def _coordinates(self, tile: TileSamples, index: int, patch_size: int) -> tuple[NDArray, NDArray]:
        """Return the centres of a patch's pixels beyond the origin in the CRS of the blocks, y and x, 2-D float64."""
        height, width = tile.shape
        row, column = int(tile.rows[index]), int(tile.columns[index])
        rows = reflect_index(row, row + patch_size, height) + 0.5
        columns = reflect_index(column, column + patch_size, width) + 0.5
        a, b, c, d, e, f = list(tile.transform)[:6]
        x = a * columns[None, :] + b * rows[:, None] + c
        y = d * columns[None, :] + e * rows[:, None] + f
        if tile.crs == self.crs:
            return y - self.origin[0], x - self.origin[1]
        if tile.crs not in self._cache:
            self._cache[tile.crs] = Transformer.from_crs(tile.crs, self.crs, always_xy=True)
        x, y = self._cache[tile.crs].transform(x, y)
        return y - self.origin[0], x - self.origin[1]


def make_folds(samples: Samples, count: int = 5, *, block_m: float = 1000.0, buffer_m: float = 100.0) -> Folds:
    """Divide the ground of samples into folds of square blocks, each with about the same slump and labelled ground.

    Args:
        samples: The samples.
        count: Number of folds.
        block_m: Edge of a block, metres.
        buffer_m: Distance that is kept between what is trained on and what is held out, metres; at most `block_m`.

    Returns:
        The folds.

    Raises:
        SamplesError: If there is no slump at all, or a fold would have no slump or nothing but slump.
    """
    if count < 2:
        raise SamplesError(f"There are to be {count} folds; expected at least 2.")
    crs = _crs_of(samples)
    whole = Folds(crs, (block_m, block_m), buffer_m, {}, count)
    slump, other = count_blocks(samples, whole)
    if not slump:
        raise SamplesError(f"No pixel of {samples.path} is labelled as slump; there is nothing to learn.")
    return Folds(crs, (block_m, block_m), buffer_m, divide(slump, other, count), count)


def cover(samples: Samples, block_m: float = 1000.0) -> Folds:
    """Return all labelled ground of samples as blocks of one fold.

    Args:
        samples: The samples.
        block_m: Edge of a block, metres.
    """
    whole = Folds(_crs_of(samples), (block_m, block_m), 0.0, {}, 1)
    slump, other = count_blocks(samples, whole)
    return replace(whole, fold_of=dict.fromkeys(sorted({*slump, *other}), 0))


def _crs_of(samples: Samples) -> str:
    found = {tile.crs for tile in samples.tiles}
    return found.pop() if len(found) == 1 else _equal_area(samples)


def divide(slump: Counter[Block], other: Counter[Block], count: int) -> dict[Block, int]:
    """Divide blocks into folds with about the same slump and about the same labelled ground.

    Args:
        slump: Labelled pixels of each block that are slump.
        other: Those that are not.
        count: Number of folds.

    Returns:
        Fold of each block.

    Raises:
        SamplesError: If a fold would have no slump, or nothing but slump.
    """
    sums = np.zeros((count, 2), np.int64)
    fold_of = {}
    # The blocks with most slump first, each into the fold that has least so far.
    for block in sorted({*slump, *other}, key=lambda each: (-slump[each], -other[each], each)):
        lead = 0 if slump[block] else 1
        fold = int(np.lexsort((np.arange(count), sums[:, 1 - lead], sums[:, lead]))[0])
        sums[fold] += slump[block], other[block]
        fold_of[block] = fold
    for name, column in (("slump", 0), ("ground without slump", 1)):
        empty = np.flatnonzero(sums[:, column] == 0)
        if len(empty):
            raise SamplesError(
                f"Fold {empty[0] + 1} of {count} has no labelled {name}: there are {len(fold_of)} blocks of ground, "
                f"{len(slump)} of them with slumps; choose fewer folds or smaller blocks, or label more."
            )
    return fold_of


def count_blocks(samples: Samples, folds: Folds) -> tuple[Counter[Block], Counter[Block]]:
    """Count labelled pixels by block: those that are slump, and the others; where patches overlap, in each."""
    slump: Counter[Block] = Counter()
    other: Counter[Block] = Counter()
    for tile in samples.tiles:
        labels = tile.read_labels()
        for index in range(len(tile)):
            y, x = folds._coordinates(tile, index, samples.format.patch_size)
            keys = np.stack([np.floor(y / folds.size[0]), np.floor(x / folds.size[1])], axis=-1).astype(np.int64)
            for counter, pixels in ((slump, labels[index] == SLUMP), (other, labels[index] == 0)):
                blocks, numbers = np.unique(keys[pixels], axis=0, return_counts=True)
                for block, number in zip(blocks.tolist(), numbers.tolist(), strict=True):
                    counter[(block[0], block[1])] += number
    return slump, other


def hide(values: NDArray, labels: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Return a patch and its labels without some pixels: they look like missing data, and are not labelled."""
    if not hidden.any():
        return values, labels
    return np.where(hidden, values.dtype.type(0), values), np.where(hidden, np.uint8(UNLABELLED), labels)


def _among(rows: NDArray, columns: NDArray, blocks: set[Block]) -> NDArray[np.bool_]:
    result = np.zeros(rows.shape, bool)
    if not rows.size:
        return result
    (top, bottom), (left, right) = ((each.min(), each.max()) for each in (rows, columns))
    for row, column in blocks:
        if top <= row <= bottom and left <= column <= right:
            result |= (rows == row) & (columns == column)
    return result


def _equal_area(samples: Samples) -> str:
    """Return the equal-area CRS of the hemisphere that the tiles lie in (NSIDC's EASE-Grid 2.0)."""
    tile = samples.tiles[0]
    latitude = Transformer.from_crs(tile.crs, "EPSG:4326", always_xy=True).transform(tile.transform.c, tile.transform.f)
    return "EPSG:6931" if latitude[1] >= 0 else "EPSG:6932"
