"""Level 2: objects by year, with ids that stay, and the links between years."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from darts_dataset.dictionary import COLUMNS, LINKS, OBJECTS
from darts_dataset.geometry import NORTH, SOUTH, Geometries, GeometryFile, from_lonlat, to_plane
from darts_dataset.identity import (
    States,
    known_after,
    links_between,
    matched,
    new_ids,
    no_states,
    shared_ground,
)
from darts_dataset.lattice import Grid, RunFile, find_grid, outline_runs
from darts_dataset.level1 import schema_of
from darts_dataset.looks import Look
from darts_dataset.objects import Detections, merge, seen_by
from darts_dataset.tables import hilbert_order, read_attributes, read_geometries, write_table

FILE = "objects.parquet"
_DETECTION_COLUMNS = (
    "object_uid",
    "look",
    "acquisition_time",
    "model_names",
    "area_m2",
    "mean",
    "npixel",
    "touches_edge",
    "tile_id",
    "crs",
    "pixel_m",
)


@dataclass
class History:
    """What is known of objects when the next year comes.

    Attributes:
        scratch: A folder for what memory need not hold.
        cell_m: Edge of the cells in which overlaps are searched, metres.
        known: The last that is known of each object, by plane.
        previous: Objects of the release before, by year and plane.
        taken: Ids that are in use.
        gone: Objects that were said to be gone, and have not come back.
        links: Links of the years so far.
    """

    scratch: Path
    cell_m: float
    known: dict[str, States] = field(default_factory=lambda: {NORTH: no_states(), SOUTH: no_states()})
    previous: dict[tuple[int, str], States] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    links: list[pd.DataFrame] = field(default_factory=list)

    def read_previous(self, folder: Path, before: int) -> None:
        """Read the release before; what is older than the first year here is known from the beginning.

        Args:
            folder: Its dataset.
            before: The first year here.
        """
        for path in sorted(folder.glob(f"level2/year=*/{FILE}")):
            year = year_of(path.parent)
            for plane, states in self._read(path, year, f"previous-{year}").items():
                self.taken |= set(states.ids)
                if year < before:
                    self.known[plane] = known_after(self.known[plane], states, _no_links())
                else:
                    self.previous[year, plane] = states

    def resume(self, path: Path, links: pd.DataFrame) -> None:
        """Go on behind a year whose objects were taken along from an earlier build.

        Args:
            path: Its file.
            links: All links of that build.
        """
        year = year_of(path.parent)
        links = links[links["year_to"] == year]
        for plane, states in self._read(path, year, str(year)).items():
            self.taken |= set(states.ids)
            self.known[plane] = known_after(self.known[plane], states, links)
        self.add_links(links)

    def add_links(self, links: pd.DataFrame) -> None:
        """Keep the links of a year."""
        self.gone -= set(links["object_id_to"].dropna())
        self.gone |= set(links.loc[links["relation"] == "gone", "object_id_from"])
        self.links.append(links)

    def newly_absent(self, states: States, looks: Sequence[Look]) -> NDArray[np.bool_]:
        """Tell which objects some look saw the place of, and of which nobody has said that they are gone, (n,) bool."""
        step = 20_000
        parts = [
            seen_by(states.take(np.arange(first, min(first + step, len(states.ids)))), looks)
            for first in range(0, len(states.ids), step)
        ]
        seen = np.concatenate([np.empty(0, np.bool_), *parts])
        return seen & np.array([name not in self.gone for name in states.ids], np.bool_)

    def _read(self, path: Path, year: int, name: str) -> dict[str, States]:
        table = read_attributes(path)
        ids, lat = table["object_id"].to_numpy(), table["lat"].to_numpy()
        planes = np.where(lat >= 0, NORTH, SOUTH)
        found = {}
        for plane in (NORTH, SOUTH):
            store = GeometryFile(self.scratch / f"{name}-{plane[-4:]}.wkb")
            first = 0
            for geometries in read_geometries(path):
                here = planes[first : first + len(geometries)] == plane
                store.append(to_plane(geometries[here], plane))
                first += len(geometries)
            bounds = store.finish()
            rows = np.flatnonzero(planes == plane)
            found[plane] = States(ids[rows].astype(object), np.full(len(rows), year, np.int64), bounds, store.take)
        return found


def year_of(folder: Path) -> int:
    """Return the year that a folder's name says."""
    return int(folder.name.partition("=")[2])


