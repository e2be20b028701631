"""Looks: acquisitions of one place, of which one pass of a satellite is one, however many frames it has."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from darts_dataset.geometry import NORTH, SOUTH, Geometries, bounds_around, box_polygons, to_lonlat, to_plane
from darts_dataset.overlaps import components
from darts_dataset.scenes import Scene
from darts_utils import ParameterError

_SAME_LOOK = np.timedelta64(10, "m")
"""Frames of one source that share ground or a border belong to one look if less than this lies between them."""
_NEAR = np.array([-1000.0, -1000.0, 1000.0, 1000.0])
"""How far apart frames of one pass may lie, west, south, east and north, metres."""
_BESIDE = 0.05
"""How far beside what a scene saw its neighbours and its detections may lie, degrees of latitude."""


@dataclass(frozen=True)
class Look:
    """One acquisition.

    Attributes:
        name: Source and time of its first frame.
        scenes: Numbers of its scenes.
        year: When it was taken: when its first frame was, in UTC.
        month: Likewise, 1 to 12.
        plane: CRS of `extent`.
        extent: What it saw reliably.
    """

    name: str
    scenes: tuple[int, ...]
    year: int
    month: int
    plane: str
    extent: BaseGeometry


@dataclass(frozen=True)
class Footprint:
    """What a scene saw reliably.

    Attributes:
        plane: CRS of `extent`.
        extent: What it saw reliably.
        south: Lowest latitude of that, degrees, NaN for nothing.
        north: Highest latitude, likewise.
    """

    plane: str
    extent: BaseGeometry
    south: float
    north: float


def footprint_of(extent: Geometries) -> Footprint:
    """Lay out what a scene saw reliably, polygons in OGC:CRS84, on the plane of its hemisphere."""
    if not len(extent):
        return Footprint(NORTH, shapely.MultiPolygon(), float("nan"), float("nan"))
    _, south, _, north = bounds_around(extent).tolist()
    plane = SOUTH if north < 0 else NORTH
    return Footprint(plane, shapely.union_all(to_plane(extent, plane)), south, north)


def divide_of(ranges: NDArray[np.float64]) -> float:
    """Return the latitude that parts the planes: what could share ground is on one plane.

    Args:
        ranges: Lowest and highest latitude of scenes and objects, degrees, (n, 2) float64, NaN for nothing.

    Returns:
        0, the equator; where something lies across it, the latitude south of that and of all that follows on it.
    """
    south, north = ranges[:, 0] - _BESIDE, ranges[:, 1] + _BESIDE
    divide = 0.0
    while (across := (south < divide) & (north >= divide)).any():
        divide = float(south[across].min())
    return divide


def parted(footprints: Sequence[Footprint], divide: float) -> list[Footprint]:
    """Lay out what scenes saw on the planes that a latitude parts."""
    return [
        replace(each, plane=NORTH, extent=to_plane(to_lonlat(np.array([each.extent], object), SOUTH), NORTH)[0])
        if each.plane == SOUTH and each.north + _BESIDE >= divide
        else each
        for each in footprints
    ]


def find_looks(scenes: Sequence[Scene], footprints: Sequence[Footprint]) -> list[Look]:
    """Group scenes to looks: of the same source, side by side, and less than ten minutes apart.

    Args:
        scenes: Scenes.
        footprints: What each of them saw reliably.

    Returns:
        Looks by name.
    """
    planes = [each.plane for each in footprints]
    seen = [each.extent for each in footprints]
    looks: list[Look] = []
    for group in _groups(scenes, planes, np.array(seen, object)):
        ordered = sorted(group, key=lambda number: (scenes[number].time, scenes[number].tile_id))
        first = scenes[ordered[0]]
        name = f"{first.source} {first.time:%Y-%m-%dT%H:%M:%SZ} {first.tile_id}"
        extent = shapely.union_all([seen[number] for number in ordered]) if len(ordered) > 1 else seen[ordered[0]]
        year, month = first.time.year, first.time.month
        looks.append(Look(name, tuple(ordered), year, month, planes[ordered[0]], extent))
    shapely.bounds([look.extent for look in looks])  # Which GEOS keeps, so that threads need not write them.
    return sorted(looks, key=lambda look: look.name)


def _groups(scenes: Sequence[Scene], planes: Sequence[str], seen: Geometries) -> list[NDArray[np.int64]]:
    pairs = [np.empty((0, 2), np.int64)]
    for source, plane in sorted({(scene.source, plane) for scene, plane in zip(scenes, planes, strict=True)}):
        numbers = np.array(
            [
                number
                for number, scene in enumerate(scenes)
                if (scene.source, planes[number]) == (source, plane) and not seen[number].is_empty
            ],
            np.int64,
        )
        times = np.array([scenes[number].time.replace(tzinfo=None) for number in numbers], "datetime64[us]")
        order = np.argsort(times, kind="stable")
        for some in np.split(order, np.flatnonzero(np.diff(times[order]) >= _SAME_LOOK) + 1):
            if len(some) < 2:
                continue
            boxes = box_polygons(shapely.bounds(seen[numbers[some]]) + _NEAR)
            one, other = some[shapely.STRtree(boxes).query(boxes, predicate="intersects")]
            near = (one < other) & (np.abs(times[one] - times[other]) < _SAME_LOOK)
            pairs.append(numbers[np.column_stack([one[near], other[near]])])
    if not len(scenes):
        return []
    group = components(np.concatenate(pairs), len(scenes))
    return np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])


def checked_season(season: Iterable[int] | None) -> list[int] | None:
    """Return the months of a season in their order.

    Raises:
        ParameterError: If there are none, or one is no month.
    """
    if season is None:
        return None
    months = sorted(set(season))
    if not months or any(month not in range(1, 13) for month in months):
        raise ParameterError(f"season is {months}; expected months from 1 to 12, or None for the whole year.")
    return months
