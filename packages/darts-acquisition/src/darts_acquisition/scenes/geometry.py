"""Areas of interest, around the poles and across the antimeridian, and simple shapes for services.

The polar plane is the Lambert azimuthal equal-area projection around the North Pole (Snyder 1987, section 24), in which
neither the antimeridian nor the pole is special. It is singular at the South Pole only, around which everything ends at
89.9° S.
"""

import functools
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
from pyproj import CRS, Transformer
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from darts_acquisition.cube.areas import make_valid, within_180
from darts_acquisition.errors import AreaError, RepairedGeometryWarning, WideEdgeWarning
from darts_acquisition.tile import AnyPath

if TYPE_CHECKING:
    import geopandas as gpd

POLAR = "+proj=laea +lat_0=90 +lon_0=0 +datum=WGS84 +units=m"
_SOUTH_DEGREES = -89.9
_SOUTH_M = 12_000
"""A little more than the distance from the South Pole to 89.9° S."""
_STEP_M, _STEP_DEGREES = 20_000, 0.25
"""Edges are cut into pieces of this length before they are projected, so that they bend as they should."""


def to_polar(shapes: Sequence[BaseGeometry], crs: object) -> list[BaseGeometry | None]:
    """Project geometries to the polar plane, in metres, valid; None for each that has coordinates outside its CRS."""
    crs = pyproj.CRS.from_user_input(crs)
    unit = 1.0 if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
    step = _STEP_DEGREES if crs.is_geographic else _STEP_M / unit
    flat = shapely.force_2d(np.array(shapes, dtype=object))
    finite = np.isin(np.arange(flat.size), not_finite(flat), invert=True)
    flat[finite] = shapely.segmentize(_without_south_pole(flat[finite], crs, _SOUTH_M / unit), step)
    flat[finite] = shapely.transform(flat[finite], functools.partial(project, crs=crs.to_wkt()))
    finite[not_finite(flat)] = False
    return [make_valid(shape) if fine else None for shape, fine in zip(flat, finite, strict=True)]


def project(points: np.ndarray, crs: str) -> np.ndarray:
    """Return points, float64 (n, 2), in the polar plane; not finite outside the CRS, at 89.9° S if south of that."""
    lon, lat = _transformer(crs, "EPSG:4326").transform(*points.T)
    # Beyond the pole there is nothing: what lies there is left to fail.
    lat = np.where(lat > -90 - 1e-9, np.maximum(lat, _SOUTH_DEGREES), lat)
    return np.column_stack(_transformer("EPSG:4326", POLAR).transform(lon, lat))


def from_polar(points: np.ndarray) -> np.ndarray:
    """Return points of the polar plane as longitudes and latitudes, float64 (n, 2); none is south of 89.9° S."""
    furthest = np.hypot(*_transformer("EPSG:4326", POLAR).transform(0, _SOUTH_DEGREES))
    inside = points * np.minimum(1.0, furthest / np.maximum(np.hypot(*points.T), 1.0))[:, np.newaxis]
    return np.column_stack(_transformer(POLAR, "EPSG:4326").transform(*inside.T))


def continued(shape: BaseGeometry) -> tuple[BaseGeometry, bool]:
    """Let longitudes run on where an edge jumps by more than half the globe, and say whether there was such an edge.

    An edge of just 360° runs along a parallel around the globe, and stays.
    """
    shape = shapely.force_2d(shape)
    if not _wide_steps(shapely.get_coordinates(shape)).any():
        return shape, False
    parts = list(shapely.get_parts(shape))
    wide = [any(_wide_steps(np.asarray(line.coords)).any() for line in lines_of(part)) for part in parts]
    shapes = [_map_lines(part) if is_wide else part for part, is_wide in zip(parts, wide, strict=True)]
    return (shapes[0] if len(shapes) == 1 else shapely.GeometryCollection(shapes)), any(wide)


