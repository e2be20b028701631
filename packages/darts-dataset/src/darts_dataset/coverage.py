"""What was looked at, so that "no slump" differs from "not seen"."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from darts_dataset.geometry import NORTH, SOUTH, to_lonlat
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

    def shapes(places: NDArray[np.int64]) -> Shapes:
        return shapes_of(geometry=seen[places])

    write_table(root / part / FILE, attributes, ("geometry",), shapes, np.arange(len(rows)))
    write_copy(root, f"{part}/{FILE}", {})


def _write_looks(path: Path, looks: Sequence[Look], plane: str) -> None:
    """Write how many looks saw each pixel, a block at a time, so that the Arctic needs no more memory than a valley."""
    import rasterio
    import rasterio.shutil
    from affine import Affine
    from rasterio.features import rasterize
    from rasterio.windows import Window

    extents = np.array([look.extent for look in looks], object)
    left, bottom, right, top = shapely.total_bounds(extents)
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
    tree = shapely.STRtree(extents)
    draft = path.with_suffix(".draft.tif")
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(draft, "w", **profile) as file:
        file.set_band_description(1, "looks")
        for row in range(0, height, _BLOCK):
            for column in range(0, width, _BLOCK):
                window = Window(column, row, min(_BLOCK, width - column), min(_BLOCK, height - row))
                corner = transform @ Affine.translation(column, row)
                box = shapely.box(*rasterio.windows.bounds(window, transform))
                inside = np.sort(tree.query(box, predicate="intersects"))
                if not len(inside):
                    continue
                looked = np.zeros((int(window.height), int(window.width)), np.uint16)
                for number in inside:
                    looked += rasterize([extents[number]], looked.shape, transform=corner, dtype="uint16")
                file.write(looked, 1, window=window)
    rasterio.shutil.copy(draft, path, driver="COG", COMPRESS="ZSTD", OVERVIEW_RESAMPLING="NEAREST", BIGTIFF="IF_SAFER")
    draft.unlink()
