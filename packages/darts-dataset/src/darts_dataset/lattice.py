"""Detections on one grid of pixels, merged exactly and fast: as segments of pixels instead of outlines.

An outline that follows the edges of pixels is a set of segments: stretches of pixels along a row. To overlap is to
share a pixel, a union is a union of segments, and a majority counts how many looks have a pixel.
"""

import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from darts_dataset.geometry import Geometries, rings_of
from darts_dataset.overlaps import Rows, cells
from darts_dataset.scratch import ScratchFile
from darts_utils.objects import Objects
from darts_utils.outlines import object_polygons
from darts_utils.segments import connect_segments, touching_segments

_TOLERANCE = 1e-3
"""How far a corner may lie beside one of the grid, in pixels."""


@dataclass(frozen=True)
class Grid:
    """A grid of square pixels without an end.

    Attributes:
        crs: Its CRS.
        pixel_m: Edge of a pixel, in units of the CRS.
        left: Where a column begins, 0 ≤ left < pixel_m.
        bottom: Where a row ends, likewise.
    """

    crs: str
    pixel_m: float
    left: float
    bottom: float


@dataclass(frozen=True)
class Segments:
    """Segments of rows: whose, row (counted southward), first column, column after the last; (n,) int64 each."""

    owner: Rows
    row: Rows
    start: Rows
    stop: Rows

    def where(self, chosen: NDArray) -> "Segments":
        """Return some of them."""
        return Segments(self.owner[chosen], self.row[chosen], self.start[chosen], self.stop[chosen])

    def counts(self, owners: int) -> Rows:
        """Return the number of pixels of each owner, (owners,) int64."""
        return np.bincount(self.owner, self.stop - self.start, owners).astype(np.int64)

    def joined(self) -> "Segments":
        """Return the union of each owner's segments: sorted, apart from one another."""
        if not len(self.owner):
            return self
        order = _order(self.owner, self.row, self.start)
        owner, row, start, stop = (each[order] for each in (self.owner, self.row, self.start, self.stop))
        line = np.cumsum(np.r_[0, (np.diff(owner) != 0) | (np.diff(row) != 0)])
        base = int(start.min())
        width = int(stop.max()) - base + 2
        reach = np.maximum.accumulate(line * width + stop - base)
        first = np.r_[True, line[1:] * width + start[1:] - base > reach[:-1]]
        last = np.r_[first[1:], True]
        return Segments(owner[first], row[first], start[first], reach[last] - line[last] * width + base)


def find_grid(geometry: BaseGeometry, crs: str, pixel_m: float) -> Grid:
    """Return the grid that the corners of an outline lie on."""
    x, y = shapely.get_coordinates(geometry)[0]
    left, bottom = (round(float(value) % pixel_m, 6) % pixel_m for value in (x, y))
    return Grid(crs, pixel_m, left, bottom)


def outline_segments(geometries: Geometries, grid: Grid) -> Segments | None:
    """Return what outlines hold as segments, which are those of the polygons' numbers.

    Args:
        geometries: Polygons in the CRS of the grid.
        grid: The grid.

    Returns:
        Sorted segments; None if an outline leaves the edges of pixels.
    """
    rings, owner = rings_of(geometries)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    column = (points[:, 0] - grid.left) / grid.pixel_m
    row = (grid.bottom - points[:, 1]) / grid.pixel_m
    columns, rows = np.rint(column).astype(np.int64), np.rint(row).astype(np.int64)
    if max(np.abs(column - columns).max(initial=0), np.abs(row - rows).max(initial=0)) > _TOLERANCE:
        return None
    same = ring[1:] == ring[:-1]
    upright, level = columns[1:] == columns[:-1], rows[1:] == rows[:-1]
    if (same & ~upright & ~level).any():
        return None
    edge = np.flatnonzero(same & upright & ~level)
    top, bottom = np.minimum(rows[edge], rows[edge + 1]), np.maximum(rows[edge], rows[edge + 1])
    height = bottom - top
    each = np.repeat(np.arange(len(edge)), height)
    crossed = top[each] + np.arange(len(each)) - np.repeat(np.cumsum(height) - height, height)
    whose, at = owner[ring[edge]][each], columns[edge][each]
    order = _order(whose, crossed, at)  # Along a row, every second crossing leads out.
    whose, crossed, at = whose[order], crossed[order], at[order]
    return Segments(whose[::2], crossed[::2], at[::2], at[1::2])


def sharing_pairs(segments: Segments) -> Rows:
    """Return the pairs of owners that share a pixel, the smaller number first, (m, 2) int64, sorted."""
    order = _order(segments.row, segments.start)
    owner, row, start, stop = (each[order] for each in (segments.owner, segments.row, segments.start, segments.stop))
    if not len(owner):
        return np.empty((0, 2), np.int64)
    width = int(stop.max() - start.min()) + 1
    line = (row - row[0]) * width - int(start.min())
    begun = np.searchsorted(line + start, line + stop, "left")  # Segments that begin before this one ends.
    count = begun - np.arange(len(owner)) - 1
    one = np.repeat(np.arange(len(owner)), count)
    other = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)
    first, second = np.minimum(owner[one], owner[other]), np.maximum(owner[one], owner[other])
    width = int(owner.max()) + 1
    pairs = np.unique((first * width + second)[first != second])
    return np.column_stack(np.divmod(pairs, width))


