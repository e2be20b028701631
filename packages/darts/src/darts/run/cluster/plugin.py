"""The side of a worker: a session that is open as long as the worker lives, and the tiles that it is given."""

import asyncio
import logging
import os
import pickle
import platform
import queue
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import Status, WorkerPlugin, get_worker, secede
from distributed import Worker as DaskWorker

from darts.run.cancel import CancellationToken, left_behind
from darts.run.cluster.remote import ENDS, RemoteRun, WorkerMetadata, describe_code
from darts.run.cluster.sight import Sight, find_unseen
from darts.run.executors import overlap_executor
from darts.run.failures import note_failure
from darts.run.heap import kept_heap
from darts.run.journal import TileRecord
from darts.run.planning import make_resume
from darts.run.progress import run_log, warnings_once
from darts.run.task import TileTask
from darts.run.worker import Worker
from darts_utils import usable_cpus

logger = logging.getLogger(__name__)

_IDLE_POLL_SECONDS = 0.5
_LOOK_SECONDS = 60.0
"""A file system that does not answer for so long hangs."""


class SessionMissingError(RuntimeError):
    """A tile came to a process that has no session: it was started again meanwhile."""


class TilePlugin(WorkerPlugin):
    """Keeps a run's session open in a worker, and takes the tiles that come through its stages, several at once.

    Inside, the overlap executor keeps the device busy. The worker decides again just before it begins a tile, so that
    one whose answer was lost is not computed twice.

    Attributes:
        remote: The run.
    """

    def __init__(self, remote: RemoteRun) -> None:
        self.name = remote.name
        self.remote = remote

    async def setup(self, worker: DaskWorker) -> None:
        """Open the session, without keeping the worker from answering meanwhile."""
        self._dask_worker = worker
        self._cancel = CancellationToken()
        self._leaving = self._ends = False
        self._lock = threading.Lock()
        self._under_way: dict[Path, Future[TileRecord | None]] = {}
        self._queue: queue.SimpleQueue[TileTask | None] = queue.SimpleQueue()
        host = re.sub(r"[^A-Za-z0-9]+", "-", platform.node())
        self._log = self.remote.output / f"{self.name}.worker-{host}-{os.getpid()}.log"
        pipeline = self.remote.pipeline
        if pipeline.threads is None:
            # Dask lets a process have one thread, unless it is told otherwise.
            pipeline = replace(pipeline, threads=usable_cpus())
        # Sessions keep memory for the next tile on purpose; a worker that waits for it to be free would wait for ever.
        worker.memory_manager.memory_pause_fraction = False
        self._worker = Worker(pipeline, self.remote.context, self.remote.open_session)
        opened = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(
            target=self._work, args=(asyncio.get_running_loop(), opened), daemon=True, name="darts-tiles"
        )
        self._thread.start()
        # A cluster that ends meanwhile does not wait until the session is open.
        left_behind.add([self._thread], signal.SIGTERM)
        await opened
        with suppress(ValueError, NotImplementedError):  # Only the main thread takes signals.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.leave)
        if ENDS in os.environ:
            asyncio.get_running_loop().call_later(max(float(os.environ[ENDS]) - time.time(), 0), self._end)

    def teardown(self, worker: DaskWorker) -> None:  # noqa: ARG002 - the interface of Dask
        """Drop what is under way, but for a tile that is being written."""
        self.stop(signal.SIGTERM)

    @property
    def metadata(self) -> WorkerMetadata:
        """What the worker says of itself."""
        return WorkerMetadata(self._worker.device, self._worker.precision, self._worker.startup_seconds, self._log)

    def process(self, task: TileTask) -> TileRecord | None:
        """Take a tile through its stages.

        Returns:
            Its record; None where it was dropped, because the run or the worker ends.
        """
        with self._lock:
            waiting = self._under_way.get(task.output)
            if waiting is None:
                if self._leaving or self._cancel.requested:
                    return None
                waiting = self._under_way[task.output] = Future()
                self._queue.put(task)
        record = waiting.result()
        if record is not None:
            record.host = platform.node()
        return record

    def stop(self, signum: int | None) -> None:
        """Drop what is under way, but for a tile that is being written, and take no more.

        Args:
            signum: The signal that ended the run; without one, stages that are running are waited for.
        """
        self._cancel.cancel(signum)
        self._queue.put(None)

    def leave(self) -> None:
        """End the worker: on SIGTERM, after the tile that is being written."""
        logger.warning("This worker ends: what is being written is finished first.")
        self.stop(signal.SIGTERM)
        if not self._ends:  # Slurm and the process above both send the signal.
            self._end()

    def _end(self) -> None:
        """Take no more tiles, and close the worker when none is under way."""
        self._leaving = self._ends = True
        loop = asyncio.get_running_loop()
        if self._under_way:
            loop.call_later(_IDLE_POLL_SECONDS, self._end)
        else:
            # A little later, so that the last answer is fetched before.
            loop.call_later(2 * _IDLE_POLL_SECONDS, self._close)

    def _close(self) -> None:
        if self._dask_worker.status in (Status.running, Status.paused):
            # Of a process that ends by itself Dask says from here on that it died, and more that is no fault.
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
            self._closing = asyncio.ensure_future(self._dask_worker.close_gracefully(restart=False, reason="darts-end"))

    def _work(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
        """Open the session, and take tiles through their stages until the end; in a thread of its own."""
        with run_log(self._log, logging.DEBUG), warnings_once():
            try:
                self._worker.open()
                self._resume = make_resume(self.remote.pipeline, self.remote.context)
            except BaseException as error:
                logger.debug("The session cannot be opened.", exc_info=error)
                loop.call_soon_threadsafe(opened.set_exception, _sendable(error))
                return
            loop.call_soon_threadsafe(opened.set_result, None)
            problem: BaseException | None = None
            try:
                executor = overlap_executor(self.remote.pipeline.prefetch)
                with kept_heap():
                    for record in executor.run(self._tasks(), self._worker, self._cancel, self):
                        self._answer(record)
            except BaseException as error:
                logger.exception("The worker cannot go on.")
                problem = _sendable(error)
            self._answer_the_rest(problem)

    def _tasks(self) -> Iterator[TileTask]:
        """Yield the tiles that are to be computed, and answer for the others."""
        for task in iter(self._queue.get, None):
            record = self._decide(task)
            if record is None:
                yield task
            else:
                self._answer(record)

    def _decide(self, task: TileTask) -> TileRecord | None:
        """Decide once more whether a tile is finished meanwhile; return its record if it is."""
        try:
            decision = self._resume.decide(task)
        except Exception as error:  # noqa: BLE001 - one tile must never end the worker
            return note_failure(TileRecord(task.tile_id, task.output, attempt=task.attempt), "Planning", error)
        return None if decision.todo else decision.record()

    def stage(self, tile_id: str, name: str) -> None:
        """Note in the log that a stage of a tile begins."""
        logger.debug("Tile %s: %s.", tile_id, name)

    def _answer(self, record: TileRecord) -> None:
        with self._lock:
            waiting = self._under_way.pop(record.output_path, None)
        if waiting is not None:
            waiting.set_result(record)

    def _answer_the_rest(self, problem: BaseException | None) -> None:
        with self._lock:
            self._leaving = True
            rest, self._under_way = self._under_way, {}
        for waiting in rest.values():
            if problem is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(problem)


def _sendable(error: BaseException) -> BaseException:
    """Return an error that any process can be sent."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    except Exception:  # noqa: BLE001 - pickling may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


# What the coordinator runs on a worker. Dask gives `dask_worker`.


async def describe_worker(models: dict[str, Path]) -> dict[str, object]:
    """Describe the code and the models of a worker, see :func:`darts.run.cluster.remote.describe_code`."""
    return await asyncio.to_thread(describe_code, models)


async def look(sights: Sequence[Sight], output: Path) -> str:
    """Say what a worker does not see of a run, see :func:`darts.run.cluster.sight.find_unseen`."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(find_unseen, sights, output), _LOOK_SECONDS)
    except TimeoutError:
        return f"within {_LOOK_SECONDS:.0f} s its file system did not say whether it sees what the run sees"


async def open_worker(remote: RemoteRun, dask_worker: Any = None) -> WorkerMetadata:
    """Open the session of a run on a worker, by a plugin that stays until the run ends.

    Raises:
        DartsError: If it cannot be opened there.
    """
    # A coordinator that was killed left the session of its run; this one has its folder now.
    for name, other in list(dask_worker.plugins.items()):
        if isinstance(other, TilePlugin) and name != remote.name:
            own = other.remote
            if (own.output, own.pipeline.shard) == (remote.output, remote.pipeline.shard):
                await dask_worker.plugin_remove(name=name)
    plugin = TilePlugin(remote)
    await dask_worker.plugin_add(plugin=plugin, name=remote.name, catch_errors=False)
    return plugin.metadata


async def stop_worker(name: str, signum: int | None, dask_worker: Any = None) -> None:
    """Drop what is under way of a run on a worker, see :meth:`TilePlugin.stop`."""
    plugin = dask_worker.plugins.get(name)
    if plugin is not None:
        plugin.stop(signum)


async def close_worker(name: str, dask_worker: Any = None) -> None:
    """Close the session of a run on a worker."""
    if name in dask_worker.plugins:
        await dask_worker.plugin_remove(name=name)


def process_tile(name: str, task: TileTask) -> TileRecord | None:
    """Take a tile through its stages; a task of Dask.

    Returns:
        Its record; None where it was dropped.

    Raises:
        SessionMissingError: If the worker has no session of this run.
    """
    plugin = get_worker().plugins.get(name)
    if not isinstance(plugin, TilePlugin):
        raise SessionMissingError(name)
    secede()  # The thread only waits: how many tiles are under way is for the coordinator to say.
    return plugin.process(task)
