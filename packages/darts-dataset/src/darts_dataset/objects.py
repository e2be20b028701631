"""Detections of one year that overlap become one object, with what the looks say of it."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from darts_dataset.detections import Detections, Texts
from darts_dataset.dictionary import OBJECTS, schema_of
from darts_dataset.geometry import LONLAT, Geometries, box_polygons, to_lonlat, to_plane
from darts_dataset.lattice import Grid, Segments, counted, pairs_of, trace
from darts_dataset.looks import Look
from darts_dataset.overlaps import Rows, components, overlapping_pairs
from darts_dataset.parallel import in_order
from darts_dataset.tables import Shapes, shapes_of

_AT_A_TIME = 10_000
"""Detections whose geometries are in memory together."""
_PRECISION_M = 1e-3
_SEEN_SHARE = 0.5
"""Share of an object that a look must have seen reliably to count."""
_LEAST_SHARE = 0.01
"""Share of an object from which on what a look saw of it counts there; less may be what rounding makes of an edge."""


@dataclass(frozen=True)
class Objects:
    """Some objects.

    Attributes:
        table: One row each, with the columns of the data dictionary but for the id.
        shapes: `geometry` (what any look has of each) and `majority` (what at least half of the looks that saw a place
            have there; empty where no place has that), MultiPolygons in OGC:CRS84.
    """

    table: pa.Table
    shapes: Shapes


def merge(detections: Detections, look: Rows, looks: Sequence[Look], plane: str, cell_m: float) -> Iterator[Objects]:
    """Merge what overlaps, directly or by others.

    Args:
        detections: The detections.
        look: Number of the look of each, (n,) int64.
        looks: All looks of that year on that plane.
        plane: The plane.
        cell_m: Edge of the cells in which overlaps are searched, metres; the result does not depend on it.

    Yields:
        Objects, in the order of their first detection.
    """
    count = len(detections.row)
    if not count:
        return
    member = components(np.concatenate(list(_pairs(detections, plane, cell_m))), count)
    order = np.argsort(member, kind="stable")
    ends = np.cumsum(np.bincount(member))
    batches = []
    first = 0
    while first < len(ends):
        begin = int(ends[first - 1]) if first else 0
        end = max(int(np.searchsorted(ends, begin + _AT_A_TIME, side="right")), first + 1)
        batches.append((first, order[begin : int(ends[end - 1])]))
        first = end
    seen = _Seen(looks)

    def merged(batch: tuple[int, Rows]) -> Objects:
        first, rows = batch
        return _Batch(detections.subset(rows), look[rows], member[rows] - first, seen, plane).merged()

    yield from in_order(merged, batches)


def _pairs(detections: Detections, plane: str, cell_m: float) -> Iterator[Rows]:
    """Yield the pairs that overlap: those of one grid by their pixels, the others by their outlines."""
    grid = detections.grid
    if (grid != grid[0]).any() or grid[0] < 0:

        def take(rows: Rows) -> Geometries:
            return detections.laid(rows, plane)

        yield overlapping_pairs(detections.boxes(plane), take, cell_m, grid)
    for number, (_, segments) in enumerate(detections.grids):
        rows = np.flatnonzero(grid == number)
        yield rows[pairs_of(segments, detections.slot[rows], detections.bounds[rows], cell_m)]


def seen_by(objects: Geometries, looks: Sequence[Look]) -> NDArray[np.bool_]:
    """Tell which objects some look saw: at least half of them, reliably.

    Args:
        objects: Polygons on the plane of the looks.
        looks: Looks.

    Returns:
        (n,) bool.
    """
    found = np.zeros(len(objects), np.bool_)
    seen = _Seen(looks).of(objects)
    found[seen.number[seen.enough]] = True
    return found


@dataclass(frozen=True)
class _Views:
    """Numbers of objects and of the looks that saw of them, whether it was all, and at least half; (n,) each."""

    number: Rows
    look: Rows
    whole: NDArray[np.bool_]
    enough: NDArray[np.bool_]


class _Seen:
    """What looks saw reliably, to be asked often."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self.extents = np.array([look.extent for look in looks], object)
        self._prepared = np.asarray(shapely.from_wkb(shapely.to_wkb(self.extents)), object)
        shapely.prepare(self._prepared)
        self._tree = shapely.STRtree(self._prepared)
        self._lock = threading.Lock()
        """GEOS makes what it prepares at its first use, and none but one thread may do so."""

    def of(self, objects: Geometries) -> _Views:
        """Return what looks saw of objects, unless it was next to nothing."""
        boxes = box_polygons(shapely.bounds(objects).reshape(-1, 4))
        with self._lock:
            index, look = self._tree.query(boxes, predicate="intersects")
            whole = shapely.covers(self._prepared[look], boxes[index])
            rest = np.flatnonzero(~whole)
            whole[rest] = shapely.covers(self._prepared[look[rest]], objects[index[rest]])
        share = whole.astype(np.float64)
        part = np.flatnonzero(~whole)
        inside = shapely.intersection(self.extents[look[part]], objects[index[part]])
        share[part] = shapely.area(inside) / shapely.area(objects[index[part]])
        some = share >= _LEAST_SHARE
        return _Views(index[some], look[some], whole[some], share[some] >= _SEEN_SHARE)


