"""Level 2: objects by year, with ids that stay, and the links between years."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from darts_dataset.changes import Again
from darts_dataset.detections import Detections
from darts_dataset.dictionary import COLUMNS, LINKS, OBJECTS, schema_of
from darts_dataset.former import Former, ground_file, read_ground, write_ground
from darts_dataset.geometry import NORTH, SOUTH, Geometries, GeometryFile, box_polygons, boxes_of_stored, to_plane
from darts_dataset.identity import (
    Ground,
    States,
    digests_of,
    known_after,
    links_between,
    matched,
    new_ids,
    no_states,
    shared_ground,
)
from darts_dataset.looks import Look
from darts_dataset.memory import Memory
from darts_dataset.objects import merge, seen_by
from darts_dataset.overlaps import Rows
from darts_dataset.parallel import in_order
from darts_dataset.scratch import Scratch
from darts_dataset.tables import Shapes, cells_for, hilbert_order, table_name, write_table

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "objects"
_AT_A_TIME = 20_000
_SHAPES = ("geometry", "majority")


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

    scratch: Scratch
    cell_m: float
    known: dict[str, States] = field(default_factory=lambda: {NORTH: no_states(), SOUTH: no_states()})
    previous: dict[tuple[int, str], States] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    links: list[pd.DataFrame] = field(default_factory=list)

    def read_previous(self, release: Memory, before: int, divide: float) -> None:
        """Read the release before; what is older than the first year here is known from the beginning.

        Args:
            release: Its dataset.
            before: The first year here.
            divide: The latitude that parts the planes.
        """
        for folder in sorted(release.folder.glob("level2/year=*")):
            year, former = year_of(folder), Former(release, f"level2/{folder.name}", ["object_id", "lat"])
            digests = former.digests()
            self.taken |= set(former.ids)
            for plane in (NORTH, SOUTH):
                states = former.states(plane, former.rows_on(plane, divide), year, digests)
                if year < before:
                    self.known[plane] = known_after(self.known[plane], states, _together([]))
                else:
                    self.previous[year, plane] = states

    def resume(self, before: Memory, year: int, links: pd.DataFrame) -> None:
        """Go on behind a year whose objects were taken along from an earlier build.

        Args:
            before: The dataset that it made.
            year: The year.
            links: All its links.
        """
        former = Former(before, f"level2/year={year}", ["object_id", "lat"])
        digests, _ = read_ground(before.folder / ground_file(year), former.ids)
        links = links[links["year_to"] == year]
        self.taken |= set(former.ids)
        for plane in (NORTH, SOUTH):
            states = former.states(plane, former.rows_on(plane), year, digests)
            self.known[plane] = known_after(self.known[plane], states, links)
        self.add_links(links)

    def digest(self) -> str:
        """Return a digest of all that the next year depends on; ids that are in use end with their year."""
        found = hashlib.sha256("\n".join(sorted(self.gone)).encode())
        for known in self.known.values():
            found.update("\n".join(["", *known.ids, ""]).encode() + known.years.tobytes() + b"".join(known.digests))
        return found.hexdigest()

    def add_links(self, links: pd.DataFrame) -> None:
        """Keep the links of a year."""
        self.gone -= set(links["object_id_to"].dropna().tolist())
        self.gone |= set(links.loc[links["relation"] == "gone", "object_id_from"])
        self.links.append(links)

    def newly_absent(self, states: States, rows: Rows, looks: Sequence[Look]) -> Rows:
        """Return those of some objects that some look saw the place of, and that nobody has said are gone."""
        rows = np.array([row for row in rows.tolist() if states.ids[row] not in self.gone], np.int64)
        extents = shapely.STRtree([look.extent for look in looks])
        rows = rows[np.unique(extents.query(box_polygons(states.bounds[rows]))[0])]
        parts = [
            some[seen_by(states.take(some), looks)]
            for some in (rows[first : first + _AT_A_TIME] for first in range(0, len(rows), _AT_A_TIME))
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])


def year_of(folder: Path) -> int:
    """Return the year that a folder's name says."""
    return int(folder.name.partition("=")[2])