def cut_footprint(footprint: Mapping[str, object]) -> BaseGeometry:
    """Cut a footprint, GeoJSON in degrees whose edges may jump at ±180 or run on, at the antimeridian (RFC 7946)."""
    shape = shapely.geometry.shape(dict(footprint))
    whole, jumps = continued(shape)
    if shape.is_empty or (not jumps and shape.bounds[0] >= -180 and shape.bounds[2] <= 180):
        return shape
    return shapely.union_all(within_180([make_valid(part) for part in shapely.get_parts(whole)]))


def not_finite(shapes: np.ndarray) -> np.ndarray:
    """Return the places of geometries that have coordinates which are no numbers, int64, ascending."""
    points, owners = shapely.get_coordinates(shapes, return_index=True)
    return np.unique(owners[~np.isfinite(points).all(axis=1)])


def lines_of(shape: Any) -> list[Any]:
    """Return the rings of a polygon, the outer one first, or a line itself; nothing of anything else."""
    if shape.geom_type == "Polygon":
        return [shape.exterior, *shape.interiors]
    return [shape] if shape.geom_type in ("LineString", "LinearRing") else []


def _without_south_pole(shapes: np.ndarray, crs: CRS, radius: float) -> np.ndarray:
    """Take the South Pole out of geometries in a projection where it is a point like others."""
    if crs.is_geographic:
        return shapes
    pole = shapely.Point(_transformer("EPSG:4326", crs.to_wkt()).transform(0, -90))
    if not np.isfinite(shapely.get_coordinates(pole)).all():
        return shapes
    holding_pole = shapely.intersects(shapes, pole)
    # In the polar plane, this small circle is the largest: it takes many edges.
    shapes[holding_pole] = shapely.difference(shapes[holding_pole], pole.buffer(radius, quad_segs=360))
    return shapes


def _wide_steps(points: np.ndarray) -> np.ndarray:
    steps = np.abs(np.diff(points[:, 0]))
    return (steps > 180) & (steps < 360 - 1e-6)


def _continue_longitudes(line: shapely.LineString) -> np.ndarray:
    points = np.asarray(line.coords)
    steps = np.where(_wide_steps(points), -np.sign(np.diff(points[:, 0])), 0.0)
    turns = np.concatenate([[0.0], np.cumsum(steps)])
    return np.column_stack([points[:, 0] + 360 * turns, points[:, 1]])


def _map_lines(shape: Any) -> BaseGeometry:
    if shape.geom_type == "Polygon":
        outline, *holes = (_continue_longitudes(ring) for ring in lines_of(shape))
        for hole in holes:  # They go to where the outline went.
            hole[:, 0] += 360 * np.round((outline[:, 0].mean() - hole[:, 0].mean()) / 360)
        return shapely.Polygon(outline, holes)
    if shape.geom_type in ("LineString", "LinearRing"):
        return shapely.LineString(_continue_longitudes(shape))
    return shape


@functools.lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


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


def simple_query(shape: BaseGeometry) -> BaseGeometry | None:
    """Return a geometry of at most 400 vertices that holds an area, in degrees, cut at the antimeridian.

    An area of the polar plane, valid, of more vertices is made coarser in rounds: parts that are close become one, gaps
    are filled, edges are straightened. None if no scene can lie in the area, so close to the pole is it.
    """
    area = shape.difference(_around_the_pole())
    if area.is_empty:
        return None
    parts = shapely.get_parts(area)
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
    most = _MOST_VERTICES // 4
    if parts.size <= most:
        return _FINEST_M
    boxes = shapely.envelope(parts)
    _, distances = shapely.STRtree(boxes).query_nearest(boxes, exclusive=True, all_matches=False, return_distance=True)
    return max(_FINEST_M, float(np.partition(distances, -most)[-most]) / (2 * _REACH))


def _merged(parts: np.ndarray, reach_m: float) -> np.ndarray:
    """Join parts closer than twice the reach, and fill gaps as wide."""
    joined = shapely.get_parts(_grown(parts, reach_m))
    # Buffers are true to 1 percent of their width. GEOS 3.11 takes some small rings for gone, which they cannot be.
    shrunk = shapely.buffer(joined, -0.97 * reach_m, quad_segs=2)
    return shapely.get_parts(np.where(shapely.is_empty(shrunk), joined, shrunk))