def write_objects(
    root: Path,
    part: str,
    year: int,
    partitions: Sequence[Path],
    looks: Sequence[Look],
    history: History,
    keep_share: float,
) -> int:
    """Merge the detections of a year, name the objects, and write them.

    Args:
        root: The dataset.
        part: Folder of the objects within it.
        year: The year.
        partitions: Files of its detections.
        looks: Its looks.
        history: What is known of earlier years; that of this one is added.
        keep_share: Objects that a smaller share of their looks has are dropped.

    Returns:
        Number of objects.

    Raises:
        OSError: If a file cannot be read or written.
    """
    union, majority = (GeometryFile(history.scratch / f"{year}-{name}.wkb") for name in ("union", "majority"))
    frames: list[pd.DataFrame] = []
    links: list[pd.DataFrame] = []
    for plane in (NORTH, SOUTH):
        here = [look for look in looks if look.plane == plane]
        detections = _read_detections(partitions, here, plane, history.scratch)
        laid = GeometryFile(history.scratch / f"{year}-{plane[-4:]}.wkb")
        parts = []
        for objects in merge(detections, here, history.cell_m):
            keep = np.flatnonzero(objects.frame["n_hits"] >= keep_share * objects.frame["n_looks"])
            union.append(objects.union[keep])
            majority.append(objects.majority[keep])
            laid.append(objects.laid[keep])
            parts.append(objects.frame.iloc[keep].assign(**_points(objects.laid[keep], plane)))
        bounds = laid.finish()
        if not parts or not len(bounds):
            continue
        frame = pd.concat(parts, ignore_index=True)
        now = States(np.full(len(frame), "", object), np.full(len(frame), year, np.int64), bounds, laid.take)
        ids, more = _named(now, frame, year, plane, here, history)
        frame.insert(0, "object_id", ids)
        frames.append(frame)
        links.append(more)
    _forget_absent(year, looks, history, links)
    history.add_links(pd.concat(links, ignore_index=True) if links else _no_links())
    _write(root, f"{part}/{FILE}", year, frames, union, majority)
    return sum(map(len, frames))


