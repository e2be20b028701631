"""Maps to evaluate: a year of a dataset, drawn onto grids where labels are."""

from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from darts_evaluation.errors import PredictionsError
from darts_evaluation.ground import burn, frame_of
from darts_evaluation.labels import Labels
from darts_evaluation.predictions import TileMap
from darts_evaluation.seam import LONLAT, to_world

_HALF_TURN = 180.0
_WINDOW_PX = 2048
_USUAL_PIXEL_M = 10.0
_ZONE_DEGREES = 6
_NORTH, _SOUTH = 32600, 32700
"""EPSG codes of the UTM zones, less the number of the zone."""


def is_dataset(folder: Path) -> bool:
    """Tell whether a folder is a dataset of darts-dataset."""
    return (folder / "dataset.json").is_file()


def dataset_maps(folder: Path, labels: Labels, year: int | None = None) -> Iterator[TileMap]:
    """Yield the objects of a year as maps of the ground where labels are.

    Args:
        folder: A dataset of darts-dataset.
        labels: Labels; the maps cover their area, or where that is not known the labels and what lies on them.
        year: Year of the dataset, None for its only one.

    Yields:
        Maps of squares in UTM with the pixels of the scenes: mapped where an object's `geometry` is, seen where the
        coverage of the year is, without probabilities but for the objects' mean. An object has the same index in all
        maps.

    Raises:
        PredictionsError: If the year must be named or is not there, or a table is not there or cannot be read.
    """
    year = _year(folder, year)
    looked_at = _looked_at(folder, labels, year)
    if looked_at.is_empty:
        return
    seen = _read(folder / f"coverage/year={year}", ["geometry"], looked_at).explode()
    objects = _read(folder / f"level2/year={year}", ["mean_probability", "geometry"], looked_at)
    objects = objects.rename(columns={"mean_probability": "mean"})
    detections = sorted(folder.glob(f"level1/source=*/year={year}"))
    grids = [_read(part, ["crs", "pixel_m", "geometry"], looked_at) for part in detections]
    for zone, crs, here in _zones(looked_at):
        pixel, left, top = _grid(grids, crs)
        near = [_near(table, here).to_crs(crs) for table in (seen, objects)]
        for transform, shape in _windows(here.to_crs(crs).make_valid().union_all(), pixel, left, top):
            frame = frame_of(transform, shape)
            ground, found = (each.iloc[np.sort(each.sindex.query(frame, predicate="intersects"))] for each in near)
            ground = burn(ground.geometry, transform, shape)
            mapped = burn(found.geometry, transform, shape) & ground
            name = f"{zone} {transform.c:.0f} {transform.f:.0f}"
            yield TileMap(name, found.crs.to_wkt(), transform, mapped, ground, found)


def _year(folder: Path, year: int | None) -> int:
    years = sorted(int(path.name.partition("=")[2]) for path in folder.glob("coverage/year=*"))
    if year is None and len(years) == 1:
        return years[0]
    if year not in years:
        wanted = "no year was named" if year is None else f"{year} was named"
        found = ", ".join(map(str, years)) or "none"
        raise PredictionsError(f"{folder} is a dataset with the years {found}, and {wanted}; expected one of them.")
    return year


def _looked_at(folder: Path, labels: Labels, year: int) -> BaseGeometry:
    """Return the ground that is looked at, in longitude and latitude."""
    if labels.area is not None:
        area = gpd.GeoSeries([labels.area], crs=labels.outlines.crs)
        return to_world(area).make_valid().union_all()
    outlines = to_world(labels.outlines.geometry)
    if not len(outlines):
        return shapely.Polygon()
    objects = _read(folder / f"level2/year={year}", ["geometry"], shapely.box(*outlines.total_bounds))
    touched = objects.iloc[np.unique(objects.sindex.query(outlines, predicate="intersects")[1])]
    bounds = np.concatenate([_bounds_of(each.to_numpy()) for each in (outlines, touched.geometry)])
    return shapely.union_all(shapely.box(*bounds.T))


