"""Geometries on the plane of a hemisphere, where they are merged, and in longitude and latitude, as they are stored."""

from collections.abc import Callable
from functools import lru_cache
from typing import cast

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from darts_dataset.scratch import ScratchFile

Geometries = NDArray[np.object_]
"""Shapely geometries, (n,) object."""

NORTH, SOUTH = "EPSG:6931", "EPSG:6932"
"""The planes: Lambert azimuthal equal-area around the poles (EASE-Grid 2.0), metres."""
LONLAT = "OGC:CRS84"
_HALF_TURN = 180.0
_WIDE = 5.0
"""Degrees of longitude from which the bounding box of a geometry says too little: it is cut, or close to a pole."""


def to_lonlat(geometries: Geometries, crs: str, valid: bool = False) -> Geometries:
    """Lay geometries out in longitude and latitude.

    Args:
        geometries: Polygons in a projected CRS; none holds a pole.
        crs: Their CRS.
        valid: They are MultiPolygons in a fixed form that touch themselves at corners only, so that they stay valid.

    Returns:
        The same in OGC:CRS84, degrees, as MultiPolygons. What crosses the antimeridian is cut there (RFC 7946, 3.1.9).
    """
    coordinates, index = shapely.get_coordinates(geometries, return_index=True)
    _transform(coordinates, crs, LONLAT)
    across = np.empty(0, np.int64)
    # Neighbouring points are never half the globe apart: a jump is the antimeridian.
    if len(coordinates) and np.ptp(coordinates[:, 0]) > _HALF_TURN:
        first = np.concatenate([[True], index[1:] != index[:-1]])
        start = coordinates[first, 0][np.cumsum(first) - 1]
        coordinates[:, 0] -= 360 * np.rint((coordinates[:, 0] - start) / 360)  # Those that jump, and no others.
        across = np.unique(index[np.abs(coordinates[:, 0]) > _HALF_TURN])
    moved = shapely.set_coordinates(np.array(geometries, object), coordinates)
    for number in across:
        moved[number] = _cut(moved[number])
    if not valid:
        return multipolygons(moved)
    moved[across] = multipolygons(moved[across])
    return moved


def to_plane(geometries: Geometries, plane: str, valid: bool = False) -> Geometries:
    """Lay stored geometries out on a plane.

    Args:
        geometries: Polygons in OGC:CRS84.
        plane: `NORTH` or `SOUTH`.
        valid: They are MultiPolygons that touch themselves at corners only, so that they stay valid.

    Returns:
        The same in metres; both sides of the cut at 180° meet exactly.
    """
    coordinates = shapely.get_coordinates(geometries)
    coordinates[coordinates[:, 0] == -_HALF_TURN, 0] = _HALF_TURN
    _transform(coordinates, LONLAT, plane)
    moved = shapely.set_coordinates(np.array(geometries, object), coordinates)
    if not valid:
        return multipolygons(moved)
    west, _, east, _ = shapely.bounds(geometries).reshape(-1, 4).T
    cut = np.flatnonzero((west == -_HALF_TURN) | (east == _HALF_TURN))
    moved[cut] = multipolygons(moved[cut])
    return moved


def lonlat_of(points: NDArray[np.float64], plane: str) -> NDArray[np.float64]:
    """Return longitude and latitude, degrees, of points on a plane, (n, 2) float64 each."""
    found = points.copy()
    _transform(found, plane, LONLAT)
    return found


def box_polygons(bounds: NDArray[np.float64]) -> Geometries:
    """Return boxes as polygons: west, south, east, north, (n, 4) float64."""
    return np.asarray(shapely.box(*bounds.T), object)


def boxes_around(bounds: NDArray[np.float64], crs: str, plane: str) -> NDArray[np.float64]:
    """Return boxes on a plane that hold what boxes in another CRS hold.

    Args:
        bounds: West, south, east, north, (n, 4) float64, in units of the CRS.
        crs: Their CRS; in longitude and latitude none is wider than half the globe.
        plane: `NORTH` or `SOUTH`.

    Returns:
        The same on the plane, metres.
    """
    points, wider = _around(bounds, crs, plane)
    return np.concatenate([points.min(axis=0) - wider, points.max(axis=0) + wider]).T


def hull_around(extent: BaseGeometry, bounds: NDArray[np.float64], crs: str, plane: str) -> BaseGeometry:
    """Return a convex polygon on a plane that holds a polygon of that plane and what boxes hold, see `boxes_around`."""
    points, wider = _around(bounds, crs, plane)
    corners = cast("BaseGeometry", shapely.multipoints(points.transpose(0, 2, 1).reshape(-1, 2)))
    hull = shapely.convex_hull(shapely.geometrycollections([extent, corners]))
    return shapely.buffer(hull, float(wider.max(initial=1)))


