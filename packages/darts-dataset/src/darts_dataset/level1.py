"""Level 1: every detection of every scene, by source and year."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from darts_dataset.dictionary import COLUMNS, DETECTIONS
from darts_dataset.geometry import GeometryFile
from darts_dataset.scenes import Scene, read_detections
from darts_dataset.tables import hilbert_order, write_table

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "detections.parquet"


def partition(scene: Scene, year: int) -> str:
    """Return the folder that the detections of a scene belong to, within the dataset; the year is that of its look."""
    return f"level1/source={quote(scene.source, safe='')}/year={year}"


def write_detections(
    root: Path, part: str, scenes: Sequence[Scene], year: int, looks: Mapping[str, str], scratch: Path
) -> None:
    """Write the detections of some scenes.

    Args:
        root: The dataset.
        part: Folder of the detections within it.
        scenes: The scenes, of one source and year.
        year: The year.
        looks: Name of the look of each scene, by name of the scene.
        scratch: A folder for what memory need not hold.

    Raises:
        DatasetError: If results cannot be read, or differ from their manifest.
        OSError: If a file cannot be written.
    """
    import pyarrow as pa

    store = GeometryFile(scratch / "detections.wkb")
    tables = []
    for scene in scenes:
        frame = read_detections(scene, looks[scene.tile_id])
        store.append(frame.geometry.to_numpy())
        flat = frame.drop(columns=["geometry", "source"])
        tables.append(pa.Table.from_pandas(flat, schema_of(DETECTIONS), preserve_index=False))
    bounds = store.finish()
    attributes = pa.concat_tables(tables)
    names = attributes["object_uid"].to_numpy()
    constant = {"source": scenes[0].source, "year": year}
    write_table(
        root, f"{part}/{FILE}", attributes, {"geometry": store.take}, bounds, hilbert_order(bounds, names), constant
    )


def schema_of(table: str) -> "pa.Schema":
    """Return types and names of a table's columns as the data dictionary has them."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "double": pa.float64(),
        "int64": pa.int64(),
        "int32": pa.int32(),
        "int16": pa.int16(),
        "bool": pa.bool_(),
        "timestamp[ms, tz=UTC]": pa.timestamp("ms", "UTC"),
        "list<element: string>": pa.list_(pa.string()),
    }
    return pa.schema([(name, types[column.dtype]) for name, column in COLUMNS[table].items()])
