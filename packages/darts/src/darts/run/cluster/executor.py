"""The executor that takes tiles through their stages on the workers of a Dask cluster."""

import asyncio
import logging
import queue
import threading
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, TypeVar

from distributed import Client
from distributed.utils import silence_logging_cmgr

from darts.errors import ConfigurationError, SchedulerGoneError
from darts.run.cancel import CancellationToken
from darts.run.cluster.connection import SchedulerLocation, find_scheduler
from darts.run.cluster.coordinator import Coordinator
from darts.run.cluster.launch import local_cluster
from darts.run.cluster.remote import RemoteRun, WorkerMetadata
from darts.run.executors import Progress, TileWorker
from darts.run.journal import TileRecord
from darts.run.task import TileTask
from darts_utils import usable_cpus

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 15.0
_POLL_SECONDS = 0.2
Value = TypeVar("Value")


class DaskExecutor:
    """Gives tiles to workers that may run on other machines; see :class:`darts.run.executors.ExecutorProtocol`.

    Args:
        remote: The run, as workers are told of it; its pipeline says which cluster.
        witnesses: Some of its tiles: who does not see their images takes no part.
    """

    def __init__(self, remote: RemoteRun, witnesses: Sequence[TileTask] = ()) -> None:
        self._held = ExitStack()
        # Dask's own lines are tracebacks where a connection ends; what that means for the run is said in a sentence.
        self._held.enter_context(silence_logging_cmgr(logging.CRITICAL))
        self._pipeline = remote.pipeline
        self._remote = remote
        self._witnesses = witnesses
        self._location: SchedulerLocation | None = None
        self._cluster: Any = None
        self._coordinator: Coordinator | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="darts-dask")
        self._thread.start()

    def open(self, cancel: CancellationToken) -> WorkerMetadata | None:
        """Connect to the cluster, or start one, and wait for the first worker.

        Returns:
            What the first worker says of itself; None if the run was cancelled first.

        Raises:
            ConfigurationError: If there is no scheduler, or every worker is refused.
            DartsError: If the session cannot be opened.
            SchedulerGoneError: If the scheduler does not answer.
        """
        if self._pipeline.workers is None:
            self._location = find_scheduler(self._pipeline.scheduler_file, self._pipeline.scheduler_address)
        return self._wait(self._open(cancel))

    def run(
        self,
        tasks: Iterable[TileTask],
        worker: TileWorker,  # noqa: ARG002 - each process has its own
        cancel: CancellationToken,
        progress: Progress | None = None,  # noqa: ARG002 - stages begin elsewhere, and stand in the workers' logs
    ) -> Iterator[TileRecord]:
        """Take all tasks through all stages, see :meth:`darts.run.executors.LaneExecutor.run`.

        Raises:
            SchedulerGoneError: If the scheduler does not answer any more; what ended before was yielded.
        """
        if self._coordinator is None:
            return
        ended: queue.SimpleQueue[TileRecord | BaseException | None] = queue.SimpleQueue()
        work = asyncio.run_coroutine_threadsafe(self._coordinator.process(iter(tasks), ended.put, cancel), self._loop)
        work.add_done_callback(lambda done: ended.put(done.exception()))
        while isinstance(record := ended.get(), TileRecord):
            yield record
        if record is not None:
            raise record

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        with suppress(Exception):
            self._wait(self._close())
        self._held.close()
        # Dask leaves timeouts of closed connections behind, which asyncio would print.
        self._loop.set_exception_handler(lambda _, about: logger.debug("After the end: %s", about.get("message")))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self, cancel: CancellationToken) -> WorkerMetadata | None:
        if self._location is None:
            address, security = await self._start_local(self._pipeline.workers or 1), None
        else:
            address, security = self._location.address, self._location.security()
        try:
            client = await Client(
                address, security=security, asynchronous=True, set_as_default=False, timeout=_CONNECT_SECONDS
            )
        except (OSError, TimeoutError) as error:
            location = self._location or SchedulerLocation(address)
            raise SchedulerGoneError(location.silence(error)) from error
        except ValueError as error:
            raise ConfigurationError(f"{address!r} is no address of a scheduler ({error}).") from error
        slots = 2 + 2 * self._pipeline.prefetch
        self._coordinator = Coordinator(client, self._remote, slots, self._witnesses)
        return await self._coordinator.roster.first_worker(cancel)

    async def _start_local(self, workers: int) -> str:
        """Start a cluster on this machine, which listens on the loopback interface only; return its address."""
        if self._pipeline.threads is None:
            share = max(usable_cpus() // workers, 1)
            self._remote = replace(self._remote, pipeline=replace(self._pipeline, threads=share))
        self._cluster = await local_cluster(workers)
        return str(self._cluster.scheduler_address)

    async def _close(self) -> None:
        if self._coordinator is not None:
            await self._coordinator.roster.close()
        if self._cluster is not None:
            await self._cluster.close()

    def _wait(self, work: Coroutine[Any, Any, Value]) -> Value:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:  # Signals are handled between two waits.
            with suppress(TimeoutError):
                return future.result(_POLL_SECONDS)
            if future.done():
                return future.result()
