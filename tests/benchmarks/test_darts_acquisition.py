"""How long acquisition takes, each in proportion to the least that could be done."""

import asyncio
import dataclasses
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr

from darts_acquisition import (
    Chunk,
    ChunkState,
    Datacube,
    Window,
    arcticdem_product,
    create_arcticdem_cube,
    import_cube,
    load_planet_masks,
    load_planet_scene,
)
from darts_acquisition.cube.layout import _fetch, checked, find_decoder
from darts_acquisition.cube.repository import BRANCH
from darts_acquisition.cube.transaction import Transaction
from darts_acquisition.imports.smart_geocubes import SmartGeocube
from darts_utils import usable_cpus
from support.foreign_cubes import write_smart_geocube

CHUNKS = 4
"""Chunks of the cube along an edge that hold data: 28.8 km."""
EDGE = 12_500
"""Pixels along an edge of the window that is read: 25 km. It begins and ends within chunks, as the one of a tile."""
FIRST = Chunk(500, 300)


def seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the median time of a few runs."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def terrain(edge: int) -> np.ndarray:
    """Hills with the roughness and the rounding (1/128 m) of the real product, which decide how well it packs."""
    rng = np.random.default_rng(0)
    along = np.linspace(0, 20, edge, dtype="float32")
    dem = 300 + 150 * np.sin(along)[:, None] * np.cos(0.7 * along) + 0.03 * rng.standard_normal((edge, edge), "float32")
    return (np.round(dem * 128) / 128).astype("float32")


@pytest.fixture(scope="module")
def warm_cube(tmp_path_factory) -> tuple[Datacube, Window, np.ndarray]:
    cube = create_arcticdem_cube(tmp_path_factory.mktemp("bench") / "dem", 2)
    size = cube.product.chunk_px
    dem = terrain(size)
    for row, col in np.ndindex(CHUNKS, CHUNKS):
        chunk = cube.chunk_geobox(Chunk(FIRST.row + row, FIRST.col + col))
        cube.write(chunk, {"dem": dem, "arcticdem_data_mask": np.ones(dem.shape, "uint8")})
    top, left = FIRST.row * size + 950, FIRST.col * size + 700
    return cube, Window.of(top, top + EDGE, left, left + EDGE), dem


