"""Outlines of objects as valid polygons, traced along pixel edges.

Every pixel edge between foreground and background becomes a directed segment with the foreground on its left. At most
points one segment ends and one begins. Where two foreground pixels touch only at a corner, two end and two begin:
there a segment is followed by the one that turns left, which stays with the same pixel, so that rings never join parts
that touch only at a corner. A ring that passes such a corner twice is cut there into two, since a ring of a valid
polygon does not touch itself (OGC 06-103r4, 6.1.11); all touches of a ring lie on its background side, so the cuts do
not depend on one another. The one ring of a part that runs counter-clockwise is its shell, the others are its holes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_utils.objects import IntArray, Objects

_EAST, _NORTH, _WEST, _SOUTH = range(4)


@dataclass(frozen=True)
class _Segments:
    """Directed pieces of outline: from point to point (y · (width + 1) + x), heading, run that they bound."""

    begin: IntArray
    end: IntArray
    heading: IntArray
    run: IntArray


def object_polygons(objects: Objects, transform: tuple[float, float, float, float]) -> NDArray:
    """Trace the outline of each object.

    Args:
        objects: Objects of a mask.
        transform: ``(x0, dx, y0, dy)`` with dx > 0 > dy: x = x0 + dx · column, y = y0 + dy · row at pixel corners.

    Returns:
        Array (count,) of shapely MultiPolygons, in the order of the labels. Each polygon is a 4-connected part, valid,
        its shell counter-clockwise and its holes clockwise; only corners are vertices.
    """
    import shapely

    if objects.count == 0:
        return np.zeros(0, object)
    segments = _segments(objects)
    follower = _followers(segments)
    ring_of, order = _rings(follower)
    before = np.empty_like(follower)
    before[follower] = np.arange(len(follower))
    corner = segments.heading[order] != segments.heading[before[order]]
    order = order[corner]
    ring = ring_of[order]
    y, x = np.divmod(segments.begin[order], objects.shape[1] + 1)
    first = np.flatnonzero(np.concatenate([[True], ring[1:] != ring[:-1]]))
    sizes = np.diff(np.append(first, len(order)))
    is_hole = _area(x, y, first, sizes) < 0
    run = segments.run[order[first]]
    sequence = np.lexsort((is_hole, objects.part[run], objects.label[run]))
    coordinates, ring_offset = _closed(x, y, first[sequence], sizes[sequence])
    polygon_offset = _offsets(objects.part[run[sequence]])
    object_offset = _offsets(objects.label[run[sequence][polygon_offset[:-1]]])
    x0, dx, y0, dy = transform
    points = np.stack([x0 + dx * coordinates[0], y0 + dy * coordinates[1]], axis=1)
    offsets = (ring_offset, polygon_offset, object_offset)
    return shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, points, offsets)


def _segments(objects: Objects) -> _Segments:
    row, start, stop, overlaps = objects.row, objects.start, objects.stop, objects.overlaps
    stride = objects.shape[1] + 1
    every = np.arange(len(row))
    top = row * stride
    bottom = top + stride
    upper_run, upper_from, upper_to = _uncovered(objects, overlaps[:, 1], overlaps[:, 0])
    lower_run, lower_from, lower_to = _uncovered(objects, overlaps[:, 0], overlaps[:, 1])
    begin = [top + start, bottom + stop, top[upper_run] + upper_to, bottom[lower_run] + lower_from]
    end = [bottom + start, top + stop, top[upper_run] + upper_from, bottom[lower_run] + lower_to]
    run = [every, every, upper_run, lower_run]
    headings = (_SOUTH, _NORTH, _WEST, _EAST)
    heading = [np.full(len(ids), code) for ids, code in zip(run, headings, strict=True)]
    return _Segments(*(np.concatenate(column) for column in (begin, end, heading, run)))


def _uncovered(objects: Objects, run: IntArray, cover: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the parts of segments that none of the neighbouring row covers: segment, first and last column + 1.

    Args:
        objects: The segments.
        run: Runs, one entry per run that covers a piece of it.
        cover: The covering segments.
    """
    order = np.lexsort((cover, run))
    run, cover = run[order], cover[order]
    count = len(objects.row)
    covers = np.bincount(run, minlength=count)
    # A run with k covers has k + 1 stretches between them, some of them empty.
    owner = np.repeat(np.arange(count), covers + 1)
    first = np.cumsum(covers + 1) - (covers + 1)
    begin = np.empty(len(owner), np.int64)
    end = np.empty(len(owner), np.int64)
    slot = np.arange(len(run)) + run  # the stretch before each cover: one more slot per earlier run
    begin[first] = objects.start
    begin[slot + 1] = objects.stop[cover]
    end[first + covers] = objects.stop
    end[slot] = objects.start[cover]
    keep = begin < end
    return owner[keep], begin[keep], end[keep]


