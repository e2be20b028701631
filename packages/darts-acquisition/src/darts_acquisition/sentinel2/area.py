"""Areas of interest: read from any vector file, simplified for a query, exact for the final filter.

All geometry is done in the Lambert azimuthal equal-area projection around the North Pole (Snyder 1987, section 24), in
which neither the antimeridian nor the pole is special. It is singular at the South Pole only.
"""

import functools
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.sentinel2.errors import AreaError, RepairedGeometryWarning, WideEdgeWarning

if TYPE_CHECKING:
    import geopandas as gpd
    from pyproj import Transformer
    from shapely.geometry.base import BaseGeometry

_POLAR = "+proj=laea +lat_0=90 +lon_0=0 +datum=WGS84 +units=m"
_STEP_M, _STEP_DEGREES = 20_000, 0.25
"""Edges are cut into pieces of this length before they are projected, so that they bend as they should."""
_MARGIN_M = 1_000
"""A query reaches this much further: its edges are straight in degrees, those of the area are not."""
_MOST_VERTICES = 400
"""Of a query's polygon, before its edges are cut; services refuse requests that are too long."""
_EMPTY_POLE_M = 300_000
"""No scene lies closer to the pole; Sentinel-2's orbits end at 84°."""
_CUT_M, _CUT_DEGREES = 1, 5e-4
"""Half the width of the cut at the antimeridian, and what that is in degrees at most, `_EMPTY_POLE_M` from the pole."""


class Area:
    """An area of interest.

    Args:
        geometry: Everything that belongs to it, in EPSG:4326 or any other CRS; empty ones do not count.

    Raises:
        AreaError: If it has no CRS, or no geometry that is not empty.
    """

    def __init__(self, geometry: "gpd.GeoDataFrame | gpd.GeoSeries") -> None:
        import shapely

        if geometry.crs is None:
            raise AreaError("The area of interest has no CRS; name one, for example with GeoDataFrame.set_crs.")
        shapes = [shape for shape in geometry.geometry if shape is not None and not shape.is_empty]
        if not shapes:
            raise AreaError("The area of interest is empty: it holds no geometry with an extent or a place.")
        if geometry.crs.is_geographic:
            shapes = _continue_all(shapes)
        invalid = sum(not shape.is_valid for shape in shapes)
        if invalid:
            warnings.warn(
                f"{invalid} of {len(shapes)} geometries of the area of interest are invalid and were repaired.",
                RepairedGeometryWarning,
                stacklevel=2,
            )
            shapes = [shape if shape.is_valid else shapely.make_valid(shape) for shape in shapes]
        self._shape = shapely.union_all([_to_polar(shape, geometry.crs) for shape in shapes])
        if self._shape.is_empty:
            raise AreaError("The area of interest cannot be projected: its coordinates lie outside its CRS.")
        shapely.prepare(self._shape)

    @classmethod
    def read(cls, path: "str | os.PathLike[str]") -> "Area":
        """Read an area from any vector file that geopandas reads.

        Args:
            path: The file; of several layers the first one with geometries counts.

        Returns:
            The area.

        Raises:
            AreaError: If the file cannot be read, or the area cannot be used.
        """
        try:
            return cls(read_vector_file(path))
        except AreaError as error:
            raise AreaError(f"{path}: {error}") from error

    def query(self) -> dict[str, Any] | None:
        """Return a simple geometry in degrees that holds the area, as GeoJSON cut at the antimeridian.

        Returns:
            A Polygon or MultiPolygon; None if no scene can lie there, so close to the pole is it.
        """
        import shapely

        shape = _simplify(self._shape).difference(shapely.Point(0, 0).buffer(_EMPTY_POLE_M))
        # The antimeridian is a straight line from the pole in this projection, upwards.
        cut = shape.difference(shapely.LineString([(0, 0), (0, 2e7)]).buffer(_CUT_M, cap_style="flat"))
        if cut.is_empty:
            return None
        degrees = shapely.transform(cut.segmentize(_STEP_M), _from_polar)
        valid = degrees if degrees.is_valid else shapely.make_valid(degrees)
        parts = [part for part in getattr(valid, "geoms", [valid]) if part.geom_type in ("Polygon", "MultiPolygon")]
        return shapely.geometry.mapping(shapely.union_all(parts))

    def touches(self, footprint: Mapping[str, Any]) -> bool:
        """Say whether a footprint shares a point with the area.

        Args:
            footprint: GeoJSON geometry in degrees, whether cut at the antimeridian or not.

        Returns:
            Whether it does, exactly.
        """
        import shapely

        shape = shapely.geometry.shape(dict(footprint))
        if shape.is_empty:
            return False
        return bool(self._shape.intersects(_to_polar(_continue(shape)[0], "EPSG:4326")))


