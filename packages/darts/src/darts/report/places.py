"""Where the tiles of a run lie on one map."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
import shapely.affinity
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod, Transformer
from shapely.geometry.base import BaseGeometry

_ZONE_DEGREES = 4.5
"""Distance from the middle of a UTM zone up to which it is used, which is one and a half times its half width."""


@dataclass(frozen=True)
class Projection:
    """The projection of a map.

    Attributes:
        crs: EPSG code as a text.
        name: What it is called on the page.
        middle: Longitude around which longitudes are counted, degrees.
    """

    crs: str
    name: str
    middle: float

    def project(self, longitude: ArrayLike, latitude: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return eastings and northings in metres of places in degrees (WGS 84)."""
        transformer = Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)
        x, y = transformer.transform(np.asarray(longitude, float), np.asarray(latitude, float))
        return np.asarray(x), np.asarray(y)


def read_footprints(texts: pd.Series) -> NDArray[np.object_]:
    """Parse footprints; None where there is none, or one that cannot be read.

    Args:
        texts: WKT in longitude and latitude, empty where unknown.

    Returns:
        Array of polygons or None, in the same order.
    """
    polygons = shapely.from_wkt([text or None for text in texts], on_invalid="ignore")
    usable = [shape is not None and shape.geom_type == "Polygon" and not shape.is_empty for shape in polygons]
    found = np.asarray(polygons, object)
    found[~np.array(usable, bool)] = None
    return found


def choose_projection(footprints: NDArray[np.object_]) -> Projection:
    """Choose the UTM zone that holds all footprints, or else the equal-area projection of their pole.

    Args:
        footprints: Polygons in longitude and latitude, or None.

    Returns:
        The projection.
    """
    shapes = [shape for shape in footprints if shape is not None]
    if not shapes:
        return Projection("EPSG:6931", "EASE-Grid 2.0 North (EPSG:6931)", 0.0)
    bounds = shapely.bounds(np.array(shapes, object))
    south = bounds[:, 1].mean() < 0
    # Around the longitude of the first, so that tiles on both sides of the antimeridian lie together.
    west = _around(bounds[:, 0], bounds[0, 0])
    east = west + bounds[:, 2] - bounds[:, 0]
    middle = (west.min() + east.max()) / 2
    zone = int((middle + 180) // 6) % 60 + 1
    centre = _around(np.array([6 * zone - 183.0]), middle)[0]
    if max(east.max() - centre, centre - west.min()) <= _ZONE_DEGREES and np.abs(bounds[:, 1::2]).max() < 84:
        code = (32700 if south else 32600) + zone
        return Projection(f"EPSG:{code}", f"UTM zone {zone}{'S' if south else 'N'} (EPSG:{code})", float(middle))
    code, pole = (6932, "South") if south else (6931, "North")
    return Projection(f"EPSG:{code}", f"EASE-Grid 2.0 {pole}, equal-area (EPSG:{code})", float(middle))


def ground_area_m2(footprints: NDArray[np.object_]) -> tuple[float, float]:
    """Return the area on the ellipsoid of the ground under footprints in m², and of that under more than one.

    Args:
        footprints: Polygons in longitude and latitude, or None.

    Returns:
        Ground that is counted once however many footprints hold it, and the sum of all footprints less that.
    """
    geod = Geod(ellps="WGS84")

    def area(shapes: BaseGeometry | NDArray[np.object_]) -> float:
        parts = [part for part in shapely.get_parts(shapes) if part.geom_type == "Polygon"]
        return sum(abs(geod.geometry_area_perimeter(shapely.orient_polygons(part))[0]) for part in parts)

    shapes = shapely.make_valid(np.array([shape for shape in footprints if shape is not None], object))
    if not len(shapes):
        return 0.0, 0.0
    west = shapely.bounds(shapes)[:, 0]
    turns = _around(west, west[0]) - west  # whole turns, so that both sides of the antimeridian lie together
    placed = [
        shapely.affinity.translate(shape, turn) if turn else shape for shape, turn in zip(shapes, turns, strict=True)
    ]
    once = area(shapely.union_all(placed))
    return once, max(area(shapes) - once, 0.0)


def rings(footprints: NDArray[np.object_], projection: Projection) -> tuple[list[list[float]], list[list[float]]]:
    """Return the corners of footprints on the map, in whole metres; an empty ring where there is none."""
    xs, ys = [], []
    for shape in footprints:
        points = np.empty((0, 2)) if shape is None else shapely.get_coordinates(shape)
        x, y = projection.project(*points.T)
        xs.append(np.round(x).tolist())
        ys.append(np.round(y).tolist())
    return xs, ys


def _around(longitude: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    return np.asarray(middle + (longitude - middle + 180) % 360 - 180, np.float64)
