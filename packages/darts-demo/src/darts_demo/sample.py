"""Sample data for the demo, tests and benchmarks: as files in the layout of a real delivery, or in memory."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rasterio.features import rasterize

from darts_demo.auxiliary import arcticdem_dataset, tcvis_dataset, write_cubes
from darts_demo.errors import SampleAreaError
from darts_demo.landscape import MARGIN_PX, Landscape, image_geobox, make_landscape
from darts_demo.optical import optical_dataset
from darts_demo.planet import scene_id, write_planet_scene
from darts_demo.truth import truth_polygons
from darts_utils import atomic_path, step

DEMO_SEED = 20
"""Seed of the demo's sample area. The demo model has never seen it."""
LAYOUT = 1
"""Version of what a sample area holds; those of another version are made anew."""
_RECORD = "sample.json"
_LARGEST_PX = 2048


@dataclass(frozen=True)
class SampleArea:
    """Where the files of a sample area are.

    Attributes:
        folder: Folder of everything.
        seed: Seed of its landscape.
        size: Rows and columns of its image, pixels of 3 m.
        scene_dir: Folder of its PlanetScope scene.
    """

    folder: Path
    seed: int
    size: int
    scene_dir: Path

    @property
    def scenes_dir(self) -> Path:
        """Folder of PlanetScope scenes; it holds one."""
        return self.scene_dir.parent

    @property
    def arcticdem_dir(self) -> Path:
        """ArcticDEM datacube, 2 m."""
        return self.folder / "auxiliary" / "arcticdem_2m.icechunk"

    @property
    def tcvis_dir(self) -> Path:
        """TCVIS datacube."""
        return self.folder / "auxiliary" / "tcvis.icechunk"

    @property
    def truth_file(self) -> Path:
        """GeoPackage of the true outlines of all slumps, see :func:`truth_polygons`."""
        return self.folder / "truth.gpkg"


def make_sample_area(folder: str | os.PathLike[str], seed: int = DEMO_SEED, size: int = 2048) -> SampleArea:
    """Make a landscape with thaw slumps and write it as a PlanetScope delivery with datacubes, and the truth.

    The same seed and size give the same image, heights, trends and outlines. The folder appears complete or not at
    all.

    Args:
        folder: Folder to make; it may be there, but empty.
        seed: Seed of the landscape, at least 0.
        size: Rows and columns of the image, pixels of 3 m, at least 64.

    Returns:
        Where everything is.

    Raises:
        ParameterError: If seed or size are too small.
        SampleAreaError: If the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SampleAreaError(f"{folder} is there and not empty; remove it, or choose another folder.")
    landscape = make_landscape(seed, size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder, durable=False) as draft:
        draft.mkdir()
        area = _area(draft, seed, size, scene_id(landscape))
        with step("write cubes"):
            write_cubes(landscape, area.arcticdem_dir, area.tcvis_dir)
        with step("write scene"):
            write_planet_scene(landscape, area.scenes_dir)
        truth_polygons(landscape).to_file(area.truth_file, driver="GPKG", layer="truth")
        record = {"layout": LAYOUT, "seed": seed, "size": size, "scene": scene_id(landscape)}
        (area.folder / _RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
    return _area(folder, seed, size, scene_id(landscape))


def find_sample_area(folder: str | os.PathLike[str]) -> SampleArea | None:
    """Return the sample area that :func:`make_sample_area` has made in a folder.

    Args:
        folder: Where to look.

    Returns:
        The sample area; None where there is none, or one that another version of DARTS has made.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("layout") != LAYOUT:
        return None
    return _area(folder, record["seed"], record["size"], record["scene"])


def read_truth(area: SampleArea) -> NDArray[np.int32]:
    """Read the truth of a sample area onto the grid of its image.

    Args:
        area: The sample area.

    Returns:
        (rows, columns) int32, 0 outside slumps, else the slump's number.
    """
    truth = gpd.read_file(area.truth_file)
    grid = image_geobox(area.size)
    if truth.empty:
        return np.zeros(tuple(grid.shape), dtype=np.int32)
    shapes = zip(truth.geometry, truth["slump_id"], strict=True)
    return rasterize(shapes, tuple(grid.shape), transform=grid.affine, dtype="int32")


def _area(folder: Path, seed: int, size: int, scene: str) -> SampleArea:
    return SampleArea(folder, seed, size, folder / "scenes" / scene)


def make_inputs(size: int, seed: int = DEMO_SEED) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Make in memory what ``preprocess_v2`` takes, in any size: for benchmarks.

    Beyond 2048 pixels the landscape repeats, mirrored at its edges.

    Args:
        size: Rows and columns of the tile, pixels of 3 m, at least 64.
        seed: Seed of the landscape.

    Returns:
        The optical tile, ArcticDEM at 2 m and TCVIS, each of the latter with 500 m around the tile.

    Raises:
        ParameterError: If seed or size are too small.
    """
    landscape = make_landscape(seed, min(size, _LARGEST_PX))
    if size > _LARGEST_PX:
        landscape = _mirrored(landscape, size)
    return optical_dataset(landscape), arcticdem_dataset(landscape), tcvis_dataset(landscape)


def _mirrored(landscape: Landscape, size: int) -> Landscape:
    """Repeat a landscape's arrays up to a size; it knows its slumps as a mask only."""
    inner = slice(MARGIN_PX, MARGIN_PX + landscape.size)
    more = size - landscape.size

    def extend(field: NDArray, margin: int) -> NDArray:
        width = [(0, 0)] * (field.ndim - 2) + [(margin, more + margin)] * 2
        return np.pad(field, width, mode="symmetric")

    return replace(
        landscape,
        size=size,
        reflectance=extend(landscape.reflectance, 0),
        udm=extend(landscape.udm, 0),
        label=extend((landscape.label > 0).astype(np.int32), 0),
        slumps=(),
        height=extend(landscape.height[inner, inner], MARGIN_PX),
        trends=extend(landscape.trends[:, inner, inner], MARGIN_PX),
    )
