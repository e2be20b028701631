"""The objects of a year in a dataset that is there: all that their names depend on, and the rest where it is needed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from darts_dataset.errors import DatasetError
from darts_dataset.geometry import NORTH, SOUTH, Geometries, boxes_of_stored, to_plane
from darts_dataset.identity import Ground, States, digests_of
from darts_dataset.memory import CHECKSUMS, REMEMBERED, Memory, StartOverError
from darts_dataset.overlaps import LEAST_SHARED_M2, Rows
from darts_dataset.tables import cells_along, hilbert_positions, read_rows, read_wkb

TABLE = "objects"
_FILES = 4
"""Files whose columns are in memory together."""
_SIDES = tuple(f"{name}{number}" for name in ("lonlat", "box") for number in range(4))


@dataclass(frozen=True)
class Traits:
    """What is remembered of objects, (n,) each.

    Attributes:
        ids: Their ids, object.
        digests: Digest of the outline of each, object.
        points: Longitude and latitude of a point inside, (n, 2) float64, degrees.
        positions: Where that lies on the Hilbert curve, int64.
        lonlat: Bounds of the outline, west, south, east, north, (n, 4) float64, degrees.
        boxes: Boxes on the plane that hold it, (n, 4) float64, metres.
    """

    ids: NDArray[np.object_]
    digests: NDArray[np.object_]
    points: NDArray[np.float64]
    positions: Rows
    lonlat: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def take(self, rows: Rows) -> "Traits":
        """Return those of some objects."""
        return Traits(*(getattr(self, each.name)[rows] for each in fields(Traits)))


def joined(parts: Sequence[Traits]) -> Traits:
    """Return those of objects and of others after them; at least one part."""
    return Traits(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Traits)))


def no_traits() -> Traits:
    """Return those of no objects."""
    nobody = np.empty(0, object)
    return Traits(nobody, nobody, np.empty((0, 2)), np.empty(0, np.int64), np.empty((0, 4)), np.empty((0, 4)))


@dataclass
class Former:
    """The objects of a year, in the order of their files.

    Attributes:
        memory: The dataset.
        year: The year.
        traits: What is remembered of them.
        divide: The latitude that parts the planes.
        files: Which of them each file has, by path within the dataset.
        pairs: Ground that they share with earlier ones: `digest`, `before`, `shared_m2`.
    """

    memory: Memory
    year: int
    traits: Traits
    divide: float
    files: Mapping[str, slice]
    pairs: pa.Table

    def __post_init__(self) -> None:
        self._names = list(self.files)
        self._first = np.array([each.start for each in self.files.values()], np.int64)
        self._wkb = lru_cache(2 * _FILES)(self._read_wkb)
        self._rows = lru_cache(_FILES)(lambda number: read_rows(self._file(number))[0])

    def __len__(self) -> int:
        return len(self.traits.ids)

    def rows_on(self, plane: str) -> Rows:
        """Return the numbers of those on a plane."""
        return np.flatnonzero((self.traits.points[:, 1] >= self.divide) == (plane == NORTH))

    def states(self, plane: str, rows: Rows) -> States:
        """Return some of them, on their plane."""
        found = self.traits.take(rows)

        def take(chosen: Rows) -> Geometries:
            return to_plane(self.outlines(rows, chosen), plane, valid=True)

        return States(found.ids, np.full(len(rows), self.year), found.boxes, take, found.digests, found.lonlat)

    def wkb(self, rows: Rows, column: str = "geometry") -> NDArray[np.object_]:
        """Read geometries by number, as they are stored."""
        found = np.empty(len(rows), object)
        for number, here in self._by_file(rows):
            found[here] = self._wkb(number, column)[rows[here] - self._first[number]]
        return found

    def outlines(self, rows: Rows, chosen: Rows) -> Geometries:
        """Read some of the outlines of some of them."""
        return np.asarray(shapely.from_wkb(self.wkb(rows[chosen])), object)

    def table(self, rows: Rows) -> pa.Table:
        """Read all columns but geometries by number."""
        return self._taken(rows, self._rows)

    def detections(self, rows: Rows) -> pa.ChunkedArray:
        """Read the names of the detections of each by number."""
        return self._taken(rows, lambda number: read_rows(self._file(number), ["detections"])[0])["detections"]

    def _taken(self, rows: Rows, read: Callable[[int], pa.Table]) -> pa.Table:
        parts = list(self._by_file(rows))
        found = [read(number).take(rows[here] - self._first[number]) for number, here in parts]
        return pa.concat_tables(found).take(np.argsort(np.concatenate([here for _, here in parts])))

    def is_file(self, name: str, rows: Rows, ids: NDArray[np.object_]) -> bool:
        """Tell whether a file has some of them, negative for others, by some ids, and no more."""
        listed = self.files.get(name)
        if listed is None or not len(rows):
            return False
        whole = np.arange(listed.start, listed.stop)
        return bool(np.array_equal(rows, whole) and (self.traits.ids[rows] == ids).all())

    def _by_file(self, rows: Rows) -> list[tuple[int, Rows]]:
        number = np.searchsorted(self._first, rows, side="right") - 1
        return [(int(each), np.flatnonzero(number == each)) for each in np.unique(number)]

    def _read_wkb(self, number: int, column: str) -> NDArray[np.object_]:
        return _wkb(self._file(number), column)

    def _file(self, number: int) -> Path:
        return self.memory.file(self._names[number])


def read_former(memory: Memory, year: int) -> Former:
    """Read what a dataset, whose planes the equator parts, remembers of its objects of a year."""
    # Releases of pyarrow take "year=…" in the path for a column of the file, unless told not to.
    table, pairs = (pq.read_table(memory.file(name), use_threads=False, partitioning=None) for name in _files(year))
    columns = {name: table[name].to_numpy() for name in table.column_names}
    lonlat, boxes = (np.column_stack([columns[side] for side in some]) for some in (_SIDES[:4], _SIDES[4:]))
    points = np.column_stack([columns["lon"], columns["lat"]])
    ids, digests = (columns[name].astype(object) for name in ("object_id", "digest"))
    traits = Traits(ids, digests, points, columns["place"], lonlat, boxes)
    found = cells_along(traits.positions, np.ones(len(ids), np.int64), TABLE)
    files = {f"level2/year={year}/{name}.parquet": rows for name, rows in found}
    return Former(memory, year, traits, 0, files, pairs)


def write_former(root: Path, year: int, traits: Traits, carried: pa.Table, ground: Ground) -> None:
    """Write what is remembered of the objects of a year.

    Args:
        root: The dataset.
        year: The year.
        traits: Objects in the order of their files.
        carried: Ground that some of them share with earlier ones, see `Former.pairs`.
        ground: That of the others.
    """
    sides = np.concatenate([traits.lonlat, traits.boxes], axis=1).T
    objects = {
        "object_id": pa.array(traits.ids, pa.string()),
        "digest": pa.array(traits.digests, pa.binary()),
        **dict(zip(("lon", "lat"), map(pa.array, traits.points.T.copy()), strict=True)),
        "place": pa.array(traits.positions),
        **dict(zip(_SIDES, map(pa.array, sides.copy()), strict=True)),
    }
    shared = {pair: area for pair, area in ground.used.items() if area >= LEAST_SHARED_M2}
    found = no_pairs().from_arrays(
        [
            pa.array([now for _, now in shared], pa.binary()),
            pa.array([before for before, _ in shared], pa.binary()),
            pa.array(shared.values(), pa.float64()),
        ],
        schema=carried.schema,
    )
    pairs = pa.concat_tables([carried, found]).sort_by([("digest", "ascending"), ("before", "ascending")])
    for path, table in zip(_files(year), (pa.table(objects), pairs), strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
        pq.write_table(table.combine_chunks(), root / path, **options)


def no_pairs() -> pa.Table:
    """Return no ground that objects share, see `Former.pairs`."""
    return pa.schema([("digest", pa.binary()), ("before", pa.binary()), ("shared_m2", pa.float64())]).empty_table()


def read_release(release: Memory, divide: float) -> list[Former]:
    """Read the objects of all years of a release, whatever it remembers.

    Args:
        release: Its dataset.
        divide: The latitude that parts the planes.

    Returns:
        Objects by year.

    Raises:
        DatasetError: If a table is not as it was written.
    """
    found = []
    for folder in sorted(release.folder.glob("level2/year=*")):
        names = sorted(path.relative_to(release.folder).as_posix() for path in folder.glob("*.parquet"))
        try:
            paths = [release.file(name) for name in names]
        except StartOverError as error:
            raise DatasetError(f"{folder} was changed: SHA-256 differ from those in {CHECKSUMS}.") from error
        read = [read_rows(path, ["object_id", "lon", "lat"]) for path in paths]
        ends = np.cumsum([0, *(len(table) for table, _ in read)]).tolist()
        table, lonlat = pa.concat_tables([table for table, _ in read]), np.concatenate([boxes for _, boxes in read])
        wkb = np.concatenate([_wkb(path, "geometry") for path in paths])
        ids, lon, lat = (table[name].to_numpy() for name in table.column_names)
        points = np.column_stack([lon, lat])
        traits = Traits(ids.astype(object), digests_of(wkb), points, hilbert_positions(points), lonlat, 0 * lonlat)
        files = {name: slice(*ends[number : number + 2]) for number, name in enumerate(names)}
        former = Former(release, int(folder.name.partition("=")[2]), traits, divide, files, no_pairs())
        for plane in (NORTH, SOUTH):
            rows = former.rows_on(plane)
            traits.boxes[rows] = boxes_of_stored(lonlat[rows], partial(former.outlines, rows), plane)
        found.append(former)
    return found


def latitudes_of(release: Memory | None) -> NDArray[np.float64]:
    """Return lowest and highest latitude of each object of a release in all years, degrees, (n, 2) float64."""
    paths = [] if release is None else sorted(release.folder.glob("level2/*/*.parquet"))
    return np.concatenate([np.empty((0, 2)), *(read_rows(path, [])[1][:, [1, 3]] for path in paths)])


def _files(year: int) -> tuple[str, str]:
    return f"{REMEMBERED}/level2/year={year}/objects.parquet", f"{REMEMBERED}/level2/year={year}/shared.parquet"


def _wkb(path: Path, column: str) -> NDArray[np.object_]:
    parts = [each.to_numpy(zero_copy_only=False) for each in read_wkb(path, column)]
    return np.concatenate([np.empty(0, object), *parts])
