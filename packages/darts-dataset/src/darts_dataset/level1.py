"""Level 1: every detection of every scene, by source and year."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from darts_dataset.detections import Detections
from darts_dataset.overlaps import Rows
from darts_dataset.scenes import Scene
from darts_dataset.tables import Shapes, hilbert_order, shapes_of, write_table

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "detections"


def partition(scene: Scene, year: int) -> str:
    """Return the folder that the detections of a scene belong to, within the dataset; the year is that of its look."""
    return f"level1/source={quote(scene.source, safe='')}/year={year}"


def write_detections(path: Path, detections: Detections, rows: Rows, attributes: "pa.Table") -> None:
    """Write some detections.

    Args:
        path: The file.
        detections: All detections of the year.
        rows: Numbers of those to write.
        attributes: Their other columns.

    Raises:
        OSError: If a file cannot be written.
    """

    def shapes(places: Rows) -> Shapes:
        return shapes_of(geometry=detections.stored(rows[places]))

    lon, lat, names = (attributes[name].to_numpy() for name in ("lon", "lat", "object_uid"))
    write_table(path, attributes, ("geometry",), shapes, hilbert_order(np.column_stack([lon, lat]), names)[0])
