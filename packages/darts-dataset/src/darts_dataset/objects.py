"""Detections of one year that overlap become one object, with what the looks say of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from darts_dataset.geometry import Geometries, to_lonlat, to_plane
from darts_dataset.lattice import Grid, RunFile, Runs, counted, pairs_of, trace
from darts_dataset.looks import Look
from darts_dataset.overlaps import Rows, components, overlapping_pairs
from darts_dataset.tables import Take

_AT_A_TIME = 20_000
"""Detections whose geometries are in memory together."""
_PRECISION_M = 1e-3
_SEEN_SHARE = 0.5
"""Share of an object that a look must have seen reliably to count."""


@dataclass(frozen=True)
class Detections:
    """Detections of one year on one plane.

    Attributes:
        plane: The plane.
        frame: One row each: `object_uid`, `look` (number in the list of looks), `acquisition_time`, `source`,
            `model_names`, `area_m2`, `mean`, `npixel`, `touches_edge`.
        bounds: Their bounds on the plane, (n, 4) float64, metres.
        take: Reads their outlines on the plane by number.
        grid: Number of the grid whose pixels the outline follows, -1 where it follows none, (n,) int64.
        slot: Number within that grid, (n,) int64.
        grids: Grids, with the runs of what follows them.
    """

    plane: str
    frame: pd.DataFrame
    bounds: NDArray[np.float64]
    take: Take
    grid: Rows
    slot: Rows
    grids: Sequence[tuple[Grid, RunFile]] = ()


@dataclass(frozen=True)
class Objects:
    """Some objects.

    Attributes:
        frame: One row each, with the columns of the data dictionary but for ids and places.
        union: What any look has of each, MultiPolygons in OGC:CRS84.
        laid: The same on the plane.
        majority: What at least half of the looks that saw a place have there, in OGC:CRS84; empty where no place has
            that.
    """

    frame: pd.DataFrame
    union: Geometries
    laid: Geometries
    majority: Geometries


def merge(detections: Detections, looks: Sequence[Look], cell_m: float) -> Iterator[Objects]:
    """Merge what overlaps, directly or by others.

    Args:
        detections: The detections.
        looks: All looks of that year on that plane.
        cell_m: Edge of the cells in which overlaps are searched, metres; the result does not depend on it.

    Yields:
        Objects, in the order of their first detection.
    """
    count = len(detections.frame)
    pairs = [overlapping_pairs(detections.bounds, detections.take, cell_m, detections.grid)]
    for number, (_, runs) in enumerate(detections.grids):
        rows = np.flatnonzero(detections.grid == number)
        rows = rows[np.argsort(detections.slot[rows])]
        pairs.append(np.sort(rows[pairs_of(runs, detections.bounds[rows], cell_m)], axis=1))
    member = components(np.concatenate(pairs), count)
    order = np.argsort(member, kind="stable")
    ends = np.cumsum(np.bincount(member)) if count else np.empty(0, np.int64)
    seen = _Seen(looks)
    first = 0
    while first < len(ends):
        begin = int(ends[first - 1]) if first else 0
        behind = max(int(np.searchsorted(ends, begin + _AT_A_TIME, side="right")), first + 1)
        rows = order[begin : int(ends[behind - 1])]
        yield _Batch(detections, rows, member[rows] - first, seen).merged()
        first = behind


def seen_by(objects: Geometries, looks: Sequence[Look]) -> NDArray[np.bool_]:
    """Tell which objects some look saw: at least half of them, reliably.

    Args:
        objects: Polygons on the plane of the looks.
        looks: Looks.

    Returns:
        (n,) bool.
    """
    found = np.zeros(len(objects), np.bool_)
    found[_Seen(looks).of(objects)[0]] = True
    return found


class _Seen:
    """What looks saw reliably, to be asked often."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self.extents = np.array([look.extent for look in looks], object)
        shapely.prepare(self.extents)
        self._tree = shapely.STRtree(self.extents)

    def of(self, objects: Geometries) -> tuple[Rows, Rows, NDArray[np.bool_]]:
        """Return numbers of objects and of the looks that saw at least half of them, and whether it was all of them."""
        boxes = np.asarray(shapely.box(*shapely.bounds(objects).reshape(-1, 4).T), object)
        place, look = self._tree.query(boxes, predicate="intersects")
        whole = shapely.covers(self.extents[look], boxes[place])
        rest = np.flatnonzero(~whole)
        whole[rest] = shapely.covers(self.extents[look[rest]], objects[place[rest]])
        share = whole.astype(np.float64)
        part = np.flatnonzero(~whole)
        inside = shapely.intersection(self.extents[look[part]], objects[place[part]])
        share[part] = shapely.area(inside) / shapely.area(objects[place[part]])
        enough = share >= _SEEN_SHARE
        return place[enough], look[enough], whole[enough]


@dataclass
class _Part:
    """Objects of a batch whose detections all follow one grid, with what each look has of them as runs."""

    objects: Rows
    grid: Grid
    runs: Runs
    by_object: Runs = field(init=False)


