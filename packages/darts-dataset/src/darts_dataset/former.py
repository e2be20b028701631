"""What the dataset before says of its scenes and objects, so that an update does again only what changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from darts_dataset.errors import DatasetError
from darts_dataset.geometry import NORTH, SOUTH, Geometries, box_polygons, boxes_around, boxes_of_stored, to_plane
from darts_dataset.identity import Ground, States, digests_of
from darts_dataset.looks import Footprint, footprint_of
from darts_dataset.memory import REMEMBERED, Memory
from darts_dataset.overlaps import Rows
from darts_dataset.parallel import in_order
from darts_dataset.readings import check_detections, check_files, read_extent
from darts_dataset.scenes import Scene
from darts_dataset.tables import read_rows, read_wkb

SCENES = f"{REMEMBERED}/scenes.parquet"
_SIDES = ("south", "north")
_FILES = 4
"""Files whose geometries are in memory together."""


@dataclass(frozen=True)
class KnownScene:
    """A scene of a dataset.

    Attributes:
        digest: SHA-256 of its manifest.
        look: Look that it belongs to.
        year: Year of that look.
        footprint: What it saw reliably.
        box: Box around that and its detections on the plane of the footprint, (4,) float64, metres, NaN for nothing.
    """

    digest: str
    look: str
    year: int
    footprint: Footprint
    box: NDArray[np.float64]


def box_around(footprint: Footprint, bounds: NDArray[np.float64], crs: str) -> NDArray[np.float64]:
    """Return a box around what a scene saw and boxes, (n, 4), in units of a CRS, that hold its detections."""
    boxes = np.concatenate([shapely.bounds([footprint.extent]), boxes_around(bounds, crs, footprint.plane)])
    return np.concatenate([np.fmin.reduce(boxes[:, :2]), np.fmax.reduce(boxes[:, 2:])])


def write_scenes(folder: Path, scenes: Mapping[str, KnownScene]) -> None:
    """Write what a dataset remembers of its scenes, by name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = list(scenes.values())
    columns = {
        "tile_id": pa.array(scenes, pa.string()),
        **{name: pa.array([getattr(each, name) for each in known], pa.string()) for name in ("digest", "look")},
        "year": pa.array([each.year for each in known], pa.int16()),
        "plane": pa.array([each.footprint.plane for each in known], pa.string()),
        **{name: pa.array([getattr(each.footprint, name) for each in known], pa.float64()) for name in _SIDES},
        "extent": pa.array([shapely.to_wkb(each.footprint.extent) for each in known], pa.binary()),
        "box": pa.array([each.box.tolist() for each in known], pa.list_(pa.float64())),
    }
    (folder / SCENES).parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / SCENES, compression="zstd")


def read_scenes(memory: Memory) -> dict[str, KnownScene]:
    """Read what a dataset remembers of its scenes, by name."""
    import pyarrow.parquet as pq

    table = pq.read_table(memory.folder / SCENES)
    extents = shapely.from_wkb(table["extent"].to_numpy())
    boxes = np.array(table["box"].to_pylist()).reshape(-1, 4)
    columns = ("tile_id", "digest", "look", "year", "plane", *_SIDES)
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return {
        tile: KnownScene(digest, look, year, Footprint(plane, extent, south, north), box)
        for (tile, digest, look, year, plane, south, north), extent, box in zip(rows, extents, boxes, strict=True)
    }


def read_footprints(
    scenes: Sequence[Scene], known: Mapping[str, KnownScene], left_out: dict[str, str]
) -> tuple[list[Scene], list[Footprint]]:
    """Return the scenes whose files are whole, and what each saw; say of the others why not.

    The files of scenes that are known by the same manifest are only compared with it.
    """

    def read(scene: Scene) -> Footprint | str:
        same = known.get(scene.tile_id)
        try:
            if same is not None and same.digest == scene.digest:
                check_files(scene)
                return same.footprint
            footprint = footprint_of(read_extent(scene))
            check_detections(scene)
        except DatasetError as error:
            return str(error)
        return footprint

    fine: list[Scene] = []
    footprints: list[Footprint] = []
    for scene, footprint in zip(scenes, in_order(read, scenes), strict=True):
        if isinstance(footprint, str):
            left_out[str(scene.folder.path)] = footprint
        else:
            fine.append(scene)
            footprints.append(footprint)
    return fine, footprints


def unchanged(known: Mapping[str, KnownScene], scenes: Iterable[Scene], looks: Mapping[str, str]) -> list[str]:
    """Name the scenes that are known by the same manifest, in the look of that name."""
    found = ((scene, known.get(scene.tile_id)) for scene in scenes)
    return [
        scene.tile_id
        for scene, each in found
        if each is not None and (each.digest, each.look) == (scene.digest, looks[scene.tile_id])
    ]