def write_links(path: Path, links: Sequence[pd.DataFrame]) -> None:
    """Write the links of all years."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = pd.concat([_no_links(), *links], ignore_index=True)
    order = ["year_to", "object_id_from", "object_id_to"]
    table = pa.Table.from_pandas(frame.sort_values(order, kind="stable"), schema_of(LINKS), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def _named(
    now: States, frame: pd.DataFrame, year: int, plane: str, looks: Sequence[Look], history: History
) -> tuple[NDArray[np.object_], pd.DataFrame]:
    """Give objects the names that they had in the release before, or a year before, or new ones."""
    ids = np.full(len(frame), None, object)
    release = history.previous.get((year, plane))
    if release is not None:
        found = matched(*shared_ground(release, now, history.cell_m), len(release.ids), len(ids))
        ids[found >= 0] = release.ids[found[found >= 0]]
    before = history.known[plane]
    pairs, shared = shared_ground(before, now, history.cell_m)
    open_before = ~np.isin(before.ids.astype(str), ids[ids != None].astype(str))  # noqa: E711
    free = open_before[pairs[:, 0]] & (ids[pairs[:, 1]] == None)  # noqa: E711
    found = matched(pairs[free], shared[free], len(before.ids), len(ids))
    ids[found >= 0] = before.ids[found[found >= 0]]
    fresh = np.flatnonzero(ids == None)  # noqa: E711
    order = fresh[np.lexsort((frame["lat"].to_numpy()[fresh], frame["lon"].to_numpy()[fresh]))]
    ids[order] = new_ids(frame["lon"].to_numpy()[order], frame["lat"].to_numpy()[order], year, history.taken)
    now = States(ids, now.years, now.bounds, now.take)
    links = links_between(before, now, year, pairs, shared, history.newly_absent(before, looks))
    history.known[plane] = known_after(before, now, links)
    return ids, links


def _forget_absent(year: int, looks: Sequence[Look], history: History, links: list[pd.DataFrame]) -> None:
    """Say what is gone on a plane on which nothing was found that year."""
    for plane in (NORTH, SOUTH):
        here = [look for look in looks if look.plane == plane]
        before = history.known[plane]
        if here and len(before.ids) and not (before.years == year).any():
            nothing = np.empty((0, 2), np.int64)
            gone = links_between(before, no_states(), year, nothing, np.empty(0), history.newly_absent(before, here))
            links.append(gone)


def _read_detections(partitions: Sequence[Path], looks: Sequence[Look], plane: str, scratch: Path) -> Detections:
    numbers = {look.name: number for number, look in enumerate(looks)}
    store = GeometryFile(scratch / f"detections-{plane[-4:]}.wkb")
    grids = _Grids(scratch, plane)
    frames = []
    for file in sorted(partitions):
        frame = read_attributes(file).select(list(_DETECTION_COLUMNS)).to_pandas()
        number = frame["look"].map(numbers)
        first = 0
        for geometries in read_geometries(file):
            rows = slice(first, first + len(geometries))
            here = number.iloc[rows].notna().to_numpy()
            store.append(to_plane(geometries[here], plane, valid=True))
            grids.append(geometries[here], frame.iloc[rows][here])
            first += len(geometries)
        frame = frame[number.notna()].assign(look=number.dropna().astype(np.int64))
        source = unquote(file.parent.parent.name.partition("=")[2])
        frames.append(frame.assign(source=source))
    bounds = store.finish()
    empty = pd.DataFrame({name: pd.Series(dtype=object) for name in (*_DETECTION_COLUMNS, "source")})
    frame = pd.concat(frames, ignore_index=True) if frames else empty
    return Detections(plane, frame, bounds, store.take, *grids.finish())


class _Grids:
    """The grids whose pixels detections follow."""

    def __init__(self, scratch: Path, plane: str) -> None:
        self._scratch, self._plane = scratch, plane
        self._files: dict[Grid, tuple[int, RunFile]] = {}
        self._sizes: list[int] = []
        self._grid: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._slot: list[NDArray[np.int64]] = [np.empty(0, np.int64)]

    def append(self, geometries: Geometries, frame: pd.DataFrame) -> None:
        """Add detections, as they are stored; whose outline follows no pixels is of no grid."""
        grid, slot = (np.full(len(geometries), -1, np.int64) for _ in range(2))
        groups = frame.groupby(["tile_id", "crs", "pixel_m"], sort=True).indices
        for rows in groups.values():
            crs, pixel_m = str(frame["crs"].iloc[rows[0]]), float(frame["pixel_m"].iloc[rows[0]])
            laid = from_lonlat(geometries[rows], crs)
            found = find_grid(laid[0], crs, pixel_m)
            runs = outline_runs(laid, found)
            if runs is None or (runs.counts(len(rows)) != frame["npixel"].to_numpy()[rows]).any():
                continue
            number, file = self._file(found)
            grid[rows], slot[rows] = number, self._sizes[number] + np.arange(len(rows))
            self._sizes[number] += len(rows)
            file.append(runs, len(rows))
        self._grid.append(grid)
        self._slot.append(slot)

    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.int64], list[tuple[Grid, RunFile]]]:
        """Return grid and number within it of each detection, and the grids."""
        for _, file in self._files.values():
            file.finish()
        made = [(grid, file) for grid, (_, file) in self._files.items()]
        return np.concatenate(self._grid), np.concatenate(self._slot), made

    def _file(self, grid: Grid) -> tuple[int, RunFile]:
        if grid not in self._files:
            number = len(self._files)
            self._files[grid] = (number, RunFile(self._scratch / f"runs-{self._plane[-4:]}-{number}"))
            self._sizes.append(0)
        return self._files[grid]


def _points(union: Geometries, plane: str) -> Mapping[str, NDArray[np.float64]]:
    from pyproj import Transformer

    inside = shapely.get_coordinates(shapely.point_on_surface(union))
    lon, lat = Transformer.from_crs(plane, "OGC:CRS84", always_xy=True).transform(inside[:, 0], inside[:, 1])
    return {"lon": np.asarray(lon), "lat": np.asarray(lat)}


def _write(
    root: Path, name: str, year: int, frames: Sequence[pd.DataFrame], union: GeometryFile, majority: GeometryFile
) -> None:
    import pyarrow as pa

    schema = schema_of(OBJECTS)
    bounds = union.finish()
    majority.finish()
    names = list(COLUMNS[OBJECTS])
    if frames:
        frame = pd.concat(frames, ignore_index=True)[names]
        attributes = pa.Table.from_pandas(frame, schema, preserve_index=False).replace_schema_metadata(None)
    else:
        attributes = schema.empty_table()
    order = hilbert_order(bounds, attributes["object_id"].to_numpy())
    geometries = {"geometry": union.take, "majority": majority.take}
    write_table(root, name, attributes, geometries, bounds, order, {"year": year})


def _no_links() -> pd.DataFrame:
    return schema_of(LINKS).empty_table().to_pandas().astype({"year_from": "Int16"})
