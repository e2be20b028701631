"""Detections of one year that overlap become one object, with what the looks say of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from darts_dataset.geometry import Geometries
from darts_dataset.looks import Look
from darts_dataset.overlaps import components, overlapping_pairs
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
        frame: One row each: `object_uid`, `look` (number in the list of looks), `acquisition_time`, `source`,
            `model_names`, `area_m2`, `mean`, `npixel`, `touches_edge`.
        bounds: Their bounds on the plane, (n, 4) float64, metres.
        take: Reads their outlines on the plane by number.
    """

    frame: pd.DataFrame
    bounds: NDArray[np.float64]
    take: Take


@dataclass(frozen=True)
class Objects:
    """Some objects.

    Attributes:
        frame: One row each, with the columns of the data dictionary but for ids and places.
        union: What any look has of each, MultiPolygons on the plane.
        majority: What at least half of the looks that saw a place have there; empty where no place has that.
    """

    frame: pd.DataFrame
    union: Geometries
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
    pairs = overlapping_pairs(detections.bounds, detections.take, cell_m)
    member = components(pairs, count)
    order = np.argsort(member, kind="stable")
    ends = np.cumsum(np.bincount(member)) if count else np.empty(0, np.int64)
    seen = _Seen(looks)
    first = 0
    while first < len(ends):
        begin = int(ends[first - 1]) if first else 0
        behind = max(int(np.searchsorted(ends, begin + _AT_A_TIME, side="right")), first + 1)
        rows = order[begin : int(ends[behind - 1])]
        yield _merged(detections.frame.iloc[rows], detections.take(rows), member[rows] - first, seen)
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

    def of(self, objects: Geometries) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return numbers of objects and of the looks that saw at least half of them, and whether it was all of them."""
        place, look = self._tree.query(objects, predicate="intersects")
        whole = shapely.covers(self.extents[look], objects[place])
        share = whole.astype(np.float64)
        part = np.flatnonzero(~whole)
        inside = shapely.intersection(self.extents[look[part]], objects[place[part]])
        share[part] = shapely.area(inside) / shapely.area(objects[place[part]])
        enough = share >= _SEEN_SHARE
        return place[enough], look[enough], whole[enough]


def _merged(members: pd.DataFrame, outlines: Geometries, number: NDArray[np.int64], seen: _Seen) -> Objects:
    """Merge detections, sorted by the number of their object from 0."""
    sizes = np.bincount(number)
    ends = np.cumsum(sizes)
    union = _unions(outlines, ends)
    by_look = _by_look(members, outlines, number)
    place, look, _ = seen.of(union)
    hits = pd.MultiIndex.from_arrays([by_look["number"], by_look["look"]])
    sightings = hits.union(pd.MultiIndex.from_arrays([place, look]))  # A look that found something there did see it.
    n_looks = np.bincount(sightings.get_level_values(0).to_numpy(np.int64), minlength=len(sizes))
    n_hits = np.bincount(by_look["number"], minlength=len(sizes))
    areas = by_look.groupby("number")["area_m2"].agg(["min", "median", "max"])
    weight = members["npixel"].to_numpy(np.float64)
    groups = members.groupby(number)
    times = groups["acquisition_time"]
    frame = pd.DataFrame(
        {
            "area_m2": shapely.area(union),
            "area_min_m2": areas["min"].to_numpy(),
            "area_median_m2": areas["median"].to_numpy(),
            "area_max_m2": areas["max"].to_numpy(),
            "n_looks": n_looks.astype(np.int32),
            "n_hits": n_hits.astype(np.int32),
            "n_detections": sizes.astype(np.int32),
            "first_date": times.min().to_numpy(),
            "last_date": times.max().to_numpy(),
            "mean_probability": np.bincount(number, weight * members["mean"]) / np.bincount(number, weight),
            "touches_edge": groups["touches_edge"].all().to_numpy(),
            "sources": _joined(members["source"], number, len(sizes)),
            "models": _joined(members["model_names"], number, len(sizes)),
            "detections": [sorted(each) for each in np.split(members["object_uid"].to_numpy(object), ends[:-1])],
        }
    )
    majority = _majorities(union, by_look, n_looks, seen)
    frame.insert(1, "majority_area_m2", shapely.area(majority))
    return Objects(frame, union, majority)


def _unions(outlines: Geometries, ends: NDArray[np.int64]) -> Geometries:
    """Return the unions of outlines that follow one another, each group up to its end."""
    starts = np.r_[0, ends[:-1]]
    sizes = ends - starts
    found = outlines[starts]
    two = np.flatnonzero(sizes == 2)
    found[two] = shapely.union(found[two], outlines[starts[two] + 1])
    for number in np.flatnonzero(sizes > 2):
        found[number] = shapely.union_all(outlines[starts[number] : ends[number]])
    return found


def _by_look(members: pd.DataFrame, outlines: Geometries, number: NDArray[np.int64]) -> pd.DataFrame:
    """Return what each look has of each object: its outline, and its area on the ellipsoid in m²."""
    looks = members["look"].to_numpy(np.int64)
    order = np.lexsort((looks, number))
    key = np.column_stack([number, looks])[order]
    starts = np.flatnonzero(np.r_[True, (key[1:] != key[:-1]).any(axis=1)])
    sizes = np.diff(np.r_[starts, len(key)])
    outline = _unions(outlines[order], np.r_[starts[1:], len(key)])
    area = members["area_m2"].to_numpy(np.float64)[order[starts]]
    several = sizes > 1  # Frames of one pass overlap, and what lies in two of them is there once.
    area[several] = shapely.area(outline[several])
    return pd.DataFrame({"number": key[starts, 0], "look": key[starts, 1], "area_m2": area, "outline": outline})


def _majorities(union: Geometries, by_look: pd.DataFrame, n_looks: NDArray[np.int64], seen: _Seen) -> Geometries:
    found = np.array(union, object)
    place, look, whole = seen.of(union)
    outlines = by_look["outline"].to_numpy(object)
    behind = np.cumsum(np.bincount(by_look["number"], minlength=len(union)))
    for number in np.flatnonzero(n_looks > 2):  # Of two looks one is half.
        begin = behind[number - 1] if number else 0
        rows = slice(int(begin), int(behind[number]))
        extents = seen.extents[look[(place == number) & ~whole]]
        full = int(((place == number) & whole).sum())
        more = set(by_look["look"].iloc[rows]) - set(look[place == number])  # Looks that saw less than half of it.
        extents = np.concatenate([extents, seen.extents[sorted(more)]])
        found[number] = _majority(union[number], outlines[rows], full, extents)
    return found


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


def _joined(values: pd.Series, number: NDArray[np.int64], count: int) -> list[str]:
    """Return the different texts of each object, sorted."""
    split = {text: {name.strip() for name in str(text).split(",")} for text in values.unique()}
    if len(split) == 1:
        return [", ".join(sorted(next(iter(split.values()))))] * count
    found: list[set[str]] = [set() for _ in range(count)]
    for place, text in zip(number, values, strict=True):
        found[place] |= split[text]
    return [", ".join(sorted(each)) for each in found]
