"""How long acquisition takes, each in proportion to the least that could be done."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numcodecs import Blosc, blosc

from darts_acquisition import Datacube, Window, create_arcticdem_cube, load_planet_masks, load_planet_scene

EDGE = 7200
"""Pixels along an edge of the window that is read: 14.4 km, four chunks."""


def seconds(work: Callable[[], object], rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def terrain(edge: int) -> np.ndarray:
    """Hills with the roughness and the rounding (1/128 m) of the real product, which decide how well it packs."""
    rng = np.random.default_rng(0)
    along = np.linspace(0, 40, edge, dtype="float32")
    dem = 300 + 150 * np.sin(along)[:, None] * np.cos(0.7 * along) + 0.03 * rng.standard_normal((edge, edge), "float32")
    return (np.round(dem * 128) / 128).astype("float32")


@pytest.fixture(scope="module")
def warm_cube(tmp_path_factory) -> tuple[Datacube, Window, np.ndarray]:
    cube = create_arcticdem_cube(tmp_path_factory.mktemp("bench") / "dem", 2)
    window = Window.of(3600 * 500, 3600 * 500 + EDGE, 3600 * 300, 3600 * 300 + EDGE)
    dem = terrain(EDGE)
    cube.write(window, {"dem": dem, "arcticdem_data_mask": np.ones(dem.shape, "uint8")})
    return cube, window, dem


def test_window_of_a_warm_cube_against_decompression_alone(benchmark, warm_cube):
    cube, window, dem = warm_cube
    inner = cube.product.inner_px
    codec = Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE)
    tiles = [
        np.ascontiguousarray(dem[row : row + inner, col : col + inner])
        for row in range(0, EDGE, inner)
        for col in range(0, EDGE, inner)
    ]
    packed = [codec.encode(tile) for tile in tiles]
    out = np.empty((inner, inner), "float32")
    threads, blosc.use_threads = blosc.use_threads, False
    try:
        alone = seconds(lambda: [codec.decode(part, out=out) for part in packed])
    finally:
        blosc.use_threads = threads
    ds = benchmark.pedantic(lambda: cube.read(window, ["dem"]), rounds=3, warmup_rounds=1)
    np.testing.assert_array_equal(ds.dem, dem)
    benchmark.extra_info["times_one_thread_decompressing"] = round(benchmark.stats.stats.min / alone, 2)


def test_small_window_of_a_large_chunk(benchmark, warm_cube):
    cube, window, dem = warm_cube
    part = Window.of(window.rows.start, window.rows.start + 500, window.cols.start, window.cols.start + 500)
    ds = benchmark.pedantic(lambda: cube.read(part, ["dem"]), rounds=5, warmup_rounds=1)
    np.testing.assert_array_equal(ds.dem, dem[:500, :500])
    whole = seconds(lambda: cube.read(window, ["dem"]))
    benchmark.extra_info["part_of_the_whole_window"] = round(benchmark.stats.stats.min / whole, 3)


def test_planet_scene_and_masks_against_reading_the_files(benchmark, tmp_path):
    folder = tmp_path / "20210821_210019_08_2405"
    folder.mkdir()
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "crs": "EPSG:32608", "transform": rasterio.Affine(3, 0, 5e5, 0, -3, 76e5)}
    profile |= {"width": 4000, "height": 3000, "compress": "lzw", "tiled": True}
    image, mask = folder / "a_SR.tif", folder / "a_udm2.tif"
    with rasterio.open(image, "w", count=4, dtype="uint16", **profile) as target:
        target.write(rng.integers(300, 900, (4, 3000, 4000), dtype="uint16"))
    with rasterio.open(mask, "w", count=8, dtype="uint8", **profile) as target:
        target.write(np.broadcast_to(np.array([1, 0, 0, 0, 0, 0, 90, 0], "uint8")[:, None, None], (8, 3000, 4000)))
    (folder / "a_metadata.json").write_text("{}")

    def load() -> None:
        load_planet_masks(folder, load_planet_scene(folder))

    def read(file: Path) -> None:
        with rasterio.open(file, num_threads="all_cpus") as source:
            source.read()

    benchmark.pedantic(load, rounds=3, warmup_rounds=1)
    files = seconds(lambda: (read(image), read(mask)))
    benchmark.extra_info["times_reading_the_files"] = round(benchmark.stats.stats.min / files, 2)
