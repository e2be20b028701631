"""Take tiles through their stages: one after the other, or loading, network and export at the same time.

An executor knows nothing of what the stages do. It gets tasks and a worker, and yields a record for each tile that
ended, in whatever order. That is the seam for executors on other machines.
"""

import logging
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Protocol

from darts.run.cancel import CancellationToken, left_behind
from darts.run.journal import TileRecord
from darts.run.lanes import Crew, Exports, Link
from darts.run.memory import MemoryGate
from darts.run.task import Lane, Stage, TileTask, TileWork
from darts_utils import Stopwatch, sharing_cpus, usable_cpus

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_MOST_LOADERS, _MOST_WRITERS = 3, 2


class Progress(Protocol):
    """Is told about stages as they begin."""

    def stage(self, tile_id: str, name: str) -> None:
        """Note that a stage of a tile begins."""


class TileWorker(Protocol):
    """Knows the stages of a tile; :class:`darts.run.worker.Worker` is one."""

    def stages(self) -> list[Stage]:
        """List the stages in their order."""

    def begin(self, task: TileTask) -> TileWork:
        """Return a task as work that no stage has touched."""

    def fail(self, work: TileWork, stage: Stage, error: Exception) -> None:
        """Write down in the work's record that a stage raised an error."""


class ExecutorProtocol(Protocol):
    """Takes tasks, gives records."""

    def run(
        self, tasks: Iterable[TileTask], worker: TileWorker, cancel: CancellationToken, progress: Progress | None = None
    ) -> Iterator[TileRecord]:
        """Take all tasks through all stages, see :meth:`LaneExecutor.run`."""


class LaneExecutor:
    """Runs the stages in lanes: each lane has threads that take one tile at a time through its stages.

    Between two lanes at most `prefetch` tiles wait; at most `2 · prefetch` tiles more than there are threads, less one,
    are under way at once where there is more than one lane. Every lane begins the tiles in their order. The first error
    of a tile ends it. Threads of one lane share the processors.

    Args:
        lanes: Which stages share threads.
        prefetch: Tiles that may wait between two lanes.
        gate: Lets tiles begin as memory allows.
        threads: Threads of each lane; by default one.
    """

    def __init__(
        self,
        lanes: Sequence[Sequence[Lane]],
        prefetch: int = 1,
        gate: MemoryGate | None = None,
        threads: Sequence[int] | None = None,
    ) -> None:
        self.lanes = lanes
        self.threads = threads or [1] * len(lanes)
        self.prefetch = prefetch
        self.gate = gate or MemoryGate()

    def run(
        self, tasks: Iterable[TileTask], worker: TileWorker, cancel: CancellationToken, progress: Progress | None = None
    ) -> Iterator[TileRecord]:
        """Take all tasks through all stages.

        Args:
            tasks: The tiles, in the order in which they begin; never more are taken than are under way.
            worker: Knows the stages.
            cancel: Ends the run early. Tiles under way are then dropped without a record, but for one that is being
                written; where the token says so, without waiting for the stages that are running.
            progress: Is told what begins.

        Yields:
            The record of each tile that ended, successful or not.
        """
        yield from _Run(self, tasks, worker, cancel, progress).go()


def serial_executor() -> LaneExecutor:
    """Return an executor that takes one tile after the other through all stages."""
    return LaneExecutor([("load", "infer", "write")])


def overlap_executor(prefetch: int = 1, loaders: int = 1, writers: int = 1) -> LaneExecutor:
    """Return an executor that loads the next tiles and writes the last ones while the network is busy.

    Args:
        prefetch: Tiles that may wait before the network, and as many after it.
        loaders: Tiles that are loaded at once.
        writers: Tiles that are written at once.
    """
    return LaneExecutor([("load",), ("infer",), ("write",)], prefetch, threads=[loaders, 1, writers])


