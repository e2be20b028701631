"""The detections of one year: what is merged of them in memory, outlines and pixels in files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darts_dataset.geometry import Geometries, GeometryFile, boxes_around, to_lonlat, to_plane
from darts_dataset.lattice import Grid, SegmentFile
from darts_dataset.looks import Look
from darts_dataset.overlaps import Rows
from darts_dataset.parallel import in_order
from darts_dataset.readings import SceneDetections, read_detections
from darts_dataset.scenes import Scene
from darts_dataset.scratch import Scratch


@dataclass(frozen=True)
class Texts:
    """Texts of which there are few: the number of each row's in a list, (n,) int32."""

    number: NDArray[np.int32]
    known: Sequence[str]


@dataclass(frozen=True)
class Detections:
    """Detections, (n,) each.

    Attributes:
        row: Number in the file of outlines.
        uid: `object_uid`.
        numbers: Columns of level 1: `area_m2`, `mean`, `npixel`, `touches_edge`, and `time` (milliseconds since 1970).
        texts: `scene`, `look`, `source`, `model_names`, `crs`.
        bounds: Bounds in units of the CRS of the scene, (n, 4) float64.
        grid: Number of the grid whose pixels the outline follows, -1 where it follows none.
        slot: Number within that grid.
        grids: Grids, with the segments of what follows them.
        outlines: Outlines in the CRS of their scene.
    """

    row: Rows
    uid: pa.ChunkedArray
    numbers: Mapping[str, NDArray]
    texts: Mapping[str, Texts]
    bounds: NDArray[np.float64]
    grid: Rows
    slot: Rows
    grids: Sequence[tuple[Grid, SegmentFile]]
    outlines: GeometryFile

    def subset(self, rows: Rows) -> "Detections":
        """Return some of them."""
        return Detections(
            self.row[rows],
            self.uid.take(rows),
            {name: values[rows] for name, values in self.numbers.items()},
            {name: Texts(texts.number[rows], texts.known) for name, texts in self.texts.items()},
            self.bounds[rows],
            self.grid[rows],
            self.slot[rows],
            self.grids,
            self.outlines,
        )

    def of_looks(self, looks: Sequence[Look]) -> tuple["Detections", Rows]:
        """Return those of some looks, and the number of the look of each in that list."""
        numbers = {look.name: number for number, look in enumerate(looks)}
        texts = self.texts["look"]
        look = np.array([numbers.get(name, -1) for name in texts.known] or [-1], np.int64)[texts.number]
        rows = np.flatnonzero(look >= 0)
        return self.subset(rows), look[rows]

    def stored(self, rows: Rows) -> Geometries:
        """Read outlines by number as they are stored: MultiPolygons in OGC:CRS84."""
        outlines = self.outlines.take(self.row[rows])
        follows, crs = self.grid[rows] >= 0, self.texts["crs"].number[rows]
        for number, valid in {*zip(crs.tolist(), follows.tolist(), strict=True)}:
            here = np.flatnonzero((crs == number) & (follows == valid))
            outlines[here] = to_lonlat(outlines[here], self.texts["crs"].known[number], valid)
        return outlines

    def laid(self, rows: Rows, plane: str) -> Geometries:
        """Read outlines by number, on a plane."""
        outlines, follows = self.stored(rows), self.grid[rows] >= 0
        for valid in (False, True):
            here = np.flatnonzero(follows == valid)
            outlines[here] = to_plane(outlines[here], plane, valid)
        return outlines

    def boxes(self, plane: str) -> NDArray[np.float64]:
        """Return boxes on a plane that hold the outlines, (n, 4) float64, metres."""
        found = np.empty((len(self.row), 4))
        for number, crs in enumerate(self.texts["crs"].known):
            here = np.flatnonzero(self.texts["crs"].number == number)
            found[here] = boxes_around(self.bounds[here], crs, plane)
        return found


@dataclass(frozen=True)
class Year:
    """The detections of all scenes of a year.

    Attributes:
        detections: All of them.
        parts: By table of level 1, the numbers of its detections, and their columns but for geometries.
    """

    detections: Detections
    parts: dict[str, tuple[Rows, pa.Table]]


