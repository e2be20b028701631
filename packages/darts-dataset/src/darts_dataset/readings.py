"""What the files of one scene hold: compared with its manifest, and read as rows of the first level."""

import hashlib
import io
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from darts_dataset.dictionary import DETECTIONS, schema_of
from darts_dataset.errors import DatasetError
from darts_dataset.geometry import LONLAT, Geometries, multipolygons, to_lonlat
from darts_dataset.lattice import Grid, Segments, find_grid, outline_segments
from darts_utils.results import MANIFEST_FILE

if TYPE_CHECKING:
    from darts_dataset.scenes import Scene

_FIRST_RELEASE = ("object_uid", "lon", "lat", "perimeter_m", "touches_edge")
"""Columns that results of release 0.1 lack."""
_NEEDED = ("model_names", "min", "max", "mean", "median", "std", "area_m2", "npixel", "Region_ID")


@dataclass(frozen=True)
class SceneDetections:
    """The detections of one scene.

    Attributes:
        table: The columns of the first level, but for geometries; texts that are the same in all rows as dictionary.
        wkb: Outlines in the CRS of the scene, MultiPolygons as WKB, (n,).
        bounds: Their bounds, (n, 4) float64, in units of that CRS.
        crs: That CRS.
        grid: The grid whose pixels the outlines follow; None where they follow none.
        segments: The pixels of each; None likewise.
    """

    table: pa.Table
    wkb: pa.Array
    bounds: NDArray[np.float64]
    crs: str
    grid: Grid | None
    segments: Segments | None


def read_extent(scene: "Scene") -> Geometries:
    """Read the reliable area of a scene.

    Args:
        scene: The scene.

    Returns:
        Polygons in OGC:CRS84, none where nothing was reliable.

    Raises:
        DatasetError: If the file differs from its manifest, or cannot be read.
    """
    _, wkb, crs = _read(scene, scene.folder.extent(), "extent")
    return to_lonlat(_outlines(wkb, scene.folder.extent()), crs)


def check_files(scene: "Scene") -> None:
    """Compare the files of a scene with its manifest.

    Raises:
        DatasetError: If one differs, or cannot be read.
    """
    _content(scene, scene.folder.extent(), "extent")
    _content(scene, scene.folder.segments(), "polygonized")


def measure_detections(scene: "Scene") -> tuple[NDArray[np.float64], str]:
    """Read the bounds of the objects of a scene.

    Returns:
        West, south, east, north, (n, 4) float64, in units of the CRS of the scene, and that CRS.

    Raises:
        DatasetError: If the file differs from its manifest, cannot be read, or lacks a column.
    """
    path = scene.folder.segments()
    _, wkb, crs = _read(scene, path, "polygonized", _NEEDED)
    return shapely.bounds(_detected(wkb, path)).reshape(-1, 4), crs


def model_names(scene: "Scene") -> set[str]:
    """Return the names of the models that a scene was mapped by.

    Raises:
        DatasetError: If its objects cannot be read.
    """
    table, _, _ = _read(scene, scene.folder.segments(), "polygonized", ("model_names",))
    texts = table["model_names"].drop_null().unique().to_pylist()
    return {name.strip() for text in texts for name in str(text).split(",")}


def read_detections(scene: "Scene", look: str) -> SceneDetections:
    """Read the objects of a scene.

    Args:
        scene: The scene.
        look: Name of the look that it belongs to.

    Returns:
        One row per object.

    Raises:
        DatasetError: If the file differs from its manifest, or cannot be read.
    """
    path = scene.folder.segments()
    found, wkb, crs = _read(scene, path, "polygonized", _NEEDED)
    outlines = _detected(wkb, path)
    if len(outlines) and (shapely.get_type_id(outlines) != shapely.GeometryType.MULTIPOLYGON).any():
        outlines = multipolygons(outlines)
        wkb = pa.array(shapely.to_wkb(outlines), pa.binary())
    if missing := [name for name in _FIRST_RELEASE if name not in found.column_names]:
        found = _completed(found, outlines, crs, scene, missing)
    npixel = found["npixel"].to_numpy()
    pixel_m = _pixel(outlines, npixel)
    same = {
        "tile_id": scene.tile_id,
        "look": look,
        "acquisition_time": scene.time,
        "crs": crs,
        "pixel_m": pixel_m,
    }
    columns = {}
    try:
        for field in schema_of(DETECTIONS):
            if field.name in same:
                columns[field.name] = _repeated(same[field.name], len(found), field.type)
            elif field.name == "model_names":
                columns[field.name] = _coded(found[field.name], field.type)
            elif field.name in found.column_names:
                columns[field.name] = _converted(found[field.name], field.type)
            else:
                columns[field.name] = pa.nulls(len(found), field.type)
    except (pa.ArrowException, ValueError) as error:
        raise DatasetError(f"{path} holds other types than an export: {error}. Export the tile again.") from error
    grid, segments = _segments(outlines, crs, pixel_m, npixel)
    return SceneDetections(pa.table(columns), wkb, shapely.bounds(outlines).reshape(-1, 4), crs, grid, segments)


