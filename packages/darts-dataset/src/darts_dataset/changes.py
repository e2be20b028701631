"""What is to be done again of the objects, where the dataset before has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from darts_dataset.detections import Detections
from darts_dataset.former import Former, read_former
from darts_dataset.geometry import NORTH, SOUTH, box_polygons
from darts_dataset.identity import Ground
from darts_dataset.known import KnownScene, Survey, unchanged
from darts_dataset.looks import Look
from darts_dataset.memory import Memory
from darts_dataset.overlaps import Rows, components
from darts_dataset.scenes import Scene

_Hulls = list[tuple[int, str, BaseGeometry]]
"""Ground on which something changed: year, plane, and a convex polygon."""
_PLANE = (-1e8, -1e8, 1e8, 1e8)
"""More than all of a plane, metres."""
_BASE = 20
"""Letters of an id without what tells objects of one place apart: an H3 cell, a dash, a year."""


@dataclass(frozen=True)
class Again:
    """What is done again of a year, and what is taken along.

    Attributes:
        former: Objects of the dataset before.
        named: Numbers of those that are taken along, but for the id, which may be another one.
        kept: Numbers of those that are taken along with their ids.
        changed: Scenes that are new or changed, of which all is merged.
        uids: Detections of other scenes that are, since something changed near their objects.
        scenes: Scenes that any of these may be in.
    """

    former: Former
    named: Rows
    kept: Rows
    changed: frozenset[str]
    uids: pa.Array
    scenes: frozenset[str]

    def ground(self) -> tuple[pa.Table, Ground]:
        """Return the ground that those with their ids share with earlier ones, and that which the others shared."""
        digests = pa.array(self.former.traits.digests[self.kept], pa.binary())
        stays = pc.is_in(self.former.pairs["digest"], value_set=digests)
        digest, before, area = (each.to_pylist() for each in self.former.pairs.filter(pc.invert(stays)).columns)
        return self.former.pairs.filter(stays), Ground(dict(zip(zip(before, digest, strict=True), area, strict=True)))

    def chosen(self, detections: Detections) -> Detections:
        """Return the detections that are merged again."""
        scene = detections.texts["scene"]
        taken = np.array([name in self.changed for name in scene.known] or [False])[scene.number]
        near = np.array([name in self.scenes for name in scene.known] or [False])[scene.number]
        listed = pc.is_in(detections.uid, value_set=self.uids).to_numpy()
        return detections.subset(np.flatnonzero(taken | near & listed))


@dataclass(frozen=True)
class Changes:
    """What is done again.

    Attributes:
        years: By year; a year that is not among them is merged as a whole.
        idle: Years that stay as they are.
        release: Of each year of the release before, the numbers of the objects that names which may change depend on.
        ids: Ids of all objects whose names or links may change.
    """

    years: Mapping[int, Again]
    idle: frozenset[int]
    release: Sequence[Rows]
    ids: pa.Array


def find_changes(
    before: Memory,
    release: Sequence[Former],
    known: Mapping[str, KnownScene],
    looks: Sequence[Look],
    scenes: Sequence[Scene],
    surveys: Sequence[Survey],
    whole: bool,
    partial: bool,
) -> Changes:
    """Find what is to be done again, so that the objects are those of a build from nothing.

    What a scene that is new, changed or gone saw and had lies in a polygon, and so does what other frames of its look
    saw and had. An object apart from these has none of their detections, before or now, and the same looks saw the
    same of it. All detections of the other objects, and all of the scenes that are new or changed, are merged again.

    Names and links are found again of what lies there, made wide enough for the objects that are merged again, and of
    all that hangs together with it over years by ground that is shared, or by a name, but for its last number.

    Args:
        before: The dataset before, made with the same season.
        release: Objects of the release before.
        known: The scenes of the dataset before.
        looks: All looks.
        scenes: All scenes, of which looks have the numbers.
        surveys: What each of them holds.
        whole: All names may change.
        partial: The dataset before lacks objects, so that years in which something changed are merged as a whole.

    Returns:
        What is.
    """
    names = {scenes[number].tile_id: look.name for look in looks for number in look.scenes}
    same = unchanged(known, scenes, names)
    # The other frames of a look too: an edge that frames share has another rounding where one of them changes.
    looked = {name for tile, name in names.items() if tile not in same}
    looked |= {each.look for tile, each in known.items() if tile not in same}
    hulls: _Hulls = [
        (each.year, each.survey.footprint.plane, each.survey.hull) for each in known.values() if each.look in looked
    ]
    here = [(look, number, scenes[number].tile_id) for look in looks for number in look.scenes]
    hulls += [(look.year, look.plane, surveys[number].hull) for look, number, _ in here if look.name in looked]
    if not hulls and not whole:
        nothing = [np.empty(0, np.int64) for _ in release]
        return Changes({}, frozenset(before.years()), nothing, pa.array([], pa.string()))
    formers = [read_former(before, year) for year in before.years()]
    hulls = [each for each in hulls if not each[2].is_empty]
    dirty, reach = {}, list(hulls)
    for former in formers:
        known_same = {tile: each for tile, each in known.items() if each.year == former.year and tile in same}
        dirty[former.year] = _Dirty(former, [each for each in hulls if each[0] == former.year], known_same, partial)
        reach += dirty[former.year].around
    both = [*formers, *release]
    affected = _together(both, [np.full(len(former), whole) | _hits(former, reach)[0] for former in both])
    years, idle = {}, set()
    for former, named in zip(formers, affected[: len(formers)], strict=True):
        each = dirty[former.year]
        if not each.around and not named.any():
            idle.add(former.year)
        elif each.uids is not None:
            fresh = frozenset(tile for look, _, tile in here if look.year == former.year and tile not in same)
            renamed, kept = np.flatnonzero(named & ~each.rows), np.flatnonzero(~named)
            years[former.year] = Again(former, renamed, kept, fresh, each.uids, fresh | each.scenes)
    ids = [former.traits.ids[rows] for former, rows in zip(both, affected, strict=True)]
    rows = [np.flatnonzero(each) for each in affected[len(formers) :]]
    return Changes(years, frozenset(idle), rows, pa.array(np.concatenate([np.empty(0, object), *ids]), pa.string()))


class _Dirty:
    """The objects of a year that are merged again.

    Attributes:
        rows: Whether each is, (n,) bool.
        around: Boxes around what changed and them.
        scenes: Scenes without a change that they may have detections of.
        uids: Names of their detections; None where all of the year is merged again.
    """

    def __init__(self, former: Former, hulls: _Hulls, known_same: Mapping[str, KnownScene], partial: bool) -> None:
        self.rows, self.around = _hits(former, hulls)
        self.scenes = _reached(former, np.flatnonzero(self.rows), known_same)
        self.uids: pa.Array | None = pa.array([], pa.string())
        if self.rows.any():
            seen = [known_same[tile].survey for tile in self.scenes]
            near = _hits(former, [(former.year, each.footprint.plane, each.hull) for each in seen])[0]
            found = former.detections(np.flatnonzero(near | self.rows))
            listed = pc.list_flatten(found.filter(pa.array(self.rows[near | self.rows])))
            same = pc.count_distinct(pc.list_flatten(found)).as_py() == len(pc.list_flatten(found))
            self.uids = listed if same else None  # Else the names say too little.
        if hulls and (partial or self.uids is None):
            self.uids, self.rows[:] = None, True
            self.around = [(former.year, plane, shapely.box(*_PLANE)) for plane in (NORTH, SOUTH)]


def _hits(former: Former, hulls: _Hulls) -> tuple[NDArray[np.bool_], _Hulls]:
    """Tell which objects lie on some ground, and return it made large enough for the objects that lie on it."""
    found = np.zeros(len(former), np.bool_)
    around: _Hulls = []
    for plane in (NORTH, SOUTH):
        rows = former.rows_on(plane)
        rows = rows[np.argsort(former.traits.boxes[rows, 0])]
        west, south, east, north = former.traits.boxes[rows].T
        widest = (east - west).max(initial=0)
        for year, _, hull in (each for each in hulls if each[1] == plane):
            left, bottom, right, top = hull.bounds
            near = slice(np.searchsorted(west, left - widest), np.searchsorted(west, right, "right"))
            inside = rows[near][(east[near] >= left) & (south[near] <= top) & (north[near] >= bottom)]
            boxes = box_polygons(former.traits.boxes[inside])
            shapely.prepare(hull)
            hit = shapely.intersects(hull, boxes)
            found[inside[hit]] = True
            around.append((year, plane, shapely.convex_hull(shapely.geometrycollections([hull, *boxes[hit]]))))
    return found, around


def _together(formers: Sequence[Former], seeds: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Tell which objects hang together with some."""
    if not formers:
        return []
    ids = pa.array(np.concatenate([each.traits.ids for each in formers]), pa.string())
    ids = pc.utf8_slice_codeunits(ids, 0, _BASE)
    outlines = [np.concatenate([each.traits.digests for each in formers])]
    outlines += [each.pairs[name].to_numpy() for name in ("digest", "before") for each in formers]
    name, outline = (
        each.dictionary_encode().indices.to_numpy() for each in (ids, pa.array(np.concatenate(outlines), pa.binary()))
    )
    count = int(name.max(initial=-1)) + 1
    outline = outline.astype(np.int64) + count
    objects, pairs = outline[: len(name)], outline[len(name) :].reshape(2, -1).T
    edges = np.concatenate([np.column_stack([name, objects]), pairs])
    group = components(edges, int(edges.max(initial=-1)) + 1)[objects]
    found = np.isin(group, group[np.concatenate(seeds)])
    return np.split(found, np.cumsum([len(each) for each in seeds])[:-1])


def _reached(former: Former, rows: Rows, scenes: Mapping[str, KnownScene]) -> frozenset[str]:
    """Return the scenes that may have detections of some objects."""
    found: set[str] = set()
    for plane in (NORTH, SOUTH):
        names = [tile for tile, each in scenes.items() if each.survey.footprint.plane == plane]
        here = former.traits.boxes[np.intersect1d(rows, former.rows_on(plane))]
        tree = shapely.STRtree([scenes[name].survey.hull for name in names])
        hits = tree.query(box_polygons(here), predicate="intersects")[1]
        found |= {names[number] for number in np.unique(hits)}
    return frozenset(found)
