"""Where the patches of a tile lie, and with which weight each of their pixels counts.

Rows and columns are independent of each other: the weight of a pixel is the product of its weights along y and along x.
So everything here is about one axis, and no array is larger than the axis times a few patches.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.arrays import namespace

DEFAULT_PATCH_SIZE = 1024
"""Pixels of the edge of a patch where nothing else is asked for."""

_NEAREST, _FARTHEST = 0.8, 1.25


def patch_starts(length: int, patch_size: int, overlap: int) -> list[int]:
    """Return where patches begin that cover an axis, the last one moved inward to end at its end.

    Args:
        length: Pixels of the axis, at least `patch_size`.
        patch_size: Pixels of a patch.
        overlap: Pixels that neighbours share, at most half of `patch_size`.

    Returns:
        First pixel of each patch, ascending, without duplicates.

    Examples:
        >>> patch_starts(10, 4, 1)
        [0, 3, 6]
        >>> patch_starts(9, 4, 1)
        [0, 3, 5]
        >>> patch_starts(4, 4, 2)
        [0]
    """
    starts = list(range(0, length - patch_size + 1, patch_size - overlap))
    if starts[-1] + patch_size < length:
        starts.append(length - patch_size)
    return starts


def even_starts(length: int, patch_size: int, overlap: int) -> list[int]:
    """Return where patches begin that cover an axis, evenly spaced, as few as share at least the overlap.

    Args:
        length: Pixels of the axis, at least `patch_size`.
        patch_size: Pixels of a patch.
        overlap: Pixels that neighbours share at least, at most half of `patch_size`.

    Returns:
        First pixel of each patch, ascending, without duplicates.

    Examples:
        >>> even_starts(10, 4, 1)
        [0, 3, 6]
        >>> even_starts(9, 4, 1)
        [0, 2, 5]
        >>> even_starts(4, 4, 2)
        [0]
    """
    count = _even_count(length, patch_size, overlap)
    return [(length - patch_size) * index // max(count - 1, 1) for index in range(count)]


def _even_count(length: int, patch_size: int, overlap: int) -> int:
    return max(1, math.ceil((length - overlap) / (patch_size - overlap)))


def auto_patch_size(shape: tuple[int, int], overlap: int, reflection: int, trained: int | None, multiple: int) -> int:
    """Return the patch size with which a network computes fewest pixels of a tile, near a size that suits it.

    That size is the one it was trained with, but no less than the default, for smaller patches compute more. Near it
    are sizes from 0.8 to 1.25 times as large, the border of the tile not counted, so that a tile of a patch's size is
    one patch. The default is among the choices, so that no tile takes more than with it.

    Args:
        shape: Rows and columns of the tile.
        overlap: Pixels that neighbours share at least, at most half of the default size.
        reflection: Pixels by which the border of the tile is wider than 1.
        trained: Pixels of the patches that the network was trained with, None where unknown.
        multiple: Pixels of which the size has to be a multiple, which makes the size differ from the above by less.

    Returns:
        Edge of a patch in pixels, for :meth:`PatchGrid.plan` with `even`.

    Examples:
        >>> [auto_patch_size((size, size), 256, 0, None, 32) for size in (1024, 2048, 8000)]
        [1056, 1184, 1248]
        >>> auto_patch_size((2048, 2048), 256, 0, 2048, 32)
        2080
    """
    best = max(DEFAULT_PATCH_SIZE, trained or 0)
    lowest = math.ceil(max(_NEAREST * best, 2 * overlap) / multiple)
    highest = math.ceil((_FARTHEST * best + 2 * (1 + reflection)) / multiple)
    least = math.ceil(DEFAULT_PATCH_SIZE / multiple) * multiple
    sizes = sorted({least, *range(lowest * multiple, highest * multiple + 1, multiple)}, key=lambda px: abs(px - best))
    lengths = [size + 2 * (1 + reflection) for size in shape]

    def pixels(patch_size: int) -> int:
        counts = (_even_count(length, patch_size, overlap) for length in lengths)
        return math.prod(counts) * patch_size**2

    return min(sizes, key=pixels)


def blend_window(patch_size: int, overlap: int) -> NDArray[np.float64]:
    """Return the weights of a patch's pixels along one axis: they rise linearly from 0 to 1 over the overlap.

    Args:
        patch_size: Pixels of a patch.
        overlap: Pixels over which the weights rise, and fall at the other end; at most half of `patch_size`. Over less
            than two pixels nothing can rise, and all weights are 1.

    Returns:
        Weights of shape (patch_size,), 0…1.

    Examples:
        >>> blend_window(8, 3).tolist()
        [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
        >>> blend_window(3, 1).tolist()
        [1.0, 1.0, 1.0]
    """
    window = np.ones(patch_size)
    if overlap > 1:
        window[:overlap] = np.linspace(0, 1, overlap)
        window[-overlap:] = window[:overlap][::-1]
    return window


def reflect_index(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Return which pixel of an axis stands at each position of a range that may leave the axis at both ends.

    Outside, the axis is mirrored about its end pixels, as often as needed (``numpy.pad(mode="reflect")``).

    Args:
        start: First position, may be negative.
        stop: Position after the last one.
        size: Pixels of the axis, at least 1.

    Returns:
        Indices of shape (stop − start,), each in 0…size − 1.

    Examples:
        >>> reflect_index(-3, 5, 3).tolist()
        [1, 2, 1, 0, 1, 2, 1, 0]
    """
    position = np.arange(start, stop)
    if size == 1:
        return np.zeros_like(position)
    period = 2 * (size - 1)
    position %= period
    return np.minimum(position, period - position)


@dataclass(frozen=True)
class Axis:
    """The patches along one axis of a tile.

    Attributes:
        size: Pixels of the tile along the axis.
        patch_size: Pixels of a patch.
        starts: First pixel of each patch in the tile's count; negative where a patch begins in the border.
        weights: float32 of shape (patches, patch_size): the weight of each patch's pixels. At each pixel of the tile
            the weights of all patches that cover it sum to 1.
    """

    size: int
    patch_size: int
    starts: tuple[int, ...]
    weights: NDArray[np.float32]

    def inside(self, index: int) -> tuple[slice, slice]:
        """Return the part of a patch that lies in the tile, as a slice of the tile and a slice of the patch.

        Both are empty where a small patch lies in the border altogether.
        """
        start = self.starts[index]
        low = min(max(start, 0), self.size)
        high = max(min(start + self.patch_size, self.size), low)
        return slice(low, high), slice(low - start, high - start)

    def source(self, index: int) -> slice | NDArray[np.intp]:
        """Return which pixels of the tile a patch shows: a slice where it lies inside, mirrored indices elsewhere."""
        start = self.starts[index]
        stop = start + self.patch_size
        if start >= 0 and stop <= self.size:
            return slice(start, stop)
        return reflect_index(start, stop, self.size)


def plan_axis(size: int, patch_size: int, overlap: int, reflection: int, *, even: bool = False) -> Axis:
    """Lay patches over an axis with a mirrored border of 1 + `reflection` pixels at both ends.

    The border is one pixel at least, because the outermost pixel of a patch has weight 0. An axis that is shorter than
    a patch, border included, gets a wider border instead, half of it at each end.

    Args:
        size: Pixels of the tile along the axis, at least 1.
        patch_size: Pixels of a patch.
        overlap: Pixels that neighbours share, at most half of `patch_size`.
        reflection: Pixels by which the border is wider than 1.
        even: Space the patches evenly, rather than by `patch_size` − `overlap` with the last one moved inward.

    Returns:
        The patches and their weights.

    Examples:
        >>> axis = plan_axis(size=6, patch_size=4, overlap=2, reflection=0)
        >>> axis.starts
        (-1, 1, 3)
        >>> axis.weights.tolist()
        [[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
    """
    length = max(size + 2 * (1 + reflection), patch_size)
    before = (length - size) // 2
    starts = (even_starts if even else patch_starts)(length, patch_size, overlap)
    window = blend_window(patch_size, overlap)
    total = np.zeros(length)
    for start in starts:
        total[start : start + patch_size] += window
    total[total == 0] = 1  # only the outermost pixels of the border, which the tile never shows
    weights = np.stack([window / total[start : start + patch_size] for start in starts])
    return Axis(size, patch_size, tuple(start - before for start in starts), weights.astype(np.float32))


@dataclass(frozen=True)
class PatchGrid:
    """The patches of a tile.

    Attributes:
        y: The patches along the rows of the tile.
        x: The patches along its columns.
    """

    y: Axis
    x: Axis

    @classmethod
    def plan(
        cls, shape: tuple[int, int], patch_size: int, overlap: int, reflection: int, *, even: bool = False
    ) -> "PatchGrid":
        """Lay square patches over a tile of a shape (y, x), see :func:`plan_axis`."""
        y, x = (plan_axis(size, patch_size, overlap, reflection, even=even) for size in shape)
        return cls(y, x)

    def show_valid(self, valid: Any) -> Any:
        """Tell which patches show a valid pixel of the tile.

        Args:
            valid: bool of shape (y, x), True where a pixel is valid: of numpy, or a tensor.

        Returns:
            bool of shape (rows of patches, columns of patches), of the same kind.
        """
        stack = namespace(valid).stack
        stripes = stack([valid[self.y.inside(row)[0]].any(0) for row in range(len(self.y.starts))])
        return stack([stripes[:, self.x.inside(column)[0]].any(1) for column in range(len(self.x.starts))]).T

    def with_valid_pixels(self, valid: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Return (row, column) of each patch that shows a valid pixel of the tile, row by row; see `show_valid`."""
        return positions_of(self.show_valid(valid))


def positions_of(shown: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (row, column) of each patch that is marked in what :meth:`PatchGrid.show_valid` gives, row by row."""
    return [(int(row), int(column)) for row, column in np.argwhere(shown)]
