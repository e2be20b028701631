"""Level 2: objects by year, with ids that stay, and the links between years."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from darts_dataset.changes import Again
from darts_dataset.detections import Detections
from darts_dataset.dictionary import COLUMNS, LINKS, OBJECTS, schema_of
from darts_dataset.former import TABLE, Former, Traits, joined, no_pairs, no_traits, write_former
from darts_dataset.geometry import (
    NORTH,
    SOUTH,
    Geometries,
    GeometryFile,
    box_polygons,
    boxes_of_stored,
    multipolygons,
    to_plane,
)
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
from darts_dataset.memory import StartOverError
from darts_dataset.objects import merge, seen_by
from darts_dataset.overlaps import Rows
from darts_dataset.parallel import in_order
from darts_dataset.scratch import Scratch
from darts_dataset.tables import Shapes, cells_along, hilbert_positions, write_table

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

    def add_previous(self, former: Former, chosen: Rows, before: int) -> None:
        """Add a year of the release before; what is older than the first year here is known from the beginning.

        Args:
            former: Its objects, whose ids are in use.
            chosen: Numbers of those that matter.
            before: The first year here.
        """
        self.taken |= set(former.traits.ids)
        for plane in (NORTH, SOUTH):
            states = former.states(plane, np.intersect1d(chosen, former.rows_on(plane)))
            if former.year < before:
                self.known[plane] = known_after(self.known[plane], states, _together([]))
            else:
                self.previous[former.year, plane] = states

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
            some[seen_by(multipolygons(states.take(some)), looks)]
            for some in (rows[first : first + _AT_A_TIME] for first in range(0, len(rows), _AT_A_TIME))
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])


@dataclass
class _Merged:
    """Objects of a year: made now, or taken along from the dataset before, whose slots are counted down from -1."""

    stores: dict[str, GeometryFile]
    former: Former | None
    tables: list[pa.Table] = field(default_factory=list)

    def wkb(self, slots: Rows, column: str = "geometry") -> NDArray[np.object_]:
        found = np.empty(len(slots), object)
        here = slots >= 0
        found[here] = self.stores[column].take_wkb(slots[here])
        if self.former is not None:
            found[~here] = self.former.wkb(-1 - slots[~here], column)
        return found

    def take(self, slots: Rows, some: Rows) -> Geometries:
        return np.asarray(shapely.from_wkb(self.wkb(slots[some])), object)

    def table(self, slots: Rows, ids: NDArray[np.object_]) -> pa.Table:
        """Return all columns but geometries."""
        here = np.flatnonzero(slots >= 0)
        former_rows = np.flatnonzero(slots < 0)
        parts = [table.take(slots[here]) for table in self.tables]
        if self.former is not None and len(former_rows):
            parts.append(self.former.table(-1 - slots[former_rows]).drop_columns(["object_id"]))
        if not parts:
            return schema_of(OBJECTS).empty_table()
        found = pa.concat_tables(parts).take(np.argsort(np.concatenate([here, former_rows])))
        return found.add_column(0, "object_id", pa.array(ids, pa.string())).select(list(COLUMNS[OBJECTS]))


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
        StartOverError: If an object gets the id of one that is taken along with it: which of two in one square metre
            has the plain name hangs on both.
        OSError: If a file cannot be read or written.
    """
    stores = {name: GeometryFile(history.scratch.open(f"{year}-{name}.wkb")) for name in _SHAPES}
    if again is not None and detections is not None:
        detections = again.chosen(detections)
    merged = _Merged(stores, None if again is None else again.former)
    carried, ground = (no_pairs(), Ground()) if again is None else again.ground()
    links: list[pd.DataFrame] = []
    traits, slots = [no_traits()], [np.empty(0, np.int64)]
    tables: list[pa.Table] = []
    count = 0
    for plane in (NORTH, SOUTH):
        here = [look for look in looks if look.plane == plane]
        first, found = count, [no_traits()]
        for objects in merge(*detections.of_looks(here), here, plane, history.cell_m) if detections is not None else ():
            n_hits, n_looks = (objects.table[name].to_numpy() for name in ("n_hits", "n_looks"))
            keep = np.flatnonzero(n_hits >= keep_share * n_looks)
            for name, store in stores.items():
                store.append(objects.shapes.wkb[name].take(keep))
            tables.append(objects.table.take(keep))
            found.append(_traits(tables[-1], objects.shapes.wkb["geometry"].take(keep), objects.shapes.bounds[keep]))
            count += len(keep)
        for store in stores.values():
            store.finish()
        of_plane = joined(found)
        numbers = np.arange(first, count)
        of_plane.boxes[:] = boxes_of_stored(of_plane.lonlat, partial(merged.take, numbers), plane)
        if again is not None:
            rows = np.intersect1d(again.named, again.former.rows_on(plane))
            of_plane, numbers = joined([of_plane, again.former.traits.take(rows)]), np.concatenate([numbers, -1 - rows])
        if not len(numbers):
            continue
        order = pc.sort_indices(pa.array(of_plane.digests, pa.binary())).to_numpy()  # However they came to be here.
        of_plane, numbers = of_plane.take(order), numbers[order]
        ids, new = _named(_states(merged, year, numbers, of_plane, plane), of_plane, year, plane, here, history, ground)
        traits.append(replace(of_plane, ids=ids))
        slots.append(numbers)
        links.append(new)
    merged.tables = [pa.concat_tables(tables).combine_chunks()] if tables else []
    _forget_absent(year, looks, history, links)
    history.add_links(_together(links))
    if again is not None:
        rest = again.former.traits.take(again.kept)
        if pc.any(pc.is_in(pa.array(rest.ids, pa.string()), pa.array(joined(traits).ids, pa.string()))).as_py():
            raise StartOverError
        traits.append(rest)
        slots.append(-1 - again.kept)
    whole = joined(traits)
    columns = pa.table({"place": whole.positions, "id": pa.array(whole.ids, pa.string())})
    order = pc.sort_indices(columns, [("place", "ascending"), ("id", "ascending")]).to_numpy()
    whole = whole.take(order)
    write_former(root, year, whole, carried, ground)
    return _write_cells(root, year, whole, merged, np.concatenate(slots)[order])