def compressed_chunks(cube: Datacube, window: Window) -> list[tuple[Any, bytes]]:
    """Return all Zarr chunks that a window touches, as bytes in memory without their checksums, each with its codec."""
    store = cube._repository.readonly_session(BRANCH).store
    group, found, size, inner = zarr.open_group(store, mode="r"), [], cube.product.chunk_px, cube.product.inner_px
    for variable in cube.product.variables:
        decoder = find_decoder(group[variable.name], size)
        assert decoder is not None
        for row, col in np.ndindex(CHUNKS, CHUNKS):
            chunk = Chunk(FIRST.row + row, FIRST.col + col)
            whole = cube.product.chunk_window(chunk)
            part = window.intersection(whole)
            assert part is not None
            places = part.relative_to(whole).in_chunks(inner).chunks()
            key = f"{variable.name}/c/{chunk.row}/{chunk.col}"
            contents = asyncio.run(_fetch(store, key, size // inner, places))
            found += [(decoder, checked(content).tobytes()) for content in contents if content is not None]
    return found


def decompress(chunks: list[tuple[Any, bytes]], threads: int) -> None:
    """Decompress each piece once; the results are dropped."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda chunk: len(chunk[0].decode(chunk[1])), chunks):
            pass


def touch(nbytes: int, threads: int) -> None:
    """Write new memory once: what a result costs before there is anything in it."""
    memory = np.empty(nbytes, "uint8")
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda part: part.fill(1), np.array_split(memory, 64)):
            pass


def test_window_of_a_warm_cube_against_decompression_alone(benchmark, warm_cube):
    """A window of 25 × 25 km, elevation and mask, against decompressing the same Zarr chunks once.

    Baseline: exactly the compressed Zarr chunks that the window touches, in memory already, each decompressed once
    by the codec that it was written with, by as many threads as there are processors, the results dropped. It reads no
    file, checks no checksum and keeps nothing, so what a result costs at least stands beside it: writing as much new
    memory once. Both are medians of three, measured in turns.
    """
    cube, window, dem = warm_cube
    chunks, threads = compressed_chunks(cube, window), usable_cpus()
    alone: list[float] = []
    memory: list[float] = []

    def measure_baseline() -> None:
        alone.append(seconds(lambda: decompress(chunks, threads), 1))
        memory.append(seconds(lambda: touch(5 * EDGE**2, threads), 1))

    cube.read(window)
    ds = benchmark.pedantic(lambda: cube.read(window), setup=measure_baseline, rounds=3)
    size = cube.product.chunk_px
    rows, cols = np.arange(window.rows.start, window.rows.stop) % size, np.arange(window.cols.start, window.cols.stop)
    np.testing.assert_array_equal(ds.dem, dem[rows][:, cols % size])
    once = statistics.median(alone)
    benchmark.extra_info["times_decompressing"] = round(benchmark.stats.stats.median / once, 2)
    one_thread = seconds(lambda: decompress(chunks, 1))
    benchmark.extra_info["times_decompressing_in_one_thread"] = round(benchmark.stats.stats.median / one_thread, 2)
    benchmark.extra_info["decompressing_s"] = round(once, 3)
    benchmark.extra_info["writing_new_memory_s"] = round(statistics.median(memory), 3)
    benchmark.extra_info["compressed_mb"] = round(sum(len(content) for _, content in chunks) / 1e6)


def test_small_window_of_a_large_chunk(benchmark, warm_cube):
    cube, window, dem = warm_cube
    part = Window.of(window.rows.start, window.rows.start + 500, window.cols.start, window.cols.start + 500)
    ds = benchmark.pedantic(lambda: cube.read(part, ["dem"]), rounds=5, warmup_rounds=1)
    np.testing.assert_array_equal(ds.dem, dem[950:1450, 700:1200])
    whole = seconds(lambda: cube.read(window, ["dem"]))
    benchmark.extra_info["part_of_the_whole_window"] = round(benchmark.stats.stats.median / whole, 3)


def test_identities_of_many_chunks_against_those_of_each(benchmark, tmp_path):
    """20,000 chunks at once, against as many asked for one by one; nothing but states and digests is written."""
    template = arcticdem_product(32)
    product = dataclasses.replace(template, geobox=template.geobox[: 8 * 200, : 8 * 100], chunk_px=8, inner_px=8)
    cube = Datacube.create(tmp_path / "dem", product)
    window = Window.of(0, 8 * 200, 0, 8 * 100)
    chunks = [Chunk(*place) for place in np.ndindex(200, 100)]
    dem = np.random.default_rng(0).normal(size=window.shape).astype("float32")
    changes = Transaction(cube._location, cube._repository, product)
    changes.set_states(chunks, ChunkState.FILLED)
    changes.set_digests(chunks, window, {"dem": dem, "arcticdem_data_mask": np.ones(window.shape, "uint8")})
    changes.commit("Note states and digests")
    found = benchmark.pedantic(cube.identities, rounds=3, warmup_rounds=1)
    assert len(set(found.values())) == len(chunks)
    each = seconds(lambda: [cube.identities([chunk]) for chunk in chunks[:50]]) / 50
    benchmark.extra_info["part_of_asking_for_each"] = round(benchmark.stats.stats.median / (each * len(chunks)), 4)


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
    benchmark.extra_info["times_reading_the_files"] = round(benchmark.stats.stats.median / files, 2)


def test_import_of_a_foreign_cube(benchmark, tmp_path):
    """Decoded pixels per second, and how often an import could read its origin in that time."""
    product = arcticdem_product(2)
    whole = Window.of(2_700_000 - 50, 2_700_000 + 10_750, 1_260_000 - 50, 1_260_000 + 10_750)
    row, col = np.mgrid[: whole.shape[0], : whole.shape[1]].astype("float32")
    dem = 200 + 100 * np.sin(col / 900) * np.cos(row / 700)
    dem += np.random.default_rng(1).normal(0, 0.15, whole.shape).astype("float32")
    content = {"dem": np.round(dem * 128) / 128, "arcticdem_data_mask": np.ones(whole.shape, "uint8")}
    names = [f"{row}_26_{half}_{side}_2m_v4.1" for row in (27, 28) for half in "12" for side in "12"]
    old = write_smart_geocube(tmp_path / "old", product.geobox[whole], content, names, title="ArcticDEM2m")
    folders = iter(tmp_path / f"new{number}" for number in range(9))
    report = benchmark.pedantic(lambda: import_cube(old, next(folders)), rounds=3, warmup_rounds=1)
    assert report.filled == 4
    decoded = report.filled * product.chunk_px**2 * 5
    origin = SmartGeocube(old)
    windows = [product.chunk_window(chunk) for chunk in Datacube.open(tmp_path / "new0").known()]
    reading = seconds(lambda: [origin.read(window) for window in windows])
    benchmark.extra_info["megabytes_per_second"] = round(decoded / 1e6 / benchmark.stats.stats.median)
    benchmark.extra_info["times_reading_alone"] = round(benchmark.stats.stats.median / reading, 2)
