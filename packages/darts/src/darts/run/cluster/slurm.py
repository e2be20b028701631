"""Workers in jobs of Slurm: submitted through dask-jobqueue, watched, and followed by others when they end."""

import asyncio
import logging
import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dask_jobqueue.slurm import SLURMJob
from distributed import Scheduler
from distributed.utils import silence_logging_cmgr

from darts.errors import ConfigurationError
from darts.run.checks import check_folder_is_writable, writing_into
from darts.run.cluster import launch
from darts.run.cluster.connection import SchedulerLocation, make_certificate, make_security, refuse_taken
from darts.run.cluster.quiet import quieten
from darts.run.cluster.remote import NEWS
from darts.run.names import counted

logger = logging.getLogger(__name__)

WORKER_MODULE = "darts.run.cluster.worker_process"
_JOB_NAME = "darts-worker"
_POLL_SECONDS = 5.0
_PAUSE_SECONDS = 60.0
"""Until Slurm is asked again for a job that it refused, or for another than one that brought no worker."""
_LOST_SECONDS = 120.0
"""A job whose worker has left the cluster for so long is ended."""
_END_SECONDS = 45.0
"""For jobs to end before their scheduler does; Slurm kills them after its KillWait, 30 s by default."""
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
_ENDED |= {"REVOKED", "TIMEOUT"}
_OPTIONS = {
    "account": "--account or --partition",
    "partition": "--partition",
    "qos": "--account, or --directive=--qos=…",
    "time limit": "--walltime",
    "node configuration": "--cpus, --gpus or --mem",
    "memory": "--mem",
    "gres": "--gpus",
}
"""Which option to correct, by a word of Slurm's refusal."""


@dataclass(frozen=True)
class SlurmJobs:
    """Jobs of Slurm that are workers.

    Attributes:
        jobs: How many.
        gpus: GPUs of each.
        cpus: CPUs of each.
        mem: Memory of each, as Slurm writes it ("48G").
        partition: Partition; None for Slurm's default.
        account: Account; None for Slurm's default.
        walltime: Longest time of each, as Slurm writes it ("4h", "04:00:00", minutes).
        directives: Further lines for ``#SBATCH``.
        logs: Folder of the jobs' output.
    """

    jobs: int
    gpus: int = 0
    cpus: int = 1
    mem: str = "4G"
    partition: str | None = None
    account: str | None = None
    walltime: str = "1h"
    directives: Sequence[str] = ()
    logs: Path = Path("darts-worker-logs")

    def options(self, host: str | None) -> dict[str, object]:
        """Return what dask-jobqueue is told of each job, but for its name and scheduler.

        Args:
            host: Address of the scheduler's machine; workers stay on the loopback interface where it is that.

        Raises:
            ConfigurationError: If the memory or the walltime cannot be understood.
        """
        seconds = launch.parse_duration(self.walltime)
        hours, rest = divmod(round(seconds), 3600)
        gpus = [f"--gres=gpu:{self.gpus}"] if self.gpus else []
        return {
            "cores": self.cpus,
            "job_cpu": self.cpus,
            "processes": 1,
            "memory": _bytes_of_slurm(self.mem),
            "job_mem": self.mem,
            "queue": self.partition,
            "account": self.account,
            "walltime": f"{hours:02}:{rest // 60:02}:{rest % 60:02}",
            "job_name": _JOB_NAME,
            "job_extra_directives": [*gpus, *self.directives],
            "log_directory": str(self.logs.absolute()),
            "worker_command": WORKER_MODULE,
            "worker_extra_args": ["--lifetime", f"{launch.lifetime(seconds):.0f}"]
            + (["--host", launch.LOOPBACK] if host == launch.LOOPBACK else []),
            # Slurm kills what is left of a job once its shell has ended, and a shell ends at the first signal.
            "python": f"exec {shlex.quote(sys.executable)}",
            "protocol": "tls",
        }


