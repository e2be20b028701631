"""The workers of a cluster: which there are, whether they may take part in a run, and their sessions."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from distributed import Client
from distributed.comm.core import CommClosedError

from darts.errors import NoWorkersError, SchedulerGoneError
from darts.run.cancel import CancellationToken
from darts.run.cluster.plugin import close_worker, describe_worker, look, open_worker
from darts.run.cluster.remote import END, NEWS, RemoteRun, WorkerMetadata, describe_code, describe_difference
from darts.run.cluster.sight import sights_of
from darts.run.task import TileTask
from darts_utils import DartsError

logger = logging.getLogger(__name__)

GONE_SECONDS = 15.0
"""A scheduler that does not answer for so long is gone."""
REFUSED_SECONDS = 10.0
"""How long other workers may take to come where all that are there were refused."""
TELL_SECONDS = 60.0
"""How often it is said what a run without workers waits for."""
LOOK_AGAIN_SECONDS = 60.0
"""After which time a worker that did not see what the run sees is asked again."""
POLL_SECONDS = 0.25
_CLOSE_SECONDS = 5.0


@dataclass(eq=False)
class Seat:
    """A worker, as the coordinator knows it.

    Attributes:
        address: Its address.
        name: Its name in the cluster.
        host: Its machine.
        state: "opening" while its session opens, "ready", "refused", or "leaving" when it takes no more tiles.
        metadata: What it says of itself, once it is ready.
        under_way: What waits for its answers.
    """

    address: str
    name: str
    host: str
    state: Literal["opening", "ready", "refused", "leaving"] = "opening"
    metadata: WorkerMetadata | None = None
    under_way: set["asyncio.Task[None]"] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"


class Roster:
    """Knows the workers of a cluster, and opens the session of a run on them. All methods run in one event loop.

    Args:
        client: Connected to the scheduler; closed in the end.
        remote: The run.
        witnesses: Tiles of the run: who does not see their images takes no part.

    Attributes:
        seats: The workers by address.
        news: What the scheduler said last of what is waited for.
        problem: Why the run cannot go on; None while it can.
    """

    def __init__(self, client: Client, remote: RemoteRun, witnesses: Sequence[TileTask]) -> None:
        self.seats: dict[str, Seat] = {}
        self.news = "Still waiting for workers of the cluster."
        self.problem: Exception | None = None
        self._client = client
        self._remote = remote
        self._witnesses = witnesses
        self._code = describe_code(remote.context.models)
        self._refusals: dict[str, str] = {}
        self._deciding = asyncio.Lock()
        self._first: WorkerMetadata | None = None
        self._told = time.monotonic()
        client.subscribe_topic(NEWS, self._hear)
        self._background = {asyncio.create_task(self._watch())}

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the scheduler."""
        return bool(self._client.status == "running")

    @property
    def _refused(self) -> str:
        return "; ".join(f"{seat}: {why}" for seat, why in self._refusals.items())

    async def first_worker(self, cancel: CancellationToken) -> WorkerMetadata | None:
        """Wait until a worker is ready, however long that takes.

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
            self.raise_problem()
            waiting = any(seat.state == "opening" for seat in self.seats.values())
            if not self._refusals or waiting:
                refused_since = None
            else:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > REFUSED_SECONDS:
                    raise NoWorkersError(f"No worker of the cluster can take part in this run. {self._refused}")
            await asyncio.sleep(POLL_SECONDS / 5)
        return self._first

    async def close(self) -> None:
        """Close the session on all workers, and the client."""
        ready = [seat.address for seat in self.seats.values() if seat.metadata is not None]
        if ready and self.problem is None:
            await self.run_on(ready, close_worker, self._remote.name, seconds=_CLOSE_SECONDS)
        left = [*self._background, *(task for seat in self.seats.values() for task in seat.under_way)]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CLOSE_SECONDS)
        with suppress(Exception):
            await asyncio.wait_for(self._client.close(), _CLOSE_SECONDS)

    async def _watch(self) -> None:
        """Keep track of the workers that there are, until the scheduler is gone."""
        answered = time.monotonic()
        while True:
            try:
                workers = await asyncio.wait_for(self._ask_for_workers(), GONE_SECONDS)
            except (OSError, TimeoutError) as error:
                silent = time.monotonic() - answered >= GONE_SECONDS
                if silent or self.news == END or self._client.status != "running":
                    self.problem = self.problem or self.gone(f"The scheduler does not answer any more ({error}).")
                    return
            else:
                answered = time.monotonic()
                self._note(workers)
                if any(seat.state in ("opening", "ready") for seat in self.seats.values()):
                    self._told = answered
                elif answered - self._told >= TELL_SECONDS:
                    logger.info("%s%s", self.news, f" Refused: {self._refused}" if self._refusals else "")
                    self._told = answered
            await asyncio.sleep(POLL_SECONDS)

    def _hear(self, event: tuple[float, str]) -> None:
        self.news = event[1]
        if self.news == END and self._first is None:
            self.problem = SchedulerGoneError(END)

    def gone(self, how: str) -> SchedulerGoneError:
        """Return the error of a scheduler that is gone, with what is known of how."""
        return SchedulerGoneError(END if self.news == END else how)

    async def _ask_for_workers(self) -> dict[str, dict[str, Any]]:
        if self._client.scheduler is None:
            raise ConnectionError("the connection is closed")
        identity = await self._client.scheduler.identity(n_workers=-1)
        return dict(identity["workers"])

    def _note(self, workers: dict[str, dict[str, Any]]) -> None:
        for address, about in workers.items():
            if address not in self.seats:
                seat = self.seats[address] = Seat(address, str(about.get("name", address)), str(about.get("host", "")))
                self.begin(seat)
            elif str(about.get("status", "")).startswith("clos") and self.seats[address].state == "ready":
                self.seats[address].state = "leaving"
        for address in [address for address in self.seats if address not in workers]:
            self._remove(self.seats.pop(address))

    def _remove(self, seat: Seat) -> None:
        if seat.under_way:
            logger.warning("Worker %s is gone, with %d tiles under way.", seat, len(seat.under_way))
        elif seat.metadata is not None:
            logger.info("Worker %s has left.", seat)
        seat.state = "leaving"
        for task in seat.under_way:
            task.cancel()

    def begin(self, seat: Seat) -> None:
        """Find out whether a worker may take part, and open the session there; it is ready some time later."""
        seat.state = "opening"
        self._start(self._prepare(seat))

    async def sees(self, seat: Seat, task: TileTask) -> bool:
        """Say whether a worker sees what the run sees, images of a tile included.

        One that does not is refused, and takes part again once it does.
        """
        if seat.state == "refused":
            return False
        blindness = await self._look(seat, [task])
        if blindness and seat.state == "ready":
            self._start(self._wait_for_sight(seat, [task], blindness))
        return not blindness

    async def _look(self, seat: Seat, tasks: Sequence[TileTask]) -> str:
        """Return what a worker does not see of the run and some of its tiles, in words; nothing if it is gone."""
        sights = await asyncio.to_thread(sights_of, self._remote, tasks)
        answer = await self._ask(seat, look, sights, self._remote.output)
        return answer if isinstance(answer, str) else ""  # What cannot look has other code, which is found next.

    async def _wait_for_sight(self, seat: Seat, tasks: Sequence[TileTask], blindness: str) -> None:
        while blindness:
            self._refuse(seat, f"{blindness}; its tiles go to others")
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            blindness = await self._look(seat, tasks)
        if self._refusals.pop(str(seat), None) is not None and seat.state == "refused":
            logger.info("Worker %s sees now what the run sees.", seat)
            seat.state = "opening" if seat.metadata is None else "ready"

    async def _prepare(self, seat: Seat) -> None:
        """Compare what a worker sees and its code with ours, and open the session there."""
        await self._wait_for_sight(seat, self._witnesses, await self._look(seat, self._witnesses))
        theirs = await self._ask(seat, describe_worker, self._remote.context.models)
        if theirs is None:
            return
        if difference := describe_difference(theirs, self._code):
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
            remote = replace(remote, pipeline=replace(remote.pipeline, precision=self._first.precision))  # type: ignore[arg-type]
        opened = await self._ask(seat, open_worker, remote)
        if opened is None:
            return
        if not isinstance(opened, WorkerMetadata):
            if isinstance(opened, DartsError) and self._first is None:
                self.problem = opened
            self._refuse(seat, f"its session cannot be opened ({type(opened).__name__}: {opened})")
            return
        seat.state, seat.metadata = "ready", opened
        self._first = self._first or opened
        logger.info("Worker %s is ready: networks run on %s.", seat, opened.device)

    def _refuse(self, seat: Seat, reason: str) -> None:
        seat.state = "refused"
        if self._refusals.get(str(seat)) == reason:
            return
        self._refusals[str(seat)] = reason
        logger.error("Worker %s is refused: %s.", seat, reason)

    async def _ask(self, seat: Seat, function: Callable[..., object], *arguments: object) -> object:
        """Run a function on a worker until it answers; return what it returned or raised, None if it is gone."""
        while self.seats.get(seat.address) is seat:
            answer = (await self.run_on([seat.address], function, *arguments)).get(seat.address)
            if answer is not None and not isinstance(answer, CommClosedError):
                return answer
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def run_on(
        self, addresses: list[str], function: Callable[..., object], *arguments: object, seconds: float | None = None
    ) -> dict[str, object]:
        """Run a function on workers; return what it returned or raised there, nothing of those that are gone."""
        try:
            call = self._client.run(function, *arguments, workers=addresses, on_error="return")
            return dict(await asyncio.wait_for(call, seconds))
        except (OSError, TimeoutError, ValueError) as error:
            logger.debug("Workers %s do not answer.", addresses, exc_info=error)
            return {}

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.problem = self.problem or (error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def raise_problem(self) -> None:
        """Raise why the run cannot go on, if it cannot."""
        if self.problem is not None:
            raise self.problem