@dataclass
class _Merged:
    """Objects of a year: made now, or taken along from the dataset before, whose places are counted down from -1."""

    stores: dict[str, GeometryFile]
    former: Former | None

    def wkb(self, places: Rows, column: str = "geometry") -> NDArray[np.object_]:
        found = np.empty(len(places), object)
        here = places >= 0
        found[here] = self.stores[column].take_wkb(places[here])
        if self.former is not None:
            found[~here] = self.former.take_wkb(-1 - places[~here], column)
        return found

    def take(self, places: Rows) -> Geometries:
        return np.asarray(shapely.from_wkb(self.wkb(places)), object)


def write_objects(
    root: Path,
    year: int,
    detections: Detections | None,
    looks: Sequence[Look],
    history: History,
    keep_share: float,
    again: Again | None = None,
) -> tuple[list[str], list[str]]:
    """Merge detections of a year, name the objects, and write them: a file for each cell that has some.

    Args:
        root: The dataset.
        year: The year.
        detections: Its detections; None for none.
        looks: Those of its looks that count.
        history: What is known of earlier years; that of this one is added.
        keep_share: Objects that a smaller share of their looks has are dropped.
        again: What of them is merged, and what is taken along from the dataset before; None where all is merged.

    Returns:
        Files that were written, and files of the dataset before that would have come out the same.

    Raises:
        OSError: If a file cannot be read or written.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    stores = {name: GeometryFile(history.scratch.open(f"{year}-{name}.wkb")) for name in _SHAPES}
    if again is not None and detections is not None:
        detections = again.chosen(detections)
    merged = _Merged(stores, None if again is None else again.former)
    ground = Ground() if again is None else again.ground
    tables: list[pa.Table] = []
    links: list[pd.DataFrame] = []
    boxes, digests, places = [np.empty((0, 4))], [np.empty(0, object)], [np.empty(0, np.int64)]
    count = 0
    for plane in (NORTH, SOUTH):
        here = [look for look in looks if look.plane == plane]
        first, more, bounds, named = count, [], [np.empty((0, 4))], [np.empty(0, object)]
        for objects in merge(*detections.of_looks(here), here, plane, history.cell_m) if detections is not None else ():
            n_hits, n_looks = (objects.table[name].to_numpy() for name in ("n_hits", "n_looks"))
            keep = np.flatnonzero(n_hits >= keep_share * n_looks)
            for name, store in stores.items():
                store.append(objects.shapes.wkb[name].take(keep))
            named.append(digests_of(objects.shapes.wkb["geometry"].take(keep).to_pylist()))
            bounds.append(objects.shapes.bounds[keep])
            more.append(objects.table.take(keep))
            count += len(keep)
        for store in stores.values():
            store.finish()
        place = np.arange(first, count)
        if again is not None:
            rows = np.intersect1d(again.kept, again.former.rows_on(plane))
            more.append(again.former.table.take(rows).drop_columns(["object_id"]))
            bounds.append(again.former.bounds[rows])
            named.append(again.digests[rows])
            place = np.concatenate([place, -1 - rows])
        if not len(place):
            continue
        table = pa.concat_tables(more)
        order = pc.sort_indices(pc.list_element(table["detections"], 0)).to_numpy()  # However they came to be here.
        table, place = table.take(order), place[order]
        digest, bound = np.concatenate(named)[order], np.concatenate(bounds)[order]
        now = _states(merged, year, place, bound, digest, plane)
        ids, new = _named(now, table, year, plane, here, history, ground)
        tables.append(table.add_column(0, "object_id", ids))
        links.append(new)
        boxes.append(bound)
        digests.append(digest)
        places.append(place)
    _forget_absent(year, looks, history, links)
    history.add_links(_together(links))
    table = pa.concat_tables(tables).select(list(COLUMNS[OBJECTS])) if tables else schema_of(OBJECTS).empty_table()
    ids = table["object_id"].to_numpy().astype(object)
    write_ground(root / ground_file(year), ids, np.concatenate(digests), ground)
    scenes = sum(len(look.scenes) for look in looks)
    return _write_cells(root, year, table, merged, np.concatenate(places), np.concatenate(boxes), scenes)


def write_links(path: Path, links: Sequence[pd.DataFrame]) -> None:
    """Write the links of all years."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = _together(links)
    order = ["year_to", "object_id_from", "object_id_to"]
    table = pa.Table.from_pandas(frame.sort_values(order, kind="stable"), schema_of(LINKS), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def _named(
    now: States, table: "pa.Table", year: int, plane: str, looks: Sequence[Look], history: History, ground: Ground
) -> tuple["pa.Array", pd.DataFrame]:
    """Give objects the names that they had in the release before, or a year before, or new ones."""
    import pyarrow as pa

    ids = np.full(len(table), None, object)
    release = history.previous.get((year, plane))
    if release is not None:
        found = matched(*shared_ground(release, now, history.cell_m, ground), len(release.ids), len(ids))
        ids[found >= 0] = release.ids[found[found >= 0]]
    before = history.known[plane]
    pairs, shared = shared_ground(before, now, history.cell_m, ground)
    open_before = ~np.isin(before.ids.astype(str), ids[ids != None].astype(str))  # noqa: E711
    free = open_before[pairs[:, 0]] & (ids[pairs[:, 1]] == None)  # noqa: E711
    found = matched(pairs[free], shared[free], len(before.ids), len(ids))
    ids[found >= 0] = before.ids[found[found >= 0]]
    fresh = np.flatnonzero(ids == None)  # noqa: E711
    lon, lat = table["lon"].to_numpy()[fresh], table["lat"].to_numpy()[fresh]
    order = np.lexsort((lat, lon))
    ids[fresh[order]] = new_ids(lon[order], lat[order], year, history.taken)
    now = replace(now, ids=ids)
    lost = np.setdiff1d(np.arange(len(before.ids)), pairs[:, 0])
    links = links_between(before, now, year, pairs, shared, history.newly_absent(before, lost, looks))
    history.known[plane] = known_after(before, now, links)
    return pa.array(ids, pa.string()), links


def _forget_absent(year: int, looks: Sequence[Look], history: History, links: list[pd.DataFrame]) -> None:
    """Say what is gone on a plane on which nothing was found that year."""
    for plane in (NORTH, SOUTH):
        here = [look for look in looks if look.plane == plane]
        before = history.known[plane]
        if here and len(before.ids) and not (before.years == year).any():
            nothing = np.empty((0, 2), np.int64)
            gone = history.newly_absent(before, np.arange(len(before.ids)), here)
            links.append(links_between(before, no_states(), year, nothing, np.empty(0), gone))


def _states(
    merged: _Merged, year: int, places: Rows, bounds: NDArray[np.float64], digests: NDArray[np.object_], plane: str
) -> States:
    """Return objects that have no ids yet."""

    def take(rows: Rows) -> Geometries:
        return to_plane(merged.take(places[rows]), plane)

    boxes = boxes_of_stored(bounds, lambda rows: merged.take(places[rows]), plane)
    return States(np.full(len(places), "", object), np.full(len(places), year), boxes, take, digests, bounds)


def _write_cells(
    root: Path,
    year: int,
    table: "pa.Table",
    merged: _Merged,
    places: Rows,
    bounds: NDArray[np.float64],
    scenes: int,
) -> tuple[list[str], list[str]]:
    """Write the objects of each cell, but where the dataset before has a file with the same."""
    import pyarrow as pa

    def shapes(rows: Rows) -> Shapes:
        return Shapes({name: pa.array(merged.wkb(places[rows], name), pa.binary()) for name in _SHAPES}, bounds[rows])

    lon, lat, ids = (table[name].to_numpy() for name in ("lon", "lat", "object_id"))
    order, cells = hilbert_order(np.column_stack([lon, lat]), ids)
    cells = cells_for(scenes, cells)
    parts = np.split(order, np.flatnonzero(np.diff(cells[order])) + 1)
    new, same = {}, []
    for rows in parts:
        name = f"level2/year={year}/{table_name(NAME, int(cells[rows[0]]) if len(rows) else 0, len(parts))}.parquet"
        if merged.former is not None and merged.former.is_file(name, -1 - places[rows], ids[rows]):
            same.append(name)
        else:
            new[name] = rows
    for _ in in_order(lambda name: write_table(root / name, table, _SHAPES, shapes, new[name]), new):
        pass
    return list(new), same


def _together(links: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables of links together; pandas would look at what is missing in them to find the types."""
    import pyarrow as pa

    schema = schema_of(LINKS)
    tables = [pa.Table.from_pandas(each, schema, preserve_index=False) for each in links]
    return pa.concat_tables([schema.empty_table(), *tables]).to_pandas().astype({"year_from": "Int16"})
