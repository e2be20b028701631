"""The side of the coordinator: which workers there are, which tiles they have, and what becomes of those of a dead one.

A tile is given to one worker by name, and no more tiles than it takes at once, so that it is known what a worker had
when it died, and nothing piles up in the scheduler. Tiles of a dead worker are done again one at a time, alone.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from distributed import Client, KilledWorker

from darts.errors import SchedulerGoneError
from darts.run.cancel import CancellationToken
from darts.run.cluster.plugin import SessionMissingError, process_tile, stop_worker
from darts.run.cluster.remote import END, RemoteRun
from darts.run.cluster.roster import GONE_SECONDS, POLL_SECONDS, Roster, Seat
from darts.run.failures import describe
from darts.run.journal import TileRecord
from darts.run.task import TileTask

logger = logging.getLogger(__name__)

_WRITING_SECONDS = 120.0
"""How long a worker may take to write a tile when the run is ended by a signal."""


@dataclass(frozen=True)
class Outcome:
    """How the attempt at a tile on a worker ended: with a record, None for dropped, or the error."""

    seat: Seat
    task: TileTask
    alone: bool
    result: TileRecord | BaseException | None


class LostError(Exception):
    """The worker is gone."""


LOST = (LostError, KilledWorker, SessionMissingError, CancelledError)
"""What the end of a tile is where nothing is known of it, but that its worker died."""


class Coordinator:
    """Gives tiles to the workers of a cluster. All methods run in one event loop.

    Args:
        client: Connected to the scheduler; closed in the end.
        remote: The run.
        slots: How many tiles a worker takes at once.
        witnesses: Some of the tiles: who does not see their images takes no part.

    Attributes:
        roster: The workers; closed in the end.
    """

    def __init__(self, client: Client, remote: RemoteRun, slots: int, witnesses: Sequence[TileTask] = ()) -> None:
        self._client = client
        self._remote = remote
        self._slots = slots
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        self._returned: deque[TileTask] = deque()
        self._suspects: deque[TileTask] = deque()
        self._ward: Seat | None = None
        self._upcoming: TileTask | None = None
        self._under_way = 0
        self._had_workers = False
        self.roster = Roster(client, remote, witnesses)

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
            self.roster.raise_problem()
            if cancel.requested:
                await self._drop(give, cancel)
                return
            if self.roster.news != END:
                self._hand_out(tasks)
            elif not self._under_way:
                raise SchedulerGoneError(END)
            with suppress(TimeoutError):
                self._take(await asyncio.wait_for(self._outcomes.get(), POLL_SECONDS), give)
                while not self._outcomes.empty():
                    self._take(self._outcomes.get_nowait(), give)
        self.roster.raise_problem()

    def _hand_out(self, tasks: Iterator[TileTask]) -> None:
        """Give tiles to workers that have room."""
        ready = [seat for seat in self.roster.seats.values() if seat.state == "ready"]
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
            if isinstance(result, TileRecord) and result.status == "failed" and not await self.roster.sees(seat, task):
                result = None
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
        elif result is None:  # Dropped: the worker ends, or cannot see what it needs.
            if seat.state == "ready":
                seat.state = "leaving"
            self._returned.append(task)
        elif not self.roster.is_connected:
            self.roster.problem = self.roster.problem or self.roster.gone("The connection to the scheduler is lost.")
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
            self.roster.begin(seat)  # It was started again under the same address.
        if not outcome.alone or self.roster.news == END:
            self._suspects.append(task)
            return
        log = "" if seat.metadata is None else f" Its log: {seat.metadata.log}"
        error = f"Worker: the process that computed this tile alone died ({seat}).{log}"
        give(TileRecord(task.tile_id, task.output, "failed", error, host=seat.host, attempt=task.attempt))

    async def _drop(self, give: Callable[[TileRecord], None], cancel: CancellationToken) -> None:
        """End what is under way, and take the records of tiles that were being written."""
        busy = [seat.address for seat in self.roster.seats.values() if seat.under_way]
        if busy:
            logger.info("The run ends; what workers are just writing is waited for.")
            await self.roster.run_on(busy, stop_worker, self._remote.name, cancel.signum, seconds=GONE_SECONDS)
        deadline = time.monotonic() + _WRITING_SECONDS
        while self._under_way and time.monotonic() < deadline:
            self.roster.raise_problem()
            with suppress(TimeoutError):
                outcome = await asyncio.wait_for(self._outcomes.get(), POLL_SECONDS)
                self._under_way -= 1
                if isinstance(outcome.result, TileRecord):
                    give(outcome.result)
