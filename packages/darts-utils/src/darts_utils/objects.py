"""Objects of a binary mask: one labelling for outlines and statistics.

The mask is read as run-length segments of foreground pixels, which are few where objects are few, so that labelling,
outlines and statistics cost by the foreground, not by the raster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from darts_utils.rows import row_blocks
from darts_utils.segments import connect_segments, find_segments, touching_segments

IntArray = NDArray[np.int64]

_CHUNK_PIXELS = 1 << 22


@dataclass(frozen=True)
class Objects:
    """The 8-connected objects of a mask.

    Attributes:
        shape: Rows and columns of the mask.
        row: Row of each run, (n,) int64, in raster order.
        start: First column of each run, (n,) int64.
        stop: Column after the last of each segment, (n,) int64.
        label: Object of each run, (n,) int64, counted from 0 in the order in which the raster meets the objects.
        part: Part of each run, (n,) int64: a 4-connected component. Parts of one object touch only at corners.
        overlaps: Pairs of segments in neighbouring rows that share columns, (m, 2) int64: above, below; sorted.
        count: Number of objects.
    """

    shape: tuple[int, int]
    row: IntArray
    start: IntArray
    stop: IntArray
    label: IntArray
    part: IntArray
    overlaps: IntArray
    count: int

    @property
    def pixels(self) -> IntArray:
        """Number of pixels of each object, (count,) int64."""
        sums = np.bincount(self.label, weights=self.stop - self.start, minlength=self.count)
        return sums.astype(np.int64)

    def groups(self, most: int) -> "Iterator[Objects]":
        """Yield the objects in their order, at most so many at a time; each group counts its own from 0."""
        for first in range(0, self.count, most):
            inside = (self.label >= first) & (self.label < first + most)
            number = np.cumsum(inside) - 1
            yield Objects(
                self.shape,
                self.row[inside],
                self.start[inside],
                self.stop[inside],
                self.label[inside] - first,
                self.part[inside],
                number[self.overlaps[inside[self.overlaps[:, 0]]]],
                min(most, self.count - first),
            )

    def pixel_index(self) -> IntArray:
        """Position of each foreground pixel in the flattened raster, run by run, int64."""
        length = self.stop - self.start
        first = self.row * self.shape[1] + self.start
        before = np.cumsum(length) - length
        return np.repeat(first - before, length) + np.arange(int(length.sum()))

    def pixel_blocks(self) -> "Iterator[tuple[IntArray, IntArray]]":
        """Yield position and object of the foreground pixels, as `pixel_index` and `pixel_label` do, some at a time."""
        ends = np.cumsum(self.stop - self.start)
        total = int(ends[-1]) if len(ends) else 0
        edges = np.unique(np.searchsorted(ends, [*range(0, total, _CHUNK_PIXELS // 4), total], side="left"))
        for first, end in zip(edges, [*edges[1:], len(ends)], strict=True):
            if first < end:
                some = slice(int(first), int(end))
                part = replace(
                    self,
                    row=self.row[some],
                    start=self.start[some],
                    stop=self.stop[some],
                    label=self.label[some],
                )
                yield part.pixel_index(), part.pixel_label()

    def pixel_label(self) -> IntArray:
        """Object of each foreground pixel, in the order of :meth:`pixel_index`, int64."""
        return np.repeat(self.label, self.stop - self.start)


def find_objects(mask: NDArray) -> Objects:
    """Find the 8-connected objects of a mask.

    Args:
        mask: Array (y, x) of any dtype; True or a value above 0 is foreground. Not changed.

    Returns:
        The objects.
    """
    height, width = mask.shape
    parts = [
        find_segments(mask[top:end] if mask.dtype == np.bool_ else np.greater(mask[top:end], 0), top)
        for top, end in row_blocks(0, height, width)
    ]
    empty = np.zeros(0, np.int64)
    begins, ends = (np.concatenate([empty, *bounds]) for bounds in zip(*(parts or [(empty, empty)]), strict=True))
    row, start = np.divmod(begins, width + 1)
    stop = start + (ends - begins)
    touching = touching_segments(begins, ends, width + 1)
    above, below = touching[:, 0], touching[:, 1]
    overlaps = touching[(start[below] < stop[above]) & (stop[below] > start[above])]
    label, count = connect_segments(touching, len(row))
    part, _ = connect_segments(overlaps, len(row))
    return Objects((height, width), row, start, stop, label, part, overlaps, count)
