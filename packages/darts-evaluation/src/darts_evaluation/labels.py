"""Labels: the outlines that people drew, who drew them, and where they looked."""

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import shapely
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from darts_evaluation.errors import LabelsError, NoLabelAreaWarning, RepairedLabelsWarning
from darts_evaluation.seam import join_at_seam, to_degrees
from darts_utils import InputTypeError

_EXPERTS = ("expert", "experts", "annotator", "labeler", "labeller")
"""Columns that are taken for the name of who drew an outline, where no column is named."""
_STEP_DEGREES, _STEP_M = 0.01, 500.0
"""Distance of the points along the edges of an area, before it is transformed."""


@dataclass(frozen=True)
class Labels:
    """Outlines of slumps, and where they are complete.

    Attributes:
        outlines: One row per slump, with valid polygons or multipolygons; `expert` names who drew it, "" where that is
            not known.
        area: Where every slump was drawn, as one shape in the CRS of `outlines`; None where nobody knows.
    """

    outlines: gpd.GeoDataFrame
    area: BaseGeometry | None

    @property
    def experts(self) -> list[str]:
        """Names of who drew them, sorted."""
        return sorted(set(self.outlines["expert"]))

    @property
    def equal_area_crs(self) -> str:
        """The equal-area CRS of the hemisphere that they lie in (NSIDC's EASE-Grid 2.0, in metres)."""
        return _hemisphere(self.outlines.geometry)

    def of(self, expert: str) -> "Labels":
        """Return what one expert drew."""
        return replace(self, outlines=self.outlines[self.outlines["expert"] == expert].reset_index(drop=True))

    def to_crs(self, crs: object) -> "Labels":
        """Return the labels in another CRS."""
        area = None if self.area is None else gpd.GeoSeries([self.area], crs=self.outlines.crs).to_crs(crs).iloc[0]
        return Labels(self.outlines.to_crs(crs), area)


def _hemisphere(shapes: gpd.GeoSeries) -> str:
    """Return the equal-area CRS of the hemisphere that some shapes lie in."""
    return "EPSG:6932" if len(shapes) and shapes.to_crs("EPSG:4326").total_bounds[3] < 0 else "EPSG:6931"


def check_labels(value: object) -> None:
    """Pass labels.

    Raises:
        InputTypeError: If it is anything else. The message says how labels are made.
    """
    if not isinstance(value, Labels):
        raise InputTypeError(
            f"Expected Labels, but got a {type(value).__name__}; `read_labels(file, area_file)` reads them from files, "
            "and `make_labels(outlines, area)` makes them of tables."
        )


def read_labels(
    path: str | os.PathLike[str],
    area: str | os.PathLike[str] | None = None,
    *,
    expert_column: str | None = None,
) -> Labels:
    """Read labels from a vector file.

    Args:
        path: Any vector file: polygons in any CRS. All layers count.
        area: Vector file of the area in which the labels are complete; None if nobody knows.
        expert_column: Column that names who drew an outline; None for a column with one of the usual names, if there is
            one.

    Returns:
        The labels. Invalid outlines are repaired (parts in one another are joined, holes taken away); empty ones,
        points, lines, and what the same expert drew twice are left out; with a `RepairedLabelsWarning`. A file without
        any outline says that there is no slump.

    Raises:
        InputTypeError: If `path` or `area` is no path.
        LabelsError: If a file cannot be read, has no CRS or coordinates that its CRS does not have, holds other things
            than polygons only, or no polygon (an area), or lacks the column or names in it.
    """
    for given in (path, area):
        if not isinstance(given, str | os.PathLike | None):
            raise InputTypeError(
                f"Expected a vector file, but got a {type(given).__name__}; `make_labels` makes labels of tables."
            )
    table = _read(path)
    column = _expert_column(table, expert_column, path)
    outlines = _outlines(table, column, path)
    if area is None:
        warnings.warn(
            f"Nothing says where the labels of {path} are complete, so nothing is said about false alarms; name the "
            "area's file.",
            NoLabelAreaWarning,
            stacklevel=2,
        )
        return Labels(outlines, None)
    return Labels(outlines, _union(_read(area).geometry, outlines.crs, area))