def read_vector_file(path: "str | os.PathLike[str]") -> "gpd.GeoDataFrame":
    """Read a vector file, the first layer with geometries where it has several.

    Raises:
        AreaError: If the file is absent or no vector file.
    """
    import geopandas as gpd
    import pyogrio
    import pyogrio.errors

    file = Path(path)
    if not file.exists():
        raise AreaError("there is no such file; correct the path.")
    try:
        if file.suffix.lower() in (".parquet", ".geoparquet"):
            return gpd.read_parquet(file)
        layers = [name for name, kind in pyogrio.list_layers(file) if kind is not None]
        if layers:
            return gpd.read_file(file, engine="pyogrio", layer=layers[0])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError, ValueError) as error:
        raise AreaError(f"it cannot be read as a vector file ({error}).") from error
    raise AreaError("it holds no layer with geometries.")


def _to_polar(shape: "BaseGeometry", crs: Any) -> "BaseGeometry":
    import pyproj
    import shapely

    crs = pyproj.CRS.from_user_input(crs)
    shape = shapely.force_2d(shape)
    if crs.is_geographic:
        shape = shape.segmentize(_STEP_DEGREES)
    else:
        shape = shape.segmentize(_STEP_M / crs.axis_info[0].unit_conversion_factor)
    transformer = _transformer(crs.to_wkt(), _POLAR)
    points = shapely.transform(shape, lambda points: np.column_stack(transformer.transform(*points.T)))
    if not np.isfinite(shapely.get_coordinates(points)).all():
        return shapely.GeometryCollection()
    return points if points.is_valid else shapely.make_valid(points)


def _continue_all(shapes: "list[BaseGeometry]") -> "list[BaseGeometry]":
    """Let longitudes run on across the antimeridian, with a warning where that is a guess."""
    continued = [_continue(shape) for shape in shapes]
    if any(wide for _, wide in continued):
        warnings.warn(
            "The area of interest has edges of more than 180° of longitude, read as crossing the antimeridian. "
            "Where they run the other way around the globe, give them vertices in between.",
            WideEdgeWarning,
            stacklevel=3,
        )
    return [shape for shape, _ in continued]


def _continue(shape: "BaseGeometry") -> "tuple[BaseGeometry, bool]":
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
    wide = [any(_wide_steps(np.asarray(line.coords)).any() for line in _lines(part)) for part in parts]
    continued = [_map_lines(part) if is_wide else part for part, is_wide in zip(parts, wide, strict=True)]
    return (continued[0] if len(continued) == 1 else shapely.GeometryCollection(continued)), any(wide)


def _wide_steps(points: np.ndarray) -> np.ndarray:
    steps = np.abs(np.diff(points[:, 0]))
    return (steps > 180) & (steps < 360 - 1e-6)


def _continue_longitudes(points: np.ndarray) -> np.ndarray:
    steps = np.where(_wide_steps(points), -np.sign(np.diff(points[:, 0])), 0.0)
    turns = np.concatenate([[0.0], np.cumsum(steps)])
    return np.column_stack([points[:, 0] + 360 * turns, points[:, 1]])


def _lines(shape: Any) -> list[Any]:
    if shape.geom_type == "Polygon":
        return [shape.exterior, *shape.interiors]
    return [shape] if shape.geom_type in ("LineString", "LinearRing") else []


def _map_lines(shape: Any) -> "BaseGeometry":
    """Continue each ring or line as a whole."""
    import shapely

    if shape.geom_type == "Polygon":
        rings = [_continue_longitudes(np.asarray(ring.coords)) for ring in _lines(shape)]
        return shapely.Polygon(rings[0], [_beside(ring, rings[0]) for ring in rings[1:]])
    if shape.geom_type in ("LineString", "LinearRing"):
        return shapely.LineString(_continue_longitudes(np.asarray(shape.coords)))
    return shape


def _beside(hole: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Move a hole by whole turns to where the outline went."""
    turns = np.round((outline[:, 0].mean() - hole[:, 0].mean()) / 360)
    return np.column_stack([hole[:, 0] + 360 * turns, hole[:, 1]])


def _simplify(shape: "BaseGeometry") -> "BaseGeometry":
    """Return a geometry of few vertices that holds the shape and the margin around it."""
    import shapely

    if shapely.get_num_coordinates(shape) <= _MOST_VERTICES:
        return shape.buffer(_MARGIN_M, quad_segs=1, join_style="mitre")
    tolerance = 250.0
    while True:
        # Simplifying moves an outline by the tolerance at most, all rounds together by less than twice the last; the
        # buffer keeps the whole shape inside, and merges parts that are close.
        shape = shape.simplify(tolerance)
        simple = shape.buffer(3 * tolerance + _MARGIN_M, quad_segs=2).simplify(tolerance)
        if shapely.get_num_coordinates(simple) <= _MOST_VERTICES:
            return simple
        tolerance *= 2


def _from_polar(points: np.ndarray) -> np.ndarray:
    transformer = _transformer(_POLAR, "EPSG:4326")
    lon, lat = transformer.transform(*points.T)
    # Where the area was cut at the antimeridian, it is to reach it.
    lon = np.where(np.abs(lon) > 180 - _CUT_DEGREES, np.sign(lon) * 180, lon)
    return np.column_stack([lon, lat])


@functools.lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> "Transformer":
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)
