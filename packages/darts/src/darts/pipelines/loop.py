"""The loop over tiles: decide, process, record, try again, end cleanly. Written once for all pipelines."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from darts.pipelines.executors import Executor
from darts.pipelines.interrupts import RunInterrupted, Stop, stopping_on_signals
from darts.pipelines.lock import folder_lock
from darts.pipelines.records import RunRecords, TileRecord, remove_leftovers
from darts.pipelines.reporting import Reporter, run_log, summarise
from darts.pipelines.resume import Decision
from darts.pipelines.work import Stage, Work
from darts_utils import remove_partials

logger = logging.getLogger(__name__)


def run_tiles(
    *,
    plan: Callable[[], Sequence[Decision]],
    stages: Sequence[Stage],
    executor: Executor,
    output: Path,
    write_configuration: Callable[[Path], None],
    failures_allowed: int | None = None,
) -> RunRecords:
    """Process tiles until all are done, too many have failed, or a signal asks to stop.

    Args:
        plan: Decides about every tile; called once the folder is held, so that no other run changes it meanwhile.
        stages: The stages of a tile.
        executor: Takes the tiles through the stages.
        output: Folder of the results and the records. It must exist.
        write_configuration: Writes the run's configuration to a path.
        failures_allowed: The run ends once this many tiles have failed; 0 means at the first, None never.

    Returns:
        The records of the run.

    Raises:
        FolderInUseError: If another run holds the folder.
        RunInterrupted: If a signal ended the run; the records are complete.
    """
    with _records(output) as records, run_log(records.path("log")):
        write_configuration(records.path("config.toml"))
        decisions = plan()
        stop = Stop()
        run = _TileRun(records, stages, executor, stop, failures_allowed)
        try:
            with stopping_on_signals(stop), Reporter(len(decisions)).showing() as run.reporter:
                run.go(decisions)
        finally:
            records.close()
            for line in summarise(records).splitlines():
                logger.info(line)
        if stop.signum is not None:
            raise RunInterrupted(stop.signum)
    return records


@contextmanager
def _records(output: Path) -> Iterator[RunRecords]:
    """Hold the folder, clear what a killed run left, and open the records."""
    with folder_lock(output) as name_holder:
        remove_leftovers(output)
        remove_partials(output)
        records = RunRecords(output)
        name_holder(records.name)
        yield records


class _TileRun:
    """One run over a list of tiles."""

    def __init__(
        self,
        records: RunRecords,
        stages: Sequence[Stage],
        executor: Executor,
        stop: Stop,
        failures_allowed: int | None,
    ) -> None:
        self.records = records
        self.stages = stages
        self.executor = executor
        self.stop = stop
        self.limit = None if failures_allowed is None else max(failures_allowed, 1)
        self.reporter: Reporter

    def go(self, decisions: Sequence[Decision]) -> None:
        """Skip what is finished, process the rest, and try once more what may have failed by chance."""
        todo = []
        for decision in decisions:
            if decision.todo:
                todo.append(decision.work)
                if "changed since" in decision.why:
                    logger.warning("Tile %s is computed again, %s.", decision.work.job.tile_id, decision.why)
            else:
                decision.work.record.status = "skipped"
                self._end(decision.work.record)
        self._process(todo)
        again = [
            Work(work.job, work.fingerprint, work.depends_on)
            for work in todo
            if work.record.status == "failed" and work.record.is_transient
        ]
        if again and not self.stop.requested:
            logger.info("Trying %d tiles again whose failure may have been a passing one.", len(again))
            self.reporter.expect(len(again))
            self._process(again)

    def _process(self, works: Iterable[Work]) -> None:
        for record in self.executor.run(works, self.stages, self.stop, self.reporter):
            self._end(record)
            if record.ends_run:
                logger.error("The run stops: no other tile can be written either.")
                self.stop.request()
            if self.limit is not None and self.records.count("failed") >= self.limit and not self.stop.requested:
                logger.error("The run stops after %d failed tiles.", self.records.count("failed"))
                self.stop.request()

    def _end(self, record: TileRecord) -> None:
        try:
            self.records.add(record)
        except OSError as error:
            logger.error("The run stops: its records cannot be written (%s).", error)  # noqa: TRY400 - no bug of ours
            self.stop.request()
        self.reporter.end(record)
