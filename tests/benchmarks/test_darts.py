"""How well the overlapped executor hides loading and export behind the network, and what records cost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

from darts.demo import SampleArea, demo_model, make_sample_area
from darts.run.cancel import CancellationToken
from darts.run.executors import LaneExecutor, overlap_executor
from darts.run.memory import MemoryGate
from darts.run.records import STAGES, RunRecords, TileRecord
from darts.run.status import run_status
from support.soak import make_scenes
from support.stages import SleepingWorker, make_tasks

SECONDS = (1.0, 0.5, 2.0, 0.3, 0.5)
TILES = 20


def test_sleeping_stages_take_as_long_as_the_slowest(benchmark, tmp_path: Path) -> None:
    gate = MemoryGate(lambda: 10**12)
    gate.measure(1)

    def run() -> int:
        executor = LaneExecutor([("load",), ("infer",), ("write",)], 1, gate)
        return len(list(executor.run(make_tasks(tmp_path, TILES), SleepingWorker(SECONDS), CancellationToken())))

    start = perf_counter()
    assert benchmark.pedantic(run, rounds=1) == TILES
    ratio = (perf_counter() - start) / (TILES * max(SECONDS))
    benchmark.extra_info["wall time / network time"] = round(ratio, 3)
    assert ratio <= 1.15


def test_a_fast_network_is_kept_busy_by_several_loaders_and_writers(benchmark, tmp_path: Path) -> None:
    gate = MemoryGate(lambda: 10**12)
    gate.measure(1)
    seconds = (2.0, 1.0, 1.0, 0.5, 1.5)  # loading 3, network 1, export 2

    def run() -> int:
        executor = overlap_executor(1, loaders=3, writers=2)
        executor.gate = gate
        return len(list(executor.run(make_tasks(tmp_path, TILES), SleepingWorker(seconds), CancellationToken())))

    start = perf_counter()
    assert benchmark.pedantic(run, rounds=1) == TILES
    taken = perf_counter() - start
    # Nothing can hide the first tile's loading and the last one's export: 25 s of 20 tiles.
    least = sum(seconds) + (TILES - 1) * seconds[2]
    benchmark.extra_info["wall time / network time"] = round(taken / (TILES * seconds[2]), 3)
    benchmark.extra_info["wall time / least possible"] = round(taken / least, 3)
    assert taken / least <= 1.05


_SCRIPT = """
import json, resource, sys, time
from support.soak import pipeline
values = json.loads(sys.argv[1])
warm = pipeline(values | {"output_data_dir": values["output_data_dir"] + "-warm", "image_ids": values.pop("warm_ids")})
warm.run()
start = time.perf_counter()
records = pipeline(values).run()
seconds = time.perf_counter() - start
assert records.count("failed") == 0
print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=1024)


def _run(area: SampleArea, folder: Path, executor: str, tiles: int) -> dict[str, float]:
    scenes = folder / f"scenes-{executor}-{tiles}"
    make_scenes(area.scene_dir, scenes, tiles)
    values = {
        "scenes_dir": str(scenes),
        "arcticdem_dir": str(area.arcticdem_dir),
        "tcvis_dir": str(area.tcvis_dir),
        "output_data_dir": str(folder / f"results-{executor}-{tiles}"),
        "model_files": str(demo_model()),
        "patch_size": 512,
        "overlap": 128,
        "executor": executor,
        "warm_ids": [sorted(path.name for path in scenes.iterdir())[0]],
    }
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _SCRIPT, json.dumps(values)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


def test_real_stages_are_no_slower_than_serial_and_take_the_memory_of_four_tiles(
    benchmark, area: SampleArea, tmp_path: Path
) -> None:
    def run() -> tuple[float, dict[str, float], dict[str, float]]:
        one = _run(area, tmp_path / "one", "serial", 1)["peak"]
        pairs = [[_run(area, tmp_path / str(n), executor, 10) for executor in ("serial", "overlap")] for n in range(3)]
        return one, *(min(runs, key=lambda found: found["seconds"]) for runs in zip(*pairs, strict=True))

    one, serial, overlap = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["overlap / serial"] = round(overlap["seconds"] / serial["seconds"], 3)
    benchmark.extra_info["seconds for ten tiles"] = round(overlap["seconds"], 1)
    benchmark.extra_info["peak of overlap / peak of one tile"] = round(overlap["peak"] / one, 3)
    assert overlap["seconds"] <= serial["seconds"]
    assert overlap["peak"] <= 4 * one


def _record(folder: Path, count: int) -> float:
    """Write and fold records of so many tiles, and return the seconds for that."""
    folder.mkdir()
    stages = dict.fromkeys(STAGES, 1.2345678)
    steps = {f"step {number}": 0.512345 * number for number in range(20)}
    start = perf_counter()
    records = RunRecords(folder, planned={"total": count, "to_compute": count})
    for number in range(count):
        name = f"20210707_{number:06}_01_2405"
        records.add(
            TileRecord(name, folder / name, stages=stages, steps=steps, device="cpu", objects=number, area_m2=9.5)
        )
    records.close()
    return perf_counter() - start


def test_records_of_many_tiles_cost_no_more_each_than_those_of_few(benchmark, tmp_path: Path) -> None:
    many, few = 100_000, 1_000
    _record(tmp_path / "warm", 10)

    def run() -> tuple[float, float]:
        # Few tiles before and after the many, so that other work on the machine slows down both.
        single = [_record(tmp_path / f"few-{number}", few) for number in range(10)]
        seconds = _record(tmp_path / "many", many)
        single += [_record(tmp_path / f"few-{number}", few) for number in range(10, 20)]
        return seconds, sum(single) / len(single)

    seconds, single = benchmark.pedantic(run, rounds=1)
    ratio = (seconds / many) / (single / few)
    benchmark.extra_info["cost per record, of 100,000 / of 1,000"] = round(ratio, 3)
    benchmark.extra_info["seconds for 100,000 records"] = round(seconds, 1)
    assert ratio <= 1.5


def test_status_of_many_tiles_costs_hardly_more_than_parsing_the_lines(benchmark, tmp_path: Path) -> None:
    count = 100_000
    _record(tmp_path / "many", count)
    (journal,) = (tmp_path / "many").glob("*.journal.jsonl")

    def run() -> tuple[float, float]:
        pairs = []
        for _ in range(3):
            start = perf_counter()
            with journal.open("rb") as file:
                for line in file:
                    json.loads(line)
            parsed = perf_counter()
            assert run_status(tmp_path / "many").done == count
            pairs.append((parsed - start, perf_counter() - parsed))
        return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)

    plain, seconds = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["status / parsing"] = round(seconds / plain, 3)
    benchmark.extra_info["seconds for the status of 100,000"] = round(seconds, 2)
    assert seconds <= 3 * plain
