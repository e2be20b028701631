"""Export of a large tile against the plain way, in one run: time and memory."""

import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from darts_export import DEFAULT_EXPORT_BANDS, export_tile, read_manifest
from support.postprocessing import make_scene

# Some of the objects that are asked for end up where nothing is known.
SIZE, OBJECTS = 8000, 12_900


@pytest.fixture(scope="module")
def tile() -> xr.Dataset:
    probabilities, quality = make_scene(SIZE, OBJECTS)
    probabilities[quality == 0] = np.nan
    geobox = GeoBox((SIZE, SIZE), Affine(3, 0, 500_000, 0, -3, 7_500_000), "EPSG:32608")
    rng = np.random.default_rng(1)
    variables = {
        "probabilities": probabilities,
        "binarized_segmentation": np.nan_to_num(probabilities) > 0.5,
        "extent": (quality > 0).astype(np.uint8),
        **{name: rng.random((SIZE, SIZE), dtype=np.float32) * np.float32(0.2) for name in ("red", "green", "blue")},
    }
    attrs = {"tile_id": "benchmark", "time": "2021-08-21T21:00:19Z"}
    return xr.Dataset({name: wrap_xr(values, geobox) for name, values in variables.items()}, attrs=attrs)


def export_plainly(tile: xr.Dataset, folder: Path) -> int:
    """Write the default bands as one would without much thought; return the number of polygons."""
    import geopandas as gpd
    import pandas as pd
    import rasterio
    from rasterio.features import shapes
    from shapely.geometry import shape
    from skimage.measure import label, regionprops_table

    folder.mkdir()
    transform, crs = tile.odc.geobox.affine, "EPSG:32608"
    probabilities, mask = (tile[name].to_numpy() for name in ("probabilities", "binarized_segmentation"))
    percent = np.nan_to_num((probabilities * 100).round(), nan=255).astype("uint8")
    for name, values in (("probabilities", percent), ("binarized", mask.astype("uint8"))):
        grid = {"height": mask.shape[0], "width": mask.shape[1], "transform": transform, "crs": crs}
        with rasterio.open(folder / f"{name}.tif", "w", count=1, dtype="uint8", compress="LZW", **grid) as file:
            file.write(values, 1)

    labels = label(mask, connectivity=2)
    names = ("label", "intensity_min", "intensity_max", "intensity_mean", "area")
    table = pd.DataFrame(regionprops_table(labels, probabilities, properties=names))
    traced = [(number, shape(part)) for part, number in shapes(labels.astype("int32"), transform=transform) if number]
    numbers, parts = zip(*traced, strict=True)
    polygons = gpd.GeoDataFrame({"label": numbers}, geometry=list(parts), crs=crs).merge(table, on="label")
    polygons.to_file(folder / "prediction_segments.gpkg")
    polygons.to_parquet(folder / "prediction_segments.parquet")

    traced = shapes(tile["extent"].to_numpy(), transform=transform)
    extent = gpd.GeoDataFrame(geometry=[shape(part) for part, value in traced if value], crs=crs)
    extent.to_file(folder / "prediction_extent.gpkg")
    extent.to_parquet(folder / "prediction_extent.parquet")
    if find_spec("matplotlib"):
        draw_plainly(tile, folder)
    return len(polygons)


def draw_plainly(tile: xr.Dataset, folder: Path) -> None:
    """Draw the thumbnail as one would without much thought."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 10))
    axes.imshow(np.stack([tile[name].to_numpy() for name in ("red", "green", "blue")], axis=-1) / 0.3)
    axes.contour(tile["binarized_segmentation"].to_numpy()[::8, ::8], levels=[0.5], colors="red")
    figure.savefig(folder / "thumbnail.jpg", dpi=100)
    plt.close(figure)


def test_default_bands_take_less_than_5_s_and_half_the_time_of_the_plain_way(benchmark, tile, tmp_path: Path) -> None:
    small = tile.isel(y=slice(4000, 4600), x=slice(4000, 4600))
    export_tile(small, tmp_path / "warm")
    export_plainly(small, tmp_path / "warm plainly")

    start = time.perf_counter()
    plain_count = export_plainly(tile, tmp_path / "plain")
    plain = time.perf_counter() - start
    benchmark.pedantic(export_tile, (tile, tmp_path / "tile"), rounds=3)
    fast = benchmark.stats.stats.median
    benchmark.extra_info |= {"plain way, s": plain, "times faster": plain / fast, "polygons, plain way": plain_count}
    assert plain_count >= 12_500
    assert fast < 5
    assert plain / fast >= 2


def resident_mb() -> float:
    """Memory of this process that is in use, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def highest_mb(benchmark, tile: xr.Dataset, folder: Path) -> float:
    """Export a tile, and return how many MB more than before were in use at most."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell a process how much memory it uses")
    export_tile(tile.isel(y=slice(4000, 4600), x=slice(4000, 4600)), folder / "warm", DEFAULT_EXPORT_BANDS)
    before, highest, done = resident_mb(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.005):
            highest = max(highest, resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    benchmark.pedantic(export_tile, (tile, folder / "tile"), rounds=1)
    done.set()
    watcher.join()
    benchmark.extra_info["peak, MB"] = highest - before
    return highest - before


def test_default_bands_take_at_most_1200_mb_above_the_input(benchmark, tile, tmp_path: Path) -> None:
    assert highest_mb(benchmark, tile, tmp_path) < 1200


@pytest.mark.parametrize("radius", [0.45, 0.8])
def test_a_quarter_of_a_million_objects_take_at_most_600_mb_above_the_input(
    benchmark, tile, tmp_path: Path, radius: float
) -> None:
    """Rugged disks of 30 and of 93 pixels on average."""
    cell = 15
    y, x = np.mgrid[:cell, :cell]
    disk = (np.hypot(y - cell / 2, x - cell / 2) / (cell / 2)).astype(np.float32)
    ragged = np.random.default_rng(3).random((SIZE, SIZE), dtype=np.float32)
    tiled = np.tile(disk, (SIZE // cell + 1, SIZE // cell + 1))[:SIZE, :SIZE]
    inside = tiled + np.float32(0.15) * ragged < radius
    del tiled
    many = tile.assign(
        binarized_segmentation=tile["binarized_segmentation"].copy(data=inside),
        probabilities=tile["probabilities"].copy(data=np.where(inside, 0.5 + 0.5 * ragged, 0.3 * ragged)),
        extent=tile["extent"].copy(data=np.ones((SIZE, SIZE), np.uint8)),
    )
    del ragged, inside
    highest = highest_mb(benchmark, many, tmp_path)
    objects = read_manifest(tmp_path / "tile")["summary"]["objects"]
    benchmark.extra_info["objects"] = objects
    assert objects > 250_000
    assert highest < 600
