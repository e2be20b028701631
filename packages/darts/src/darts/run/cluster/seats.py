"""A worker as the coordinator knows it, and how the attempt at a tile on it ends."""

import asyncio
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Literal

from distributed import KilledWorker

from darts.run.cluster.plugin import SessionMissingError
from darts.run.cluster.remote import WorkerFacts
from darts.run.journal import TileRecord
from darts.run.task import TileTask


@dataclass(eq=False)
class Seat:
    """A worker, as the coordinator knows it.

    Attributes:
        address: Its address.
        name: Its name in the cluster.
        host: Its machine.
        state: "opening" while its session opens, "ready", "refused", or "leaving" when it takes no more tiles.
        facts: What it says of itself, once it is ready.
        under_way: What waits for its answers.
    """

    address: str
    name: str
    host: str
    state: Literal["opening", "ready", "refused", "leaving"] = "opening"
    facts: WorkerFacts | None = None
    under_way: set["asyncio.Task[None]"] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"


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