class Former:
    """The objects of a year in a dataset that is there.

    Attributes:
        names: The dataset's files with them.
        table: Their columns but for geometries, (n,), or some of them.
        file: Number of the file of each, (n,) int64.
        bounds: West, south, east, north, degrees, (n, 4) float64.
    """

    def __init__(self, memory: Memory, part: str, columns: Sequence[str] | None = None) -> None:
        import pyarrow as pa

        self.names = memory.tables(part)
        self._paths = [memory.folder / name for name in self.names]
        found = [read_rows(path, columns) for path in self._paths]
        counts = np.array([len(table) for table, _ in found], np.int64)
        self.table: pa.Table = pa.concat_tables([table for table, _ in found])
        self.bounds = np.concatenate([bounds for _, bounds in found])
        self.file = np.repeat(np.arange(len(counts)), counts)
        self._first = np.cumsum(counts) - counts
        self._read = lru_cache(_FILES)(self._column)

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """Their ids, (n,) object."""
        return self.table["object_id"].to_numpy().astype(object)

    def is_file(self, name: str, rows: Rows, ids: NDArray[np.object_]) -> bool:
        """Tell whether a file has some of them, negative for others, by some ids, and no more."""
        if name not in self.names or not len(rows) or rows.min() < 0:
            return False
        whole = np.flatnonzero(self.file == self.names.index(name))
        return bool(np.array_equal(np.sort(rows), whole) and (self.ids[rows] == ids).all())

    def rows_on(self, plane: str, divide: float = 0) -> Rows:
        """Return the numbers of those on a plane, where a latitude parts the planes."""
        return np.flatnonzero((self.table["lat"].to_numpy() >= divide) == (plane == NORTH))

    def take_wkb(self, rows: Rows, column: str = "geometry") -> NDArray[np.object_]:
        """Read geometries by number, as they are stored."""
        found = np.empty(len(rows), object)
        for number in np.unique(self.file[rows]):
            here = np.flatnonzero(self.file[rows] == number)
            found[here] = self._read(int(number), column)[rows[here] - self._first[number]]
        return found

    def states(self, plane: str, rows: Rows, year: int, digests: NDArray[np.object_]) -> States:
        """Return some of them, on their plane."""

        def take(places: Rows) -> Geometries:
            return to_plane(self._taken(rows[places]), plane)

        years, boxes = np.full(len(rows), year), self.boxes(plane, rows)
        return States(self.ids[rows], years, boxes, take, digests[rows], self.bounds[rows])

    def boxes(self, plane: str, rows: Rows) -> NDArray[np.float64]:
        """Return boxes on a plane that hold some of them, (n, 4) float64, metres."""
        return boxes_of_stored(self.bounds[rows], lambda places: self._taken(rows[places]), plane)

    def digests(self) -> NDArray[np.object_]:
        """Read all outlines, and return the digest of each."""
        columns = [self._column(number, "geometry") for number in range(len(self._paths))]
        return digests_of(np.concatenate([np.empty(0, object), *columns]))

    def apart_from(self, boxes: Mapping[str, Sequence[NDArray[np.float64]]]) -> Rows:
        """Return the numbers of those that lie apart from boxes, by plane, metres."""
        stays = np.ones(len(self.table), np.bool_)
        for plane in (NORTH, SOUTH):
            rows = self.rows_on(plane)
            tree = shapely.STRtree(box_polygons(np.array(boxes.get(plane, [])).reshape(-1, 4)))
            stays[rows[tree.query(box_polygons(self.boxes(plane, rows)), predicate="intersects")[0]]] = False
        return np.flatnonzero(stays)

    def _taken(self, rows: Rows) -> Geometries:
        return np.asarray(shapely.from_wkb(self.take_wkb(rows)), object)

    def _column(self, number: int, column: str) -> NDArray[np.object_]:
        parts = [each.to_numpy(zero_copy_only=False) for each in read_wkb(self._paths[number], column)]
        return np.concatenate([np.empty(0, object), *parts])


def latitudes_of(release: Memory | None) -> NDArray[np.float64]:
    """Return lowest and highest latitude of each object of a release in all years, degrees, (n, 2) float64."""
    paths = [] if release is None else sorted(release.folder.glob("level2/*/*.parquet"))
    return np.concatenate([np.empty((0, 2)), *(read_rows(path, [])[1][:, [1, 3]] for path in paths)])


def write_ground(path: Path, ids: NDArray[Any], digests: NDArray[np.object_], ground: Ground) -> None:
    """Write a row for each object of a year, with its digest, and one for each pair of it and an earlier one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    objects = {"object_id": pa.array(ids, pa.string()), "digest": pa.array(digests, pa.binary())}
    pairs = {
        "digest": pa.array([now for _, now in ground.used], pa.binary()),
        "before": pa.array([before for before, _ in ground.used], pa.binary()),
        "shared_m2": pa.array(ground.used.values(), pa.float64()),
    }
    tables = [
        pa.table(objects).sort_by("object_id"),
        pa.table(pairs).sort_by([("digest", "ascending"), ("before", "ascending")]),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables, promote_options="default"), path, compression="zstd")


def read_ground(path: Path, ids: NDArray[np.object_]) -> tuple[NDArray[np.object_], Ground]:
    """Read the digests of objects by their ids, and the ground that they share with earlier ones."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, use_threads=False)
    count = len(ids)
    digest, before = (table[name].to_pylist() for name in ("digest", "before"))
    by_name = dict(zip(table["object_id"][:count].to_pylist(), digest[:count], strict=True))
    pairs = zip(before[count:], digest[count:], strict=True)
    known = dict(zip(pairs, table["shared_m2"][count:].to_pylist(), strict=True))
    return np.array([by_name[name] for name in ids], object), Ground(known)


def ground_file(year: int) -> str:
    """Return the path of the file with the ground that objects of a year share with earlier ones."""
    return f"{REMEMBERED}/level2/year={year}.parquet"
