"""Stages that do nothing but take time, fail or note that they ran, for tests of the loop over tiles."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from darts.run.resume import Decision
from darts.run.task import Stage, TileJob, Work

NAMES = ("Loading Optical", "Preprocessing", "Segmenting", "Postprocessing", "Exporting")
LANES = ("before", "before", "network", "after", "after")


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


def make_works(folder: Path, count: int) -> list[Work]:
    """Return works that no stage has touched."""
    return [Work(TileJob(f"tile-{number:03}", folder, folder / f"tile-{number:03}")) for number in range(count)]


def decisions(works: Sequence[Work]) -> list[Decision]:
    """Decide to compute all of them."""
    return [Decision(work, True, "no finished results") for work in works]


def sleeping_stages(
    seconds: Sequence[float], trace: Trace | None = None, hook: Callable[[Work, str], None] | None = None
) -> list[Stage]:
    """Return the five main stages, each of which sleeps and then calls a hook."""

    def make(name: str, lane: str, duration: float) -> Stage:
        def run(work: Work) -> None:
            if trace is not None:
                trace.note("begin", work.job.tile_id, name)
            time.sleep(duration)
            if hook is not None:
                hook(work, name)
            if trace is not None:
                trace.note("end", work.job.tile_id, name)

        return Stage(name, lane, run, writes=name == "Exporting")

    return [make(*parts) for parts in zip(NAMES, LANES, seconds, strict=True)]