def _segments(
    outlines: Geometries, crs: str, pixel_m: float, npixel: NDArray[np.int64]
) -> tuple[Grid | None, Segments | None]:
    """Return grid and pixels of outlines; nothing where one of them does not follow the pixels that it counts."""
    if not len(outlines):
        return None, None
    grid = find_grid(outlines[0], crs, pixel_m)
    segments = outline_segments(outlines, grid)
    if segments is None or (segments.counts(len(outlines)) != npixel).any():
        return None, None
    return grid, segments


def _repeated(value: object, count: int, dtype: pa.DataType) -> pa.Array:
    if not pa.types.is_string(dtype):
        return pa.repeat(pa.scalar(value, dtype), count)
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], dtype))


def _converted(column: pa.ChunkedArray, dtype: pa.DataType) -> pa.Array:
    """Return a column with the type of the data dictionary."""
    one = column.combine_chunks()
    if pa.types.is_floating(dtype):
        return pa.array(one.cast(dtype).to_numpy(zero_copy_only=False), dtype, from_pandas=True)  # NaN is absent.
    return one.cast(dtype)


def _coded(column: pa.ChunkedArray, dtype: pa.DataType) -> pa.Array:
    """Return texts of which there are few as dictionary."""
    return column.combine_chunks().cast(dtype).dictionary_encode()


def _read(scene: "Scene", path: Path | None, band: str, columns: Sequence[str] = ()) -> tuple[pa.Table, pa.Array, str]:
    """Read a table of a scene, in which some columns are needed: the other columns, the outlines, and their CRS."""
    content = _content(scene, path, band)
    try:
        table = pq.read_table(io.BytesIO(content), use_threads=False)
        described = json.loads((table.schema.metadata or {})[b"geo"])
        name = described["primary_column"]
        geometry = described["columns"][name]
        if geometry["encoding"] != "WKB":
            raise ValueError(f"outlines are encoded as {geometry['encoding']}, not as WKB")  # noqa: TRY301
        crs = crs_name(json.dumps(geometry["crs"]) if "crs" in geometry else LONLAT)
        wkb = table[name].combine_chunks().cast(pa.binary())
        if wkb.null_count:
            raise ValueError(f"{wkb.null_count} rows have no outline")  # noqa: TRY301
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is no whole GeoParquet file: {error}. Export the tile again.") from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise DatasetError(f"{path} lacks the columns {', '.join(missing)}; export the tile again.")
    return table.drop_columns([name]), wkb, crs


def _content(scene: "Scene", path: Path | None, band: str) -> bytes:
    if path is None:
        raise DatasetError(f"{scene.folder.path} holds no {band}.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error
    entry = scene.folder.manifest["files"][path.name]
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise DatasetError(f"{path} was changed: its SHA-256 differs from the one in {MANIFEST_FILE}.")
    return content


def _outlines(wkb: pa.Array, path: Path | None) -> Geometries:
    try:
        return np.asarray(shapely.from_wkb(wkb.to_numpy(zero_copy_only=False)), object)
    except shapely.GEOSException as error:
        raise DatasetError(f"{path} is no whole GeoParquet file: {error}. Export the tile again.") from error


def _detected(wkb: pa.Array, path: Path | None) -> Geometries:
    """Return outlines of detections."""
    outlines = _outlines(wkb, path)
    if nothing := int(shapely.is_empty(outlines).sum()):
        raise DatasetError(f"{path} has {nothing} objects with an empty outline; export the tile again.")
    return outlines


@lru_cache(maxsize=64)
def crs_name(text: str) -> str:
    """Return a short name of a CRS where there is one that says the same, else its WKT.

    Raises:
        ValueError: If there is none.
    """
    if text == "null":
        raise ValueError("the outlines have no CRS")
    crs = CRS.from_user_input(text)
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else str(crs.to_wkt())


def _pixel(outlines: Geometries, npixel: NDArray[np.int64]) -> float:
    """Return the edge of the pixels that outlines follow, NaN if there are no outlines."""
    return float(np.round(np.sqrt(np.median(shapely.area(outlines) / npixel)), 6)) if len(npixel) else float("nan")


def _completed(found: pa.Table, outlines: Geometries, crs: str, scene: "Scene", missing: Sequence[str]) -> pa.Table:
    """Add to objects of release 0.1 what later ones have; whether they were cut was not kept, and counts as no."""
    inside = shapely.get_coordinates(shapely.point_on_surface(outlines))
    lon, lat = Transformer.from_crs(crs, LONLAT, always_xy=True).transform(inside[:, 0], inside[:, 1])
    numbers = found["Region_ID"].to_pylist()
    added = {
        "object_uid": [str(uuid.uuid5(uuid.NAMESPACE_URL, f"{scene.tile_id}|{scene.digest}|{n}")) for n in numbers],
        "lon": lon,
        "lat": lat,
        "perimeter_m": shapely.length(outlines),
        "touches_edge": np.zeros(len(found), np.bool_),
    }
    for name in missing:
        found = found.append_column(name, pa.array(added[name]))
    return found