def serve_slurm(
    jobs: SlurmJobs, scheduler_file: Path, tell: Callable[[SchedulerLocation], None], host: str | None = None
) -> None:
    """Serve a scheduler here and workers in jobs of Slurm until a signal comes; a job that ends is followed by another.

    Args:
        jobs: The jobs.
        scheduler_file: File to write, by which others find it, in a folder that all machines see.
        tell: Is told where the scheduler is, once it is there.
        host: Address or name of this machine that others reach it by; default that of the interface to the network.

    Raises:
        ConfigurationError: If Slurm is not there or refuses the jobs, an amount cannot be understood, or the file is
            that of a scheduler that answers.
    """
    if shutil.which("sbatch") is None:
        raise ConfigurationError("There is no sbatch on this machine; run this where jobs of Slurm are submitted.")
    options = jobs.options(host)
    check_folder_is_writable(jobs.logs, "The output of jobs")

    async def serve() -> None:
        await refuse_taken(scheduler_file)
        with writing_into(scheduler_file.absolute().parent, "The file of the scheduler"):
            files = make_certificate(scheduler_file.absolute())
        security = make_security(*files)
        with launch.listening(host, files):
            scheduler = await Scheduler(
                host=host, protocol="tls", security=security, dashboard_address=f"{launch.LOOPBACK}:0"
            )
        try:
            location, ended = SchedulerLocation(scheduler.address, *files), launch.signal_event()
            with launch.published(scheduler_file, location, scheduler.identity(0)):
                tell(location)
                make = partial(SLURMJob, scheduler.address, security=security, **options)
                await JobKeeper(scheduler, jobs, make).keep(ended)
        finally:
            await scheduler.close()

    quieten()
    with launch.scheduler_settings(), silence_logging_cmgr(logging.ERROR):
        asyncio.run(serve())


@dataclass
class _Job:
    submitted: SLURMJob
    state: str = "PENDING"
    reason: str = ""
    has_come: bool = False
    seen: float = 0.0


