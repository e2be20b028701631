"""Geometry around the poles and across the antimeridian.

The polar plane is the Lambert azimuthal equal-area projection around the North Pole (Snyder 1987, section 24), in which
neither the antimeridian nor the pole is special. It is singular at the South Pole only, around which everything ends at
89.9° S.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pyproj import CRS, Transformer
    from shapely.geometry.base import BaseGeometry

POLAR = "+proj=laea +lat_0=90 +lon_0=0 +datum=WGS84 +units=m"
_SOUTH_DEGREES = -89.9
_SOUTH_M = 12_000
"""A little more than the distance from the South Pole to 89.9° S."""
_STEP_M, _STEP_DEGREES = 20_000, 0.25
"""Edges are cut into pieces of this length before they are projected, so that they bend as they should."""


def to_polar(shapes: "Sequence[BaseGeometry]", crs: Any) -> "list[BaseGeometry | None]":
    """Project geometries to the polar plane.

    Args:
        shapes: The geometries. Longitudes may leave ±180; edges do not jump there.
        crs: Of all of them.

    Returns:
        The geometries in metres, valid; None for each that has coordinates outside its CRS.
    """
    import pyproj
    import shapely

    crs = pyproj.CRS.from_user_input(crs)
    unit = 1.0 if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
    step = _STEP_DEGREES if crs.is_geographic else _STEP_M / unit
    flat = shapely.force_2d(np.array(shapes, dtype=object))
    finite = np.isin(np.arange(flat.size), not_finite(flat), invert=True)
    flat[finite] = shapely.segmentize(_without_south_pole(flat[finite], crs, _SOUTH_M / unit), step)
    flat[finite] = shapely.transform(flat[finite], functools.partial(project, crs=crs.to_wkt()))
    finite[not_finite(flat)] = False
    return [_valid(shape) if fine else None for shape, fine in zip(flat, finite, strict=True)]


def project(points: np.ndarray, crs: str) -> np.ndarray:
    """Return points in the polar plane.

    Args:
        points: East and north in the CRS, float64 (n, 2). Those south of 89.9° S are moved there.
        crs: Their CRS.

    Returns:
        In metres, float64 (n, 2); not finite where a point lies outside its CRS.
    """
    lon, lat = _transformer(crs, "EPSG:4326").transform(*points.T)
    # Beyond the pole there is nothing: what lies there is left to fail.
    lat = np.where(lat > -90 - 1e-9, np.maximum(lat, _SOUTH_DEGREES), lat)
    return np.column_stack(_transformer("EPSG:4326", POLAR).transform(lon, lat))


def from_polar(points: np.ndarray) -> np.ndarray:
    """Return points of the polar plane in degrees.

    Args:
        points: In metres, float64 (n, 2).

    Returns:
        Longitudes and latitudes, float64 (n, 2). Points further from the North Pole than 89.9° S lie there.
    """
    distance = np.hypot(*points.T)
    inside = points * np.minimum(1.0, _furthest() / np.maximum(distance, 1.0))[:, np.newaxis]
    return np.column_stack(_transformer(POLAR, "EPSG:4326").transform(*inside.T))


def continued(shape: "BaseGeometry") -> "tuple[BaseGeometry, bool]":
    """Let longitudes run on where an edge jumps by more than half the globe, as one that crosses the antimeridian does.

    An edge of just 360° runs along a parallel around the globe, and stays.

    Returns:
        The geometry, and whether there was such an edge.
    """
    import shapely

    shape = shapely.force_2d(shape)
    if not _wide_steps(shapely.get_coordinates(shape)).any():
        return shape, False
    parts = list(shapely.get_parts(shape))
    wide = [any(_wide_steps(np.asarray(line.coords)).any() for line in lines_of(part)) for part in parts]
    shapes = [_map_lines(part) if is_wide else part for part, is_wide in zip(parts, wide, strict=True)]
    return (shapes[0] if len(shapes) == 1 else shapely.GeometryCollection(shapes)), any(wide)


def cut_footprint(footprint: Mapping[str, Any]) -> "BaseGeometry":
    """Cut a footprint at the antimeridian, as RFC 7946 wants it.

    Args:
        footprint: GeoJSON geometry in degrees, whose edges may jump at ±180 or run on beyond.

    Returns:
        A geometry within ±180 degrees of longitude; unchanged where it is one already.
    """
    import shapely
    from shapely import affinity

    shape = shapely.geometry.shape(dict(footprint))
    whole, jumps = continued(shape)
    if shape.is_empty or (not jumps and shape.bounds[0] >= -180 and shape.bounds[2] <= 180):
        return shape
    parts = [_valid(part) for part in shapely.get_parts(whole)]
    turns = [affinity.translate(part, turn) for part in parts for turn in (-360, 0, 360)]
    inside = shapely.get_parts(shapely.intersection(turns, shapely.box(-180, -90, 180, 90)))
    # Where it only touches the antimeridian, there is a line on the other side.
    return shapely.union_all(inside[shapely.get_dimensions(inside) == shapely.get_dimensions(whole)])


def not_finite(shapes: Any) -> np.ndarray:
    """Return the places of geometries that have coordinates which are no numbers, int64, ascending."""
    import shapely

    points, owners = shapely.get_coordinates(shapes, return_index=True)
    return np.unique(owners[~np.isfinite(points).all(axis=1)])


def lines_of(shape: Any) -> list[Any]:
    """Return the rings of a polygon, the outer one first, or a line itself; nothing of anything else."""
    if shape.geom_type == "Polygon":
        return [shape.exterior, *shape.interiors]
    return [shape] if shape.geom_type in ("LineString", "LinearRing") else []


def _without_south_pole(shapes: np.ndarray, crs: "CRS", radius: float) -> np.ndarray:
    """Take the South Pole out of geometries in a projection where it is a point like others."""
    import shapely

    if crs.is_geographic:
        return shapes
    pole = shapely.Point(_transformer("EPSG:4326", crs.to_wkt()).transform(0, -90))
    if not np.isfinite(shapely.get_coordinates(pole)).all():
        return shapes
    there = shapely.intersects(shapes, pole)
    # In the polar plane, this small circle is the largest: it takes many edges.
    shapes[there] = shapely.difference(shapes[there], pole.buffer(radius, quad_segs=360))
    return shapes


def _valid(shape: "BaseGeometry") -> "BaseGeometry":
    import shapely

    return shape if shape.is_valid else shapely.make_valid(shape)


def _wide_steps(points: np.ndarray) -> np.ndarray:
    steps = np.abs(np.diff(points[:, 0]))
    return (steps > 180) & (steps < 360 - 1e-6)


def _continue_longitudes(points: np.ndarray) -> np.ndarray:
    steps = np.where(_wide_steps(points), -np.sign(np.diff(points[:, 0])), 0.0)
    turns = np.concatenate([[0.0], np.cumsum(steps)])
    return np.column_stack([points[:, 0] + 360 * turns, points[:, 1]])


def _map_lines(shape: Any) -> "BaseGeometry":
    """Continue each ring or line as a whole."""
    import shapely

    if shape.geom_type == "Polygon":
        rings = [_continue_longitudes(np.asarray(ring.coords)) for ring in lines_of(shape)]
        return shapely.Polygon(rings[0], [_beside(ring, rings[0]) for ring in rings[1:]])
    if shape.geom_type in ("LineString", "LinearRing"):
        return shapely.LineString(_continue_longitudes(np.asarray(shape.coords)))
    return shape


def _beside(hole: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Move a hole by whole turns to where the outline went."""
    turns = np.round((outline[:, 0].mean() - hole[:, 0].mean()) / 360)
    return np.column_stack([hole[:, 0] + 360 * turns, hole[:, 1]])


@functools.cache
def _furthest() -> float:
    return float(np.hypot(*_transformer("EPSG:4326", POLAR).transform(0, _SOUTH_DEGREES)))


@functools.lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> "Transformer":
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)
