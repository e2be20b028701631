"""Geometries on the plane of a hemisphere, where they are merged, and in longitude and latitude, as they are stored."""

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyproj import Transformer

Geometries = NDArray[Any]
"""Shapely geometries, (n,) object."""

NORTH, SOUTH = "EPSG:6931", "EPSG:6932"
"""The planes: Lambert azimuthal equal-area around the poles (EASE-Grid 2.0), metres."""
LONLAT = "OGC:CRS84"
_HALF_TURN = 180.0


def to_lonlat(geometries: Geometries, crs: str, valid: bool = False) -> Geometries:
    """Lay geometries out in longitude and latitude.

    Args:
        geometries: Polygons in a projected CRS; none holds a pole.
        crs: Their CRS.
        valid: They are MultiPolygons in a fixed form that touch themselves at corners only, so that they stay valid.

    Returns:
        The same in OGC:CRS84, degrees, as MultiPolygons. What crosses the antimeridian is cut there (RFC 7946, 3.1.9).
    """
    moved = _transformed(geometries, _transformer(crs, LONLAT))
    coordinates, index = shapely.get_coordinates(moved, return_index=True)
    if not len(coordinates):
        return multipolygons(moved)
    first = np.searchsorted(index, index)
    # Neighbouring points are never half the globe apart: a jump is the antimeridian.
    start = coordinates[first, 0]
    coordinates[:, 0] = start + (coordinates[:, 0] - start + _HALF_TURN) % 360 - _HALF_TURN
    moved = shapely.set_coordinates(moved, coordinates)
    west, _, east, _ = shapely.bounds(moved).T
    across = np.flatnonzero((west < -_HALF_TURN) | (east > _HALF_TURN))
    for place in across:
        moved[place] = _cut(moved[place])
    if not valid:
        return multipolygons(moved)
    moved[across] = multipolygons(moved[across])
    return moved


def to_plane(geometries: Geometries, plane: str, valid: bool = False) -> Geometries:
    """Lay stored geometries out on a plane.

    Args:
        geometries: Polygons in OGC:CRS84.
        plane: `NORTH` or `SOUTH`.
        valid: They touch themselves at corners only, so that they stay valid.

    Returns:
        The same in metres; both sides of the cut at 180° meet exactly.
    """
    moved = from_lonlat(geometries, plane)
    return moved if valid else multipolygons(moved)


def from_lonlat(geometries: Geometries, crs: str) -> Geometries:
    """Lay stored geometries out in a CRS, corner by corner."""
    coordinates = shapely.get_coordinates(geometries)
    coordinates[coordinates[:, 0] == -_HALF_TURN, 0] = _HALF_TURN
    x, y = _transformer(LONLAT, crs).transform(coordinates[:, 0], coordinates[:, 1])
    return shapely.set_coordinates(geometries.copy(), np.column_stack([x, y]))


def multipolygons(geometries: Geometries) -> Geometries:
    """Return valid MultiPolygons in a normal form, which does not depend on how they were made; lines go.

    Where a corner lies on a line, rounding may lay it a nanometre across.
    """
    bad = ~shapely.is_valid(geometries)
    if bad.any():
        geometries = geometries.copy()
        geometries[bad] = shapely.make_valid(geometries[bad], method="structure", keep_collapsed=False)
    parts, owner = shapely.get_parts(geometries, return_index=True)
    if (shapely.get_type_id(parts) != shapely.GeometryType.POLYGON).any():  # Collections of collections, and lines.
        parts, inner = shapely.get_parts(parts, return_index=True)
        areal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
        parts, owner = parts[areal], owner[inner[areal]]
    there = ~shapely.is_empty(parts)
    made = np.full(len(geometries), shapely.MultiPolygon(), object)
    shapely.multipolygons(parts[there], indices=owner[there], out=made)
    return np.asarray(shapely.normalize(made))


class GeometryFile:
    """Geometries in a file, of which any can be read, so that memory need not hold them all."""

    def __init__(self, path: "os.PathLike[str] | str") -> None:
        self._path = Path(path)
        self._file = self._path.open("wb")
        self._sizes: list[NDArray[np.int64]] = []
        self._bounds: list[NDArray[np.float64]] = []
        self._offsets = np.zeros(1, np.int64)
        self._content: NDArray[np.uint8] | None = None

    def append(self, geometries: Geometries) -> None:
        """Add geometries behind those that are there."""
        content: Iterable[bytes] = shapely.to_wkb(geometries)
        content = list(content)
        self._file.writelines(content)
        self._sizes.append(np.array([len(each) for each in content], np.int64))
        self._bounds.append(shapely.bounds(geometries).reshape(-1, 4))

    def finish(self) -> NDArray[np.float64]:
        """End writing; return the bounds of all geometries, (n, 4): west, south, east, north in units of their CRS."""
        self._file.close()
        self._offsets = np.concatenate(
            [self._offsets, np.cumsum(np.concatenate([*self._sizes, np.zeros(0, np.int64)]))]
        )
        if self._offsets[-1]:
            self._content = np.memmap(self._path, np.uint8, "r")
        return np.concatenate([*self._bounds, np.empty((0, 4))])

    def take(self, rows: NDArray[np.int64]) -> Geometries:
        """Read geometries by number."""
        if self._content is None:
            return np.empty(0, object)
        content, offsets = self._content, self._offsets
        return shapely.from_wkb([bytes(content[offsets[row] : offsets[row + 1]]) for row in rows])


def _cut(polygon: Any) -> Any:
    from shapely.affinity import translate

    parts: list[Any] = []
    for turn in (-360, 0, 360):
        inside = shapely.intersection(polygon, shapely.box(turn - 180, -90, turn + 180, 90))
        parts += [translate(part, -turn) for part in shapely.get_parts(inside) if part.geom_type == "Polygon"]
    return shapely.MultiPolygon(parts)


def _transformed(geometries: Geometries, transformer: "Transformer") -> Geometries:
    coordinates = shapely.get_coordinates(geometries)
    x, y = transformer.transform(coordinates[:, 0], coordinates[:, 1])
    return shapely.set_coordinates(np.array(geometries, object), np.column_stack([x, y]))


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> "Transformer":
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)