@dataclass
class _Part:
    """Objects of a batch whose detections all follow one grid, with what each look has of them as segments."""

    objects: Rows
    grid: Grid
    by_object: Segments
    union: Segments = field(init=False)

    def __post_init__(self) -> None:
        self.union = self.by_object.joined()


@dataclass(frozen=True)
class _Sightings:
    """What a look has of an object: number of the object, of the look, and the ground, m²; (n,) each."""

    number: Rows
    look: Rows
    area_m2: NDArray[np.float64]

    def sorted_by(self, *keys: NDArray) -> "_Sightings":
        order = np.lexsort(keys)
        return _Sightings(self.number[order], self.look[order], self.area_m2[order])


class _Batch:
    """Detections that are merged together, sorted by the number of their object from 0."""

    def __init__(self, members: Detections, look: Rows, number: Rows, seen: _Seen, plane: str) -> None:
        self._members, self._look, self._number, self._seen, self._plane = members, look, number, seen, plane
        self._first = np.flatnonzero(np.r_[True, number[1:] != number[:-1]])
        self._count = len(self._first)
        lowest, highest = (each.reduceat(members.grid, self._first) for each in (np.minimum, np.maximum))
        self._grid = np.where(lowest == highest, lowest, -1)
        """Grid of each object, -1 where its detections follow several or none."""

    def merged(self) -> Objects:
        union, laid = np.full(self._count, None, object), np.full(self._count, None, object)
        found = [self._outlined(union)]
        laid[self._grid < 0] = to_plane(union[self._grid < 0], self._plane)
        parts: list[_Part] = []
        for number in np.unique(self._grid[self._grid >= 0]):
            part, more = self._by_pixels(int(number))
            lines = to_lonlat(trace(part.union, len(part.objects), part.grid), part.grid.crs, valid=True)
            union[part.objects], laid[part.objects] = lines, to_plane(lines, self._plane, valid=True)
            parts.append(part)
            found.append(more)
        by_look = _Sightings(
            *(np.concatenate([getattr(each, name) for each in found]) for name in ("number", "look", "area_m2"))
        )
        seen = self._seen.of(laid)
        n_looks = self._looks_at(by_look, seen, seen.enough)
        majority, changed = self._majorities(union, laid, by_look, seen, parts)
        area = shapely.area(laid)
        majority_area = area.copy()
        majority_area[changed] = shapely.area(to_plane(majority[changed], self._plane))
        columns = {"area_m2": area, "majority_area_m2": majority_area, **self._points(laid)}
        columns |= self._evidence(by_look, n_looks)
        shapes = shapes_of(geometry=union, majority=majority)
        return Objects(_table(columns), shapes)

    def _looks_at(self, by_look: _Sightings, seen: _Views, counts: NDArray[np.bool_]) -> Rows:
        """Return the number of looks that saw each object, of those that count or have something there."""
        width = len(self._seen.extents)
        views = (seen.number * width + seen.look)[counts]
        pairs = np.unique(np.concatenate([by_look.number * width + by_look.look, views]))
        return np.bincount(pairs // width, minlength=self._count)

    def _points(self, laid: Geometries) -> dict[str, NDArray[np.float64]]:
        inside = shapely.get_coordinates(shapely.point_on_surface(laid))
        lon, lat = Transformer.from_crs(self._plane, LONLAT, always_xy=True).transform(inside[:, 0], inside[:, 1])
        return {"lon": np.asarray(lon), "lat": np.asarray(lat)}

    def _evidence(self, by_look: _Sightings, n_looks: Rows) -> dict[str, NDArray | pa.Array]:
        numbers, first = self._members.numbers, self._first
        sizes = np.bincount(self._number)
        n_hits = np.bincount(by_look.number, minlength=self._count)
        area = by_look.sorted_by(by_look.area_m2, by_look.number).area_m2
        last = np.cumsum(n_hits) - 1
        lower, upper = last - n_hits + 1 + (n_hits - 1) // 2, last - (n_hits - 1) // 2
        known = ~np.isnan(numbers["mean"])  # That of an object without any probability is not.
        weight = numbers["npixel"] * known.astype(np.float64)
        mean, whole = np.where(known, numbers["mean"], 0), np.bincount(self._number, weight)
        uids, breaks = self._members.uid.to_pylist(), np.r_[first, len(self._number)].tolist()
        listed = [uid for begin, end in pairwise(breaks) for uid in sorted(uids[begin:end])]
        return {
            "area_min_m2": area[last - n_hits + 1],
            "area_median_m2": (area[lower] + area[upper]) / 2,
            "area_max_m2": area[last],
            "n_looks": n_looks,
            "n_hits": n_hits,
            "n_detections": sizes,
            "first_date": np.minimum.reduceat(numbers["time"], first),
            "last_date": np.maximum.reduceat(numbers["time"], first),
            "mean_probability": np.bincount(self._number, weight * mean) / np.where(whole > 0, whole, np.nan),
            "touches_edge": np.logical_and.reduceat(numbers["touches_edge"], first),
            "sources": _joined(self._members.texts["source"], self._number, self._count),
            "models": _joined(self._members.texts["model_names"], self._number, self._count),
            "detections": pa.ListArray.from_arrays(
                np.r_[first, len(listed)].astype(np.int32), pa.array(listed, pa.string())
            ),
        }

    def _by_pixels(self, number: int) -> tuple[_Part, _Sightings]:
        """Return what each look has of the objects that follow one grid, and how much ground that is."""
        grid, file = self._members.grids[number]
        objects = np.flatnonzero(self._grid == number)
        chosen = np.flatnonzero(self._grid[self._number] == number)
        index = np.searchsorted(objects, self._number[chosen])
        width = len(self._seen.extents)
        key, owner = np.unique(index * width + self._look[chosen], return_inverse=True)
        segments = file.take(self._members.slot[chosen])
        segments = Segments(owner[segments.owner], segments.row, segments.start, segments.stop)
        if (np.bincount(owner) > 1).any():  # Frames of one pass overlap, and what lies in two of them is there once.
            segments = segments.joined()
        area_m2, npixel = (self._members.numbers[name][chosen] for name in ("area_m2", "npixel"))
        ground = np.bincount(index, area_m2) / np.bincount(index, npixel)  # m² of a pixel there
        of_object = key // width
        part = _Part(objects, grid, Segments(of_object[segments.owner], segments.row, segments.start, segments.stop))
        area = segments.counts(len(key)) * ground[of_object]
        return part, _Sightings(objects[of_object], key % width, area)

    def _outlined(self, union: Geometries) -> _Sightings:
        """Merge the outlines of the other objects, and return how much ground each look has of them."""
        chosen = np.flatnonzero(self._grid[self._number] < 0)
        outlines = self._members.laid(chosen, self._plane)
        objects, index = np.unique(self._number[chosen], return_inverse=True)
        if len(objects):
            merged = _unions(outlines, np.cumsum(np.bincount(index)))
            union[objects] = to_lonlat(merged, self._plane)
        key, outline, size, first = _looks_of(self._number[chosen], self._look[chosen], outlines)
        area = self._members.numbers["area_m2"][chosen][first]
        several = size > 1
        area[several] = shapely.area(outline[several])
        return _Sightings(key[:, 0], key[:, 1], area)

    def _majorities(
        self,
        union: Geometries,
        laid: Geometries,
        by_look: _Sightings,
        seen: _Views,
        parts: Sequence[_Part],
    ) -> tuple[Geometries, Rows]:
        """Return the majority of each object, and which of them may differ from the union."""
        found = union.copy()
        index, look, whole = seen.number, seen.look, seen.whole
        n_whole = np.bincount(index[whole], minlength=self._count)
        n_looks = self._looks_at(by_look, seen, np.ones(len(look), np.bool_))
        changed = open_ = n_looks > 2  # Of two looks one is half.
        for part in parts:
            counts = open_[part.objects] & (n_whole == n_looks)[part.objects]
            done = np.flatnonzero(counts)
            if not len(done):
                continue
            segments = part.by_object.where(counts[part.by_object.owner])
            segments = Segments(np.searchsorted(done, segments.owner), segments.row, segments.start, segments.stop)
            lines = trace(counted(segments, -(-n_looks[part.objects[done]] // 2)), len(done), part.grid)
            found[part.objects[done]] = to_lonlat(lines, part.grid.crs, valid=True)
            open_ = open_ & ~np.isin(np.arange(self._count), part.objects[done])
        for number in np.flatnonzero(open_):
            here = index == number
            enough = set(look[here & seen.enough].tolist())
            # Looks that saw less than half of it count where they saw it.
            more = {*by_look.look[by_look.number == number].tolist(), *look[here].tolist()} - enough
            extents = self._seen.extents[[*sorted(look[here & seen.enough & ~whole].tolist()), *sorted(more)]]
            rows = np.flatnonzero(self._number == number)
            outlines = _looks_of(self._number[rows], self._look[rows], self._members.laid(rows, self._plane))[1]
            most = _majority(laid[number], outlines, int(n_whole[number]), extents)
            found[number] = to_lonlat(np.array([most], object), self._plane)[0]
        return found, np.flatnonzero(changed)


def _table(columns: dict[str, NDArray | pa.Array]) -> pa.Table:
    fields = [each for each in schema_of(OBJECTS) if each.name in columns]
    arrays = [_array(columns[each.name], each.type) for each in fields]
    return pa.table(arrays, schema=pa.schema(fields))


def _array(values: NDArray | pa.Array, dtype: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    made = pa.array(values)
    return made.cast(dtype) if not pa.types.is_timestamp(dtype) else made.cast("int64").cast(dtype)


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


def _majority(union: BaseGeometry, outlines: Geometries, full: int, extents: Geometries) -> BaseGeometry:
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


def _joined(texts: Texts, number: Rows, count: int) -> list[str]:
    """Return the different names that the texts of each object have, sorted."""
    split = [{name.strip() for name in text.split(",")} for text in texts.known]
    if len(split) == 1:
        return [", ".join(sorted(split[0]))] * count
    pairs = np.unique(number * len(split) + texts.number)
    groups = np.split(pairs % len(split), np.flatnonzero(np.diff(pairs // len(split))) + 1)
    made: dict[bytes, str] = {}
    for group in groups:
        if group.tobytes() not in made:
            made[group.tobytes()] = ", ".join(sorted(set().union(*(split[each] for each in group))))
    return [made[group.tobytes()] for group in groups]
