"""What was looked at, so that "no slump" differs from "not seen"."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import MergeAlg
from rasterio.features import rasterize
from rasterio.windows import Window, bounds

from darts_dataset.geometry import NORTH, SOUTH, bounds_around, to_lonlat
from darts_dataset.looks import Look
from darts_dataset.tables import Shapes, shapes_of, write_copy, write_table

FILE = "seen.parquet"
PIXEL_M = 100
"""Edge of a pixel of the map of looks, metres."""
_BLOCK = 512
_HEMISPHERES = {NORTH: "north", SOUTH: "south"}


def write_coverage(root: Path, part: str, looks: Sequence[Look]) -> None:
    """Write the ground that was seen in a year, and how often.

    Args:
        root: The dataset.
        part: Folder within it; `seen.parquet` (one row per hemisphere: `hemisphere`, `n_looks`, `area_km2`) with its
            GeoPackage, and `looks-north.tif` and `looks-south.tif`: COGs of uint16, looks per pixel, whose centre a
            look saw reliably, 0 for none, in EPSG:6931 and EPSG:6932.
        looks: All looks of the year.

    Raises:
        OSError: If a file cannot be written.
    """
    rows = []
    for plane, name in _HEMISPHERES.items():
        here = [look for look in looks if look.plane == plane and not look.extent.is_empty]
        if here:
            union = shapely.union_all([look.extent for look in here])
            rows.append((name, len(here), shapely.area(union) / 1e6, to_lonlat(np.array([union], object), plane)[0]))
            _write_looks(root / part / f"looks-{name}.tif", here, plane)
    seen = np.array([row[3] for row in rows], object)
    attributes = pa.table(
        {
            "hemisphere": pa.array([row[0] for row in rows], pa.string()),
            "n_looks": pa.array([row[1] for row in rows], pa.int32()),
            "area_km2": pa.array([row[2] for row in rows], pa.float64()),
        }
    )

    def shapes(chosen: NDArray[np.int64]) -> Shapes:
        return shapes_of(geometry=seen[chosen])

    write_table(root / part / FILE, attributes, ("geometry",), shapes, np.arange(len(rows)))
    write_copy(root, f"{part}/{FILE}", {})


def _write_looks(path: Path, looks: Sequence[Look], plane: str) -> None:
    """Write how many looks saw each pixel: block by block, and only those that some look saw."""
    extents = np.array([look.extent for look in looks], object)
    left, bottom, right, top = bounds_around(extents)
    west, north = np.floor(left / PIXEL_M) * PIXEL_M, np.ceil(top / PIXEL_M) * PIXEL_M
    width, height = (max(1, int(np.ceil(size / PIXEL_M))) for size in (right - west, north - bottom))
    transform = Affine(PIXEL_M, 0, west, 0, -PIXEL_M, north)
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": 1,
        "dtype": "uint16",
        "crs": plane,
        "transform": transform,
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "sparse_ok": True,
    }
    draft = path.with_suffix(".draft.tif")
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = shapely.get_parts(extents)
    tree = shapely.STRtree(parts)
    with rasterio.open(draft, "w", **profile) as file:
        file.set_band_description(1, "looks")
        for row, column in _blocks(shapely.bounds(parts), west, north):
            window = Window(column, row, min(_BLOCK, width - column), min(_BLOCK, height - row))
            inside = np.sort(tree.query(shapely.box(*bounds(window, transform)), predicate="intersects"))
            if len(inside):
                shapes, shape = [(part, 1) for part in parts[inside]], (window.height, window.width)
                corner = transform @ Affine.translation(column, row)
                looked = rasterize(shapes, shape, transform=corner, merge_alg=MergeAlg.add, dtype="uint16")
                file.write(looked, 1, window=window)
    # Blocks that nobody saw are no part of the file.
    options = {"COMPRESS": "ZSTD", "OVERVIEW_RESAMPLING": "NEAREST", "BIGTIFF": "IF_SAFER", "SPARSE_OK": "YES"}
    rasterio.shutil.copy(draft, path, driver="COG", **options)
    draft.unlink()


def _blocks(boxes: NDArray[np.float64], west: float, north: float) -> list[tuple[int, int]]:
    """Return the first row and column of each block that boxes lie in, (n, 4), metres, sorted."""
    edge = _BLOCK * PIXEL_M
    left, bottom, right, top = ((boxes - [west, north, west, north]) * [1, -1, 1, -1] / edge).T
    reach = np.stack([np.floor(top), np.ceil(bottom), np.floor(left), np.ceil(right)], axis=1).astype(int).tolist()
    found = {(row, column) for a, b, c, d in reach for row in range(a, b) for column in range(c, d)}
    return sorted((row * _BLOCK, column * _BLOCK) for row, column in found)
