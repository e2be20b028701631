"""How well workers share tiles, and what a tile costs beside its work."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import xarray as xr

from darts.run.cancel import CancellationToken
from darts.run.cluster.executor import DaskExecutor
from darts.run.cluster.remote import RemoteRun
from darts.run.planning import Planner
from darts.run.task import Stage, TileTask
from support import cluster, standin

SLEEP = 0.5
MANY = int(os.environ.get("DARTS_BENCHMARK_TILES", "10000"))


def sleep(pipeline: Any, context: Any) -> Any:
    """Open a session in a process whose tiles do nothing but sleep."""
    return _open(pipeline, context, SLEEP)


def do_nothing(pipeline: Any, context: Any) -> Any:
    """Open a session in a process whose tiles do nothing."""
    return _open(pipeline, context, 0)


def _open(pipeline: Any, context: Any, seconds: float) -> Any:
    from darts.run.worker import Worker

    def load(work: Any) -> None:
        work.tile = xr.Dataset({"a": ("x", np.zeros(1, np.uint8))})

    Worker.stages = lambda self: [  # type: ignore[method-assign]
        Stage("Loading Optical", "load", load),
        Stage("Segmenting", "infer", lambda work: time.sleep(seconds)),
    ]
    return standin.open_session(pipeline, context)


@contextmanager
def _executor(made: cluster.Cluster, folder: Path, open_session: Any) -> Iterator[DaskExecutor]:
    """Have an executor whose workers are all ready."""
    values = {"executor": "dask", "scheduler_address": made.address, "prefetch": 0}
    pipeline = cluster.pipeline(folder, folder / "out", **values)
    context = Planner(pipeline, writes=False).plan().context
    executor = DaskExecutor(RemoteRun("benchmark", pipeline, context, open_session, folder))
    try:
        assert executor.open(CancellationToken()) is not None
        workers = made.known()
        cluster.wait_until(lambda: sum(1 for _ in folder.glob("benchmark.worker-*.log")) >= len(workers))
        time.sleep(1)
        yield executor
    finally:
        executor.close()
        for path in folder.glob("benchmark.worker-*.log"):
            path.unlink()


def _seconds(executor: DaskExecutor, folder: Path, count: int) -> float:
    tasks = (
        TileTask(folder / f"{number:06}", f"{number:06}", folder / "out" / f"{number:06}") for number in range(count)
    )
    start = time.perf_counter()
    records = list(executor.run(tasks, None, CancellationToken()))  # type: ignore[arg-type]
    elapsed = time.perf_counter() - start
    assert [record.status for record in records] == ["success"] * count
    return elapsed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return standin.make_folder(tmp_path, 1)


def test_workers_share_tiles_that_take_time(benchmark: Any, folder: Path) -> None:
    per_worker = 12

    def run() -> dict[int, float]:
        rates = {}
        for workers in (1, 4, 16):
            with cluster.cluster(workers) as made, _executor(made, folder, sleep) as executor:
                _seconds(executor, folder, 2 * workers)
                rates[workers] = per_worker * workers / _seconds(executor, folder, per_worker * workers)
        return rates

    rates = benchmark.pedantic(run, rounds=1)
    for workers, least in ((4, 3.6), (16, 13)):
        benchmark.extra_info[f"{workers} workers / one"] = round(rates[workers] / rates[1], 2)
        assert rates[workers] / rates[1] >= least


def test_a_tile_costs_little_beside_its_work_and_none_stays_in_memory(benchmark: Any, folder: Path) -> None:
    def run() -> tuple[float, list[int], list[int]]:
        own, scheduler = [], []
        with cluster.cluster(2) as made, _executor(made, folder, do_nothing) as executor:
            _seconds(executor, folder, MANY // 5)
            for _ in range(2):
                own.append(psutil.Process().memory_info().rss)
                scheduler.append(made.scheduler_bytes())
                seconds = _seconds(executor, folder, MANY)
            own.append(psutil.Process().memory_info().rss)
            scheduler.append(made.scheduler_bytes())
        return seconds, own, scheduler

    seconds, own, scheduler = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["milliseconds per empty tile"] = round(1000 * seconds / MANY, 2)
    for name, found in (("coordinator", own), ("scheduler", scheduler)):
        growth = found[-1] - found[1]
        benchmark.extra_info[f"bytes per tile that the {name} keeps"] = round(growth / MANY)
        # Dask's own logs of what happened are bounded; the state of a tile would be some kilobytes.
        assert growth < 12 << 20
    assert seconds / MANY < 0.010