def lane_threads() -> tuple[int, int]:
    """Return how many tiles to load and to write at once on this machine.

    One of each where there are few processors, which the network on them needs itself; more where there are many, which
    a GPU leaves idle.
    """
    cpus = usable_cpus()
    return min(max(cpus // 4, 1), _MOST_LOADERS), min(max(cpus // 8, 1), _MOST_WRITERS)


class _Run:
    """One call of :meth:`LaneExecutor.run`."""

    def __init__(
        self,
        executor: LaneExecutor,
        tasks: Iterable[TileTask],
        worker: TileWorker,
        cancel: CancellationToken,
        progress: Progress | None,
    ) -> None:
        self._executor, self._gate = executor, executor.gate
        self._tasks, self._worker, self._cancel, self._progress = tasks, worker, cancel, progress
        # No SimpleQueue, whose wait goes on for ever where a signal is handled for longer than its timeout.
        self._ended: queue.Queue[TileRecord | BaseException | None] = queue.Queue()
        self._exports = Exports()

    def go(self) -> Iterator[TileRecord]:
        known, counts, prefetch = self._worker.stages(), self._executor.threads, self._executor.prefetch
        lanes = [[stage for stage in known if stage.lane in lane] for lane in self._executor.lanes]
        self._slots = threading.Semaphore(1 if len(lanes) == 1 else sum(counts) - 1 + 2 * prefetch)
        links = [Link(count + max(prefetch, 1)) for count in counts[:-1]]
        sources: list[Iterator[TileWork]] = [self._begin(), *map(iter, links)]
        crews = [Crew(*ends) for ends in zip(sources, [*links, None], counts, strict=True)]
        threads = [
            threading.Thread(target=self._guarded, args=(stages, crew), daemon=True, name=f"darts-lane-{lane}-{number}")
            for lane, (stages, crew) in enumerate(zip(lanes, crews, strict=True))
            for number in range(crew.size)
        ]
        for thread in threads:
            thread.start()
        yield from self._records()
        if self._cancel.signum is not None:
            left_behind.add(threads, self._cancel.signum)
            return
        for thread in threads:
            thread.join()

    def _records(self) -> Iterator[TileRecord]:
        while True:
            try:
                ended = self._ended.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._cancel.immediate:
                    break
                continue
            if ended is None:
                return
            if isinstance(ended, BaseException):
                raise ended
            yield ended
            # Only now, so that whoever takes the records can stop the run before a further tile begins.
            self._slots.release()
        # No further export begins once the run is cancelled; the one under way is worth waiting for.
        self._exports.wait()
        while not self._ended.empty():
            ended = self._ended.get()
            if isinstance(ended, TileRecord):
                yield ended

    def _begin(self) -> Iterator[TileWork]:
        tasks = iter(self._tasks)
        while True:
            self._slots.acquire()
            if not self._gate.enter(self._cancel):
                return
            task = next(tasks, None)
            if task is None:
                self._gate.leave()
                return
            yield self._worker.begin(task)

    def _guarded(self, stages: list[Stage], crew: Crew) -> None:
        try:
            with sharing_cpus(crew.size):
                for work, slot in crew:
                    slot.put(self._take(work, stages, is_last=crew.is_last))
        except BaseException as error:  # noqa: BLE001 - a lane that dies silently would hang the run
            self._ended.put(error)
        finally:
            if crew.leave() and crew.is_last:
                self._ended.put(None)

    def _take(self, work: TileWork, stages: list[Stage], *, is_last: bool) -> TileWork | None:
        """Take a tile through stages; return it if it goes on to the next lane."""
        for stage in stages:
            if not self._advance(work, stage):
                work.drop()
                self._gate.leave()
                return None
        if is_last:
            self._gate.leave()
            self._ended.put(work.record)
            return None
        self._gate.measure(work.nbytes)
        return work

    def _advance(self, work: TileWork, stage: Stage) -> bool:
        """Run one stage; return whether the tile goes on."""
        with self._exports if stage.writes else nullcontext():
            if self._cancel.requested:
                self._slots.release()
                return False
            if self._progress is not None:
                self._progress.stage(work.task.tile_id, stage.name)
            try:
                with _timed(work.record, stage.name):
                    stage.run(work)
            except Exception as error:  # noqa: BLE001 - one tile must never end the run
                if self._cancel.immediate and not stage.writes:  # It may have failed because its download was stopped.
                    self._slots.release()
                else:
                    self._worker.fail(work, stage, error)
                    self._ended.put(work.record)
                return False
        return True


@contextmanager
def _timed(record: TileRecord, stage: str) -> Iterator[None]:
    """Write down how long a stage took, and its inner steps, also where it fails."""
    watch = Stopwatch()
    start = perf_counter()
    try:
        with watch.recording():
            yield
    finally:
        record.stages[stage] = perf_counter() - start
        for name, seconds in watch.seconds.items():
            record.steps[name] = record.steps.get(name, 0.0) + seconds
