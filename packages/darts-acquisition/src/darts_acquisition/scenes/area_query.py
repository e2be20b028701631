"""A simple geometry in degrees that holds an area, for services that take neither many vertices nor bent edges."""

from typing import TYPE_CHECKING

import numpy as np

from darts_acquisition.scenes.polar import from_polar, lines_of, project

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_MOST_VERTICES = 400
"""Of the geometry that is sent, all in all; services refuse requests that are too long."""
_MARGIN_M = 1_000
"""A query reaches at least this much further than the area."""
_SLACK = 0.8
"""Share of the margin by which an edge that is straight in degrees may differ from one in the polar plane."""
_FINEST_M, _COARSER = 250.0, 2**0.5
"""The first tolerance, and what it is multiplied by until the query is short enough."""
_REACH = 3
"""Parts closer than twice as many tolerances become one, and gaps as wide are filled."""
_EMPTY_POLE_M = 300_000
"""No scene lies closer to the pole; Sentinel-2's orbits end at 84°."""
_CUT_M, _CUT_DEGREES = 1, 5e-4
"""Half the width of the cut at the antimeridian, and what that is in degrees at most, `_EMPTY_POLE_M` from the pole."""


def simple_query(shape: "BaseGeometry") -> "BaseGeometry | None":
    """Return a geometry of at most 400 vertices that holds an area.

    An area of more vertices is made coarser in rounds: parts that are close become one, gaps are filled, edges are
    straightened.

    Args:
        shape: The area in the polar plane, valid.

    Returns:
        A Polygon or MultiPolygon in degrees, cut at the antimeridian; None if no scene can lie in the area, so close
        to the pole is it.
    """
    import shapely

    there = shape.difference(_around_the_pole())
    if there.is_empty:
        return None
    parts = shapely.get_parts(there)
    if shapely.get_num_coordinates(parts).sum() <= _MOST_VERTICES:
        query = _in_degrees(_grown(parts, _MARGIN_M), _SLACK * _MARGIN_M)
        if shapely.get_num_coordinates(query) <= _MOST_VERTICES:
            return query
    tolerance, lost = _first_tolerance(parts), 0.0
    while True:
        # A round goes on with what the last one merged, which may have lost so much of the area's edge.
        lost += tolerance / 8
        parts = _merged(shapely.simplify(parts, tolerance / 8), _REACH * tolerance)
        margin = max(_MARGIN_M, 0.3 * tolerance)
        simple = _grown(shapely.simplify(parts, tolerance), lost + tolerance + margin)
        if shapely.get_num_coordinates(simple) <= _MOST_VERTICES:
            query = _in_degrees(simple, _SLACK * margin)
            if shapely.get_num_coordinates(query) <= _MOST_VERTICES:
                return query
        tolerance *= _COARSER


def _first_tolerance(parts: np.ndarray) -> float:
    """Return a tolerance up to which too many parts stay alone, as each needs a ring of four vertices at least."""
    import shapely

    most = _MOST_VERTICES // 4
    if parts.size <= most:
        return _FINEST_M
    boxes = shapely.envelope(parts)
    _, distances = shapely.STRtree(boxes).query_nearest(boxes, exclusive=True, all_matches=False, return_distance=True)
    return max(_FINEST_M, float(np.partition(distances, -most)[-most]) / (2 * _REACH))


def _merged(parts: np.ndarray, reach_m: float) -> np.ndarray:
    """Join parts closer than twice the reach, and fill gaps as wide."""
    import shapely

    joined = shapely.get_parts(_grown(parts, reach_m))
    # Buffers are true to 1 percent of their width. GEOS 3.11 takes some small rings for gone, which they cannot be.
    shrunk = shapely.buffer(joined, -0.97 * reach_m, quad_segs=2)
    return shapely.get_parts(np.where(shapely.is_empty(shrunk), joined, shrunk))


def _grown(parts: np.ndarray, distance_m: float) -> "BaseGeometry":
    """Return the union of parts and of what is within a distance of them, or little further at corners."""
    import shapely

    return shapely.union_all(shapely.buffer(parts, distance_m, join_style="mitre", mitre_limit=2))


def _in_degrees(shape: "BaseGeometry", slack_m: float) -> "BaseGeometry":
    """Return a geometry of the polar plane in degrees, cut at the antimeridian, its edges true but for the slack."""
    import shapely

    # The antimeridian is a straight line from the pole in this plane, upwards.
    antimeridian = shapely.LineString([(0, 0), (0, 2e7)]).buffer(_CUT_M, cap_style="flat")
    bent = [_bent(part, slack_m) for part in shapely.get_parts(shape)]
    cut = shapely.difference(bent, antimeridian.union(_around_the_pole()))
    degrees = shapely.make_valid(shapely.transform(cut, _to_degrees))
    parts = shapely.get_parts(shapely.get_parts(degrees))
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def _bent(polygon: "BaseGeometry", slack_m: float) -> "BaseGeometry":
    import shapely

    rings = [_bent_ring(np.asarray(ring.coords), slack_m) for ring in lines_of(polygon)]
    return shapely.Polygon(rings[0], rings[1:])


def _bent_ring(points: np.ndarray, slack_m: float) -> np.ndarray:
    """Halve edges until, between the same ends, those that are straight in degrees differ by no more than the slack."""
    while True:
        middles, degrees = (points[:-1] + points[1:]) / 2, from_polar(points)
        steps = np.diff(degrees, axis=0)
        steps[:, 0] = (steps[:, 0] + 180) % 360 - 180
        straight, true = (project(place, "EPSG:4326") for place in (degrees[:-1] + steps / 2, from_polar(middles)))
        far = np.flatnonzero(np.hypot(*(straight - true).T) > slack_m)
        if not far.size:
            return points
        points = np.insert(points, far + 1, middles[far], axis=0)


def _to_degrees(points: np.ndarray) -> np.ndarray:
    lon, lat = from_polar(points).T
    # Where the area was cut at the antimeridian, it is to reach it.
    lon = np.where(np.abs(lon) > 180 - _CUT_DEGREES, np.sign(lon) * 180, lon)
    return np.column_stack([lon, lat])


def _around_the_pole() -> "BaseGeometry":
    import shapely

    return shapely.Point(0, 0).buffer(_EMPTY_POLE_M, quad_segs=8)
