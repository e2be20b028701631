"""Objects of a binary mask: one labelling for outlines and statistics.

The mask is read as horizontal runs of foreground pixels. Runs are few where objects are few, so that labelling,
outlines and statistics cost by the foreground, not by the raster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

_CHUNK_PIXELS = 1 << 22


@dataclass(frozen=True)
class Objects:
    """The 8-connected objects of a mask.

    Attributes:
        shape: Rows and columns of the mask.
        row: Row of each run, (n,) int64, in raster order.
        start: First column of each run, (n,) int64.
        stop: Column behind the last of each run, (n,) int64.
        label: Object of each run, (n,) int64, counted from 0 in the order in which the raster meets the objects.
        part: Part of each run, (n,) int64: a 4-connected component. Parts of one object touch only at corners.
        overlaps: Pairs of runs in neighbouring rows that share columns, (m, 2) int64: above, below; sorted.
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
        for first, behind in zip(edges, [*edges[1:], len(ends)], strict=True):
            if first < behind:
                runs = slice(int(first), int(behind))
                part = replace(
                    self, row=self.row[runs], start=self.start[runs], stop=self.stop[runs], label=self.label[runs]
                )
                yield part.pixel_index(), part.pixel_label()

    def pixel_label(self) -> IntArray:
        """Object of each foreground pixel, in the order of :meth:`pixel_index`, int64."""
        return np.repeat(self.label, self.stop - self.start)


def find_objects(mask: NDArray[Any]) -> Objects:
    """Find the 8-connected objects of a mask.

    Args:
        mask: Array (y, x) of any dtype; True or a value above 0 is foreground. Not changed.

    Returns:
        The objects.
    """
    row, start, stop = _runs(mask)
    height, width = mask.shape
    touching = _neighbours(row, start, stop, width)
    above, below = touching[:, 0], touching[:, 1]
    shared = (start[below] < stop[above]) & (stop[below] > start[above])
    overlaps = touching[shared]
    label, count = _components(touching, len(row))
    part, _ = _components(overlaps, len(row))
    return Objects((height, width), row, start, stop, label, part, overlaps, count)


def _runs(mask: NDArray[Any]) -> tuple[IntArray, IntArray, IntArray]:
    """Return row, first column and column behind the last of each run of foreground, in raster order."""
    height, width = mask.shape
    rows_per_chunk = max(1, _CHUNK_PIXELS // max(width, 1))
    rows, starts, stops = [], [], []
    for top in range(0, height, rows_per_chunk):
        chunk = mask[top : top + rows_per_chunk]
        if chunk.dtype != np.bool_:
            chunk = np.greater(chunk, 0)
        change = np.empty((chunk.shape[0], width + 1), np.bool_)
        np.not_equal(chunk[:, 1:], chunk[:, :-1], out=change[:, 1:width])
        change[:, 0] = chunk[:, 0]
        change[:, width] = chunk[:, -1]
        # Each row changes an even number of times: into a run, out of it.
        where = np.flatnonzero(change)
        row, column = np.divmod(where, width + 1)
        rows.append(row[::2] + top)
        starts.append(column[::2])
        stops.append(column[1::2])
    empty = np.zeros(0, np.int64)
    return (
        np.concatenate([empty, *rows]),
        np.concatenate([empty, *starts]),
        np.concatenate([empty, *stops]),
    )


def _neighbours(row: IntArray, start: IntArray, stop: IntArray, width: int) -> IntArray:
    """Return the pairs (above, below) of runs in neighbouring rows that touch, if only at a corner, sorted."""
    stride = width + 2
    # The runs of the next row that touch a run follow one another.
    first = np.searchsorted(row * stride + stop, (row + 1) * stride + start, side="left")
    behind = np.searchsorted(row * stride + start, (row + 1) * stride + stop, side="right")
    count = np.maximum(behind - first, 0)
    above = np.repeat(np.arange(len(row)), count)
    before = np.cumsum(count) - count
    below = np.repeat(first - before, count) + np.arange(int(count.sum()))
    return np.stack([above, below], axis=1)


def _components(pairs: IntArray, count: int) -> tuple[IntArray, int]:
    """Number the connected components of a graph in the order of their first node."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = csr_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    number, component = connected_components(graph, directed=False)
    first = np.full(number, count, np.int64)
    np.minimum.at(first, component, np.arange(count))
    rank = np.empty(number, np.int64)
    rank[np.argsort(first)] = np.arange(number)
    return rank[component], int(number)