def read_year(
    scratch: Scratch, scenes: Sequence[Scene], looks: Mapping[str, str], tables: Mapping[str, Sequence[Scene]]
) -> Year:
    """Read the detections of scenes.

    Args:
        scratch: An empty folder, for as long as the detections are needed.
        scenes: Scenes, at least one.
        looks: Name of the look of each scene, by name of the scene.
        tables: Which of the scenes each table of level 1 has.

    Returns:
        The detections, scene by scene.

    Raises:
        DatasetError: If results cannot be read, or differ from their manifest.
        OSError: If a file cannot be written.
    """
    reading, found = _Reading(scratch), {}
    read = in_order(lambda scene: read_detections(scene, looks[scene.tile_id]), scenes)
    for scene, each in zip(scenes, read, strict=True):
        first = reading.count
        reading.add(each, scene, looks[scene.tile_id])
        found[scene.tile_id] = np.arange(first, reading.count), each.table
    detections = reading.finish([table["object_uid"] for _, table in found.values()])
    parts = {}
    for name, some in tables.items():
        rows, columns = zip(*(found[scene.tile_id] for scene in some), strict=True)
        parts[name] = np.concatenate(rows), pa.concat_tables(columns).unify_dictionaries()
    return Year(detections, parts)


@dataclass
class _Reading:
    """Detections as they are read, scene by scene."""

    scratch: Scratch
    count: int = 0
    outlines: GeometryFile = field(init=False)
    grids: dict[Grid, tuple[int, SegmentFile]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    columns: dict[str, list[NDArray | pa.Array]] = field(default_factory=dict)
    known: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outlines = GeometryFile(self.scratch.open("outlines.wkb"))

    def add(self, found: SceneDetections, scene: Scene, look: str) -> None:
        table, count = found.table, len(found.table)
        self.outlines.append(found.wkb)
        grid, first = self._append_runs(found, count)
        models = table["model_names"].combine_chunks()
        numbers = [self._number("model_names", str(text)) for text in models.dictionary.to_pylist()]
        columns = {
            "grid": np.full(count, grid, np.int64),
            "slot": np.arange(first, first + count),
            "bounds": found.bounds,
            "look": np.full(count, self._number("look", look), np.int32),
            "scene": np.full(count, self._number("scene", scene.tile_id), np.int32),
            "source": np.full(count, self._number("source", scene.source), np.int32),
            "crs": np.full(count, self._number("crs", found.crs), np.int32),
            "model_names": np.array(numbers, np.int32)[models.indices.to_numpy()],
            "time": table["acquisition_time"].cast("int64").to_numpy(),
            **{name: table[name].to_numpy() for name in ("area_m2", "mean", "npixel", "touches_edge")},
        }
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)
        self.count += count

    def finish(self, uids: Sequence[pa.ChunkedArray]) -> Detections:
        columns = {name: np.concatenate(self.columns.pop(name)) for name in list(self.columns)}
        texts = {name: Texts(columns.pop(name), list(known)) for name, known in self.known.items()}
        uid = pa.chunked_array([chunk for column in uids for chunk in column.chunks], pa.string())
        self.outlines.finish()
        for _, file in self.grids.values():
            file.finish()
        grids = [(grid, file) for grid, (_, file) in self.grids.items()]
        bounds, grid, slot = (columns.pop(name) for name in ("bounds", "grid", "slot"))
        return Detections(np.arange(self.count), uid, columns, texts, bounds, grid, slot, grids, self.outlines)

    def _append_runs(self, found: SceneDetections, count: int) -> tuple[int, int]:
        """Return the number of the grid, and of the first detection within it."""
        if found.grid is None or found.segments is None:
            return -1, 0
        if found.grid not in self.grids:
            number = len(self.grids)
            self.grids[found.grid] = number, SegmentFile(self.scratch.open(f"segments-{number}"))
            self.sizes.append(0)
        number, file = self.grids[found.grid]
        file.append(found.segments, count)
        self.sizes[number] += count
        return number, self.sizes[number] - count

    def _number(self, name: str, text: str) -> int:
        known = self.known.setdefault(name, {})
        return known.setdefault(text, len(known))