def make_labels(outlines: gpd.GeoDataFrame, area: gpd.GeoDataFrame | gpd.GeoSeries | None = None) -> Labels:
    """Make labels out of tables, see `read_labels`.

    Args:
        outlines: Polygons; a column `expert` may name who drew each.
        area: Where they are complete, in any CRS; None if nobody knows.

    Returns:
        The labels, in the CRS of `outlines`.

    Raises:
        InputTypeError: If `outlines` or `area` is no table of geometries.
        LabelsError: If a table has no CRS or coordinates that its CRS does not have, holds other things than polygons
            only, or no polygon (an area), or if experts have no names.
    """
    for given in (outlines, area):
        if given is not None and not (hasattr(given, "geometry") and hasattr(given, "crs")):
            raise InputTypeError(
                f"Expected a GeoDataFrame, but got a {type(given).__name__}; `read_labels` reads labels from a file."
            )
    if outlines.crs is None or (area is not None and area.crs is None):
        raise LabelsError("The labels or their area have no CRS; set the right one first (GeoDataFrame.set_crs).")
    table = _outlines(outlines, "expert" if "expert" in outlines else None, "The table of labels")
    return Labels(table, None if area is None else _union(area.geometry, outlines.crs, "The table of the area"))


def _read(path: str | os.PathLike[str]) -> gpd.GeoDataFrame:
    file = Path(path)
    if not file.exists():
        raise LabelsError(f"There is no {file}; expected a vector file.")
    try:
        if file.suffix in (".parquet", ".geoparquet"):
            parts = [gpd.read_parquet(file)]
        else:
            layers = [name for name, kind in pyogrio.list_layers(file) if kind is not None]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Non closed ring")  # such a file is refused
                parts = [gpd.read_file(file, layer=name) for name in layers]
    except (OSError, ValueError, RuntimeError, GEOSException) as error:
        if file.is_dir():
            raise LabelsError(
                f"{file} is a folder; expected a vector file of polygons. Results come first, labels after them."
            ) from error
        found = " ".join(str(error).split()).rstrip(".")
        raise LabelsError(f"{file} cannot be read as a vector file of polygons: {found}.") from error
    parts = [part for part in parts if isinstance(part, gpd.GeoDataFrame) and len(part)] or parts[:1]
    if not parts:
        raise LabelsError(f"{file} has no layer with geometries; expected polygons.")
    if any(part.crs is None for part in parts):
        raise LabelsError(f"{file} names no CRS; expected one, such as EPSG:32608. Set the right one first.")
    crs = parts[0].crs
    return gpd.GeoDataFrame(pd.concat([part.to_crs(crs) for part in parts], ignore_index=True), crs=crs)


def _union(shapes: gpd.GeoSeries, crs: pyproj.CRS, path: object) -> BaseGeometry:
    polygons, _ = _polygons(shapes, path)
    if not len(polygons):
        raise LabelsError(f"{path} holds no polygon; expected the area in which the labels are complete.")
    # Points along its edges, since a straight edge is none in another CRS.
    step = _STEP_DEGREES if shapes.crs.is_geographic else _STEP_M / shapes.crs.axis_info[0].unit_conversion_factor
    dense = gpd.GeoSeries(shapely.segmentize(polygons.to_numpy(), step), crs=shapes.crs)
    if crs.is_geographic and not shapes.crs.is_geographic:
        return to_degrees(dense, crs, _hemisphere(dense)).union_all()
    return dense.to_crs(crs).make_valid().union_all()