def _followers(segments: _Segments) -> IntArray:
    """Return the segment that follows each segment in its ring."""
    by_begin = np.argsort(segments.begin, kind="stable")
    begins = segments.begin[by_begin]
    index = np.searchsorted(begins, segments.end)
    after = np.minimum(index + 1, len(begins) - 1)
    forks = (begins[after] == segments.end) & (after != index)
    left_turn = (segments.heading + 1) % 4
    other = forks & (segments.heading[by_begin[index]] != left_turn)
    follower = by_begin[np.where(other, after, index)]

    # Cut the rings that pass a fork twice: there, the two segments that end exchange their followers.
    forking = np.flatnonzero(forks)
    if len(forking):
        ring, _ = _ring_numbers(follower)
        pair = forking[np.argsort(segments.end[forking], kind="stable")].reshape(-1, 2)
        one, two = pair[ring[pair[:, 0]] == ring[pair[:, 1]]].T
        follower[one], follower[two] = follower[two], follower[one]
    return follower


def _ring_numbers(follower: IntArray) -> tuple[IntArray, int]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count = len(follower)
    graph = csr_array((np.ones(count, np.bool_), follower, np.arange(count + 1)), shape=(count, count))
    number, ring = connected_components(graph, directed=False)
    return ring.astype(np.int64), int(number)


def _rings(follower: IntArray) -> tuple[IntArray, IntArray]:
    """Return the ring of each segment, and the segments ring by ring, each in its order."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    ring, number = _ring_numbers(follower)
    count = len(follower)
    _, root = np.unique(ring, return_index=True)
    before = np.empty_like(follower)
    before[follower] = np.arange(count)
    # String the rings together to one path, which one walk then visits in order.
    path = follower.copy()
    last = before[root]
    path[last[:-1]] = root[1:]
    step = np.ones(count, np.int64)
    step[last[number - 1]] = 0
    target = path[step == 1]
    graph = csr_array((np.ones(len(target), np.bool_), target, np.append(0, np.cumsum(step))), shape=(count, count))
    order = breadth_first_order(graph, root[0], directed=True, return_predecessors=False)
    return ring, order.astype(np.int64)


def _area(x: IntArray, y: IntArray, first: IntArray, sizes: IntArray) -> IntArray:
    """Return twice the signed area of each ring in pixels: positive where it runs counter-clockwise on the map."""
    following = np.arange(1, len(x) + 1)
    following[first + sizes - 1] = first
    return np.add.reduceat(x[following] * y - x * y[following], first)


def _closed(x: IntArray, y: IntArray, first: IntArray, sizes: IntArray) -> tuple[tuple[IntArray, IntArray], IntArray]:
    """Return the coordinates of the rings in the order given, each closed, and where each begins."""
    offset = np.concatenate([[0], np.cumsum(sizes + 1)])
    position = np.arange(offset[-1]) - np.repeat(offset[:-1], sizes + 1)
    source = np.repeat(first, sizes + 1) + position % np.repeat(sizes, sizes + 1)
    return (x[source], y[source]), offset


def _offsets(group: IntArray) -> IntArray:
    """Return where each stretch of equal numbers begins, and the total."""
    change = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    return np.append(change, len(group))
