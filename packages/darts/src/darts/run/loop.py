"""Run a pipeline: plan, process, record, retry, end cleanly. Written once for all pipelines and executors."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import darts_acquisition
import darts_export
from darts.errors import SchedulerGoneError
from darts.run import checks, cluster
from darts.run.cancel import CancellationToken, RunInterrupted, cancelling_on_signals
from darts.run.executors import ExecutorProtocol, TileWorker, lane_threads, overlap_executor, serial_executor
from darts.run.folding import fold_ended
from darts.run.heap import kept_heap
from darts.run.journal import TileRecord
from darts.run.lock import folder_lock
from darts.run.names import counted
from darts.run.planning import Plan, Planner
from darts.run.progress import Reporter, run_log, summarise, warnings_once
from darts.run.records import RunRecords, remove_leftovers
from darts.run.resume import Decision
from darts.run.running import may_run
from darts.run.session import OpenSession, open_session
from darts.run.shard_history import other_division
from darts.run.shard_lock import shard_lock
from darts.run.task import Pipeline, TileTask
from darts.run.worker import Worker
from darts_utils import usable_cpus

logger = logging.getLogger(__name__)


def run(pipeline: Pipeline, open_session: OpenSession = open_session) -> RunRecords:
    """Process every tile of a pipeline that is not finished, and keep records.

    Args:
        pipeline: The pipeline.
        open_session: Opens what computes probabilities, where a tile is to be computed.

    Returns:
        The records of the run.

    Raises:
        ConfigurationError: If the run cannot work as configured. Nothing has been computed.
        DeviceError: If a GPU was asked for and does not work.
        FolderInUseError: If another run holds the folder of results.
        RunInterrupted: If a signal ended the run; the records are complete.
    """
    with warnings_once():
        planner = Planner(pipeline)
        output = planner.output
        if not output.exists():
            planner.plan()  # so that a mistake that it finds leaves no folder behind
        checks.check_folder_is_writable(output)
        with _planned(planner) as (planned, records), run_log(records.path("log")):
            fetches = darts_acquisition.FetchCancellation()
            worker = Worker(pipeline, planned.context, open_session, fetches)
            with ExitStack() as opened:
                executor, remote = _executor(worker, open_session, records, planned.todo, opened)
                most_failures = 1 if pipeline.fail_fast else pipeline.max_failures
                tile_run = TileRun(records, worker, executor, most_failures, fetches)
                with tile_run.ending():
                    with checks.writing_into(output, "Records"):
                        pipeline._write_configuration(records.path("config.toml"))
                    if planned.todo:
                        pipeline._check_ready(planned.todo)
                    with tile_run.cancelling(len(planned.decisions)):
                        tile_run.go(planned.decisions, partial(_open, worker, remote, tile_run))
    return records


def _executor(
    worker: Worker, open_session: OpenSession, records: RunRecords, todo: Sequence[TileTask], opened: ExitStack
) -> "tuple[ExecutorProtocol, cluster.executor.DaskExecutor | None]":
    """Return the executor that a pipeline asks for, and again if it is one on a cluster."""
    pipeline = worker.pipeline
    if pipeline.executor == "serial":
        return serial_executor(), None
    if pipeline.executor == "overlap":
        return overlap_executor(pipeline.prefetch, *lane_threads()), None
    sent = pipeline._for_workers()
    remote = cluster.remote.RemoteRun(records.name, sent, worker.context, open_session, records.folder)
    # The last tile may lie in another folder than the first.
    executor = cluster.executor.DaskExecutor(remote, [*todo[:1], *todo[-1:]])
    opened.callback(executor.close)
    return executor, executor


def _open(worker: Worker, remote: "cluster.executor.DaskExecutor | None", tile_run: "TileRun") -> None:
    """Open the worker, or the cluster of workers; write down what "auto" was decided to be."""
    if remote is None:
        worker.open()
        tile_run.startup_seconds, precision = worker.startup_seconds, worker.precision
    else:
        first = remote.open(tile_run.cancel)
        if first is None:
            return
        tile_run.startup_seconds, precision = first.startup_seconds, first.precision
    if worker.pipeline.precision == "auto":
        logger.info("The networks compute in %s.", precision)
        worker.pipeline._write_configuration(tile_run.records.path("config.toml"), precision=precision)


@contextmanager
def _planned(planner: Planner) -> Iterator[tuple[Plan, RunRecords]]:
    """Hold the folder, clear up after a killed run, decide about every tile, and open the records.

    A shard shares the folder with others: it leaves alone what they write, and folds no journal but its own.
    """
    output, shards = planner.output, planner.shards
    with ExitStack() as held:
        with checks.writing_into(output):
            if shards is None:
                name_holder = held.enter_context(folder_lock(output))
                remove_leftovers(output)
            else:
                if (before := other_division(output, shards)) is not None:
                    logger.warning(
                        "The last shards of this run were %d, and this is one of %d: `darts status` and `darts runs` "
                        "count each division by itself, and what the others finished is skipped.",
                        before,
                        shards.shard.of,
                    )
                name_holder = held.enter_context(shard_lock(output, shards.shard, shards.digest))
                remove_leftovers(output, partial(may_run, output))
            for folder in {task.output.parent for task in planner.tasks}:
                darts_export.remove_interrupted(folder)
        if shards is None:
            fold_ended(output)
        planned = planner.plan()
        with checks.writing_into(output, "Records"):
            about = {"threads": planner.pipeline.threads or usable_cpus(), "executor": planner.pipeline.executor}
            records = RunRecords(output, planned=planned.counts, shards=shards, about=about)
        name_holder(records.name)
        yield planned, records


class TileRun:
    """One run over a list of tiles.

    Args:
        records: The records of the run.
        worker: Knows the stages of a tile.
        executor: Takes the tiles through them.
        most_failures: The run ends once this many tiles have failed, None never.
        fetches: Ends the worker's downloads; a signal cancels them with the run.

    Attributes:
        cancel: Ends the run.
        reporter: Tells how far it is.
        startup_seconds: How long it took to load libraries and networks; 0 where nothing was computed.
    """

    def __init__(
        self,
        records: RunRecords,
        worker: TileWorker,
        executor: ExecutorProtocol,
        most_failures: int | None = None,
        fetches: "darts_acquisition.FetchCancellation | None" = None,
    ) -> None:
        self.records = records
        self.cancel = CancellationToken()
        self.reporter = Reporter(0)
        self.startup_seconds = 0.0
        self._worker = worker
        self._executor = executor
        self._fetches = fetches
        self._limit = most_failures

    @contextmanager
    def ending(self) -> Iterator[None]:
        """End the run after the block, whatever happens in it: the records are closed, and the summary is told.

        Raises:
            RunInterrupted: If a signal ended the run.
        """
        try:
            yield
        finally:
            try:
                self.records.close()
            except OSError as error:
                self.records.whole = False
                logger.error("The records of the run cannot be written whole (%s).", error)  # noqa: TRY400
            for line in summarise(self.records, self.startup_seconds).splitlines():
                logger.info(line)
        if self.cancel.signum is not None:
            raise RunInterrupted(self.cancel.signum)

    @contextmanager
    def cancelling(self, total: int) -> Iterator[None]:
        """Let signals cancel the run, and show how far it is, until the block ends."""
        with cancelling_on_signals(self.cancel, self._fetches), Reporter(total).showing() as self.reporter:
            yield

    def go(self, decisions: Sequence[Decision], begin: Callable[[], None] | None = None) -> None:
        """Record what is finished, process the rest, and retry what may have failed by chance."""
        todo = []
        for decision in decisions:
            if self.cancel.requested:
                return
            if decision.todo:
                todo.append(decision.task)
                if "changed since" in decision.why:
                    logger.warning("Tile %s is computed again, %s.", decision.task.tile_id, decision.why)
            else:
                self._end(decision.record())
        if not todo or self.cancel.requested:
            return
        try:
            if begin is not None:
                begin()
            if not self.cancel.requested:
                self._compute(todo)
        except SchedulerGoneError as error:  # What is not done is right to try later.
            what = "Start the scheduler again (darts cluster ...), then this same command: finished tiles are skipped."
            logger.error("The run stops: %s %s", error, what)  # noqa: TRY400 - no bug of ours
            self.records.scheduler_gone = True
            self.cancel.cancel()

    def _compute(self, todo: Sequence[TileTask]) -> None:
        with kept_heap():
            again = self._process(todo)
            if again and not self.cancel.requested:
                logger.info("Retrying %s whose failure may have been a passing one.", counted(len(again), "tile"))
                self._process(again)

    def _process(self, tasks: Sequence[TileTask]) -> list[TileTask]:
        """Process tiles; return those that failed and are worth another attempt."""
        by_folder = {task.output: task for task in tasks}
        again = []
        for record in self._executor.run(iter(tasks), self._worker, self.cancel, self.reporter):
            self._end(record)
            if record.status == "failed" and record.retryable:
                again.append(by_folder[record.output_path].again())
            if record.ends_run:
                logger.error("The run stops: no other tile can be written either.")
                self.cancel.cancel()
            if self._limit is not None and self.records.count("failed") >= self._limit and not self.cancel.requested:
                logger.error("The run stops after %d failed tiles.", self.records.count("failed"))
                self.cancel.cancel()
        return again

    def _end(self, record: TileRecord) -> None:
        try:
            self.records.add(record)
        except OSError as error:
            logger.error("The run stops: its records cannot be written (%s).", error)  # noqa: TRY400 - no bug of ours
            self.cancel.cancel()
        self.reporter.end(record)
