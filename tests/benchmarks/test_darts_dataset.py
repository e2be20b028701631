"""Datasets of many detections: a build against plain geopandas in time and memory, and an update against a build."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.many_detections import make_results, move_outlines

DETECTIONS = int(os.environ.get("DARTS_BENCHMARK_DETECTIONS", "200000"))
"""1000000 for the figures of the documentation: ten minutes, 20 GB on disk."""
YEARS = (2021, 2022, 2023, 2024)

# In a process of its own, whose memory is its own. Not `ru_maxrss`, which begins with what the parent process holds.
MEASURED = """
import json, re, sys, time
import geopandas, h3, pandas, pyarrow.parquet, pyogrio, pystac, rasterio.shutil, scipy.optimize, scipy.sparse.csgraph
from pathlib import Path
start, processor = time.perf_counter(), time.process_time()
{call}
figures = [time.perf_counter() - start, time.process_time() - processor]
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([*figures, int(peak[1]) * 1024 / 1e9]))
"""
BUILD = "from darts_dataset import build; build(*sys.argv[1:])"
PLAIN = """
import numpy as np, shapely
from scipy.sparse import csr_array
paths = sorted(Path(sys.argv[1]).glob("*/prediction_segments.parquet"))
frame = pandas.concat([geopandas.read_parquet(path) for path in paths], ignore_index=True).to_crs("EPSG:6931")
shapes = frame.geometry.to_numpy()
one, other = shapely.STRtree(shapes).query(shapes, predicate="overlaps")
graph = csr_array((np.ones(len(one)), (one, other)), shape=(len(frame), len(frame)))
frame["object"] = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
Path(sys.argv[2]).mkdir()
for name, made in (("detections", frame), ("objects", frame[["object", "geometry"]].dissolve("object"))):
    made = made.to_crs("OGC:CRS84")
    made.to_parquet(f"{sys.argv[2]}/{name}.parquet", compression="zstd", write_covering_bbox=True)
    made.to_file(f"{sys.argv[2]}/{name}.gpkg")
"""


def measured(call: str, results: Path, out: Path) -> tuple[float, float, float]:
    """Return seconds, seconds of a processor, and the most memory (GB) that a call takes."""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell how much memory a process used")
    command = [sys.executable, "-c", MEASURED.format(call=call), results, out]
    seconds, processor, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds, processor, peak


def test_a_build_takes_less_than_plain_geopandas_and_2_gb(benchmark, tmp_path: Path) -> None:
    count = make_results(tmp_path / "results", DETECTIONS)
    plain, plain_processor, plain_peak = measured(PLAIN, tmp_path / "results", tmp_path / "plain")

    def build() -> tuple[float, float, float]:
        shutil.rmtree(tmp_path / "dataset", ignore_errors=True)
        return measured(BUILD, tmp_path / "results", tmp_path / "dataset")

    seconds, processor, peak = benchmark.pedantic(build, rounds=1)
    benchmark.extra_info |= {
        "detections": count,
        "a second": count / seconds,
        "µs of a processor each": 1e6 * processor / count,
        "GB": peak,
        "plain way, a second": count / plain,
        "plain way, µs of a processor each": 1e6 * plain_processor / count,
        "plain way, GB": plain_peak,
        "times faster": plain / seconds,
    }
    assert peak < 2
    assert seconds < plain
    assert processor < plain_processor


def test_an_update_takes_a_small_part_of_a_build(benchmark, tmp_path: Path) -> None:
    """One in a hundred scenes changes: of one of the years, one place in all years, or anywhere.

    Four years of 100 places, 25 km apart, with two or three looks each.
    """
    results, places = tmp_path / "results", 100
    per_scene = round(DETECTIONS / (len(YEARS) * 2.2 * places))
    count = make_results(results, DETECTIONS, YEARS, per_scene=per_scene, step_m=25_000, abreast=10)
    names = sorted(path.name for path in results.iterdir())
    changes = {str(year): [name for name in names if name.startswith(str(year))] for year in YEARS}
    changes["one place"] = [name for name in names if f"-{places // 2}-" in name]
    changes["anywhere"] = random.Random(1).sample(names, len(names))
    whole, whole_processor, _ = measured(BUILD, results, tmp_path / "dataset")
    found = {"nothing": measured(BUILD, results, tmp_path / "dataset")}

    def updates() -> None:
        for change, some in changes.items():
            for name in some[: round(len(names) / 100)]:
                move_outlines(results / name)
            found[change] = measured(BUILD, results, tmp_path / "dataset")

    benchmark.pedantic(updates, rounds=1)
    benchmark.extra_info |= {"detections": count, "build, s": whole}
    for change, (seconds, processor, _) in found.items():
        benchmark.extra_info[f"{change} changed / build"] = seconds / whole
        benchmark.extra_info[f"{change} changed / build, of a processor"] = processor / whole_processor
        assert processor < 0.1 * whole_processor