def counted(segments: Segments, least: Rows) -> Segments:
    """Return where at least so many segments of an owner lie over one another.

    Args:
        segments: The segments.
        least: How many, by owner, (owners,) int64, at least 1.

    Returns:
        Sorted segments, apart from one another.
    """
    owner, row = (np.repeat(each, 2) for each in (segments.owner, segments.row))
    at = np.stack([segments.start, segments.stop], axis=1).ravel()
    change = np.tile(np.array([1, -1]), len(segments.owner))
    order = _order(owner, row, at)
    owner, row, at, change = owner[order], row[order], at[order], change[order]
    level = np.cumsum(change)  # 0 after the last of each row.
    enough = (
        np.flatnonzero((level[:-1] >= least[owner[:-1]]) & (at[1:] > at[:-1])) if len(at) else np.empty(0, np.int64)
    )
    return Segments(owner[enough], row[enough], at[enough], at[enough + 1]).joined()


def trace(segments: Segments, count: int, grid: Grid) -> Geometries:
    """Return the outlines of owners.

    Args:
        segments: Sorted segments of each, apart from one another.
        count: Number of owners.
        grid: The grid.

    Returns:
        MultiPolygons in the CRS of the grid, (count,) object; empty for an owner without segments.
    """
    found = np.full(count, shapely.MultiPolygon(), object)
    found_owners, owner = np.unique(segments.owner, return_inverse=True)
    if not len(found_owners):
        return found
    top, left = (_least(each, owner, len(found_owners)) for each in (segments.row, segments.start))
    height = -_least(-segments.row, owner, len(found_owners)) - top + 1
    base = np.cumsum(height + 1) - (height + 1)  # Under one another, with an empty row between.
    row = segments.row - top[owner] + base[owner]
    start, stop = segments.start - left[owner], segments.stop - left[owner]
    shape = (int(base[-1] + height[-1]), int(stop.max()))
    stride = shape[1] + 1
    touching = touching_segments(row * stride + start, row * stride + stop, stride)
    above, below = touching[:, 0], touching[:, 1]
    overlaps = touching[(start[below] < stop[above]) & (stop[below] > start[above])]
    part, _ = connect_segments(overlaps, len(row))
    objects = Objects(shape, row, start, stop, owner.astype(np.int64), part, overlaps, len(found_owners))
    drawn = object_polygons(objects, (0.0, 1.0, 0.0, -1.0))
    points, whose = shapely.get_coordinates(drawn, return_index=True)
    x = grid.left + grid.pixel_m * (points[:, 0] + left[whose])
    y = grid.bottom + grid.pixel_m * (points[:, 1] + base[whose] - top[whose])
    found[found_owners] = shapely.set_coordinates(drawn, np.column_stack([x, y]))
    return found


class SegmentFile:
    """Runs in a file, of which those of any owner can be read, so that memory need not hold them all."""

    def __init__(self, file: ScratchFile) -> None:
        self._file = file
        self._counts: list[Rows] = []
        self._ends = np.zeros(1, np.int64)

    def append(self, segments: Segments, owners: int) -> None:
        """Append sorted segments of owners."""
        self._file.append(np.column_stack([segments.row, segments.start, segments.stop]).astype(np.int32).data)
        self._counts.append(np.bincount(segments.owner, minlength=owners))

    def finish(self) -> None:
        """End writing."""
        self._ends = np.concatenate([[0], np.cumsum(np.concatenate(self._counts))])

    def take(self, owners: Rows) -> Segments:
        """Read the segments of some owners, which are numbered anew, after the end of writing."""
        begin, end = self._ends[owners], self._ends[owners + 1]
        size = end - begin
        index = np.repeat(begin - (np.cumsum(size) - size), size) + np.arange(int(size.sum()))
        content = np.frombuffer(self._file.content(), np.int32).reshape(-1, 3)[index].astype(np.int64)
        self._file.release()
        row, start, stop = content.T
        return Segments(np.repeat(np.arange(len(owners)), size), row, start, stop)


def pairs_of(file: SegmentFile, slots: Rows, bounds: NDArray[np.float64], cell_m: float) -> Rows:
    """Find the pairs of owners that share a pixel, cell by cell.

    Args:
        file: Runs.
        slots: Numbers of the owners in the file, (n,) int64.
        bounds: Their bounds in units of the CRS, (n, 4).
        cell_m: Edge of the cells.

    Returns:
        Pairs of positions among the owners, the smaller one first, (m, 2) int64, sorted.
    """
    found = [np.empty((0, 2), np.int64)]
    for own, rest in cells(bounds, cell_m):
        owners = np.sort(np.concatenate([own, rest]))
        found.append(owners[sharing_pairs(file.take(slots[owners]))])
    return np.unique(np.concatenate(found), axis=0)


def _order(*keys: Rows) -> Rows:
    """Return the order by the first key, then the second, and so on: by one number, which is faster, where it fits."""
    lowest = [int(key.min(initial=0)) for key in keys]
    spans = [int(key.max(initial=0)) - low + 1 for key, low in zip(keys, lowest, strict=True)]
    if math.prod(spans) > np.iinfo(np.int64).max:
        return np.lexsort(keys[::-1])
    number = keys[0] - lowest[0]
    for key, low, span in zip(keys[1:], lowest[1:], spans[1:], strict=True):
        number = number * span + (key - low)
    return np.argsort(number, kind="stable")


def _least(values: Rows, owner: Rows, count: int) -> Rows:
    found = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(found, owner, values)
    return found
