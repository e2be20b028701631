"""Which object is which: ids that stay over years and releases, and what happened between two years."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import h3
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from darts_dataset.ground import shared_areas
from darts_dataset.overlaps import LEAST_SHARED_M2, Rows, components, near_pairs
from darts_dataset.parallel import in_order
from darts_dataset.tables import Take

RELATIONS = {
    "same": "RepeatRTS",
    "merged": "MergedRTS",
    "split": "SplitRTS",
    "new": "NewRTS",
    "gone": "StabilizedRTS",
}
"""What a link says, and the word of the ARTS dataset for it (Yang et al. 2025, doi:10.1038/s41597-025-04372-7)."""
_H3_RESOLUTION = 15
_DIGEST_BYTES = 16
_COLUMNS = ("ids", "years", "bounds", "digests", "lonlat")


@dataclass(frozen=True)
class States:
    """Objects on one plane, each as it was at one time.

    Attributes:
        ids: Their ids, (n,) object.
        years: When they were so, (n,) int64.
        bounds: Boxes that hold them, (n, 4) float64, metres.
        take: Reads their outlines by number; rounding may have laid a corner a nanometre across an edge.
        digests: Digest of the outline of each, (n,) object.
        lonlat: Their bounds as they are stored, (n, 4) float64, degrees.
    """

    ids: NDArray[np.object_]
    years: Rows
    bounds: NDArray[np.float64]
    take: Take
    digests: NDArray[np.object_]
    lonlat: NDArray[np.float64]

    def subset(self, rows: Rows) -> "States":
        """Return some of them."""
        take = self.take
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return States(take=lambda chosen: take(rows[chosen]), **columns)

    def joined(self, other: "States") -> "States":
        """Return these and others after them."""
        here = len(self.ids)

        def take(rows: Rows) -> NDArray[np.object_]:
            found = np.empty(len(rows), object)
            first = rows < here
            found[first] = self.take(rows[first])
            found[~first] = other.take(rows[~first] - here)
            return found

        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _COLUMNS}
        return States(take=take, **columns)


def no_states() -> States:
    """Return no objects."""
    nothing = np.empty(0, np.int64)
    nobody = np.empty(0, object)
    nowhere = np.empty((0, 4))
    return States(nobody, nothing, nowhere, lambda rows: np.empty(len(rows), object), nobody, nowhere)


@dataclass
class Ground:
    """Ground that two objects share, m², by the digests of the earlier and the later outline: known, and asked for."""

    known: Mapping[tuple[bytes, bytes], float] = field(default_factory=dict)
    used: dict[tuple[bytes, bytes], float] = field(default_factory=dict)


def digests_of(wkb: Iterable[bytes]) -> NDArray[np.object_]:
    """Return a digest of each outline, (n,) object."""
    return np.array([hashlib.sha256(each).digest()[:_DIGEST_BYTES] for each in wkb], object)


def shared_ground(before: States, now: States, cell_m: float, ground: Ground) -> tuple[Rows, NDArray[np.float64]]:
    """Find which earlier objects share ground with which later ones.

    Returns:
        Pairs of numbers (before, now), (m, 2) int64, sorted, and the ground that each shares, (m,) float64, m².
    """
    both = before.joined(now)
    here = len(before.ids)
    if not here or not len(now.ids):
        return np.empty((0, 2), np.int64), np.empty(0)

    def areas(pairs: Rows) -> tuple[Rows, list[tuple[bytes, bytes]], NDArray[np.float64]]:
        one, other = both.lonlat[pairs].transpose(1, 2, 0)
        pairs = pairs[(one[:2] <= other[2:]).all(axis=0) & (other[:2] <= one[2:]).all(axis=0)]
        keys = list(zip(*(both.digests[each] for each in pairs.T), strict=True))
        found = np.array([ground.known.get(key, np.nan) for key in keys])
        new = np.flatnonzero(np.isnan(found))
        needed, index = np.unique(pairs[new], return_inverse=True)
        found[new] = shared_areas(both.take(needed), index.reshape(-1, 2))
        return pairs, keys, found

    pairs, shared = [np.empty((0, 2), np.int64)], [np.empty(0)]
    near = near_pairs(both.bounds, cell_m, (np.arange(len(both.ids)) >= here).astype(np.int64))
    for some, keys, found in in_order(areas, near):
        ground.used.update(zip(keys, found.tolist(), strict=True))
        pairs.append(some[found >= LEAST_SHARED_M2])
        shared.append(found[found >= LEAST_SHARED_M2])
    together = np.concatenate(pairs)
    order = np.lexsort(together.T[::-1])
    return together[order] - np.array([0, here]), np.concatenate(shared)[order]


def matched(pairs: Rows, shared: NDArray[np.float64], before: int, now: int) -> Rows:
    """Match one to one, so that the ground that pairs share is the most, in each group that hangs together.

    Args:
        pairs: Pairs of numbers (before, now), sorted.
        shared: The ground that each shares.
        before: Number of earlier objects.
        now: Number of later objects.

    Returns:
        For each later object the number of its earlier one, or -1, (now,) int64.
    """
    found = np.full(now, -1, np.int64)
    group = components(pairs + np.array([0, before]), before + now)[pairs[:, 0]]
    alone = np.bincount(group, minlength=1)[group] == 1
    found[pairs[alone, 1]] = pairs[alone, 0]
    order = np.flatnonzero(~alone)
    order = order[np.argsort(group[order], kind="stable")]
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []:
        olds, old = np.unique(pairs[rows, 0], return_inverse=True)
        news, new = np.unique(pairs[rows, 1], return_inverse=True)
        ground = np.zeros((len(olds), len(news)))
        ground[old, new] = shared[rows]
        for at, to in zip(*linear_sum_assignment(ground, maximize=True), strict=True):
            if ground[at, to] > 0:
                found[news[to]] = olds[at]
    return found


def new_ids(lon: NDArray[np.float64], lat: NDArray[np.float64], year: int, taken: set[str]) -> NDArray[np.object_]:
    """Name objects that are seen for the first time: by the H3 cell (of 1 m²) of a point inside them, and the year.

    Args:
        lon: Longitudes of the points, degrees.
        lat: Latitudes.
        year: The year.
        taken: Names that are in use; the new ones are added.

    Returns:
        Names, (n,) object.
    """
    found = np.empty(len(lon), object)
    for index, (east, north) in enumerate(zip(lon.tolist(), lat.tolist(), strict=True)):
        cell = h3.latlng_to_cell(north, east, _H3_RESOLUTION)
        name, more = f"{cell}-{year}", 1
        while name in taken:
            more += 1
            name = f"{cell}-{year}-{more}"
        taken.add(name)
        found[index] = name
    return found


def links_between(
    before: States, now: States, year: int, pairs: Rows, shared: NDArray[np.float64], gone: Rows
) -> pd.DataFrame:
    """Say what became of the objects that were known when those of a year were found.

    Args:
        before: The last that was known of each earlier object.
        now: The objects of the year, with their ids.
        year: The year.
        pairs: Which share ground (before, now).
        shared: How much, m².
        gone: Numbers of earlier objects that share ground with none, although some look saw their place.

    Returns:
        One row per pair that shares ground, per new object, and per object that was looked at and is gone.
    """
    olds = np.bincount(pairs[:, 1], minlength=len(now.ids))
    news = np.bincount(pairs[:, 0], minlength=len(before.ids))
    old, new = pairs.T
    relation = np.select([olds[new] > 1, news[old] > 1], ["merged", "split"], "same").astype(object)
    fresh = np.flatnonzero(olds == 0)
    count, ends = len(pairs), len(gone)
    frame = pd.DataFrame(
        {
            "year_from": pd.array([*before.years[old], *before.years[gone], *([pd.NA] * len(fresh))], dtype="Int16"),
            "year_to": np.full(count + ends + len(fresh), year, np.int16),
            "object_id_from": pd.array([*before.ids[old], *before.ids[gone], *([pd.NA] * len(fresh))], dtype="string"),
            "object_id_to": pd.array([*now.ids[new], *([pd.NA] * ends), *now.ids[fresh]], dtype="string"),
            "relation": pd.array([*relation, *(["gone"] * ends), *(["new"] * len(fresh))], dtype="string"),
            "overlap_m2": np.concatenate([shared, np.zeros(ends + len(fresh))]),
        }
    )
    frame.insert(5, "arts_class", frame["relation"].map(RELATIONS).astype("string"))
    return frame.sort_values(["object_id_from", "object_id_to"], kind="stable", ignore_index=True)


def known_after(before: States, now: States, links: pd.DataFrame) -> States:
    """Return the last that is known of each object after a year.

    What was merged into another one is no object any more; what is gone may come back.
    """
    merged: Sequence[str] = links.loc[links["relation"] == "merged", "object_id_from"].tolist()
    ended = set(now.ids) | set(merged)
    stays = np.flatnonzero([name not in ended for name in before.ids])
    known = before.subset(stays).joined(now)
    return known.subset(np.argsort(known.ids))  # Whether they were found just now or read from a file.
