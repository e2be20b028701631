"""Tables of the dataset: GeoParquet 1.1 in the order of a Hilbert curve, and copies as GeoPackage."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError

from darts_dataset.geometry import Geometries
from darts_dataset.memory import COPIES
from darts_dataset.styles import qgis_style
from darts_utils.geopackage import settle_geopackage

Take = Callable[[NDArray[np.int64]], Geometries]
"""Reads geometries by number."""


@dataclass(frozen=True)
class Shapes:
    """Geometries of some rows by column, as WKB, and the bounds of the primary ones, (n, 4) float64, degrees."""

    wkb: Mapping[str, pa.Array]
    bounds: NDArray[np.float64]


_ROWS = 10_000
"""Rows that are in memory with their geometries, and that a row group holds."""
MOST_ROWS = 2_000
"""Rows of a file: a table of more has a file for each quarter of the globe, or for the quarters of these, and so on."""
LEVEL = 16
"""How often the globe is quartered at most, which makes cells of 600 m by 300 m."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def shapes_of(**geometries: Geometries) -> Shapes:
    """Return geometries by column, the primary ones first, as they are written."""
    bounds = shapely.bounds(next(iter(geometries.values()))).reshape(-1, 4)
    return Shapes({name: pa.array(shapely.to_wkb(each), pa.binary()) for name, each in geometries.items()}, bounds)


def hilbert_positions(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return where points (longitude and latitude, degrees, (n, 2)) lie on a Hilbert curve over the globe, (n,)."""
    if not len(points):
        return np.empty(0, np.int64)
    found = gpd.GeoSeries(shapely.points(points)).hilbert_distance(total_bounds=(-180, -90, 180, 90), level=LEVEL)
    return found.to_numpy().astype(np.int64)


def cells_along(positions: NDArray[np.int64], rows: NDArray[np.int64], table: str) -> Iterator[tuple[str, slice]]:
    """Yield the files of a table along the curve: the globe, quartered where it has too many rows, and so on.

    Args:
        positions: Positions on the curve, sorted, (n,).
        rows: Number of rows at each, (n,).
        table: Name of the table.

    Yields:
        Name of a file without its ending, the table's with the numbers of its quarters appended, and its
        places; one file where there are none.
    """
    ends = np.concatenate([[0], np.cumsum(rows)])

    def cells(first: int, end: int, digits: str) -> Iterator[tuple[str, slice]]:
        left = LEVEL - len(digits)
        if not left or ends[end] - ends[first] <= MOST_ROWS:
            yield f"{table}-{digits}" if digits else table, slice(first, end)
            return
        corner = int(digits or "0", 4) << 2 * left
        edges = corner + (np.arange(5) << 2 * (left - 1))
        for quarter, (start, stop) in enumerate(pairwise(np.searchsorted(positions, edges).tolist())):
            if stop > start:
                yield from cells(start, stop, f"{digits}{quarter}")

    yield from cells(0, len(positions), "")


def write_table(
    path: Path,
    attributes: pa.Table,
    columns: Sequence[str],
    shapes: Callable[[NDArray[np.int64]], Shapes],
    order: NDArray[np.int64],
) -> None:
    """Write a table as GeoParquet 1.1 (zstd, bounding boxes as covering).

    Args:
        path: The file.
        attributes: The other columns.
        columns: Names of those with geometries, the primary one first.
        shapes: What reads the geometries of rows, in OGC:CRS84.
        order: Numbers of the rows in the order of the file.

    Raises:
        OSError: If the file cannot be written.
    """
    box = pa.struct([(side, pa.float64()) for side in _SIDES])
    texts = [pa.types.is_dictionary(each.type) for each in attributes.schema]
    types = [each.type.value_type if text else each.type for each, text in zip(attributes.schema, texts, strict=True)]
    plain = [pa.field(name, dtype) for name, dtype in zip(attributes.schema.names, types, strict=True)]
    schema = pa.schema([*plain, *(pa.field(name, pa.binary()) for name in columns), pa.field("bbox", box)])

    def group(first: int) -> tuple[pa.Table, NDArray[np.float64]]:
        rows = order[first : first + _ROWS]
        found = shapes(rows)
        others = attributes.take(pa.array(rows)).cast(pa.schema(plain))
        outlines = [found.wkb[name] for name in columns]
        boxes = pa.StructArray.from_arrays(list(found.bounds.T), fields=list(box))
        return pa.Table.from_arrays([*others.columns, *outlines, boxes], schema=schema), found.bounds

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = np.empty((0, 4))
    # Without Arrow's copy of the schema, which would hide what is added at the end.
    options: dict[str, object] = {"compression": "zstd", "compression_level": 1, "store_schema": False}
    names = attributes.schema.names
    options |= {"use_dictionary": names, "write_statistics": [*names, *(f"bbox.{side}" for side in _SIDES)]}
    with path.open("wb") as file, pq.ParquetWriter(file, schema, **options) as writer:
        for table, bounds in map(group, range(0, max(len(order), 1), _ROWS)):
            writer.write_table(table, row_group_size=_ROWS)
            whole = np.concatenate([whole, bounds])
            if len(whole):
                whole = np.concatenate([whole[:, :2].min(axis=0), whole[:, 2:].max(axis=0)])[None]
        writer.add_key_value_metadata({"geo": json.dumps(_described(columns, whole))})


def write_copy(root: Path, name: str, constant: Mapping[str, object]) -> None:
    """Copy a table to a GeoPackage with a style for QGIS.

    Args:
        root: The dataset.
        name: The GeoParquet file within it; the GeoPackage and its style have the same name below `COPIES`.
        constant: What the GeoPackage has beside its columns: values by name, equal in all rows.

    Raises:
        OSError: If a file cannot be written.
    """
    copy = (root / COPIES / name).with_suffix(".gpkg")
    copy.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetFile(root / name) as file:
        primary, *more = geometry_columns(file.schema_arrow)
        names = [column for column in file.schema_arrow.names if column not in (*more, "bbox")]
        for number in range(max(file.num_row_groups, 1)):
            part = file.read_row_group(number, names, use_threads=False)
            _append_geopackage(copy, part, primary, constant, number == 0)
    settle_geopackage(copy)
    copy.with_suffix(".qml").write_text(qgis_style(copy.stem.partition("-")[0]), "utf-8")


def read_wkb(path: Path, column: str = "geometry") -> Iterator[pa.Array]:
    """Yield the geometries of a file as WKB, some at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=[column]):
            yield batch.column(0)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> tuple[pa.Table, NDArray[np.float64]]:
    """Read columns, None for all but geometries, and bounding boxes: west, south, east, north, degrees, (n, 4)."""
    with pq.ParquetFile(path) as file:
        left = {*geometry_columns(file.schema_arrow), "bbox"}
        chosen = [name for name in file.schema_arrow.names if name not in left] if columns is None else columns
        table = file.read([*chosen, "bbox"], use_threads=False)
    boxes = table["bbox"].combine_chunks()
    return table.drop_columns(["bbox"]), np.column_stack([boxes.field(side).to_numpy() for side in _SIDES])


