"""Take tiles through their stages: one after the other, or loading, network and export at the same time.

An executor knows nothing of what the stages do. It gets work and stages, and yields a record for each piece of work
that ended, in whatever order. That is the seam for executors on other machines.
"""

import logging
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

from darts.run.cancel import Stop
from darts.run.failures import describe, is_disk_full, is_transient
from darts.run.memory import MemoryGate
from darts.run.records import TileRecord
from darts.run.task import Lane, Stage, Work
from darts_utils import Stopwatch

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


class Listener(Protocol):
    """Is told about stages as they begin."""

    def stage(self, tile_id: str, name: str) -> None:
        """Note that a stage of a tile begins."""


class Executor:
    """Runs the stages in lanes: each lane is a thread that takes one tile at a time through its stages.

    Between two lanes at most `prefetch` tiles wait; at most `2 + 2 · prefetch` tiles are under way at once where there
    is more than one lane. The first error of a tile ends it. The stages of one lane never run at the same time.

    Args:
        lanes: Which stages share a thread.
        prefetch: Tiles that may wait between two lanes.
        gate: Lets tiles begin as memory allows.
    """

    def __init__(self, lanes: Sequence[Sequence[Lane]], prefetch: int = 1, gate: MemoryGate | None = None) -> None:
        self._lanes = lanes
        self._prefetch = prefetch
        self._gate = gate or MemoryGate()

    def run(
        self, works: Iterable[Work], stages: Sequence[Stage], stop: Stop, listener: Listener | None = None
    ) -> Iterator[TileRecord]:
        """Take all work through all stages.

        Args:
            works: The tiles, in the order in which they begin.
            stages: The stages, in their order.
            stop: Ends the run early. Tiles under way are then dropped without a record, but for one that is being
                written; where a signal asked, without waiting for the stages that are running.
            listener: Is told what begins.

        Yields:
            The record of each tile that ended, successful or not.
        """
        run = _Run(list(works), [[s for s in stages if s.lane in lane] for lane in self._lanes], stop, listener)
        in_flight = 1 if len(self._lanes) == 1 else 2 + 2 * self._prefetch
        yield from run.go(self._prefetch, in_flight, self._gate)


def serial_executor() -> Executor:
    """Return an executor that takes one tile after the other through all stages."""
    return Executor([("before", "network", "after")])


def overlap_executor(prefetch: int = 1) -> Executor:
    """Return an executor that loads the next tiles and writes the last ones while the network is busy.

    Args:
        prefetch: Tiles that may wait before the network, and as many behind it.
    """
    return Executor([("before",), ("network",), ("after",)], prefetch)


class _Run:
    """One call of :meth:`Executor.run`."""

    def __init__(self, works: list[Work], lanes: list[list[Stage]], stop: Stop, listener: Listener | None) -> None:
        self._works = works
        self._lanes = lanes
        self._stop = stop
        self._listener = listener
        self._ended: queue.SimpleQueue[TileRecord | BaseException | None] = queue.SimpleQueue()
        self._writing = threading.Lock()

    def go(self, prefetch: int, in_flight: int, gate: MemoryGate) -> Iterator[TileRecord]:
        self._gate = gate
        self._slots = threading.Semaphore(in_flight)
        links: list[queue.Queue[Work | None]] = [queue.Queue(max(prefetch, 1)) for _ in self._lanes[1:]]
        sources: list[Iterator[Work]] = [self._begin(), *(iter(link.get, None) for link in links)]
        sinks: list[queue.Queue[Work | None] | None] = [*links, None]
        threads = [
            threading.Thread(target=self._guarded, args=lane, daemon=True, name=f"darts-lane-{number}")
            for number, lane in enumerate(zip(self._lanes, sources, sinks, strict=True))
        ]
        for thread in threads:
            thread.start()
        yield from self._records()
        if not self._stop.at_once:
            for thread in threads:
                thread.join()

    def _records(self) -> Iterator[TileRecord]:
        while True:
            try:
                ended = self._ended.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._stop.at_once:
                    break
                continue
            if ended is None:
                return
            if isinstance(ended, BaseException):
                raise ended
            yield ended
            # Only now, so that whoever takes the records can stop the run before a further tile begins.
            self._slots.release()
        # No further export begins once a stop is requested; the one under way is worth waiting for.
        with self._writing:
            pass
        while not self._ended.empty():
            ended = self._ended.get()
            if isinstance(ended, TileRecord):
                yield ended

    def _begin(self) -> Iterator[Work]:
        for work in self._works:
            self._slots.acquire()
            if not self._gate.enter(self._stop):
                return
            yield work

    def _guarded(self, stages: list[Stage], source: Iterator[Work], sink: "queue.Queue[Work | None] | None") -> None:
        try:
            for work in source:
                self._take(work, stages, sink)
        except BaseException as error:  # noqa: BLE001 - a lane that dies silently would hang the run
            self._ended.put(error)
        finally:
            if sink is not None:
                sink.put(None)
            else:
                self._ended.put(None)

    def _take(self, work: Work, stages: list[Stage], sink: "queue.Queue[Work | None] | None") -> None:
        for stage in stages:
            if not self._advance(work, stage):
                work.drop()
                self._gate.leave()
                return
        if sink is not None:
            self._gate.measure(work.nbytes)
            sink.put(work)
            return
        self._gate.leave()
        self._ended.put(work.record)

    def _advance(self, work: Work, stage: Stage) -> bool:
        """Run one stage; return whether the tile goes on."""
        with self._writing if stage.writes else _nothing():
            if self._stop.requested:
                self._slots.release()
                return False
            if self._listener is not None:
                self._listener.stage(work.job.tile_id, stage.name)
            try:
                with _timed(work.record, stage.name):
                    stage.run(work)
            except Exception as error:  # noqa: BLE001 - one tile must never end the run
                if self._stop.at_once and not stage.writes:  # It may have failed because its download was stopped.
                    self._slots.release()
                else:
                    self._fail(work, stage, error)
                return False
        return True

    def _fail(self, work: Work, stage: Stage, error: Exception) -> None:
        record = work.record
        record.status = "failed"
        record.error = describe(stage.name, error)
        record.retryable = is_transient(error)
        record.ends_run = is_disk_full(error)
        logger.debug("Tile %s failed in stage %s.", record.tile_id, stage.name, exc_info=error)
        self._ended.put(record)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


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
