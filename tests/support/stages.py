"""Stages that do nothing but take time, fail or note that they ran, for tests of the loop over tiles."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from darts.pipelines.sequential_v2 import PlanetPipeline
from darts.run.executors import ExecutorProtocol, serial_executor
from darts.run.lock import folder_lock
from darts.run.loop import TileRun
from darts.run.planning import Plan
from darts.run.progress import run_log
from darts.run.records import RunRecords, remove_leftovers
from darts.run.resume import Decision
from darts.run.task import Stage, TileTask, TileWork
from darts.run.worker import Worker

NAMES = ("Loading Optical", "Preprocessing", "Segmenting", "Postprocessing", "Exporting")
LANES = ("load", "load", "infer", "write", "write")


class Trace:
    """Notes when each stage of each tile began and ended."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str, str]] = []
        self._lock = threading.Lock()

    def note(self, kind: str, tile: str, stage: str) -> None:
        with self._lock:
            self.events.append((time.perf_counter(), kind, tile, stage))

    def spans(self, stage: str) -> list[tuple[float, float]]:
        """Return begin and end of a stage for all tiles."""
        begun = {tile: at for at, kind, tile, name in self.events if (kind, name) == ("begin", stage)}
        return [(begun[tile], at) for at, kind, tile, name in self.events if (kind, name) == ("end", stage)]

    def most_under_way(self) -> int:
        """Return how many tiles were between their first and their last stage at once."""
        under_way: set[str] = set()
        most = 0
        for _, kind, tile, stage in sorted(self.events):
            if (kind, stage) == ("begin", NAMES[0]):
                under_way.add(tile)
            most = max(most, len(under_way))
            if (kind, stage) == ("end", NAMES[-1]):
                under_way.discard(tile)
        return most


def make_tasks(folder: Path, count: int) -> list[TileTask]:
    """Return tasks for tiles that do not exist."""
    return [TileTask(number, f"tile-{number:03}", folder / f"tile-{number:03}") for number in range(count)]


def decisions(tasks: Sequence[TileTask]) -> list[Decision]:
    """Decide to compute all of them."""
    return [Decision(task, "compute", "no finished results") for task in tasks]


class SleepingWorker(Worker):
    """Has the five main stages, each of which sleeps and then calls a hook."""

    def __init__(
        self,
        seconds: Sequence[float],
        trace: Trace | None = None,
        hook: Callable[[TileWork, str], None] | None = None,
    ) -> None:
        self.pipeline = PlanetPipeline()
        self._seconds = seconds
        self._trace = trace
        self._hook = hook
        self.works: list[TileWork] = []

    def begin(self, task: TileTask) -> TileWork:
        work = TileWork(task)
        work.record.attempt = task.attempt
        self.works.append(work)
        return work

    def stages(self) -> list[Stage]:
        return [
            Stage(name, lane, partial(self._take, name, duration), writes=name == "Exporting")
            for name, lane, duration in zip(NAMES, LANES, self._seconds, strict=True)
        ]

    def _take(self, name: str, seconds: float, work: TileWork) -> None:
        if self._trace is not None:
            self._trace.note("begin", work.task.tile_id, name)
        time.sleep(seconds)
        if self._hook is not None:
            self._hook(work, name)
        if self._trace is not None:
            self._trace.note("end", work.task.tile_id, name)


def run_tasks(
    output: Path,
    tasks: Sequence[TileTask],
    worker: Worker,
    *,
    plan: Sequence[Decision] | None = None,
    executor: ExecutorProtocol | None = None,
    most_failures: int | None = None,
) -> RunRecords:
    """Run tasks as a pipeline's run does, without a pipeline."""
    decided = decisions(tasks) if plan is None else plan
    with folder_lock(output) as tell:
        remove_leftovers(output)
        records = RunRecords(output, planned=Plan(decided, None).counts)  # type: ignore[arg-type]
        tell(records.name)
        tile_run = TileRun(records, worker, executor or serial_executor(), most_failures)
        with run_log(records.path("log")), tile_run.ending(), tile_run.cancelling(len(decided)):
            tile_run.go(decided)
    return records
