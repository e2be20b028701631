"""Level 2: objects by year, with ids that stay, and the links between years."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from darts_dataset.detections import Detections
from darts_dataset.dictionary import COLUMNS, LINKS, OBJECTS, schema_of
from darts_dataset.geometry import LONLAT, NORTH, SOUTH, GeometryFile, boxes_around, to_plane
from darts_dataset.identity import (
    States,
    known_after,
    links_between,
    matched,
    new_ids,
    no_states,
    shared_ground,
)
from darts_dataset.looks import Look
from darts_dataset.objects import merge, seen_by
from darts_dataset.overlaps import Rows
from darts_dataset.scratch import Scratch
from darts_dataset.tables import Shapes, Take, hilbert_order, read_attributes, read_boxes, read_wkb, write_table

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "objects.parquet"
_AT_A_TIME = 20_000
_WIDE = 5.0
"""Degrees of longitude from which the bounding box of a geometry says too little: it is cut, or close to a pole."""


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
                    self.known[plane] = known_after(self.known[plane], states, _together([]))
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

    def newly_absent(self, states: States, rows: Rows, looks: Sequence[Look]) -> Rows:
        """Return those of some objects that some look saw the place of, and that nobody has said are gone."""
        rows = np.array([row for row in rows.tolist() if states.ids[row] not in self.gone], np.int64)
        parts = [
            some[seen_by(states.take(some), looks)]
            for some in (rows[first : first + _AT_A_TIME] for first in range(0, len(rows), _AT_A_TIME))
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _read(self, path: Path, year: int, name: str) -> dict[str, States]:
        table, bounds = read_attributes(path), read_boxes(path)
        store = GeometryFile(self.scratch.open(f"{name}.wkb"))
        for wkb in read_wkb(path):
            store.append(wkb)
        store.finish()
        ids, north = table["object_id"].to_numpy().astype(object), table["lat"].to_numpy() >= 0
        years = np.full(len(ids), year, np.int64)
        found = {}
        for plane, here in ((NORTH, north), (SOUTH, ~north)):
            rows = np.flatnonzero(here)
            found[plane] = States(ids[rows], years[rows], _boxes(bounds, rows, store, plane), _laid(store, rows, plane))
        return found


def year_of(folder: Path) -> int:
    """Return the year that a folder's name says."""
    return int(folder.name.partition("=")[2])


def write_objects(
    path: Path, year: int, detections: Detections, looks: Sequence[Look], history: History, keep_share: float
) -> None:
    """Merge the detections of a year, name the objects, and write them.

    Args:
        path: The file.
        year: The year.
        detections: Its detections.
        looks: Those of its looks that count.
        history: What is known of earlier years; that of this one is added.
        keep_share: Objects that a smaller share of their looks has are dropped.

    Raises:
        OSError: If a file cannot be read or written.
    """
    import pyarrow as pa

    stores = {name: GeometryFile(history.scratch.open(f"{year}-{name}.wkb")) for name in ("geometry", "majority")}
    tables, boxes, links = [], [], []
    count = 0
    for plane in (NORTH, SOUTH):
        here = [look for look in looks if look.plane == plane]
        first, more, found = count, [], []
        for objects in merge(*detections.of_looks(here), here, plane, history.cell_m):
            n_hits, n_looks = (objects.table[name].to_numpy() for name in ("n_hits", "n_looks"))
            keep = np.flatnonzero(n_hits >= keep_share * n_looks)
            for name, store in stores.items():
                store.append(objects.shapes.wkb[name].take(keep))
            boxes.append(objects.shapes.bounds[keep])
            found.append(objects.bounds[keep])
            more.append(objects.table.take(keep))
            count += len(keep)
        for store in stores.values():
            store.finish()
        if count == first:
            continue
        table = pa.concat_tables(more)
        rows = np.arange(first, count)
        years = np.full(len(rows), year, np.int64)
        now = States(
            np.full(len(rows), "", object), years, np.concatenate(found), _laid(stores["geometry"], rows, plane)
        )
        ids, new = _named(now, table, year, plane, here, history)
        tables.append(table.add_column(0, "object_id", ids))
        links.append(new)
    _forget_absent(year, looks, history, links)
    history.add_links(_together(links))

    def shapes(rows: Rows) -> Shapes:
        return Shapes(
            {name: pa.array(store.take_wkb(rows), pa.binary()) for name, store in stores.items()}, bounds[rows]
        )

    bounds = np.concatenate([*boxes, np.empty((0, 4))])
    table = pa.concat_tables(tables).select(list(COLUMNS[OBJECTS])) if tables else schema_of(OBJECTS).empty_table()
    lon, lat, names = (table[name].to_numpy() for name in ("lon", "lat", "object_id"))
    write_table(path, table, list(stores), shapes, hilbert_order(np.column_stack([lon, lat]), names))


def write_links(path: Path, links: Sequence[pd.DataFrame]) -> None:
    """Write the links of all years."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = _together(links)
    order = ["year_to", "object_id_from", "object_id_to"]
    table = pa.Table.from_pandas(frame.sort_values(order, kind="stable"), schema_of(LINKS), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def _named(
    now: States, table: "pa.Table", year: int, plane: str, looks: Sequence[Look], history: History
) -> tuple["pa.Array", pd.DataFrame]:
    """Give objects the names that they had in the release before, or a year before, or new ones."""
    import pyarrow as pa

    ids = np.full(len(table), None, object)
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
    lon, lat = table["lon"].to_numpy()[fresh], table["lat"].to_numpy()[fresh]
    order = np.lexsort((lat, lon))
    ids[fresh[order]] = new_ids(lon[order], lat[order], year, history.taken)
    now = States(ids, now.years, now.bounds, now.take)
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


def _laid(store: GeometryFile, places: Rows, plane: str) -> Take:
    """Return what reads stored geometries by number, on a plane."""
    return lambda rows: to_plane(store.take(places[rows]), plane)


def _boxes(bounds: NDArray[np.float64], rows: Rows, store: GeometryFile, plane: str) -> NDArray[np.float64]:
    """Return boxes on a plane that hold stored geometries, those that are cut at 180° by themselves."""
    found = boxes_around(bounds[rows], LONLAT, plane)
    wide = np.flatnonzero(bounds[rows, 2] - bounds[rows, 0] > _WIDE)
    found[wide] = shapely.bounds(to_plane(store.take(rows[wide]), plane)).reshape(-1, 4)
    return found


def _together(links: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables of links together; pandas would look at what is missing in them to find the types."""
    import pyarrow as pa

    schema = schema_of(LINKS)
    tables = [pa.Table.from_pandas(each, schema, preserve_index=False) for each in links]
    return pa.concat_tables([schema.empty_table(), *tables]).to_pandas().astype({"year_from": "Int16"})