def _outlines(table: gpd.GeoDataFrame, column: str | None, path: object) -> gpd.GeoDataFrame:
    """Return valid outlines with who drew them, each once."""
    shapes, kept = _polygons(table.geometry, path)
    nameless = int(table.loc[kept, column].isna().sum()) if column else 0
    if nameless:
        raise LabelsError(
            f"{path}: {nameless} of {int(kept.sum())} outlines have no name in the column {column!r}; expected one for "
            "each, or no such column."
        )
    experts = table.loc[kept, column].astype(str).to_numpy() if column else np.full(len(shapes), "")
    outlines = gpd.GeoDataFrame({"expert": experts}, geometry=shapes, crs=table.crs)
    again = pd.DataFrame({"who": experts, "what": shapely.to_wkb(shapely.normalize(shapes.to_numpy()))}).duplicated()
    if again.any():
        warnings.warn(
            f"{path}: {int(again.sum())} outlines are there more than once and count once.",
            RepairedLabelsWarning,
            stacklevel=3,
        )
    return outlines[~again.to_numpy()].reset_index(drop=True)


def _polygons(shapes: gpd.GeoSeries, path: object) -> tuple[gpd.GeoSeries, np.ndarray]:
    """Return valid polygons and multipolygons, and which of the shapes they are."""
    given = shapely.force_2d(np.asarray(shapes.values, dtype=object))
    _check_coordinates(given, shapes.crs, path)
    if shapes.crs.is_geographic:
        given, joined = join_at_seam(given)
        if joined.any():
            warnings.warn(
                f"{path}: {int(joined.sum())} shapes have an edge from one side of 180° to the other and are taken to "
                "cross it; add points along that edge if they reach around the pole instead.",
                RepairedLabelsWarning,
                stacklevel=4,
            )
    invalid = ~(shapely.is_valid(given) | shapely.is_missing(given))
    # The other method would make holes of parts in one another, and ground of holes that overlap.
    given[invalid] = shapely.make_valid(given[invalid], method="structure", keep_collapsed=False)
    made = np.array([_areal(shape) for shape in given], dtype=object)
    kept = np.array([shape is not None for shape in made], bool)
    if len(given) and not kept.any() and not (shapely.is_missing(given) | shapely.is_empty(given)).all():
        kinds = ", ".join(sorted(set(shapes.geom_type.dropna())))
        raise LabelsError(f"{path} holds no polygon; found {kinds}, expected polygons.")
    if invalid.any() or not kept.all():
        warnings.warn(
            f"{path}: {int((invalid & kept).sum())} invalid outlines were repaired, {int((~kept).sum())} without an "
            "area left out.",
            RepairedLabelsWarning,
            stacklevel=4,
        )
    return gpd.GeoSeries(list(made[kept]), crs=shapes.crs), kept


def _check_coordinates(shapes: np.ndarray, crs: pyproj.CRS, path: object) -> None:
    """Refuse coordinates that are no numbers, or no degrees where the CRS has degrees."""
    points = shapely.get_coordinates(shapes)
    if not np.isfinite(points).all():
        raise LabelsError(f"{path} has coordinates that are no numbers; expected finite ones.")
    if crs.is_geographic and len(points) and (np.abs(points) > (360, 90)).any():
        x, y = points[np.abs(points / (360, 90)).max(axis=1).argmax()]
        raise LabelsError(
            f"{path} is in {crs.name}, which has degrees, but has a point at ({x:g}, {y:g}); set the CRS that its "
            "coordinates are in first."
        )


def _areal(shape: BaseGeometry | None) -> BaseGeometry | None:
    """Return the parts of a shape that have an area, None where there are none."""
    if shape is None or shape.is_empty:
        return None
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape if shape.area > 0 else None
    parts = [part for part in shapely.get_parts(shape) if shapely.get_dimensions(part) == 2]
    return shapely.union_all(parts) if parts else None


def _expert_column(table: gpd.GeoDataFrame, wanted: str | None, path: object) -> str | None:
    if wanted is not None:
        if wanted not in table:
            columns = ", ".join(str(name) for name in table.columns if name != table.geometry.name)
            raise LabelsError(f"{path} has no column {wanted!r}; it has {columns}.")
        return wanted
    names = {str(name).lower(): str(name) for name in table.columns}
    return next((names[name] for name in _EXPERTS if name in names), None)