def _grown(parts: np.ndarray, distance_m: float) -> BaseGeometry:
    """Return the union of parts and of what is within a distance of them, or little further at corners."""
    return shapely.union_all(shapely.buffer(parts, distance_m, join_style="mitre", mitre_limit=2))


def _in_degrees(shape: BaseGeometry, slack_m: float) -> BaseGeometry:
    """Return a geometry of the polar plane in degrees, cut at the antimeridian, its edges true but for the slack."""

    def to_degrees(points: np.ndarray) -> np.ndarray:
        lon, lat = from_polar(points).T
        # Where the area was cut at the antimeridian, it is to reach it.
        return np.column_stack([np.where(np.abs(lon) > 180 - _CUT_DEGREES, np.sign(lon) * 180, lon), lat])

    # The antimeridian is a straight line from the pole in this plane, upwards.
    antimeridian = shapely.LineString([(0, 0), (0, 2e7)]).buffer(_CUT_M, cap_style="flat")
    rings = [
        [_bent_ring(np.asarray(ring.coords), slack_m) for ring in lines_of(part)] for part in shapely.get_parts(shape)
    ]
    bent = [shapely.Polygon(outline, holes) for outline, *holes in rings]
    cut = shapely.difference(bent, antimeridian.union(_around_the_pole()))
    degrees = shapely.make_valid(shapely.transform(cut, to_degrees))
    parts = shapely.get_parts(shapely.get_parts(degrees))
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def _bent_ring(points: np.ndarray, slack_m: float) -> np.ndarray:
    """Halve edges until, between the same ends, those that are straight in degrees differ by no more than the slack."""
    while True:
        middles, degrees = (points[:-1] + points[1:]) / 2, from_polar(points)
        steps = np.diff(degrees, axis=0)
        steps[:, 0] = (steps[:, 0] + 180) % 360 - 180
        straight, true = (project(points, "EPSG:4326") for points in (degrees[:-1] + steps / 2, from_polar(middles)))
        far = np.flatnonzero(np.hypot(*(straight - true).T) > slack_m)
        if not far.size:
            return points
        points = np.insert(points, far + 1, middles[far], axis=0)


def _around_the_pole() -> BaseGeometry:
    return shapely.Point(0, 0).buffer(_EMPTY_POLE_M, quad_segs=8)


logger = logging.getLogger(__name__)
_NAMED = 10
"""So many geometries a message names."""


