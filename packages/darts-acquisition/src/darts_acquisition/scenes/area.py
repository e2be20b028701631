"""Areas of interest: read from any vector file, simplified for a query, exact for the final filter."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_acquisition.errors import AreaError, RepairedGeometryWarning, WideEdgeWarning
from darts_acquisition.scenes.geometry import continued, not_finite, simple_query, to_polar

if TYPE_CHECKING:
    import geopandas as gpd
    import numpy as np
    from shapely.geometry.base import BaseGeometry

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
        import shapely

        if geometry.crs is None:
            raise AreaError("The area of interest has no CRS; name one, for example with GeoDataFrame.set_crs.")
        given = geometry.geometry
        given = given[~(given.isna() | given.is_empty)]
        if given.empty:
            raise AreaError("The area of interest is empty: it holds no geometry with an extent or a place.")
        shapes = list(given)
        _refuse(not_finite(given.array), given)
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
        projected = to_polar(shapes, geometry.crs)
        _refuse([place for place, shape in enumerate(projected) if shape is None], given)
        self._shape = shapely.union_all(projected)
        shapely.prepare(self._shape)

    @classmethod
    def read(cls, path: "str | os.PathLike[str]") -> "Area":
        """Read an area from all layers of any vector file that geopandas reads.

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
        from shapely.geometry import mapping

        simple = simple_query(self._shape)
        return None if simple is None else mapping(simple)

    def touches(self, footprint: Mapping[str, Any]) -> bool:
        """Say whether a footprint, GeoJSON in degrees, cut at the antimeridian or not, shares a point with the area."""
        import shapely

        shape = shapely.geometry.shape(dict(footprint))
        if shape.is_empty:
            return False
        (projected,) = to_polar([continued(shape)[0]], "EPSG:4326")
        return projected is not None and bool(self._shape.intersects(projected))


def read_vector_file(path: "str | os.PathLike[str]") -> "gpd.GeoDataFrame":
    """Read a vector file, all layers with geometries (a KML's folders are such), in the CRS of the first.

    Raises:
        AreaError: If the file is absent, no vector file, or only some of its layers have a CRS.
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
        frames = [gpd.read_file(file, engine="pyogrio", layer=layer) for layer in layers]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError, ValueError) as error:
        raise AreaError(f"it cannot be read as a vector file ({error}).") from error
    if not frames:
        raise AreaError("it holds no layer with geometries.")
    lacking = [layer for layer, frame in zip(layers, frames, strict=True) if frame.crs is None]
    if 0 < len(lacking) < len(frames):
        raise AreaError(f"its layers {', '.join(map(repr, lacking))} have no CRS, and others do; give each one.")
    if len(frames) == 1 or lacking:
        return frames[0] if len(frames) == 1 else _joined(frames)
    logger.info("%s: its %d layers count together: %s.", file, len(layers), ", ".join(map(repr, layers)))
    return _joined([frame.to_crs(frames[0].crs) for frame in frames])


def _joined(frames: "list[gpd.GeoDataFrame]") -> "gpd.GeoDataFrame":
    import pandas as pd

    # Layers without a geometry, and columns without a value, have no type that others could be joined with.
    filled = [frame for frame in frames if not frame.geometry.isna().all()] or frames[:1]
    return pd.concat([frame.dropna(axis="columns", how="all") for frame in filled], ignore_index=True)


def _refuse(places: "Sequence[int] | np.ndarray", given: "gpd.GeoSeries") -> None:
    """Raise an error that names the geometries at these places, if there are any."""
    if not len(places):
        return
    names = ", ".join(str(given.index[place]) for place in places[:_NAMED]) + (", …" if len(places) > _NAMED else "")
    raise AreaError(
        f"{len(places)} of {len(given)} geometries of the area of interest cannot be projected: they have coordinates "
        f"outside {given.crs.name} (index {names}). Correct them, or name the CRS that they are in."
    )


def _continue_all(shapes: "list[BaseGeometry]") -> "list[BaseGeometry]":
    """Let longitudes run on across the antimeridian, with a warning where that is a guess."""
    pairs = [continued(shape) for shape in shapes]
    if any(wide for _, wide in pairs):
        warnings.warn(
            "The area of interest has edges of more than 180° of longitude, read as crossing the antimeridian. "
            "Where they run the other way around the globe, give them vertices in between.",
            WideEdgeWarning,
            stacklevel=3,
        )
    return [shape for shape, _ in pairs]
