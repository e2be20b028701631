"""Executors: every tile through every stage once and in order, bounded, and one bad tile harms no other."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from darts.run.cancel import CancellationToken
from darts.run.executors import LaneExecutor, lane_threads, overlap_executor, serial_executor
from darts.run.memory import MemoryGate
from darts.run.task import TileWork
from darts_utils import usable_cpus
from support.stages import NAMES, SleepingWorker, Trace, make_tasks

EXECUTORS = {"serial": serial_executor, "overlap": overlap_executor}
QUICK = (0.001,) * 5


def _open_gate() -> MemoryGate:
    gate = MemoryGate(lambda: 10**12)
    gate.measure(1)
    return gate


def _executor(name: str, prefetch: int = 1) -> LaneExecutor:
    executor = serial_executor() if name == "serial" else overlap_executor(prefetch)
    executor.gate = _open_gate()
    return executor


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_tile_takes_every_stage_once_and_in_order(name: str, tmp_path: Path) -> None:
    trace = Trace()
    worker = SleepingWorker(QUICK, trace)
    tasks = make_tasks(tmp_path, 12)
    records = list(_executor(name).run(tasks, worker, CancellationToken()))
    assert sorted(record.tile_id for record in records) == [task.tile_id for task in tasks]
    assert {record.status for record in records} == {"success"}
    for work in worker.works:
        steps = [(kind, stage) for _, kind, tile, stage in trace.events if tile == work.task.tile_id]
        assert steps == [(kind, stage) for stage in NAMES for kind in ("begin", "end")]
        assert list(work.record.stages) == list(NAMES)


@pytest.mark.parametrize("name", EXECUTORS)
def test_no_stage_runs_twice_at_the_same_time(name: str, tmp_path: Path) -> None:
    trace = Trace()
    list(_executor(name).run(make_tasks(tmp_path, 8), SleepingWorker((0.004,) * 5, trace), CancellationToken()))
    for stage in NAMES:
        spans = sorted(trace.spans(stage))
        assert all(first[1] <= second[0] for first, second in pairwise(spans))


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_tiles_under_way_are_bounded(prefetch: int, tmp_path: Path) -> None:
    trace = Trace()
    stages = SleepingWorker((0.001, 0.001, 0.02, 0.001, 0.03), trace)
    list(_executor("overlap", prefetch).run(make_tasks(tmp_path, 12), stages, CancellationToken()))
    assert 1 < trace.most_under_way() <= 2 + 2 * prefetch


@pytest.mark.parametrize("name", EXECUTORS)
@given(bad=st.sets(st.tuples(st.integers(0, 7), st.sampled_from(NAMES)), max_size=6))
def test_a_tile_that_fails_harms_no_other(name: str, bad: set[tuple[int, str]]) -> None:
    first_bad = {f"tile-{number:03}": [stage for n, stage in bad if n == number] for number, _ in bad}

    def fail(work: TileWork, stage: str) -> None:
        if stage in first_bad.get(work.task.tile_id, ()):
            raise ValueError(f"no {stage} for {work.task.tile_id}")

    records = _executor(name).run(make_tasks(Path("x"), 8), SleepingWorker((0,) * 5, hook=fail), CancellationToken())
    by_tile = {record.tile_id: record for record in records}
    assert len(by_tile) == 8
    for tile, record in by_tile.items():
        stages = first_bad.get(tile)
        if stages is None:
            assert (record.status, record.error) == ("success", "")
        else:
            stage = min(stages, key=NAMES.index)
            assert record.status == "failed"
            assert record.error == f"{stage}: ValueError: no {stage} for {tile}"
            assert list(record.stages) == list(NAMES[: NAMES.index(stage) + 1])


@pytest.mark.parametrize("name", EXECUTORS)
def test_memory_that_runs_out_is_transient_and_a_full_disk_is_the_end(name: str, tmp_path: Path) -> None:
    errors = [MemoryError(), ConnectionResetError("reset"), OSError(28, "No space left on device"), ValueError("odd")]

    def fail(work: TileWork, stage: str) -> None:
        if stage == "Segmenting":
            raise errors[int(work.task.tile_id[-1])]

    records = sorted(
        _executor(name).run(make_tasks(tmp_path, 4), SleepingWorker(QUICK, hook=fail), CancellationToken()),
        key=lambda record: record.tile_id,
    )
    assert [record.retryable for record in records] == [True, True, False, False]
    assert [record.ends_run for record in records] == [False, False, True, False]
    assert "Reduce batch_size" in records[0].error
    assert "Free space" in records[2].error


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_stop_without_signal_ends_between_stages(name: str, tmp_path: Path) -> None:
    cancel = CancellationToken()
    trace = Trace()
    ended = []
    for record in _executor(name).run(make_tasks(tmp_path, 50), SleepingWorker((0.002,) * 5, trace), cancel):
        ended.append(record)
        cancel.cancel()
    assert 1 <= len(ended) < 10
    begun = {(tile, stage) for _, kind, tile, stage in trace.events if kind == "begin"}
    done = {(tile, stage) for _, kind, tile, stage in trace.events if kind == "end"}
    assert begun == done
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("darts-lane")]


@given(
    loaders=st.integers(1, 4),
    writers=st.integers(1, 3),
    prefetch=st.integers(0, 2),
    bad=st.sets(st.tuples(st.integers(0, 11), st.sampled_from(NAMES)), max_size=5),
    waits=st.lists(st.integers(0, 3), min_size=12, max_size=12),
)
@settings(max_examples=25)
def test_lanes_of_several_threads_keep_the_order(
    loaders: int, writers: int, prefetch: int, bad: set[tuple[int, str]], waits: list[int]
) -> None:
    trace = Trace()

    def hook(work: TileWork, stage: str) -> None:
        number = int(work.task.tile_id[-3:])
        if stage != "Segmenting":
            time.sleep(waits[number] / 2000)
        if (number, stage) in bad:
            raise ValueError(stage)

    executor = overlap_executor(prefetch, loaders, writers)
    executor.gate = _open_gate()
    tasks = make_tasks(Path("x"), 12)
    records = list(executor.run(tasks, SleepingWorker((0,) * 5, trace, hook), CancellationToken()))
    assert sorted(record.tile_id for record in records) == [task.tile_id for task in tasks]
    assert {record.tile_id for record in records if record.status == "failed"} == {f"tile-{n:03}" for n, _ in bad}
    network = [tile for _, kind, tile, stage in trace.events if (kind, stage) == ("begin", "Segmenting")]
    assert network == sorted(network)
    for stage, most in zip(NAMES, (loaders, loaders, 1, writers, writers), strict=True):
        assert _most_at_once(trace, stage) <= most
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("darts-lane")]


def _most_at_once(trace: Trace, stage: str) -> int:
    steps = sorted((at, step) for span in trace.spans(stage) for at, step in zip(span, (1, -1), strict=True))
    return max(itertools.accumulate(step for _, step in steps), default=0)


def test_lanes_load_and_write_several_tiles_at_once(tmp_path: Path) -> None:
    trace = Trace()
    together = {"Loading Optical": threading.Barrier(3), "Exporting": threading.Barrier(2)}

    def meet(work: TileWork, stage: str) -> None:
        if stage in together:
            together[stage].wait(20)

    executor = overlap_executor(1, 3, 2)
    executor.gate = _open_gate()
    worker = SleepingWorker((0,) * 5, trace, meet)
    records = list(executor.run(make_tasks(tmp_path, 12), worker, CancellationToken()))
    assert [record.status for record in records] == ["success"] * 12
    assert trace.most_under_way() <= 3 + 1 + 2 - 1 + 2


def test_threads_of_a_lane_share_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts_utils.resources._cpus_to_run_on", lambda: 16)
    monkeypatch.setattr("darts_utils.resources.groups_above", lambda *_: ())
    assert lane_threads() == (3, 2)
    seen: dict[str, set[int]] = {}
    executor = overlap_executor(1, 3, 2)
    executor.gate = _open_gate()

    def look(work: TileWork, stage: str) -> None:
        seen.setdefault(stage, set()).add(usable_cpus(environment={}))

    list(executor.run(make_tasks(tmp_path, 6), SleepingWorker((0,) * 5, hook=look), CancellationToken()))
    assert seen == dict(zip(NAMES, ({5}, {5}, {16}, {8}, {8}), strict=True))
    assert usable_cpus(environment={}) == 16


@pytest.mark.parametrize(("cpus", "expected"), [(1, (1, 1)), (2, (1, 1)), (8, (2, 1)), (16, (3, 2)), (128, (3, 2))])
def test_few_processors_are_left_to_the_network(
    cpus: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darts.run.executors.usable_cpus", lambda: cpus)
    assert lane_threads() == expected


def test_until_a_tile_is_measured_only_one_is_under_way() -> None:
    gate, token = MemoryGate(lambda: 10**12), CancellationToken()
    assert gate.enter(token)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gate.enter, token)
        time.sleep(0.3)
        assert not waiting.done()
        gate.measure(1000)
        assert waiting.result(10) is True


def test_a_signal_waits_for_what_is_being_written_and_for_nothing_else(tmp_path: Path) -> None:
    cancel = CancellationToken()
    trace = Trace()
    slow_network = threading.Event()

    def hook(work: TileWork, stage: str) -> None:
        if stage == "Segmenting" and work.task.tile_id == "tile-001":
            slow_network.wait(30)

    stages = SleepingWorker((0.001, 0.001, 0.001, 0.001, 0.5), trace, hook)
    runner = _executor("overlap").run(make_tasks(tmp_path, 5), stages, cancel)
    timer = threading.Timer(0.2, cancel.cancel, args=[15])
    timer.start()
    start = time.perf_counter()
    records = list(runner)
    assert time.perf_counter() - start < 5
    assert [record.tile_id for record in records] == ["tile-000"]
    assert records[0].status == "success"
    assert ("end", "Exporting") in {(kind, stage) for _, kind, _, stage in trace.events}
    slow_network.set()
    timer.join()


def test_the_network_is_kept_busy(tmp_path: Path) -> None:
    trace = Trace()
    seconds = (0.05, 0.025, 0.1, 0.015, 0.025)
    list(_executor("overlap").run(make_tasks(tmp_path, 10), SleepingWorker(seconds, trace), CancellationToken()))
    spans = sorted(trace.spans("Segmenting"))
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(spans)]
    # Ten times 0.1 s of network; whatever else the stages do fits in between.
    assert np.median(gaps) < 0.02


def test_tiles_begin_only_while_memory_lasts(tmp_path: Path) -> None:
    free = 1000
    trace = Trace()

    def load(work: TileWork, stage: str) -> None:
        if stage == "Loading Optical":
            work.tile = xr.Dataset({"a": ("x", np.zeros(200, np.uint8))})

    for available, most in ((free, 4), (400, 1)):
        trace.events.clear()
        executor = overlap_executor(1)
        executor.gate = MemoryGate(lambda available=available: available)
        stages = SleepingWorker((0.001, 0.001, 0.02, 0.001, 0.02), trace, load)
        assert len(list(executor.run(make_tasks(tmp_path, 6), stages, CancellationToken()))) == 6
        assert trace.most_under_way() <= most
    assert trace.most_under_way() == 1


def test_a_lane_that_breaks_ends_the_run_with_its_error(tmp_path: Path) -> None:
    def break_out(work: TileWork, stage: str) -> None:
        raise SystemExit("odd library")

    with pytest.raises(SystemExit, match="odd library"):
        list(
            _executor("overlap").run(
                make_tasks(tmp_path, 2), SleepingWorker(QUICK, hook=break_out), CancellationToken()
            )
        )
