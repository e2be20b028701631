"""Ground that polygons share, by numbers alone: an overlay by GEOS takes many times as long."""

import numpy as np
import shapely
from numpy.typing import NDArray

from darts_dataset.geometry import Geometries, rings_of

_Rows = NDArray[np.int64]
_AT_A_TIME = 128
"""Pairs whose edges are in memory together: few, so that they stay in the cache of a processor."""
_STEPS = 2**26
"""Steps of a metre to which places along x are rounded, so that they can be sorted as whole numbers."""
_REACH = 2**51
"""Steps beyond which no plane reaches."""


def shared_areas(polygons: Geometries, pairs: _Rows) -> NDArray[np.float64]:
    """Return the ground that pairs of polygons share.

    A polygon is the sum of what lies under its edges, added where an edge leads one way along x and subtracted where it
    leads the other; so what two share is the sum of what lies under the lower one of two edges, over all pairs of an
    edge of one and an edge of the other of which one begins over the other.

    Args:
        polygons: Polygons on a plane, metres; a corner that rounding laid a nanometre across an edge does no harm.
        pairs: Numbers of two of them, (m, 2) int64.

    Returns:
        (m,) float64, m²; that of a pair depends on nothing else.
    """
    found = [np.empty(0)]
    for first in range(0, len(pairs), _AT_A_TIME):
        needed, index = np.unique(pairs[first : first + _AT_A_TIME], return_inverse=True)
        edges, some = _Edges(polygons[needed]), index.reshape(-1, 2)
        found.append(edges.under(some, 0) + edges.under(some[:, ::-1], 1))
    return np.concatenate(found)


class _Edges:
    """The edges of polygons that are not upright, by polygon, from left to right."""

    def __init__(self, polygons: Geometries) -> None:
        rings, owner = rings_of(shapely.orient_polygons(polygons))
        points, ring = shapely.get_coordinates(rings, return_index=True)
        x, y = np.rint(points[:, 0] * _STEPS).astype(np.int64), points[:, 1]
        edge = np.flatnonzero((ring[1:] == ring[:-1]) & (x[1:] != x[:-1]))
        backwards = x[edge] > x[edge + 1]
        polygon, left, right = owner[ring[edge]], edge + backwards, edge + ~backwards
        key = polygon * 2 * _REACH + x[left]
        order = np.argsort(key, kind="stable")
        left, right = left[order], right[order]
        self._key, self._first = key[order], np.searchsorted(polygon, np.arange(len(polygons) + 1))
        self._x, self._end, self._y = x[left], x[right], y[left]
        self._slope = (y[right] - y[left]) / (x[right] - x[left])
        self._sign = np.where(backwards, -1.0, 1.0)[order]

    def under(self, pairs: _Rows, first: int) -> NDArray[np.float64]:
        """Return what lies under edges and those of the other polygon that begin over them, `first` steps behind."""
        size = np.diff(self._first)[pairs[:, 0]]
        pair, one = np.repeat(np.arange(len(pairs)), size), _ranges(self._first[pairs[:, 0]], size)
        other = pairs[pair, 1] * 2 * _REACH
        begin = np.searchsorted(self._key, other + self._x[one] + first)
        count = np.maximum(np.searchsorted(self._key, other + self._end[one]) - begin, 0)
        base = np.repeat(self._y[self._first[pairs.min(axis=1)]], size)
        height, slope = self._y[one] - base, self._slope[one]
        pair, one, height, slope, base = (np.repeat(each, count) for each in (pair, one, height, slope, base))
        other = _ranges(begin, count)
        start, more = self._x[other], self._slope[other]
        width = np.minimum(self._end[one], self._end[other]) - start
        height, level = height + slope * (start - self._x[one]), self._y[other] - base
        before = height - level
        after = before + width * (slope - more)
        apart = np.abs(before) + np.abs(after)
        cross = np.flatnonzero(before * after < 0)
        apart[cross] = (before[cross] ** 2 + after[cross] ** 2) / apart[cross]
        under = width * (height + level + (width * (slope + more) - apart) / 2) / 2
        found = np.bincount(pair, self._sign[one] * self._sign[other] * under, len(pairs))
        return np.asarray(found, np.float64) / _STEPS


def _ranges(begin: _Rows, count: _Rows) -> _Rows:
    """Return all numbers of ranges, one range after the other."""
    return np.repeat(begin - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