class Area:
    """An area of interest.

    Args:
        geometry: Everything that belongs to it, in EPSG:4326 or any other CRS; empty ones do not count.

    Raises:
        AreaError: If it has no CRS, no geometry that is not empty, or one with coordinates outside the CRS. The message
            names them.
    """

    def __init__(self, geometry: "gpd.GeoDataFrame | gpd.GeoSeries") -> None:
        if not (hasattr(geometry, "geometry") and hasattr(geometry, "crs")):
            raise AreaError(
                f"{geometry!r:.80} of type {type(geometry).__name__} is no area of interest; expected a GeoDataFrame "
                "or a GeoSeries with a CRS. A file is read with Area.read."
            )
        if geometry.crs is None:
            raise AreaError("The area of interest has no CRS; name one, for example with GeoDataFrame.set_crs.")
        given = _given(geometry)
        if given.empty:
            raise AreaError("The area of interest is empty: it holds no geometry with an extent or a place.")
        shapes = list(given)
        _refuse(not_finite(given.array), given)
        if geometry.crs.is_geographic:
            pairs = [continued(shape) for shape in shapes]
            shapes = [shape for shape, _ in pairs]
            if any(wide for _, wide in pairs):
                warnings.warn(
                    "The area of interest has edges of more than 180° of longitude, read as crossing the antimeridian. "
                    "Where they run the other way around the globe, give them vertices in between.",
                    WideEdgeWarning,
                    stacklevel=2,
                )
        invalid = sum(not shape.is_valid for shape in shapes)
        if invalid:
            warnings.warn(
                f"{invalid} of {len(shapes)} geometries of the area of interest are invalid and were repaired.",
                RepairedGeometryWarning,
                stacklevel=2,
            )
            # The other method would make holes of parts in one another.
            shapes = [shape if shape.is_valid else shapely.make_valid(shape, method="structure") for shape in shapes]
        projected = to_polar(shapes, geometry.crs)
        _refuse([index for index, shape in enumerate(projected) if shape is None], given)
        self._shape = shapely.union_all(projected)
        shapely.prepare(self._shape)

    @classmethod
    def read(cls, path: AnyPath) -> "Area":
        """Read an area from all layers of any vector file that geopandas reads, each in its own CRS.

        Raises:
            AreaError: If the file cannot be read, or the area cannot be used. The message names file and layer.
        """
        where = str(path)
        try:
            layers = read_layers(path)
            # In the CRS of another layer, edges would run elsewhere, and around a pole nowhere.
            filled = {name: layer for name, layer in layers.items() if not _given(layer).empty} or layers
            areas = []
            for name, layer in filled.items():
                where = f"{path}, layer {name!r}" if len(layers) > 1 and filled is not layers else str(path)
                areas.append(cls(layer))
        except AreaError as error:
            raise AreaError(f"{where}: {error}") from error
        area = areas[0]
        if len(areas) > 1:
            area._shape = shapely.union_all([each._shape for each in areas])
            shapely.prepare(area._shape)
        return area

    def query(self) -> dict[str, object] | None:
        """Return a simple geometry in degrees that holds the area, as GeoJSON; None if no scene can lie there."""
        simple = simple_query(self._shape)
        return None if simple is None else mapping(simple)

    def touches(self, footprint: Mapping[str, object]) -> bool:
        """Say whether a footprint, GeoJSON in degrees, cut at the antimeridian or not, shares a point with the area."""
        shape = shapely.geometry.shape(dict(footprint))
        (projected,) = [None] if shape.is_empty else to_polar([continued(shape)[0]], "EPSG:4326")
        return projected is not None and bool(self._shape.intersects(projected))


def read_layers(path: AnyPath) -> "dict[str, gpd.GeoDataFrame]":
    """Read a vector file: all layers with geometries (a KML's folders are such) by name, each in its own CRS.

    AreaError if the file is absent, no vector file, or only some of its layers that hold something have a CRS.
    """
    import geopandas as gpd
    import pyogrio
    import pyogrio.errors

    file = Path(path)
    if not file.exists():
        raise AreaError("there is no such file; correct the path.")
    try:
        if file.suffix.lower() in (".parquet", ".geoparquet"):
            return {file.stem: gpd.read_parquet(file)}
        names = [name for name, kind in pyogrio.list_layers(file) if kind is not None]
        layers = {name: gpd.read_file(file, engine="pyogrio", layer=name) for name in names}
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError, ValueError) as error:
        raise AreaError(f"it cannot be read as a vector file ({error}).") from error
    if not layers:
        raise AreaError("it holds no layer with geometries.")
    filled = {name: layer for name, layer in layers.items() if not _given(layer).empty}
    lacking = [name for name, layer in filled.items() if layer.crs is None]
    if 0 < len(lacking) < len(filled):
        raise AreaError(f"its layers {', '.join(map(repr, lacking))} have no CRS, and others do; give each one.")
    if len(layers) > 1 and not lacking:
        logger.info("%s: its %d layers count together: %s.", file, len(layers), ", ".join(map(repr, layers)))
    return layers


def _given(geometry: "gpd.GeoDataFrame | gpd.GeoSeries") -> "gpd.GeoSeries":
    """Return the geometries of a table that are not empty."""
    shapes = geometry.geometry
    return shapes[~(shapes.isna() | shapes.is_empty)]


def _refuse(indices: Sequence[int] | np.ndarray, given: "gpd.GeoSeries") -> None:
    if not len(indices):
        return
    names = ", ".join(str(given.index[index]) for index in indices[:_NAMED]) + (", …" if len(indices) > _NAMED else "")
    raise AreaError(
        f"{len(indices)} of {len(given)} geometries of the area of interest cannot be projected: they have coordinates "
        f"outside {given.crs.name} (index {names}). Correct them, or name the CRS that they are in."
    )