def read_attributes(path: Path) -> pa.Table:
    """Read all columns but geometries and their bounding boxes."""
    with pq.ParquetFile(path) as file:
        left = set(geometry_columns(file.schema_arrow)) | {"bbox"}
        return file.read([name for name in file.schema_arrow.names if name not in left])


def read_links(path: Path) -> pd.DataFrame:
    """Read ``links.parquet``, with years and texts that may be absent."""
    frame = pq.read_table(path, partitioning=None).to_pandas()
    texts = {name: "string" for name in frame.columns if frame[name].dtype == object}
    return frame.astype({"year_from": "Int16", **texts})


def table_bounds(path: Path) -> tuple[int, list[float] | None]:
    """Return the number of rows of a file and the bounds that its metadata say, None where it has no rows."""
    with pq.ParquetFile(path) as file:
        described = json.loads(file.schema_arrow.metadata[b"geo"])
        return file.metadata.num_rows, described["columns"][described["primary_column"]].get("bbox")


def geometry_columns(schema: pa.Schema) -> list[str]:
    """Name the columns that hold geometries, the primary one first."""
    described = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
    primary = described.get("primary_column")
    return sorted(described.get("columns", {}), key=lambda name: (name != primary, name))


def _described(columns: Sequence[str], whole: NDArray[np.float64]) -> dict[str, object]:
    """Return what GeoParquet 1.1 wants to know; without a CRS it is OGC:CRS84."""
    primary = columns[0]
    described: dict[str, dict[str, object]] = {
        name: {"encoding": "WKB", "geometry_types": ["MultiPolygon"], "edges": "planar"} for name in columns
    }
    if len(whole):
        described[primary]["bbox"] = whole[0].tolist()
    described[primary]["covering"] = {"bbox": {side: ["bbox", side] for side in _SIDES}}
    return {"version": "1.1.0", "primary_column": primary, "columns": described}


def _append_geopackage(
    path: Path, part: pa.Table, primary: str, constant: Mapping[str, object], is_first: bool
) -> None:
    for column_index, column in enumerate(part.schema):
        if pa.types.is_list(column.type):
            part = part.set_column(column_index, column.name, pc.binary_join(part[column.name].combine_chunks(), ", "))
    for name, value in reversed(list(constant.items())):
        part = part.add_column(1, name, pa.repeat(pa.scalar(value), len(part)))
    try:
        pyogrio.write_arrow(
            part.replace_schema_metadata(None),
            path,
            layer=path.stem,
            driver="GPKG",
            geometry_name=primary,
            geometry_type="MultiPolygon",
            crs="OGC:CRS84",
            append=not is_first,
            dataset_options={"VERSION": "1.3"} if is_first else None,
        )
    except (DataSourceError, RuntimeError) as error:
        raise OSError(f"{path.name}: {error}") from error
