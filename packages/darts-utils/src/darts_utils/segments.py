"""Objects of a mask as run-length segments: stretches of foreground along a row, found once, then joined.

Segments are few where objects are few, so that labelling costs by the foreground, not by the raster. Positions are
counted along a line that has one pixel more per row than the mask: its *stride* is the number of columns and one. That
pixel belongs to no object, so a segment ends within its row, and the last pixel of a row is no neighbour of the first
one of the next.
"""

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


def find_segments(mask: NDArray[np.bool_], top: int = 0) -> tuple[Positions, Positions]:
    """Find the segments of a mask, or of some of its rows.

    Args:
        mask: bool of shape (rows, columns), True in objects. Not changed.
        top: Row of the whole mask at which these rows begin.

    Returns:
        Position of the first pixel of each segment, and position just after its last one; int64, ascending.

    Examples:
        >>> find_segments(np.array([[True, True, False], [False, True, True]]))
        (array([0, 5]), array([2, 7]))
    """
    line = np.zeros((mask.shape[0], mask.shape[1] + 2), np.bool_)
    line[:, 1:-1] = mask
    changes = np.flatnonzero(line[:, 1:] != line[:, :-1])
    changes += top * (mask.shape[1] + 1)
    return changes[::2], changes[1::2]


def touching_segments(starts: Positions, ends: Positions, stride: int) -> NDArray[np.int64]:
    """Find the segments that touch one of the row below, at a side or at a corner.

    Args:
        starts: Positions of first pixels, see :func:`find_segments`.
        ends: Positions after the last ones.
        stride: Positions of a row.

    Returns:
        (pairs, 2) int64: the numbers of a segment and of one below it, sorted.

    Examples:
        >>> touching_segments(np.array([0, 7]), np.array([2, 8]), 5)  # the second begins below the end of the first
        array([[0, 1]])
    """
    # They follow one another: those that are not over up left of the beginning, and have begun up right of the end.
    first = np.searchsorted(ends, starts + stride, "left")
    count = np.searchsorted(starts, ends + stride, "right") - first
    before = np.cumsum(count) - count
    below = np.arange(int(count.sum())) + np.repeat(first - before, count)
    return np.stack([np.repeat(np.arange(starts.size), count), below], axis=1)


def segment_pixels(starts: Positions, ends: Positions, columns: int) -> NDArray[np.int64]:
    """Return the positions of the pixels of segments in the flattened mask.

    Args:
        starts: Positions of first pixels, see :func:`find_segments`.
        ends: Positions after the last ones.
        columns: Columns of the mask.

    Returns:
        int64, segment by segment.

    Examples:
        >>> segment_pixels(np.array([0, 5]), np.array([2, 7]), 3)
        array([0, 1, 4, 5])
    """
    lengths = ends - starts
    offsets = starts - starts // (columns + 1) - (np.cumsum(lengths) - lengths)
    return np.arange(int(lengths.sum())) + np.repeat(offsets, lengths)


def connect_segments(pairs: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], int]:
    """Number the objects that segments make up.

    Args:
        pairs: Segments of one object, (pairs, 2), sorted by the first: those that touch, for example. scipy must be
            installed.
        count: Number of segments.

    Returns:
        The object of each segment, (count,) int64, from 0 in the order in which the segments meet them; the number of
        objects.

    Examples:
        >>> connect_segments(np.array([[0, 2]]), 3)
        (array([0, 1, 0]), 2)
    """
    from scipy import sparse
    from scipy.sparse import csgraph

    ends = np.concatenate([[0], np.cumsum(np.bincount(pairs[:, 0], minlength=count))])
    others = np.ascontiguousarray(pairs[:, 1])  # As scipy from 1.18 on wants it.
    graph = sparse.csr_array((np.ones(len(pairs), np.int8), others, ends), shape=(count, count))
    number, found = csgraph.connected_components(graph, directed=False)
    highest = np.maximum.accumulate(found)
    if count and (found[0] or np.any(highest[1:] > highest[:-1] + 1)):  # scipy promises no order, and keeps this one
        _, first = np.unique(found, return_index=True)
        found = np.argsort(np.argsort(first))[found]
    return found.astype(np.int64, copy=False), int(number)
