"""How long a stored Sentinel-2 scene of full size takes to become a tile, in proportion to decompressing its arrays."""

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numcodecs import Blosc

from darts_acquisition.cube.layout import checked
from darts_acquisition.scenes.download import load_scene
from darts_acquisition.scenes.raw import SCL, RawBand, RawGrid, bands_of_scene, select_bands
from darts_acquisition.scenes.store import RawStore
from darts_utils import usable_cpus
from support.made_up_scene import LEFT, MADE_UP, TOP, MadeUp

EDGE = 10_980
PEAK_OF_A_LOAD = r"""
import json, re, sys
from pathlib import Path
from darts_acquisition.scenes.download import load_scene
from darts_acquisition.scenes.raw import bands_of_scene
from support.made_up_scene import MADE_UP, MadeUp
tile = load_scene(MadeUp(), MADE_UP.scene_id, sys.argv[1], bands_of_scene(), offline=True)
# Not `ru_maxrss`, which begins with what the parent process holds.
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([int(peak[1]) * 1024, tile.sizes["x"]]))
"""


def land(edge: int, seed: int) -> np.ndarray:
    """Slopes, and noise of about one percent of reflectance, as over tundra."""
    rng = np.random.default_rng(seed)
    along = np.linspace(0, 60, edge, dtype="float32")
    values = 1800 + 300 * np.sin(along)[:, None] * np.cos(1.3 * along)
    values += 30 * rng.standard_normal((edge, edge), "float32")
    return values.astype("uint16")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RawStore:
    store = RawStore(tmp_path_factory.mktemp("bench"))
    for seed, band in enumerate((*select_bands(), SCL)):
        size, r = EDGE // band.factor, float(band.resolution)
        values = (land(size, seed) // 300 % 12).astype("uint8") if band is SCL else land(size, seed)
        scaling = (1.0, 0.0) if band is SCL else (1e-4, -0.1)
        grid = RawGrid("EPSG:32608", (r, 0, LEFT, 0, -r, TOP), values.shape, *scaling)
        store.add(MADE_UP, RawBand(band, grid, values))
    return store


def compressed_chunks(store: RawStore) -> list[bytes]:
    """Return all chunks of a scene, as bytes in memory without their checksums."""
    path = store.path("made", MADE_UP.scene_id)
    folders = [path / band.number / "c" for band in (*select_bands(), SCL)]
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return [checked(np.fromfile(file, "uint8")).tobytes() for file in files]


def decompress(chunks: list[bytes], threads: int) -> float:
    """Return the time to decompress each chunk once; the results are dropped."""
    codec = Blosc()
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda chunk: len(codec.decode(chunk)), chunks):
            pass
    return time.perf_counter() - start


def touch(nbytes: int, threads: int) -> float:
    """Return the time to write new memory once: what a tile costs before there is anything in it."""
    start = time.perf_counter()
    memory = np.empty(nbytes, "uint8")
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda part: part.fill(1), np.array_split(memory, 64)):
            pass
    return time.perf_counter() - start


def test_a_stored_scene_against_decompressing_it_once(benchmark, store):
    """A stored scene of 10980 × 10980 pixels, four bands and the classes, against decompressing its chunks once.

    Baseline: all compressed chunks of the five arrays, already in memory as bytes, each decompressed once by the codec
    that it was written with, by as many threads as there are processors, the results (raw integers) dropped. It reads
    no file, checks no checksum and keeps nothing, so what a tile costs at least stands beside it: writing as much new
    memory once. Both are medians of three, measured in turns.
    """
    chunks, threads = compressed_chunks(store), usable_cpus()
    alone: list[float] = []
    memory: list[float] = []

    def measure_baseline() -> None:
        alone.append(decompress(chunks, threads))
        memory.append(touch((4 * 4 + 2) * EDGE**2, threads))

    def load() -> None:
        load_scene(MadeUp(), MADE_UP.scene_id, store.folder, bands_of_scene(), offline=True)

    load()
    benchmark.pedantic(load, setup=measure_baseline, rounds=3)
    once = statistics.median(alone)
    benchmark.extra_info["times_decompressing"] = round(benchmark.stats.stats.median / once, 2)
    one_thread = decompress(chunks, 1)
    benchmark.extra_info["times_decompressing_in_one_thread"] = round(benchmark.stats.stats.median / one_thread, 2)
    benchmark.extra_info["decompressing_s"] = round(once, 3)
    benchmark.extra_info["writing_new_memory_s"] = round(statistics.median(memory), 3)
    benchmark.extra_info["compressed_mb"] = round(sum(len(chunk) for chunk in chunks) / 1e6)


def test_memory_of_a_load(benchmark, store):
    def peak() -> float:
        command = [sys.executable, "-c", PEAK_OF_A_LOAD, str(store.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
        used, width = json.loads(done.stdout)
        assert width == EDGE
        return used / 1e9

    benchmark.extra_info["peak_gb"] = round(benchmark.pedantic(peak, rounds=1), 2)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
