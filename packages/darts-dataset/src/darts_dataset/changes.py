"""What is to be merged again of a year, where the dataset before has its objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from darts_dataset.detections import Detections
from darts_dataset.former import Former, KnownScene, box_around, ground_file, read_ground
from darts_dataset.geometry import NORTH, SOUTH, box_polygons
from darts_dataset.identity import Ground
from darts_dataset.looks import Footprint, Look
from darts_dataset.memory import Memory
from darts_dataset.overlaps import Rows
from darts_dataset.readings import read_detections
from darts_dataset.scenes import Scene

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Again:
    """What is merged again of a year, and what is taken along.

    Attributes:
        former: Objects of the dataset before.
        kept: Numbers of those that nothing changed near, which are taken along.
        digests: Digest of the outline of each of them all.
        ground: What they were found to share with earlier ones.
        changed: Scenes that are new or changed, of which all is merged.
        uids: Detections of other scenes that are, since something changed near their objects.
        scenes: Scenes that any of these may be in.
    """

    former: Former
    kept: Rows
    digests: NDArray[np.object_]
    ground: Ground
    changed: frozenset[str]
    uids: "pa.ChunkedArray"
    scenes: frozenset[str]

    def chosen(self, detections: Detections) -> Detections:
        """Return the detections that are merged again."""
        import pyarrow.compute as pc

        scene = detections.texts["scene"]
        new = np.array([name in self.changed for name in scene.known], np.bool_)[scene.number]
        return detections.subset(np.flatnonzero(new | pc.is_in(detections.uid, self.uids).to_numpy()))


def find_changes(
    before: Memory,
    known: Mapping[str, KnownScene],
    year: int,
    looks: Sequence[Look],
    scenes: Sequence[Scene],
    footprints: Sequence[Footprint],
) -> Again | None:
    """Find what is to be merged again of a year, so that the objects are those of merging all of it.

    What a scene that is new, changed or gone saw and had lies in a box, and so does what other frames of its look saw
    and had. An object apart from these boxes has none of their detections, before or now, and the same looks saw the
    same of it. All detections of the other objects, and all of the scenes that are new or changed, are merged again.

    Args:
        before: The dataset before, made with the same season and without a share to keep, so that it has all objects.
        known: Its scenes.
        year: The year.
        looks: All looks of that year.
        scenes: All scenes, of which looks have the numbers.
        footprints: What each of them saw reliably.

    Returns:
        What is; None for all.
    """
    import pyarrow.compute as pc

    part = f"level2/year={year}"
    if not before.has(part):
        return None
    former = Former(before, part)
    listed = pc.list_flatten(former.table["detections"])
    if pc.count_distinct(listed).as_py() < len(listed):  # Names that say too little.
        return None
    earlier = {tile: each for tile, each in known.items() if each.year == year}
    here = {scenes[number].tile_id: (look, number) for look in looks for number in look.scenes}
    same = {
        tile: earlier[tile]
        for tile, (look, number) in here.items()
        if tile in earlier and (earlier[tile].digest, earlier[tile].look) == (scenes[number].digest, look.name)
    }
    boxes: dict[str, list[NDArray[np.float64]]] = {NORTH: [], SOUTH: []}
    # The other frames of a look too: an edge that frames share has another rounding where one of them changes.
    looked = {look.name for tile, (look, _) in here.items() if tile not in same}
    looked |= {each.look for tile, each in earlier.items() if tile not in same}
    for each in earlier.values():
        if each.look in looked:
            boxes[each.footprint.plane].append(each.box)
    for tile, (look, number) in here.items():
        if tile not in same:
            found = read_detections(scenes[number], look.name)
            boxes[look.plane].append(box_around(footprints[number], found.bounds, found.crs))
    kept = former.apart_from(boxes)
    dirty = np.setdiff1d(np.arange(len(former.table)), kept)
    changed = frozenset(here.keys() - same.keys())
    digests, ground = read_ground(before.folder / ground_file(year), former.ids)
    uids = pc.list_flatten(former.table["detections"].take(dirty))
    return Again(former, kept, digests, ground, changed, uids, changed | _reached(former, dirty, same))


def _reached(former: Former, rows: Rows, scenes: Mapping[str, KnownScene]) -> frozenset[str]:
    """Return the scenes that may have detections of some objects."""
    found: set[str] = set()
    for plane in (NORTH, SOUTH):
        names = [tile for tile, each in scenes.items() if each.footprint.plane == plane]
        here = former.boxes(plane, np.intersect1d(rows, former.rows_on(plane)))
        tree = shapely.STRtree(box_polygons(np.array([scenes[name].box for name in names]).reshape(-1, 4)))
        hits = tree.query(box_polygons(here), predicate="intersects")[1]
        found |= {names[number] for number in np.unique(hits)}
    return frozenset(found)
