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
class Kept:
    """Objects of a year that are taken along.

    Attributes:
        former: Objects of the dataset before.
        rows: Which of them are.
        digests: Digest of the outline of each of them all.
        ground: What they were found to share with earlier ones.
    """

    former: Former
    rows: Rows
    digests: NDArray[np.object_]
    ground: Ground


@dataclass(frozen=True)
class Again:
    """What is merged again, and what is not.

    Attributes:
        kept: Objects that nothing changed near.
        looks: Looks that are new or changed, of which all is merged.
        uids: Detections of the other looks that are, since something changed near their objects.
        scenes: Scenes that these may be in.
    """

    kept: Kept
    looks: frozenset[str]
    uids: "pa.ChunkedArray"
    scenes: frozenset[str]

    def chosen(self, detections: Detections) -> Detections:
        """Return the detections that are merged again."""
        import pyarrow.compute as pc

        look = detections.texts["look"]
        new = np.array([name in self.looks for name in look.known], np.bool_)[look.number]
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

    What a look that is new, changed or gone saw or had lies in a box. An object apart from these boxes has none of
    their detections, before or now, and was seen by the same looks. All detections of the other objects, and all of
    the looks that are new or changed, are merged again.

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
    earlier: dict[str, dict[str, str]] = {}
    for tile, each in known.items():
        earlier.setdefault(each.look, {})[tile] = each.digest
    made_from = {look.name: {scenes[number].tile_id: scenes[number].digest for number in look.scenes} for look in looks}
    same = {name for name, found in made_from.items() if earlier.get(name) == found}
    boxes: dict[str, list[NDArray[np.float64]]] = {NORTH: [], SOUTH: []}
    for each in known.values():
        if each.year == year and each.look not in same:
            boxes[each.footprint.plane].append(each.box)
    for look in looks:
        for number in look.scenes if look.name not in same else ():
            found = read_detections(scenes[number], look.name)
            boxes[look.plane].append(box_around(footprints[number], found.bounds, found.crs))
    kept = former.apart_from(boxes)
    dirty = np.setdiff1d(np.arange(len(former.table)), kept)
    near = {tile for tile, each in known.items() if each.look in same and each.year == year}
    digests, ground = read_ground(before.folder / ground_file(year), former.ids)
    return Again(
        Kept(former, kept, digests, ground),
        frozenset(made_from) - same,
        pc.list_flatten(former.table["detections"].take(dirty)),
        frozenset(tile for look in made_from if look not in same for tile in made_from[look])
        | _reached(former, dirty, {tile: known[tile] for tile in near}),
    )


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
