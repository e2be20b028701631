"""How long a stored Sentinel-2 scene of full size takes to become a tile, in proportion to decompressing its arrays."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

from darts_acquisition.sentinel2.bands import SCL, select_bands
from darts_acquisition.sentinel2.raw import RawBand, RawGrid
from darts_acquisition.sentinel2.scene import load_scene
from darts_acquisition.sentinel2.store import RawStore
from support.made_up_scene import LEFT, MADE_UP, TOP, MadeUp

EDGE = 10_980
PEAK_OF_A_LOAD = """
import json, resource, sys
from darts_acquisition.sentinel2.scene import load_scene
from darts_acquisition.sentinel2.store import RawStore
from support.made_up_scene import MADE_UP, MadeUp
tile = load_scene(MadeUp(), MADE_UP.scene_id, RawStore(sys.argv[1]), None, offline=True)
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, tile.sizes["x"]]))
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


def test_a_stored_scene_against_decompressing_it_once(benchmark, store):
    path = store.path("made", MADE_UP.scene_id)

    def decompress() -> float:
        start = time.perf_counter()
        for band in (*select_bands(), SCL):
            zarr.open_array(path / band.number, mode="r")[:]
        return time.perf_counter() - start

    def load() -> None:
        load_scene(MadeUp(), MADE_UP.scene_id, store, None, offline=True)

    load()
    alone = [decompress()]
    benchmark.pedantic(load, rounds=3)
    alone += [decompress(), decompress()]
    benchmark.extra_info["times_decompressing"] = round(benchmark.stats.stats.min / min(alone), 2)


def test_memory_of_a_load(benchmark, store):
    def peak() -> float:
        command = [sys.executable, "-c", PEAK_OF_A_LOAD, str(store.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
        used, width = json.loads(done.stdout)
        assert width == EDGE
        return used / 1e9

    benchmark.extra_info["peak_gb"] = round(benchmark.pedantic(peak, rounds=1), 2)


def _environment() -> dict[str, str]:
    import os
    from pathlib import Path

    return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
