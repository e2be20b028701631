"""The side of the coordinator: which workers there are, which tiles they have, and what becomes of those of a dead one.

A tile is given to one worker by name, and no more tiles than it takes at once, so that it is known what a worker had
when it died, and nothing piles up in the scheduler. Tiles of a dead worker are done again one at a time, alone.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from distributed import Client
from distributed.comm.core import CommClosedError

from darts.errors import NoWorkersError, SchedulerGoneError
from darts.run.cancel import CancellationToken
from darts.run.cluster.plugin import (
    SessionMissingError,
    close_worker,
    describe_worker,
    open_worker,
    process_tile,
    stop_worker,
)
from darts.run.cluster.remote import (
    END,
    NEWS,
    RemoteRun,
    WorkerFacts,
    describe_code,
    describe_difference,
)
from darts.run.cluster.seats import LOST, LostError, Outcome, Seat
from darts.run.failures import describe
from darts.run.records import TileRecord
from darts.run.task import TileTask
from darts_utils import DartsError

logger = logging.getLogger(__name__)

GONE_SECONDS = 15.0
"""A scheduler that does not answer for so long is gone."""
REFUSED_SECONDS = 10.0
"""How long other workers may take to come where all that are there were refused."""
TELL_SECONDS = 60.0
"""How often it is said what a run without workers waits for."""
_POLL_SECONDS = 0.25
_WRITING_SECONDS = 120.0
"""How long a worker may take to write a tile when the run is ended by a signal."""
_CLOSE_SECONDS = 5.0


class Coordinator:
    """Gives tiles to the workers of a cluster. All methods run in one event loop.

    Args:
        client: Connected to the scheduler; closed in the end.
        remote: The run.
        slots: How many tiles a worker takes at once.
    """

    def __init__(self, client: Client, remote: RemoteRun, slots: int) -> None:
        self._client = client
        self._remote = remote
        self._slots = slots
        self._code = describe_code(remote.context.models)
        self._seats: dict[str, Seat] = {}
        self._refusals: dict[str, str] = {}
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        self._returned: deque[TileTask] = deque()
        self._suspects: deque[TileTask] = deque()
        self._ward: Seat | None = None
        self._upcoming: TileTask | None = None
        self._under_way = 0
        self._had_workers = False
        self._problem: Exception | None = None
        self._deciding = asyncio.Lock()
        self._first: WorkerFacts | None = None
        self._news = "Still waiting for workers of the cluster."
        self._told = time.monotonic()
        client.subscribe_topic(NEWS, self._hear)
        self._background = {asyncio.create_task(self._watch())}

    async def first_worker(self, cancel: CancellationToken) -> WorkerFacts | None:
        """Wait until a worker is ready, however long that takes.

        Args:
            cancel: Ends the waiting.

        Returns:
            What it says of itself; None if the run was cancelled first.

        Raises:
            NoWorkersError: If all workers were refused.
            DartsError: If the session cannot be opened on the first worker.
            SchedulerGoneError: If the scheduler does not answer any more.
        """
        refused_since = None
        logger.info("Waiting for workers of the cluster.")
        while self._first is None and not cancel.requested:
            self._raise_problem()
            waiting = any(seat.state == "opening" for seat in self._seats.values())
            if not self._refusals or waiting:
                refused_since = None
            else:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > REFUSED_SECONDS:
                    listed = "; ".join(f"{seat}: {why}" for seat, why in self._refusals.items())
                    raise NoWorkersError(f"No worker of the cluster can take part in this run. {listed}")
            await asyncio.sleep(_POLL_SECONDS / 5)
        return self._first

    async def process(
        self, tasks: Iterator[TileTask], give: Callable[[TileRecord], None], cancel: CancellationToken
    ) -> None:
        """Take tiles through their stages on the workers.

        Args:
            tasks: The tiles; never more are taken than are under way.
            give: Is given the record of each tile that ended.
            cancel: Ends it early; tiles under way are then dropped without a record, but for those being written.

        Raises:
            SchedulerGoneError: If the scheduler does not answer any more.
        """
        self._upcoming = next(tasks, None)
        while self._upcoming is not None or self._under_way or self._returned or self._suspects:
            self._raise_problem()
            if cancel.requested:
                await self._drop(give, cancel)
                return
            if self._news != END:
                self._hand_out(tasks)
            elif not self._under_way:
                raise SchedulerGoneError(END)
            with suppress(TimeoutError):
                self._take(await asyncio.wait_for(self._outcomes.get(), _POLL_SECONDS), give)
                while not self._outcomes.empty():
                    self._take(self._outcomes.get_nowait(), give)
        self._raise_problem()

    async def close(self) -> None:
        """Close the session on all workers, and the client."""
        ready = [seat.address for seat in self._seats.values() if seat.facts is not None]
        if ready and self._problem is None:
            await self._run_on(ready, close_worker, self._remote.name, seconds=_CLOSE_SECONDS)
        left = [*self._background, *(task for seat in self._seats.values() for task in seat.under_way)]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CLOSE_SECONDS)
        with suppress(Exception):
            await asyncio.wait_for(self._client.close(), _CLOSE_SECONDS)

    # Workers.

    async def _watch(self) -> None:
        """Keep track of the workers that there are, until the scheduler is gone."""
        answered = time.monotonic()
        while True:
            try:
                workers = await asyncio.wait_for(self._ask_for_workers(), GONE_SECONDS)
            except (OSError, TimeoutError) as error:
                silent = time.monotonic() - answered >= GONE_SECONDS
                if silent or self._news == END or self._client.status != "running":
                    self._problem = self._problem or self._gone(f"The scheduler does not answer any more ({error}).")
                    return
            else:
                answered = time.monotonic()
                self._note(workers)
                if any(seat.state in ("opening", "ready") for seat in self._seats.values()):
                    self._told = answered
                elif answered - self._told >= TELL_SECONDS:
                    logger.info(self._news)
                    self._told = answered
            await asyncio.sleep(_POLL_SECONDS)

    def _hear(self, event: tuple[float, str]) -> None:
        self._news = event[1]
        if self._news == END and self._first is None:
            self._problem = SchedulerGoneError(END)

    def _gone(self, how: str) -> SchedulerGoneError:
        return SchedulerGoneError(END if self._news == END else how)

    async def _ask_for_workers(self) -> dict[str, Any]:
        if self._client.scheduler is None:
            raise ConnectionError("the connection is closed")
        identity = await self._client.scheduler.identity(n_workers=-1)
        return dict(identity["workers"])

    def _note(self, workers: dict[str, Any]) -> None:
        for address, about in workers.items():
            if address not in self._seats:
                seat = self._seats[address] = Seat(address, str(about.get("name", address)), str(about.get("host", "")))
                self._start(self._prepare(seat))
            elif str(about.get("status", "")).startswith("clos") and self._seats[address].state == "ready":
                self._seats[address].state = "leaving"
        for address in [address for address in self._seats if address not in workers]:
            self._remove(self._seats.pop(address))

    def _remove(self, seat: Seat) -> None:
        if seat.under_way:
            logger.warning("Worker %s is gone, with %d tiles under way.", seat, len(seat.under_way))
        elif seat.facts is not None:
            logger.info("Worker %s has left.", seat)
        if self._ward is seat:
            self._ward = None
        for task in seat.under_way:
            task.cancel()

    async def _prepare(self, seat: Seat) -> None:
        """Compare the code of a worker with ours, and open the session there."""
        there = await self._ask(seat, describe_worker, self._remote.context.models)
        if there is None:
            return
        if difference := describe_difference(there, self._code):
            self._refuse(seat, difference)
            return
        async with self._deciding:
            # One after the other until "auto" is decided; a worker that opens its session does so in its own time.
            if self._first is None and self._remote.pipeline.precision == "auto":
                await self._open(seat)
                return
        await self._open(seat)

    async def _open(self, seat: Seat) -> None:
        remote = self._remote
        if self._first is not None and remote.pipeline.precision == "auto":
            remote = replace(remote, pipeline=replace(remote.pipeline, precision=self._first.precision))  # type: ignore[type-var]
        opened = await self._ask(seat, open_worker, remote)
        if opened is None:
            return
        if not isinstance(opened, WorkerFacts):
            if isinstance(opened, DartsError) and self._first is None:
                self._problem = opened
            self._refuse(seat, f"its session cannot be opened ({type(opened).__name__}: {opened})")
            return
        seat.state, seat.facts = "ready", opened
        self._first = self._first or opened
        logger.info("Worker %s is ready: networks run on %s.", seat, opened.device)

    def _refuse(self, seat: Seat, reason: str) -> None:
        seat.state = "refused"
        self._refusals[str(seat)] = reason
        logger.error("Worker %s is refused: %s.", seat, reason)

    async def _ask(self, seat: Seat, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function on a worker until it answers; return what it returned or raised, None if it is gone."""
        while self._seats.get(seat.address) is seat:
            answer = (await self._run_on([seat.address], function, *arguments)).get(seat.address)
            if answer is not None and not isinstance(answer, CommClosedError):
                return answer
            await asyncio.sleep(_POLL_SECONDS)
        return None

    async def _run_on(
        self, addresses: list[str], function: Callable[..., Any], *arguments: Any, seconds: float | None = None
    ) -> dict[str, Any]:
        """Run a function on workers; return what it returned or raised there, nothing of those that are gone."""
        try:
            call = self._client.run(function, *arguments, workers=addresses, on_error="return")
            return dict(await asyncio.wait_for(call, seconds))
        except (OSError, TimeoutError, ValueError) as error:
            logger.debug("Workers %s do not answer.", addresses, exc_info=error)
            return {}

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._problem = self._problem or (error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _raise_problem(self) -> None:
        if self._problem is not None:
            raise self._problem

    # Tiles.

    def _hand_out(self, tasks: Iterator[TileTask]) -> None:
        """Give tiles to workers that have room."""
        ready = [seat for seat in self._seats.values() if seat.state == "ready"]
        if not ready and self._had_workers:
            logger.warning("No worker is left; the run waits for others.")
        self._had_workers = bool(ready)
        self._see_to_suspects(ready)
        for seat in ready:
            while seat is not self._ward and len(seat.under_way) < self._slots:
                if self._returned:
                    self._give(seat, self._returned.popleft())
                elif self._upcoming is not None:
                    self._give(seat, self._upcoming)
                    self._upcoming = next(tasks, None)
                else:
                    return

    def _see_to_suspects(self, ready: list[Seat]) -> None:
        """Do the tiles of dead workers again, one at a time, on a worker that has nothing else meanwhile."""
        if self._ward is not None and self._ward.state != "ready":
            self._ward = None
        if not self._suspects:
            if self._ward is not None and not self._ward.under_way:
                self._ward = None
            return
        if self._ward is None and ready:
            self._ward = min(ready, key=lambda seat: len(seat.under_way))
        if self._ward is not None and not self._ward.under_way:
            self._give(self._ward, self._suspects.popleft(), alone=True)

    def _give(self, seat: Seat, task: TileTask, *, alone: bool = False) -> None:
        self._under_way += 1
        waiting = asyncio.create_task(self._wait_for(seat, task, alone=alone))
        seat.under_way.add(waiting)
        waiting.add_done_callback(seat.under_way.discard)

    async def _wait_for(self, seat: Seat, task: TileTask, *, alone: bool) -> None:
        result: TileRecord | BaseException | None = LostError()
        try:
            future = self._client.submit(
                process_tile,
                self._remote.name,
                task,
                workers=[seat.address],
                allow_other_workers=False,
                pure=False,
                key=f"darts-tile-{uuid4().hex}",
            )
            try:
                result = await future
            finally:
                future.release()
        except asyncio.CancelledError:
            pass  # The worker is gone.
        except Exception as error:  # noqa: BLE001 - whatever it was is the outcome
            result = error
        finally:
            self._outcomes.put_nowait(Outcome(seat, task, alone, result))

    def _take(self, outcome: Outcome, give: Callable[[TileRecord], None]) -> None:
        """Do what follows from the end of an attempt at a tile."""
        self._under_way -= 1
        seat, task, result = outcome.seat, outcome.task, outcome.result
        if isinstance(result, TileRecord):
            give(result)
        elif result is None:  # Dropped: the worker ends.
            if seat.state == "ready":
                seat.state = "leaving"
            self._returned.append(task)
        elif self._client.status != "running":
            self._problem = self._problem or self._gone("The connection to the scheduler is lost.")
        elif isinstance(result, LOST):
            self._see_lost(outcome, give)
        elif isinstance(result, OSError):  # The connection, and not the tile, whose errors stand in its record.
            self._returned.append(task)
        else:
            give(TileRecord(task.tile_id, task.output, "failed", describe("Worker", result), attempt=task.attempt))

    def _see_lost(self, outcome: Outcome, give: Callable[[TileRecord], None]) -> None:
        """Do a tile whose worker died again alone; if it was alone, it has failed."""
        seat, task = outcome.seat, outcome.task
        if isinstance(outcome.result, SessionMissingError) and seat.state == "ready":
            seat.state = "opening"  # It was started again under the same address.
            self._start(self._prepare(seat))
        if not outcome.alone or self._news == END:
            self._suspects.append(task)
            return
        log = "" if seat.facts is None else f" Its log: {seat.facts.log}"
        error = f"Worker: the process that computed this tile alone died ({seat}).{log}"
        give(TileRecord(task.tile_id, task.output, "failed", error, host=seat.host, attempt=task.attempt))

    async def _drop(self, give: Callable[[TileRecord], None], cancel: CancellationToken) -> None:
        """End what is under way, and take the records of tiles that were being written."""
        busy = [seat.address for seat in self._seats.values() if seat.under_way]
        if busy:
            logger.info("The run ends; what workers are just writing is waited for.")
            await self._run_on(busy, stop_worker, self._remote.name, cancel.signum, seconds=GONE_SECONDS)
        deadline = time.monotonic() + _WRITING_SECONDS
        while self._under_way and time.monotonic() < deadline:
            self._raise_problem()
            with suppress(TimeoutError):
                outcome = await asyncio.wait_for(self._outcomes.get(), _POLL_SECONDS)
                self._under_way -= 1
                if isinstance(outcome.result, TileRecord):
                    give(outcome.result)
