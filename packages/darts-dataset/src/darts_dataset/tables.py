"""Tables of the dataset: GeoParquet 1.1 in the order of a Hilbert curve, and copies as GeoPackage."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from darts_dataset.geometry import Geometries
from darts_dataset.memory import COPIES
from darts_dataset.styles import qgis_style
from darts_utils.geopackage import settle_geopackage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Take = Callable[[NDArray[np.int64]], Geometries]
"""Reads geometries by number."""

_ROWS = 30_000
"""Rows that are in memory with their geometries, and that a row group holds."""
_LEVEL = 16


def hilbert_order(bounds: NDArray[np.float64], names: NDArray[Any]) -> NDArray[np.int64]:
    """Order rows along a Hilbert curve over the globe, and by name where they are at one place.

    Args:
        bounds: West, south, east, north in degrees, (n, 4).
        names: Texts, (n,).

    Returns:
        Numbers of the rows, (n,) int64.
    """
    import geopandas as gpd

    if not len(bounds):
        return np.empty(0, np.int64)
    middles = gpd.GeoSeries(gpd.points_from_xy((bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 1] + bounds[:, 3]) / 2))
    distance = middles.hilbert_distance(total_bounds=(-180, -90, 180, 90), level=_LEVEL).to_numpy()
    return np.lexsort((names, distance))


def write_table(
    root: Path,
    name: str,
    attributes: "pa.Table",
    geometries: Mapping[str, Take],
    bounds: NDArray[np.float64],
    order: NDArray[np.int64],
    constant: Mapping[str, Any],
) -> None:
    """Write a table as GeoParquet 1.1 (zstd, bounding boxes as covering), and as GeoPackage with a style for QGIS.

    Args:
        root: The dataset.
        name: The GeoParquet file within it; the GeoPackage and its style have the same name below `COPIES`.
        attributes: The other columns.
        geometries: What reads the geometries of each column, in OGC:CRS84; the first one is the primary one.
        bounds: Bounds of the primary geometries, (n, 4) float64, degrees.
        order: Numbers of the rows in the order of the file.
        constant: What the GeoPackage has beside these columns: values by name, equal in all rows.

    Raises:
        OSError: If a file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, copy = root / name, (root / COPIES / name).with_suffix(".gpkg")
    primary = next(iter(geometries))
    box = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])
    fields = [*attributes.schema, *(pa.field(column, pa.binary()) for column in geometries), pa.field("bbox", box)]
    schema = pa.schema(fields, {b"geo": json.dumps(_described(geometries, bounds)).encode()})
    for each in (path, copy):
        each.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd", compression_level=3) as writer:
        for first in range(0, max(len(order), 1), _ROWS):
            rows = order[first : first + _ROWS]
            columns = [column.combine_chunks() for column in attributes.take(pa.array(rows)).columns]
            shapes = {column: take(rows) for column, take in geometries.items()}
            columns += [pa.array(shapely.to_wkb(each), pa.binary()) for each in shapes.values()]
            columns.append(pa.StructArray.from_arrays(list(bounds[rows].T), fields=list(box)))
            if not len(rows):
                columns = [pa.array([], field.type) for field in schema]
            part = pa.Table.from_arrays(columns, schema=schema)
            writer.write_table(part, row_group_size=_ROWS)
            _append_geopackage(copy, part, constant, shapes[primary], not first)
    settle_geopackage(copy)
    copy.with_suffix(".qml").write_text(qgis_style(copy.stem), "utf-8")


def read_geometries(path: Path, column: str = "geometry") -> Iterator[Geometries]:
    """Yield the geometries of a file, some at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=[column]):
            yield shapely.from_wkb(batch.column(0).to_numpy(zero_copy_only=False))


def read_attributes(path: Path) -> "pa.Table":
    """Read all columns but geometries and their bounding boxes."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        left = set(geometry_columns(file.schema_arrow)) | {"bbox"}
        return file.read([name for name in file.schema_arrow.names if name not in left])


def read_links(path: Path) -> "pd.DataFrame":
    """Read ``links.parquet``, with years and texts that may be absent."""
    import pyarrow.parquet as pq

    frame = pq.read_table(path).to_pandas()
    texts = {name: "string" for name in frame.columns if frame[name].dtype == object}
    return frame.astype({"year_from": "Int16", **texts})


def table_bounds(path: Path) -> tuple[int, list[float] | None]:
    """Return the number of rows of a file and the bounds that its metadata say, None where it has no rows."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        described = json.loads(file.schema_arrow.metadata[b"geo"])
        return file.metadata.num_rows, described["columns"][described["primary_column"]].get("bbox")


def geometry_columns(schema: "pa.Schema") -> list[str]:
    """Name the columns that hold geometries, the primary one first."""
    described = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
    primary = described.get("primary_column")
    return sorted(described.get("columns", {}), key=lambda name: (name != primary, name))


def _described(geometries: Mapping[str, Take], bounds: NDArray[np.float64]) -> dict[str, Any]:
    """Return what GeoParquet 1.1 wants to know; without a CRS it is OGC:CRS84."""
    columns: dict[str, Any] = {
        name: {"encoding": "WKB", "geometry_types": ["MultiPolygon"], "edges": "planar"} for name in geometries
    }
    primary = next(iter(geometries))
    if len(bounds):
        columns[primary]["bbox"] = [*bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist()]
    columns[primary]["covering"] = {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}}
    return {"version": "1.1.0", "primary_column": primary, "columns": columns}


def _append_geopackage(
    path: Path, part: "pa.Table", constant: Mapping[str, Any], geometries: Geometries, is_first: bool
) -> None:
    import geopandas as gpd
    import pyogrio
    from pyogrio.errors import DataSourceError

    left = set(geometry_columns(part.schema)) | {"bbox"}
    flat = part.select([name for name in part.schema.names if name not in left]).to_pandas()
    for name, column in flat.items():
        if len(column) and isinstance(column.iloc[0], np.ndarray | list):
            flat[name] = [", ".join(map(str, each)) for each in column]
    for name in reversed(list(constant)):
        flat.insert(1, name, [constant[name]] * len(flat))
    frame = gpd.GeoDataFrame(flat, geometry=geometries, crs="OGC:CRS84")
    try:
        pyogrio.write_dataframe(
            frame,
            path,
            layer=path.stem,
            driver="GPKG",
            geometry_type="MultiPolygon",
            append=not is_first,
            dataset_options={"VERSION": "1.3"} if is_first else None,
        )
    except (DataSourceError, RuntimeError) as error:
        raise OSError(f"{path.name}: {error}") from error