class _Batch:
    """Detections that are merged together, sorted by the number of their object from 0."""

    def __init__(self, detections: Detections, rows: Rows, number: Rows, seen: _Seen) -> None:
        self._detections, self._rows, self._number, self._seen = detections, rows, number, seen
        self._members = detections.frame.iloc[rows]
        self._looks = self._members["look"].to_numpy(np.int64)
        self._count = int(number[-1]) + 1
        grid = detections.grid[rows]
        lowest, highest = np.full(self._count, grid.max(initial=-1)), np.full(self._count, -1)
        np.minimum.at(lowest, number, grid)
        np.maximum.at(highest, number, grid)
        self._grid = np.where(lowest == highest, lowest, -1)
        """Grid of each object, -1 where its detections follow several or none."""

    def merged(self) -> Objects:
        union = np.full(self._count, None, object)
        sightings = [self._outlined(union)]
        parts: list[_Part] = []
        for number in np.unique(self._grid[self._grid >= 0]):
            part, found = self._by_pixels(int(number))
            lines = trace(part.by_object.joined(), len(part.objects), part.grid)
            union[part.objects] = to_lonlat(lines, part.grid.crs, valid=True)
            parts.append(part)
            sightings.append(found)
        by_look = pd.concat(sightings, ignore_index=True).sort_values(["number", "look"], kind="stable")
        laid = to_plane(union, self._detections.plane)
        place, look, whole = self._seen.of(laid)
        hits = pd.MultiIndex.from_arrays([by_look["number"], by_look["look"]])
        sighted = hits.union(pd.MultiIndex.from_arrays([place, look]))  # A look that has something there did see it.
        n_looks = np.bincount(sighted.get_level_values(0).to_numpy(np.int64), minlength=self._count)
        majority = self._majorities(union, laid, by_look, n_looks, (place, look, whole), parts)
        frame = self._evidence(by_look, n_looks)
        frame.insert(0, "area_m2", shapely.area(laid))
        frame.insert(1, "majority_area_m2", shapely.area(to_plane(majority, self._detections.plane)))
        return Objects(frame, union, laid, majority)

    def _evidence(self, by_look: pd.DataFrame, n_looks: Rows) -> pd.DataFrame:
        members, number = self._members, self._number
        sizes = np.bincount(number)
        areas = by_look.groupby("number")["area_m2"].agg(["min", "median", "max"])
        weight = members["npixel"].to_numpy(np.float64)
        groups = members.groupby(number)
        times = groups["acquisition_time"]
        names = np.split(members["object_uid"].to_numpy(object), np.cumsum(sizes)[:-1])
        return pd.DataFrame(
            {
                "area_min_m2": areas["min"].to_numpy(),
                "area_median_m2": areas["median"].to_numpy(),
                "area_max_m2": areas["max"].to_numpy(),
                "n_looks": n_looks.astype(np.int32),
                "n_hits": np.bincount(by_look["number"], minlength=self._count).astype(np.int32),
                "n_detections": sizes.astype(np.int32),
                "first_date": times.min().to_numpy(),
                "last_date": times.max().to_numpy(),
                "mean_probability": np.bincount(number, weight * members["mean"]) / np.bincount(number, weight),
                "touches_edge": groups["touches_edge"].all().to_numpy(),
                "sources": _joined(members["source"], number, self._count),
                "models": _joined(members["model_names"], number, self._count),
                "detections": [sorted(each) for each in names],
            }
        )

    def _by_pixels(self, number: int) -> tuple[_Part, pd.DataFrame]:
        """Return what each look has of the objects that follow one grid, and how much ground that is."""
        grid, file = self._detections.grids[number]
        objects = np.flatnonzero(self._grid == number)
        chosen = np.flatnonzero(self._grid[self._number] == number)
        place = np.searchsorted(objects, self._number[chosen])
        key = np.column_stack([place, self._looks[chosen]])
        sighting, owner = np.unique(key, axis=0, return_inverse=True)
        runs = file.take(self._detections.slot[self._rows[chosen]])
        runs = Runs(owner.ravel()[runs.owner], runs.row, runs.start, runs.stop).joined()
        members = self._members.iloc[chosen]
        ground = np.bincount(place, members["area_m2"]) / np.bincount(place, members["npixel"])  # m² of a pixel there
        area = runs.counts(len(sighting)) * ground[sighting[:, 0]]
        part = _Part(objects, grid, runs)
        part.by_object = Runs(sighting[runs.owner, 0], runs.row, runs.start, runs.stop)
        found = {"number": objects[sighting[:, 0]], "look": sighting[:, 1], "area_m2": area}
        return part, pd.DataFrame(found)

    def _outlined(self, union: Geometries) -> pd.DataFrame:
        """Merge the outlines of the other objects, and return how much ground each look has of them."""
        chosen = np.flatnonzero(self._grid[self._number] < 0)
        outlines = self._detections.take(self._rows[chosen])
        objects, place = np.unique(self._number[chosen], return_inverse=True)
        if len(objects):
            merged = _unions(outlines, np.cumsum(np.bincount(place)))
            union[objects] = to_lonlat(merged, self._detections.plane)
        key, outline, size, first = _looks_of(self._number[chosen], self._looks[chosen], outlines)
        area = self._members["area_m2"].to_numpy(np.float64)[chosen][first]
        several = size > 1  # Frames of one pass overlap, and what lies in two of them is there once.
        area[several] = shapely.area(outline[several])
        return pd.DataFrame({"number": key[:, 0], "look": key[:, 1], "area_m2": area})

    def _majorities(
        self,
        union: Geometries,
        laid: Geometries,
        by_look: pd.DataFrame,
        n_looks: Rows,
        seen: tuple[Rows, Rows, NDArray[np.bool_]],
        parts: Sequence[_Part],
    ) -> Geometries:
        found = union.copy()
        place, look, whole = seen
        n_whole = np.bincount(place[whole], minlength=self._count)
        open_ = n_looks > 2  # Of two looks one is half.
        for part in parts:
            done = np.flatnonzero(open_[part.objects] & (n_whole == n_looks)[part.objects])
            least = np.full(len(part.objects), np.iinfo(np.int64).max)
            least[done] = -(-n_looks[part.objects[done]] // 2)
            lines = trace(counted(part.by_object, least), len(part.objects), part.grid)[done]
            found[part.objects[done]] = to_lonlat(lines, part.grid.crs, valid=True)
            open_[part.objects[done]] = False
        for number in np.flatnonzero(open_):
            here = (place == number) & ~whole
            # Looks that saw less than half of it, and have it.
            more = set(by_look.loc[by_look["number"] == number, "look"]) - set(look[place == number])
            extents = self._seen.extents[[*look[here], *sorted(more)]]
            rows = np.flatnonzero(self._number == number)
            outlines = self._detections.take(self._rows[rows])
            outlines = _looks_of(self._number[rows], self._looks[rows], outlines)[1]
            most = _majority(laid[number], outlines, int(n_whole[number]), extents)
            found[number] = to_lonlat(np.array([most], object), self._detections.plane)[0]
        return found


def _unions(outlines: Geometries, ends: Rows) -> Geometries:
    """Return the unions of outlines that follow one another, each group up to its end."""
    starts = np.r_[0, ends[:-1]]
    sizes = ends - starts
    found = outlines[starts]
    two = np.flatnonzero(sizes == 2)
    found[two] = shapely.union(found[two], outlines[starts[two] + 1])
    for number in np.flatnonzero(sizes > 2):
        found[number] = shapely.union_all(outlines[starts[number] : ends[number]])
    return found


def _looks_of(number: Rows, looks: Rows, outlines: Geometries) -> tuple[Rows, Geometries, Rows, Rows]:
    """Return object and look of each sighting, its outline, its number of detections, and one of these."""
    order = np.lexsort((looks, number))
    key = np.column_stack([number, looks])[order]
    if not len(key):
        return key, np.empty(0, object), np.empty(0, np.int64), order
    starts = np.flatnonzero(np.r_[True, (key[1:] != key[:-1]).any(axis=1)])
    ends = np.r_[starts[1:], len(key)]
    return key[starts], _unions(outlines[order], ends), ends - starts, order[starts]


def _majority(union: Any, outlines: Geometries, full: int, extents: Geometries) -> Any:
    """Return where at least half of the looks that saw a place have something.

    Args:
        union: All that any look has.
        outlines: What each look has.
        full: Number of looks that saw all of it.
        extents: What the others saw.

    Returns:
        A polygon, or several, or nothing.
    """
    if not len(extents) and 2 * len(outlines) < full:
        return shapely.MultiPolygon()
    parts = shapely.intersection(extents, union) if len(extents) else extents
    edges = shapely.boundary(np.concatenate([outlines, parts, [union]]))
    lines = shapely.union_all(edges, grid_size=_PRECISION_M)  # Snapped, so that every face is closed.
    faces = shapely.get_parts(shapely.polygonize([lines]))
    points = shapely.point_on_surface(faces)
    hits = np.sum([shapely.contains(outline, points) for outline in outlines], axis=0)
    looks = full + np.sum([shapely.contains(extent, points) for extent in extents], axis=0, dtype=np.int64)
    # A look that has something where it was not reliable did see it.
    chosen = faces[(hits > 0) & (2 * hits >= np.maximum(looks, hits))]
    return shapely.union_all(chosen) if len(chosen) else shapely.MultiPolygon()


def _joined(values: pd.Series, number: Rows, count: int) -> list[str]:
    """Return the different texts of each object, sorted."""
    split = {text: {name.strip() for name in str(text).split(",")} for text in values.unique()}
    if len(split) == 1:
        return [", ".join(sorted(next(iter(split.values()))))] * count
    found: list[set[str]] = [set() for _ in range(count)]
    for place, text in zip(number, values, strict=True):
        found[place] |= split[text]
    return [", ".join(sorted(each)) for each in found]