def _around(bounds: NDArray[np.float64], crs: str, plane: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return corners of boxes and middles of edges on a plane, (8, 2, n), and how far edges lie beside these, (n,).

    An edge bends by as much as its middle lies beside that of its ends: between ends and middle, by a quarter of that.
    """
    west, south, east, north = bounds.T
    middle, centre = (west + east) / 2, (south + north) / 2
    x = np.stack([west, middle, east, east, east, middle, west, west])
    y = np.stack([south, south, south, centre, north, north, north, centre])
    points = np.stack(_transformer(crs, plane).transform(x, y), axis=1)
    bent = points[1::2] - (points[::2] + np.roll(points[::2], -1, axis=0)) / 2
    return points, np.abs(bent).max(axis=(0, 1)) + 1


def boxes_of_stored(
    bounds: NDArray[np.float64], take: Callable[[NDArray[np.int64]], Geometries], plane: str
) -> NDArray[np.float64]:
    """Return boxes on a plane that hold stored geometries.

    Args:
        bounds: Their bounds in OGC:CRS84, (n, 4) float64, degrees; of those that are wide, it says too little.
        take: Reads them by number.
        plane: `NORTH` or `SOUTH`.

    Returns:
        (n, 4) float64, metres.
    """
    found = boxes_around(bounds, LONLAT, plane)
    wide = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > _WIDE)
    found[wide] = shapely.bounds(to_plane(take(wide), plane)).reshape(-1, 4)
    return found


def are_valid(geometries: Geometries) -> NDArray[np.bool_]:
    """Return which geometries are valid.

    `shapely.is_valid`, and `shapely.total_bounds` likewise, set filters of warnings for the whole process and put them
    back. In several threads at once, all warnings may be ignored from then on.
    """
    return shapely.is_valid_reason(geometries) == "Valid Geometry"


def bounds_around(geometries: Geometries) -> NDArray[np.float64]:
    """Return the bounds of all geometries together, west, south, east and north; NaN for nothing. See `are_valid`."""
    bounds = shapely.bounds(geometries).reshape(-1, 4)
    lowest, highest = np.fmin.reduce(bounds, initial=np.nan), np.fmax.reduce(bounds, initial=np.nan)
    return np.concatenate([lowest[:2], highest[2:]])


def multipolygons(geometries: Geometries) -> Geometries:
    """Return valid MultiPolygons in a normal form, which does not depend on how they were made; lines go.

    Where a corner lies on a line, rounding may lay it a nanometre across.
    """
    bad = ~are_valid(geometries)
    if bad.any():
        geometries = geometries.copy()
        geometries[bad] = shapely.make_valid(geometries[bad], method="structure", keep_collapsed=False)
    parts, owner = shapely.get_parts(geometries, return_index=True)
    if (shapely.get_type_id(parts) != shapely.GeometryType.POLYGON).any():  # Collections of collections, and lines.
        parts, inner = shapely.get_parts(parts, return_index=True)
        areal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
        parts, owner = parts[areal], owner[inner[areal]]
    present = ~shapely.is_empty(parts)
    made = np.full(len(geometries), shapely.MultiPolygon(), object)
    shapely.multipolygons(parts[present], indices=owner[present], out=made)
    return np.asarray(shapely.normalize(made))


def rings_of(geometries: Geometries) -> tuple[Geometries, NDArray[np.int64]]:
    """Return the rings of polygons, and the number of the polygon of each."""
    polygons, owner = shapely.get_parts(geometries, return_index=True)
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    return rings, owner[polygon]


class GeometryFile:
    """Geometries in a file, as WKB, of which any can be read, so that memory need not hold them all."""

    def __init__(self, file: ScratchFile) -> None:
        self._file = file
        self._ends = [np.zeros(1, np.int64)]

    def append(self, wkb: "pa.Array") -> None:
        """Append geometries."""
        if len(wkb):
            _, begins, content = wkb.buffers()
            offsets = np.frombuffer(begins, np.int32)[wkb.offset : wkb.offset + len(wkb) + 1].astype(np.int64)
            self._file.append(memoryview(content)[offsets[0] : offsets[-1]])
            self._ends.append(offsets[1:] - offsets[0] + self._ends[-1][-1])

    def finish(self) -> None:
        """End writing."""
        self._ends = [np.concatenate(self._ends)]

    def take_wkb(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Read the WKB of geometries by number, after the end of writing."""
        if not len(rows):
            return []
        content, (ends,) = self._file.content(), self._ends
        spans = zip(ends[rows].tolist(), ends[rows + 1].tolist(), strict=True)
        found = [content[first:end] for first, end in spans]
        self._file.release()
        return found

    def take(self, rows: NDArray[np.int64]) -> Geometries:
        """Read geometries by number, after the end of writing."""
        return np.asarray(shapely.from_wkb(self.take_wkb(rows)), object)


def _cut(polygon: BaseGeometry) -> shapely.MultiPolygon:
    parts: list[shapely.Polygon] = []
    for turn in (-360, 0, 360):
        inside = shapely.intersection(polygon, shapely.box(turn - 180, -90, turn + 180, 90))
        parts += [translate(part, -turn) for part in shapely.get_parts(inside) if isinstance(part, shapely.Polygon)]
    return shapely.MultiPolygon(parts)


def _transform(coordinates: NDArray[np.float64], source: str, target: str) -> None:
    """Transform coordinates, (n, 2), in place."""
    x, y = coordinates.T.copy()
    coordinates[:, 0], coordinates[:, 1] = _transformer(source, target).transform(x, y, inplace=True)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