class JobKeeper:
    """Has so many jobs of Slurm, and says what becomes of each.

    Args:
        scheduler: The scheduler of Dask, in this process.
        jobs: The jobs.
        make: Makes a job, whose worker has the `name` given.
    """

    def __init__(self, scheduler: Scheduler, jobs: SlurmJobs, make: Callable[..., SLURMJob]) -> None:
        self._scheduler = scheduler
        self._wanted = jobs
        self._make = make
        self._jobs: dict[str, _Job] = {}
        self._count = 0
        self._submit_from = 0.0
        self._told = time.monotonic()
        self._problem = ""

    async def keep(self, ended: asyncio.Event) -> None:
        """Have the jobs until a signal comes, and end them then.

        Raises:
            ConfigurationError: If Slurm refuses the first job.
        """
        try:
            while not ended.is_set():
                await self._look()
                await self._submit()
                self._tell()
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), _POLL_SECONDS)
        finally:
            await self._end()

    async def _look(self) -> None:
        """Note what became of the jobs."""
        states = await self._states()
        if states is None:
            return
        names, now = {str(worker.name) for worker in self._scheduler.workers.values()}, time.monotonic()
        for number, job in list(self._jobs.items()):
            state, reason, where = states.get(number, ("ended", "", ""))
            if job.submitted.name in names:
                job.has_come, job.seen = True, now
            if state == "ended" or state in _ENDED:
                del self._jobs[number]
                self._see_ended(number, job, state)
                continue
            if state != job.state and state != "COMPLETING":
                logger.info("Job %s is %s%s.", number, state.lower(), f" on {where}" if state == "RUNNING" else "")
                job.has_come &= state != "PENDING"  # Slurm may put a job into its queue again.
            elif state == "RUNNING" and job.has_come and now - job.seen > _LOST_SECONDS:
                logger.warning("The worker of job %s is gone; the job is ended.", number)
                await job.submitted.close()
            job.state, job.reason = state, reason

    def _see_ended(self, number: str, job: _Job, state: str) -> None:
        how = "" if state == "ended" else f" ({state})"
        if job.has_come:
            logger.info("Job %s has ended%s; another follows.", number, how)
            return
        self._submit_from = time.monotonic() + _PAUSE_SECONDS
        log = self._wanted.logs / f"{_JOB_NAME}-{number}.err"
        logger.warning(
            "Job %s has ended%s before its worker came; another follows in a minute. Its output: %s", number, how, log
        )

    async def _submit(self) -> None:
        """Submit as many jobs as are missing."""
        while len(self._jobs) < self._wanted.jobs and time.monotonic() >= self._submit_from:
            job = self._make(name=str(self._count))
            try:
                await job
            except (OSError, RuntimeError, ValueError) as error:
                refusal = _refusal(str(error))
                if not self._count:
                    raise ConfigurationError(f"Slurm refuses the jobs: {refusal}") from error
                logger.warning("Slurm refuses a further job, and is asked again in a minute: %s", refusal)
                self._submit_from = time.monotonic() + _PAUSE_SECONDS
                return
            self._count += 1
            self._jobs[str(job.job_id)] = _Job(job)
            logger.info("Job %s is submitted, %d of %d.", job.job_id, len(self._jobs), self._wanted.jobs)

    def _tell(self) -> None:
        """Say here and to runs, once a minute, what is waited for where there is no worker."""
        now = time.monotonic()
        if self._scheduler.workers:
            self._told = now
            return
        if now - self._told < _PAUSE_SECONDS:
            return
        self._told = now
        waiting = Counter(job.reason if job.state == "PENDING" else job.state.lower() for job in self._jobs.values())
        jobs = " and ".join(f"{counted(number, 'job')} in Slurm ({why})" for why, number in waiting.items())
        line = f"No worker yet: {jobs or 'no job is submitted'}."
        logger.info(line)
        self._scheduler.log_event(NEWS, line)

    async def _states(self) -> dict[str, tuple[str, str, str]] | None:
        """Return state, reason for it, and nodes of the user's jobs by number; None if Slurm does not say."""
        command = ("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r|%N")
        try:
            asked = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, err = (text.decode(errors="replace") for text in await asked.communicate())
            problem = (err.strip() or f"squeue ended with {asked.returncode}") if asked.returncode else ""
        except OSError as error:  # No process can be started just now.
            problem = str(error)
        if problem and problem != self._problem:
            logger.warning("Slurm does not say what becomes of the jobs: %s", problem)
        self._problem = problem
        if problem:
            return None
        rows = [line.split("|", 3) for line in out.splitlines() if line.count("|") >= 3]
        return {number: (state, reason, where) for number, state, reason, where in rows}

    async def _end(self) -> None:
        """End the jobs, while their workers can still tell the scheduler that they leave."""
        if self._jobs:
            logger.info("%s of Slurm will end.", counted(len(self._jobs), "job"))
        await launch.tell_end(self._scheduler)
        await asyncio.gather(*(job.submitted.close() for job in self._jobs.values()))
        deadline = time.monotonic() + _END_SECONDS
        while self._jobs and time.monotonic() < deadline:
            states = await self._states() or {}
            going = {number for number, (state, _, _) in states.items() if state not in _ENDED}
            self._jobs = {number: job for number, job in self._jobs.items() if number in going}
            await asyncio.sleep(_POLL_SECONDS / 10)


def _refusal(text: str) -> str:
    """Say why sbatch refused a job, and which option to correct."""
    said = [line.strip().removeprefix("sbatch: ").removeprefix("error: ") for line in text.splitlines()]
    said = [line for line in said[said.index("stderr:") + 1 :] if line] if "stderr:" in said else said
    reason = "; ".join(said[:1] if len(said) == 2 else said).rstrip(".")
    option = next((option for word, option in _OPTIONS.items() if word in reason.lower()), "the options")
    return f"{reason}. Correct {option}."


def _bytes_of_slurm(text: str) -> str:
    """Return an amount of memory in Slurm's units, which are powers of two and megabytes by default, as Dask's."""
    number = text.strip().upper().rstrip("B")
    if number[-1:] not in ("K", "M", "G", "T"):
        number += "M"
    if not number[:-1].replace(".", "", 1).isdigit():
        raise ConfigurationError(f"The memory is {text!r}; expected for example 48G.")
    return f"{number}iB"
