"""Tables of polygons as GeoPackage and GeoParquet, some rows at a time."""

import io
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from darts_export.styles import STYLE_TABLE, style_row
from darts_export.vectors import STATISTICS_UNIT
from darts_utils import step
from darts_utils.geopackage import settle_geopackage, write_geopackage

_GPKG = {"driver": "GPKG", "geometry_type": "MultiPolygon"}
_TIME = "acquisition_time"


def write_vectors(frames: Iterator[gpd.GeoDataFrame], geopackage: Path, parquet: Path, style: str, layer: str) -> None:
    """Write a table as GeoPackage, with a default style for QGIS, and as GeoParquet 1.1 with bounding boxes.

    Args:
        frames: Parts of the table, at least one; their `attrs` become metadata of the layer and of the table in the
            other file. One is in memory at a time, and the others as GeoParquet.
        geopackage: The GeoPackage.
        parquet: The GeoParquet file, with a row group for each part.
        style: "objects" or "extent".
        layer: Name of the layer in the GeoPackage.

    Raises:
        OSError: If a file cannot be written.
    """
    parts = list(_into_geopackage(frames, geopackage, style, layer))
    # Arrow leaves a file that it opened itself open where the disk is full.
    with step("writing GeoParquet"), parquet.open("wb") as file:
        _write_parquet(file, parts)


def _into_geopackage(frames: Iterator[gpd.GeoDataFrame], path: Path, style: str, layer: str) -> Iterator[io.BytesIO]:
    """Write each part into the GeoPackage, and yield it as GeoParquet."""
    rows: list[int] = []
    created: list[tuple[str, str, str]] = []
    for frame in frames:
        with step("writing GeoPackage"):
            if not rows:
                _create(frame, path, style, layer)
            else:
                created = created or _schema_of(path)
                _write_frame(frame, path, append=True, layer=layer, **_GPKG)
        rows.append(len(frame))
        with step("writing GeoParquet"):
            content = io.BytesIO()
            frame.to_parquet(content, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)
        del frame
        yield content
    if len(rows) > 1:
        with step("writing GeoPackage"):
            settle_geopackage(path, partial(_finish, layer=layer, created=created, rows=rows))


def _create(frame: gpd.GeoDataFrame, path: Path, style: str, layer: str) -> None:
    content = io.BytesIO()
    about = {"dataset_options": {"VERSION": "1.3"}, "layer_metadata": dict(frame.attrs) or None}
    _write_frame(frame, content, layer=layer, **_GPKG, **about)
    write_geopackage(path, content, partial(_complete, style=style, layer=layer))


def _write_frame(frame: gpd.GeoDataFrame, target: Path | io.BytesIO, **options: object) -> None:
    try:
        pyogrio.write_dataframe(frame, target, use_arrow=True, **options)
    except (DataLayerError, DataSourceError, FeatureError, RuntimeError) as error:
        raise OSError(f"GeoPackage: {error}") from error


def _schema_of(path: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return _schema(connection)


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()


def _finish(
    connection: sqlite3.Connection, layer: str, created: list[tuple[str, str, str]], rows: Sequence[int]
) -> None:
    """Check that all parts are there, since GDAL goes on where the disk fails, and write times as in the first."""
    name = layer.replace('"', '""')
    counts = (
        f'SELECT (SELECT count(*) FROM "{name}"), (SELECT count(*) FROM "rtree_{name}_geom"), '  # noqa: S608
        "(SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = ?)"
    )
    found = list(connection.execute(counts, [layer]).fetchone())
    if found != [sum(rows)] * 3 or _schema(connection) != created:
        raise ValueError(f"it was not written whole: {found} rows in table, index and count, not {sum(rows)}")
    for function in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
        # Named by triggers of the index, and not called where geometries stay.
        connection.create_function(function, 1, lambda _: None)
    # Thousandths of a second, as the format wants them, which GDAL leaves away in rows that are appended.
    connection.execute(
        f"UPDATE \"{name}\" SET {_TIME} = substr({_TIME}, 1, 19) || '.000Z' WHERE fid > ? AND {_TIME} NOT LIKE '%.%'",  # noqa: S608
        [rows[0]],
    )


def _write_parquet(file: io.BufferedIOBase, parts: Sequence[io.BytesIO]) -> None:
    """Write one part as it is, several as row groups of one file."""
    if len(parts) == 1:
        file.write(parts[0].getbuffer())
        return
    schemas = [pq.read_schema(part) for part in parts]
    about = schemas[0].metadata | {b"geo": _of_all([json.loads(schema.metadata[b"geo"]) for schema in schemas])}
    with pq.ParquetWriter(file, schemas[0].with_metadata(about), compression="zstd") as writer:
        for part in parts:
            writer.write_table(pq.read_table(part, partitioning=None).replace_schema_metadata(about))


def _of_all(described: list[dict[str, Any]]) -> str:
    """Return what GeoParquet says of all parts: as of each, and the bounding box around theirs."""
    whole = described[0]
    column = whole["columns"][whole["primary_column"]]
    boxes = np.array([each["columns"][each["primary_column"]]["bbox"] for each in described])
    column["bbox"] = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    return json.dumps(whole)


def _complete(connection: sqlite3.Connection, style: str, layer: str) -> None:
    """Add the style, and write the names of metadata whole, in which GDAL takes the first colon for the end."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_metadata'").fetchone():
        for name, value in STATISTICS_UNIT.items():
            wrong = '<MDI key="{}">{}={}<'.format(*name.split(":"), value)
            whole = f'<MDI key="{name}">{value}<'
            connection.execute("UPDATE gpkg_metadata SET metadata = replace(metadata, ?, ?)", [wrong, whole])
    connection.execute(STYLE_TABLE)
    connection.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0)"
    )
    row = style_row(layer, style)
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO layer_styles ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