def _bounds_of(shapes: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return the bounds of shapes in longitude and latitude, (n, 4); of those that are cut at 180°, of both sides."""
    bounds = shapely.bounds(shapes).reshape(-1, 4)
    cut = bounds[:, 2] - bounds[:, 0] > _HALF_TURN
    parts = [shapely.get_parts(shape) for shape in shapes[cut]]
    sides = [
        shapely.bounds(shapely.union_all(side))
        for each in parts
        for east in (True, False)
        if len(side := each[(shapely.bounds(each)[:, 0] >= 0) == east])
    ]
    return np.concatenate([bounds[~cut], np.reshape(sides, (-1, 4))])


def _read(part: Path, columns: list[str], looked_at: BaseGeometry) -> gpd.GeoDataFrame:
    """Read what of a part of a dataset lies in the bounds of some places; one with many rows has several files.

    Raises:
        PredictionsError: If there is none, which is not the same as a part without rows, or it cannot be read.
    """
    paths = sorted(part.glob("*.parquet"))
    if not paths:
        raise PredictionsError(f"{part} holds no table, so that nothing is known there; build the dataset again.")
    tables = []
    for path in paths:
        try:
            tables.append(gpd.read_parquet(path, columns=columns, bbox=looked_at.bounds))
        except (OSError, ValueError) as error:
            raise PredictionsError(f"{path} cannot be read: {' '.join(str(error).split()).rstrip('.')}.") from error
    some = [table for table in tables if len(table)] or tables[:1]
    return gpd.GeoDataFrame(pd.concat(some, ignore_index=True), crs=some[0].crs)


def _zones(looked_at: BaseGeometry) -> Iterator[tuple[str, str, gpd.GeoSeries]]:
    """Yield the UTM zones that places lie in: name, CRS, and the part of the places."""
    for number in range(1, 61):
        west = -180 + _ZONE_DEGREES * (number - 1)
        for letter, code, south, north in (("N", _NORTH, 0, 90), ("S", _SOUTH, -90, 0)):
            part = shapely.intersection(looked_at, shapely.box(west, south, west + _ZONE_DEGREES, north))
            if part.area > 0:
                dense = shapely.segmentize(part, 0.01)
                yield f"{number:02d}{letter}", f"EPSG:{code + number}", gpd.GeoSeries([dense], crs=LONLAT)


def _near(table: gpd.GeoDataFrame, here: gpd.GeoSeries) -> gpd.GeoDataFrame:
    """Return the rows that lie near some places; shapes that reach far beyond the zone are cut, since it does not."""
    west, south, east, north = here.total_bounds
    box = shapely.box(west - _ZONE_DEGREES, south, east + _ZONE_DEGREES, north)
    rows = table.iloc[np.sort(table.sindex.query(box, predicate="intersects"))].copy()
    bounds = rows.bounds
    far = (bounds["maxx"] - bounds["minx"] > 4 * _ZONE_DEGREES).to_numpy()
    rows.loc[far, "geometry"] = rows.loc[far, "geometry"].intersection(box)
    return rows


def _grid(tables: list[gpd.GeoDataFrame], crs: str) -> tuple[float, float, float]:
    """Return the pixel of the finest scenes in a CRS and where their grid begins, modulo the pixel."""
    wanted = pyproj.CRS(crs)
    here = [table[[pyproj.CRS(each) == wanted for each in table["crs"]]] for table in tables]
    rows = [table.loc[table["pixel_m"].idxmin()] for table in here if len(table)]
    if not rows:
        return _USUAL_PIXEL_M, 0.0, 0.0
    row = min(rows, key=lambda each: each["pixel_m"])
    bounds = gpd.GeoSeries([row["geometry"]], crs=LONLAT).to_crs(crs).total_bounds
    pixel = float(row["pixel_m"])
    return pixel, float(np.round(bounds[0] % pixel, 3)), float(np.round(bounds[3] % pixel, 3))


def _windows(
    looked_at: BaseGeometry, pixel: float, left: float, top: float
) -> Iterator[tuple[Affine, tuple[int, int]]]:
    """Yield the grids of squares in which places lie, cropped to them."""

    def ends(low: float, high: float, phase: float) -> Iterator[tuple[int, int]]:
        first, last = int(np.floor((low - phase) / pixel)), int(np.ceil((high - phase) / pixel))
        for begin in range(first // _WINDOW_PX, -(-last // _WINDOW_PX)):
            yield max(begin * _WINDOW_PX, first), min((begin + 1) * _WINDOW_PX, last)

    xmin, ymin, xmax, ymax = looked_at.bounds
    shapely.prepare(looked_at)
    for bottom, upper in ends(ymin, ymax, top):
        for begin, end in ends(xmin, xmax, left):
            transform = Affine(pixel, 0, left + begin * pixel, 0, -pixel, top + upper * pixel)
            shape = (upper - bottom, end - begin)
            if shapely.intersects(looked_at, frame_of(transform, shape)):
                yield transform, shape
