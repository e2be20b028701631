"""Which geometries share ground, found cell by cell, and what hangs together by it."""

from collections.abc import Callable, Iterator

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from darts_dataset.geometry import Geometries, box_polygons
from darts_dataset.ground import shared_areas

Rows = NDArray[np.int64]

LEAST_SHARED_M2 = 0.1
"""Ground that polygons must share to overlap: a border that both have is laid out a bit differently in each."""


def overlapping_pairs(
    bounds: NDArray[np.float64], take: Callable[[Rows], Geometries], cell_m: float, known: Rows | None = None
) -> Rows:
    """Find the pairs of polygons that share ground; a shared border is not enough.

    Each cell of a grid joins the polygons whose lower left corner lies in it with all that may reach them, so that only
    those need be in memory. The result does not depend on the size of the cells.

    Args:
        bounds: West, south, east, north of each polygon on an equal-area plane, (n, 4) float64, metres.
        take: Reads polygons by number.
        cell_m: Edge of the cells, metres.
        known: Groups within which pairs are known already, (n,) int64, -1 for none. None where all are sought.

    Returns:
        Pairs that share at least `LEAST_SHARED_M2`: numbers, the smaller one first, (m, 2) int64, sorted.
    """
    found = [np.empty((0, 2), np.int64)]
    for pairs in near_pairs(bounds, cell_m, known):
        needed, index = np.unique(pairs, return_inverse=True)
        found.append(pairs[_share_ground(take(needed), *index.reshape(-1, 2).T)])
    together = np.concatenate(found)
    return together[np.lexsort(together.T[::-1])]


def near_pairs(bounds: NDArray[np.float64], cell_m: float, known: Rows | None = None) -> Iterator[Rows]:
    """Yield pairs whose boxes meet, cell by cell: numbers, the smaller one first, (m, 2) int64."""
    for own, rest in cells(bounds, cell_m):
        rows = np.concatenate([own, rest])
        boxes = box_polygons(bounds[rows])
        first, second = rows[shapely.STRtree(boxes).query(boxes[: len(own)], predicate="intersects")]
        sought = first < second
        if known is not None:
            sought &= (known[first] != known[second]) | (known[first] < 0)
        yield np.column_stack([first[sought], second[sought]])


def _share_ground(polygons: Geometries, first: Rows, second: Rows) -> NDArray[np.bool_]:
    """Tell of each pair whether it shares `LEAST_SHARED_M2`: a point amid one that lies in the other says so."""
    inside = shapely.point_on_surface(polygons)
    shapely.prepare(polygons)
    shared = shapely.contains_properly(polygons[first], inside[second])
    shared |= shapely.contains_properly(polygons[second], inside[first])
    rest = np.flatnonzero(~shared)
    shared[rest] = shared_areas(polygons, np.column_stack([first[rest], second[rest]])) >= LEAST_SHARED_M2
    return np.asarray(shared, np.bool_)


def components(pairs: Rows, count: int) -> Rows:
    """Number what hangs together, in the order of the first member.

    Args:
        pairs: Pairs of members, (m, 2) int64.
        count: Number of members.

    Returns:
        Component of each member, (count,) int64, from 0.
    """
    graph = csr_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    number, component = connected_components(graph, directed=False)
    first = np.full(number, count, np.int64)
    np.minimum.at(first, component, np.arange(count))
    rank = np.empty(number, np.int64)
    rank[np.argsort(first)] = np.arange(number)
    return rank[component]


def cells(bounds: NDArray[np.float64], cell_m: float) -> Iterator[tuple[Rows, Rows]]:
    """Yield the polygons of each cell, and the others that may reach them."""
    if not len(bounds):
        return
    column, row = np.floor(bounds[:, :2] / cell_m).astype(np.int64).T
    order = np.lexsort((column, row))
    changes = (np.diff(row[order]) != 0) | (np.diff(column[order]) != 0)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    members = dict(
        zip(
            zip(row[order[starts]].tolist(), column[order[starts]].tolist(), strict=True),
            np.split(order, starts[1:]),
            strict=True,
        )
    )
    large = (bounds[:, 2:] - bounds[:, :2]).max(axis=1) > cell_m
    far = np.flatnonzero(large)
    for (at_row, at_column), own in members.items():
        if large[own].any():
            near = order
        else:  # What reaches a polygon begins in a neighbouring cell, or is larger than a cell.
            around = [members.get((at_row + down, at_column + right)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
            near = np.concatenate([*(rows for rows in around if rows is not None), far])
        west, south = bounds[own, :2].min(axis=0)
        east, north = bounds[own, 2:].max(axis=0)
        box = bounds[near]
        near = near[(box[:, 0] <= east) & (box[:, 2] >= west) & (box[:, 1] <= north) & (box[:, 3] >= south)]
        yield own, np.setdiff1d(near, own)
