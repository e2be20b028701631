"""Level 1: every detection of every scene, by source and year."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from darts_dataset.detections import Detections
from darts_dataset.dictionary import DETECTIONS, schema_of
from darts_dataset.geometry import NORTH, SOUTH, lonlat_of
from darts_dataset.looks import Footprint
from darts_dataset.memory import Memory
from darts_dataset.overlaps import Rows
from darts_dataset.scenes import Scene
from darts_dataset.tables import Shapes, hilbert_positions, read_rows, read_wkb, shapes_of, write_table

TABLE = "detections"


def partition(scene: Scene, year: int) -> str:
    """Return the folder that the detections of a scene belong to, within the dataset; the year is that of its look."""
    return f"level1/source={quote(scene.source, safe='')}/year={year}"


def positions_of(footprints: Sequence[Footprint]) -> NDArray[np.int64]:
    """Return where the middle of what each scene saw lies on the Hilbert curve, or a pole where it saw nothing."""
    bounds = np.nan_to_num(shapely.bounds([each.extent for each in footprints]))
    middle = (bounds[:, :2] + bounds[:, 2:]) / 2
    for plane in (NORTH, SOUTH):
        here = np.array([each.plane == plane for each in footprints])
        middle[here] = lonlat_of(middle[here], plane)
    return hilbert_positions(middle)


class Kept:
    """Rows of a table that the dataset before has as they would come out.

    Attributes:
        scenes: Scenes that have rows there, all of which are taken.
    """

    def __init__(self, before: Memory | None, name: str, same: Iterable[str]) -> None:
        """Look at a table of the dataset before.

        Args:
            before: That dataset, None for none.
            name: Path of the table without the ending.
            same: Scenes whose rows would come out as they are, wherever they were.
        """
        self.scenes: frozenset[str] = frozenset()
        if before is None or not before.is_whole(f"{name}.parquet"):
            return
        self._path = before.file(f"{name}.parquet")
        table, _ = read_rows(self._path, ["tile_id", "object_uid"])
        if pc.count_distinct(table["object_uid"]).as_py() == len(table):  # Else their order may be another one.
            self.scenes = frozenset(table["tile_id"].unique().to_pylist()).intersection(same)

    def read(self) -> tuple[pa.Table, pa.Array, NDArray[np.float64]]:
        """Return the columns of the rows, their outlines as WKB, and the bounds of these, (n, 4) float64, degrees."""
        if not self.scenes:
            return schema_of(DETECTIONS).empty_table(), pa.array([], pa.binary()), np.empty((0, 4))
        table, bounds = read_rows(self._path)
        rows = np.flatnonzero(pc.is_in(table["tile_id"], pa.array(self.scenes, pa.string())).to_numpy())
        return table.take(rows), pa.chunked_array(read_wkb(self._path)).take(rows).combine_chunks(), bounds[rows]


def write_detections(path: Path, kept: Kept, found: tuple[Detections, Rows, pa.Table] | None) -> None:
    """Write a table of detections.

    Args:
        path: The file.
        kept: Rows that are taken along.
        found: Detections of the year, numbers of those that are new in the table, and their other columns.

    Raises:
        OSError: If a file cannot be read or written.
    """
    table, wkb, bounds = kept.read()
    count = len(table)

    def shapes(rows: Rows) -> Shapes:
        here = rows < count
        outlines = np.empty(0, object) if found is None else found[0].stored(found[1][rows[~here] - count])
        new = shapes_of(geometry=outlines)
        both = pa.concat_arrays([wkb.take(pa.array(rows[here])), new.wkb["geometry"]])
        order = np.argsort(np.argsort(~here, kind="stable"))
        return Shapes({"geometry": both.take(pa.array(order))}, np.concatenate([bounds[rows[here]], new.bounds])[order])

    if found is not None:
        table = pa.concat_tables([table, found[2].cast(table.schema)]) if count else found[2]
    lon, lat, uids = (table[name].to_numpy() for name in ("lon", "lat", "object_uid"))
    scenes = table["tile_id"].combine_chunks()
    scenes = scenes if pa.types.is_dictionary(scenes.type) else scenes.dictionary_encode()
    rank = np.argsort(np.argsort(scenes.dictionary.to_numpy(zero_copy_only=False)))[scenes.indices.to_numpy()]
    order = np.lexsort(
        (rank, uids, hilbert_positions(np.column_stack([lon, lat])))
    )  # However the rows came to be here.
    write_table(path, table, ("geometry",), shapes, order)
