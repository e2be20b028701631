"""What a run writes down about itself: a journal while it goes on, three Parquet files at its end."""

import contextlib
import logging
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from darts.run.failures import is_disk_full
from darts.run.folding import fold
from darts.run.journal import JOURNAL, STAGES, Journal, PlanCounts, Status, TileRecord, latest, read_entries, utc_now
from darts.run.names import process_names
from darts.run.shards import ShardMetadata
from darts_utils import remove_partials

logger = logging.getLogger(__name__)

_RESERVED_BYTES = 2**21
"""Set aside for the records, so that a run that fills the disk can still say so."""


class RunRecords:
    """The records of one run, beside its results.

    ``<run>.journal.jsonl`` has a line per tile from the moment it ended. :meth:`close` folds it into three files.
    ``<run>.results.parquet`` has a row per tile: tile_id, output_path, status, error, the seconds of each stage, host,
    device, attempt, objects, area_m2, reliable, cloudy, retryable, mean_probability, acquired and footprint.
    ``<run>.timer.parquet`` has a row per tile and one per stage, ``<run>.stopwatch.parquet`` a row per tile and a
    column per inner step. Times are seconds; a stage that did not run is missing, not 0.

    A tile takes the same time to add, however many there are, and no record stays in memory.

    Args:
        folder: Folder of the results. It must exist.
        planned: How many tiles there are, by what was decided about them; the first line of the journal.
        shards: What is known of the shards of the run, if it is one of them.
        about: What else the first line of the journal says of the run.

    Attributes:
        name: Name of the run, ``<time>-<host>-<pid>``, followed by ``-s<i>of<n>`` for a shard; the time is that of
            its start, UTC.
        planned: Tiles of the run.
        shards: As it was given.
        scheduler_gone: Whether the scheduler of a cluster was lost, so that tiles were not reached.
        whole: Whether all that ended could be written down; false only where the caller found out that it could not.

    Raises:
        OSError: If there is no space for records, or the folder is not writable.
    """

    def __init__(
        self,
        folder: Path,
        *,
        planned: PlanCounts,
        shards: ShardMetadata | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder
        self.shards = shards
        self.planned = planned["total"]
        self.whole = True
        self.scheduler_gone = False
        self._statuses: dict[int, Status] = {}
        self._counts: Counter[Status] = Counter()
        self._service_failures: set[int] = set()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self.name, self._journal = _new_journal(folder, {"planned": planned, **(about or {})}, shards)
        self._reserve = folder / f".{self.name}.reserve"
        try:
            # Random, since some file systems keep zeros for nothing.
            self._reserve.write_bytes(os.urandom(_RESERVED_BYTES))
        except OSError:
            self._reserve.unlink(missing_ok=True)
            self._journal.discard()
            raise

    def path(self, kind: str) -> Path:
        """Return the path of one of the run's files, for example ``path("results.parquet")``."""
        return self.folder / f"{self.name}.{kind}"

    def add(self, tile: TileRecord) -> None:
        """Add a tile to the journal; of several records of one tile the last one counts.

        On a full disk the space set aside at the start of the run is used.

        Raises:
            OSError: If the journal cannot be written; the tile is not counted then.
        """
        entry = tile.to_entry() | {"ended": utc_now()}
        try:
            self._journal.append(entry)
        except OSError as error:
            if not (is_disk_full(error) and self._reserve.exists()):
                raise
            self._reserve.unlink()
            self._journal.append(entry)
        # A hash instead of the path: 100,000 tiles take a few megabytes, and two that meet are less likely than a flaw
        # of the memory.
        key = hash(entry["output_path"])
        if (earlier := self._statuses.get(key)) is not None:
            self._counts[earlier] -= 1
        self._statuses[key] = tile.status
        self._counts[tile.status] += 1
        self._service_failures.discard(key)
        if tile.status == "failed" and tile.by_service:
            self._service_failures.add(key)
        for stage, seconds in tile.stages.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def close(self) -> None:
        """Give the reserved space back, force the journal to the disk, and fold it into the three Parquet files.

        Raises:
            OSError: If that fails. The journal then still holds every tile, and the next run into the folder folds it.
        """
        self._reserve.unlink(missing_ok=True)
        self._journal.close()
        fold(self.folder, self.name)

    def count(self, status: Status) -> int:
        """Count the tiles that ended so."""
        return self._counts[status]

    def seconds(self) -> dict[str, float]:
        """Add up the seconds of each stage over all tiles, and over all attempts at them."""
        return dict(self._seconds)

    @property
    def done(self) -> int:
        """Tiles that ended, whatever the status."""
        return len(self._statuses)

    @property
    def failed_by_service(self) -> int:
        """Failed tiles whose failure was that of a service or the network."""
        return len(self._service_failures)

    @property
    def undone(self) -> int:
        """Planned tiles that have not ended."""
        return self.planned - self.done

    @property
    def tiles(self) -> list[TileRecord]:
        """The last record of each tile, in the order of their ends, read from the journal."""
        return [TileRecord.from_entry(entry) for entry in latest(read_entries(self._journal.path))]


def remove_leftovers(folder: Path, may_run: Callable[[str], bool] = lambda _name: False) -> None:
    """Remove what a killed run left beside its records: files half-written, and reserved space.

    Args:
        folder: Folder of results.
        may_run: Says of the name of a run whether it may go on now, so that its files are left alone.
    """
    remove_partials(folder)
    for ending in (".parquet.new", ".reserve"):  # The first is what release 0.1 left.
        for path in folder.glob(f".*{ending}"):
            # Whoever made it had locked its journal before, so that asking now is not too early.
            if not may_run(path.name.removeprefix(".").removesuffix(ending)):
                path.unlink(missing_ok=True)


def _new_journal(folder: Path, about: Mapping[str, object], shards: ShardMetadata | None) -> tuple[str, Journal]:
    """Begin a journal under a name that no other run has."""
    start = datetime.now(UTC)
    own = {"host": platform.node(), "pid": os.getpid(), "start": start.isoformat(timespec="milliseconds")}
    about = own | dict(about) | ({} if shards is None else shards.to_header())
    suffix = "" if shards is None else shards.shard.suffix
    stems = process_names(start)
    while True:
        name = f"{next(stems)}{suffix}"
        with contextlib.suppress(FileExistsError):
            return name, Journal(folder / f"{name}{JOURNAL}", {"run": name, **about})
