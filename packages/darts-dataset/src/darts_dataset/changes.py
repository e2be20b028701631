"""What is to be done again of the objects, where the dataset before has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from darts_dataset.detections import Detections
from darts_dataset.former import Former, read_former
from darts_dataset.geometry import NORTH, SOUTH, box_polygons
from darts_dataset.identity import Ground
from darts_dataset.known import KnownScene, Survey, unchanged
from darts_dataset.looks import Look
from darts_dataset.memory import Memory
from darts_dataset.overlaps import Rows, components
from darts_dataset.scenes import Scene

if TYPE_CHECKING:
    import pyarrow as pa

_Boxes = list[tuple[int, str, NDArray[np.float64]]]
"""Boxes in which something changed: year, plane, and the box, (4,) float64, metres."""
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
    uids: "pa.Array"
    scenes: frozenset[str]

    def ground(self) -> "tuple[pa.Table, Ground]":
        """Return the ground that those with their ids share with earlier ones, and that which the others shared."""
        import pyarrow as pa
        import pyarrow.compute as pc

        digests = pa.array(self.former.traits.digests[self.kept], pa.binary())
        stays = pc.is_in(self.former.pairs["digest"], value_set=digests)
        digest, before, area = (each.to_pylist() for each in self.former.pairs.filter(pc.invert(stays)).columns)
        return self.former.pairs.filter(stays), Ground(dict(zip(zip(before, digest, strict=True), area, strict=True)))

    def chosen(self, detections: Detections) -> Detections:
        """Return the detections that are merged again."""
        import pyarrow.compute as pc

        scene = detections.texts["scene"]
        taken = np.array([name in self.changed for name in scene.known] or [False])[scene.number]
        listed = pc.is_in(detections.uid, value_set=self.uids).to_numpy()
        return detections.subset(np.flatnonzero(taken | listed))


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
    ids: "pa.Array"


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

    What a scene that is new, changed or gone saw and had lies in a box, and so does what other frames of its look saw
    and had. An object apart from these boxes has none of their detections, before or now, and the same looks saw the
    same of it. All detections of the other objects, and all of the scenes that are new or changed, are merged again.

    Names and links are found again of what lies in these boxes, wide enough for the objects that are merged again, and
    of all that hangs together with it over years by ground that is shared, or by a name, but for its last number.

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
    import pyarrow as pa
    import pyarrow.compute as pc

    names = {scenes[number].tile_id: look.name for look in looks for number in look.scenes}
    same = unchanged(known, scenes, names)
    # The other frames of a look too: an edge that frames share has another rounding where one of them changes.
    looked = {name for tile, name in names.items() if tile not in same}
    looked |= {each.look for tile, each in known.items() if tile not in same}
    boxes: _Boxes = [
        (each.year, each.survey.footprint.plane, each.survey.box) for each in known.values() if each.look in looked
    ]
    here = [(look, number, scenes[number].tile_id) for look in looks for number in look.scenes]
    boxes += [(look.year, look.plane, surveys[number].box) for look, number, _ in here if look.name in looked]
    if not boxes and not whole:
        nothing = [np.empty(0, np.int64) for _ in release]
        return Changes({}, frozenset(before.years()), nothing, pa.array([], pa.string()))
    formers = [read_former(before, year) for year in before.years()]
    boxes = [(year, plane, box) for year, plane, box in boxes if not np.isnan(box).any()]
    changed = {year for year, _, _ in boxes}
    listed: dict[int, pa.Array] = {}
    dirty, reach = [], list(boxes)
    for former in formers:
        mine, around = _hits(former, [each for each in boxes if each[0] == former.year])
        if mine.any() and not partial:
            found = former.detections()
            if pc.count_distinct(pc.list_flatten(found)).as_py() == len(pc.list_flatten(found)):
                listed[former.year] = pc.list_flatten(found.take(np.flatnonzero(mine)))
        elif former.year not in changed or not partial:
            listed[former.year] = pa.array([], pa.string())
        if former.year not in listed:
            mine[:] = True
            around = [(former.year, plane, np.array([-np.inf, -np.inf, np.inf, np.inf])) for plane in (NORTH, SOUTH)]
        dirty.append(mine)
        reach += around
    both = [*formers, *release]
    affected = _together(both, [np.full(len(former), whole) | _hits(former, reach)[0] for former in both])
    years, idle = {}, set()
    for former, mine, named in zip(formers, dirty, affected[: len(formers)], strict=True):
        if former.year not in listed:
            continue
        if former.year not in changed and not named.any():
            idle.add(former.year)
            continue
        fresh = frozenset(tile for look, _, tile in here if look.year == former.year and tile not in same)
        there = {tile: each for tile, each in known.items() if each.year == former.year and tile in same}
        years[former.year] = Again(
            former,
            np.flatnonzero(named & ~mine),
            np.flatnonzero(~named),
            fresh,
            listed[former.year],
            fresh | _reached(former, np.flatnonzero(mine), there),
        )
    ids = [former.traits.ids[each] for former, each in zip(both, affected, strict=True)]
    rows = [np.flatnonzero(each) for each in affected[len(formers) :]]
    return Changes(years, frozenset(idle), rows, pa.array(np.concatenate([np.empty(0, object), *ids]), pa.string()))


def _hits(former: Former, boxes: _Boxes) -> tuple[NDArray[np.bool_], _Boxes]:
    """Tell which objects lie in boxes, and return boxes around each of these and the objects that lie in it."""
    found = np.zeros(len(former), np.bool_)
    around: _Boxes = []
    for plane in (NORTH, SOUTH):
        rows = former.rows_on(plane)
        rows = rows[np.argsort(former.traits.boxes[rows, 0])]
        west, south, east, north = former.traits.boxes[rows].T
        widest = (east - west).max(initial=0)
        for year, _, box in (each for each in boxes if each[1] == plane):
            near = slice(np.searchsorted(west, box[0] - widest), np.searchsorted(west, box[2], "right"))
            inside = rows[near][(east[near] >= box[0]) & (south[near] <= box[3]) & (north[near] >= box[1])]
            found[inside] = True
            more = np.concatenate([box[None], former.traits.boxes[inside]])
            around.append((year, plane, np.concatenate([more[:, :2].min(axis=0), more[:, 2:].max(axis=0)])))
    return found, around


def _together(formers: Sequence[Former], seeds: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Tell which objects hang together with some."""
    import pyarrow as pa
    import pyarrow.compute as pc

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
        tree = shapely.STRtree(box_polygons(np.array([scenes[name].survey.box for name in names]).reshape(-1, 4)))
        hits = tree.query(box_polygons(here), predicate="intersects")[1]
        found |= {names[number] for number in np.unique(hits)}
    return frozenset(found)