def write_links(path: Path, links: Sequence[pd.DataFrame], carried: pa.Table) -> None:
    """Write links of all years, and those that were carried over from the dataset before."""
    found = pa.Table.from_pandas(_together(links), schema_of(LINKS), preserve_index=False)
    order = [(name, "ascending") for name in ("year_to", "object_id_from", "object_id_to")]
    table = pa.concat_tables([each.replace_schema_metadata(None) for each in (carried, found)]).sort_by(order)
    pq.write_table(table.combine_chunks(), path, compression="zstd")


def _traits(table: pa.Table, wkb: pa.Array, lonlat: NDArray[np.float64]) -> Traits:
    """Return what is remembered of objects, but for their ids and boxes."""
    points = np.column_stack([table["lon"].to_numpy(), table["lat"].to_numpy()])
    nameless, digests = np.full(len(table), "", object), digests_of(wkb.to_pylist())
    return Traits(nameless, digests, points, hilbert_positions(points), lonlat, np.empty_like(lonlat))


def _named(
    now: States, traits: Traits, year: int, plane: str, looks: Sequence[Look], history: History, ground: Ground
) -> tuple[NDArray[np.object_], pd.DataFrame]:
    """Give objects the names that they had in the release before, or a year before, or new ones."""
    ids = np.full(len(now.ids), None, object)
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
    lon, lat = traits.points[fresh].T
    order = np.lexsort((lat, lon))
    ids[fresh[order]] = new_ids(lon[order], lat[order], year, history.taken)
    now = replace(now, ids=ids)
    lost = np.setdiff1d(np.arange(len(before.ids)), pairs[:, 0])
    links = links_between(before, now, year, pairs, shared, history.newly_absent(before, lost, looks))
    history.known[plane] = known_after(before, now, links)
    return ids, links


def _forget_absent(year: int, looks: Sequence[Look], history: History, links: list[pd.DataFrame]) -> None:
    """Say what is gone on a plane on which nothing was found that year."""
    for plane in (NORTH, SOUTH):
        here = [look for look in looks if look.plane == plane]
        before = history.known[plane]
        if here and len(before.ids) and not (before.years == year).any():
            nothing = np.empty((0, 2), np.int64)
            gone = history.newly_absent(before, np.arange(len(before.ids)), here)
            links.append(links_between(before, no_states(), year, nothing, np.empty(0), gone))


def _states(merged: _Merged, year: int, slots: Rows, traits: Traits, plane: str) -> States:
    """Return objects that have no ids yet."""

    def take(rows: Rows) -> Geometries:
        return to_plane(merged.take(slots, rows), plane, valid=True)

    nameless, years = np.full(len(slots), "", object), np.full(len(slots), year)
    return States(nameless, years, traits.boxes, take, traits.digests, traits.lonlat)


def _write_cells(root: Path, year: int, traits: Traits, merged: _Merged, slots: Rows) -> tuple[list[str], list[str]]:
    """Write the objects of each cell, but where the dataset before has a file with the same."""
    new, same = {}, []
    for cell, rows in cells_along(traits.positions, np.ones(len(slots), np.int64), TABLE):
        name = f"level2/year={year}/{cell}.parquet"
        if merged.former is not None and merged.former.is_file(name, -1 - slots[rows], traits.ids[rows]):
            same.append(name)
        else:
            new[name] = rows

    def write(name: str) -> None:
        here, bounds = slots[new[name]], traits.lonlat[new[name]]

        def shapes(rows: Rows) -> Shapes:
            wkb = {column: pa.array(merged.wkb(here[rows], column), pa.binary()) for column in _SHAPES}
            return Shapes(wkb, bounds[rows])

        write_table(root / name, merged.table(here, traits.ids[new[name]]), _SHAPES, shapes, np.arange(len(here)))

    for _ in in_order(write, new):
        pass
    return list(new), same


def _together(links: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables of links together; pandas would look at what is missing in them to find the types."""
    schema = schema_of(LINKS)
    tables = [pa.Table.from_pandas(each, schema, preserve_index=False) for each in links]
    return pa.concat_tables([schema.empty_table(), *tables]).to_pandas().astype({"year_from": "Int16"})
