"""Start schedulers and workers: on this machine, on Slurm, or one worker for any other batch system."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.errors import ConfigurationError, SchedulerGoneError
from darts.run.cluster.connection import (
    SchedulerPlace,
    make_certificate,
    make_security,
    write_scheduler_file,
)
from darts.run.cluster.remote import ENDS
from darts_utils import available_memory

if TYPE_CHECKING:
    from distributed import Security

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
WORKER_MODULE = "darts.run.cluster.worker_process"
_SETTINGS = {
    # A process that loads libraries or holds the interpreter for a while is not dead.
    "distributed.scheduler.worker-ttl": "120s",
    # Records are small, and a session keeps memory for its next tile on purpose; what takes too much is still ended.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
_POLL_SECONDS = 0.5
_END_SECONDS = 600.0
"""For a worker to write a tile after it was told to end; a batch system may be less patient."""


@contextmanager
def _settings() -> Iterator[None]:
    """Use settings of Dask that fit long tiles, where the user has none."""
    import dask

    changed = {name: value for name, value in _SETTINGS.items() if _is_default(name)}
    with dask.config.set(changed):
        yield


def _is_default(name: str) -> bool:
    import dask

    defaults: Any = {}
    for layer in dask.config.defaults:
        defaults = dask.config.merge(defaults, layer)
    return bool(dask.config.get(name, None) == dask.config.get(name, None, config=defaults))


async def local_cluster(workers: int, host: str = LOOPBACK, security: "Security | None" = None) -> Any:
    """Start a scheduler in this process and workers in others.

    Args:
        workers: Number of worker processes, which share CPUs and memory.
        host: Address to listen on.
        security: Settings of TLS; None for none, which only the loopback interface may do without.

    Returns:
        The cluster of Dask, running.
    """
    from distributed import LocalCluster

    with _settings():
        return await LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host=host,
            protocol="tcp" if security is None else "tls",
            security=security,
            dashboard_address=f"{LOOPBACK}:0",
            worker_dashboard_address=f"{LOOPBACK}:0",
            memory_limit=available_memory() // max(workers, 1),
            silence_logs=logging.ERROR,
            asynchronous=True,
        )


def serve_local(
    workers: int, scheduler_file: Path, tell: Callable[[SchedulerPlace], None], host: str | None = None
) -> None:
    """Serve a cluster on this machine until a signal comes.

    Args:
        workers: Number of worker processes here; 0 where all are on other machines.
        scheduler_file: File to write, by which others find it; removed in the end.
        tell: Is told where the scheduler is, once it is there.
        host: Address or name of this machine that others reach it by, with TLS; default the loopback interface only.
    """
    files = () if host is None else make_certificate(scheduler_file.absolute())

    async def serve() -> None:
        cluster = await local_cluster(workers, host or LOOPBACK, make_security(*files) if files else None)
        try:
            place = SchedulerPlace(cluster.scheduler_address, *files)
            with _published(scheduler_file, place, cluster.scheduler.identity(0)):
                tell(place)
                await _signal()
        finally:
            await cluster.close()

    asyncio.run(serve())


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


def serve_slurm(
    jobs: SlurmJobs, scheduler_file: Path, tell: Callable[[SchedulerPlace], None], host: str | None = None
) -> None:
    """Serve a scheduler here and workers in jobs of Slurm until a signal comes; a job that ends is followed by another.

    Args:
        jobs: The jobs.
        scheduler_file: File to write, by which others find it, in a folder that all machines see.
        tell: Is told where the scheduler is, once it is there.
        host: Address or name of this machine that others reach it by; default that of the interface to the network.

    Raises:
        ConfigurationError: If Slurm is not there, or the walltime cannot be understood.
    """
    import shutil

    from dask_jobqueue.slurm import SLURMCluster

    if shutil.which("sbatch") is None:
        raise ConfigurationError("There is no sbatch on this machine; run this where jobs of Slurm are submitted.")
    seconds = parse_duration(jobs.walltime)
    certificate, key = make_certificate(scheduler_file.absolute())
    gpus = [f"--gres=gpu:{jobs.gpus}"] if jobs.gpus else []
    options = ["--lifetime", f"{lifetime(seconds):.0f}"] + (["--host", LOOPBACK] if host == LOOPBACK else [])
    with _settings():
        cluster = SLURMCluster(
            cores=jobs.cpus,
            job_cpu=jobs.cpus,
            processes=1,
            memory=_bytes_of_slurm(jobs.mem),
            job_mem=jobs.mem,
            queue=jobs.partition,
            account=jobs.account,
            walltime=_slurm_time(seconds),
            job_name="darts-worker",
            job_extra_directives=[*gpus, *jobs.directives],
            log_directory=str(jobs.logs.absolute()),
            worker_command=WORKER_MODULE,
            worker_extra_args=options,
            python=sys.executable,
            protocol="tls",
            security=make_security(certificate, key),
            scheduler_options={"dashboard_address": f"{LOOPBACK}:0"} | ({} if host is None else {"host": host}),
        )
        try:
            place = SchedulerPlace(cluster.scheduler_address, certificate, key)
            with _published(scheduler_file, place, {}):
                tell(place)
                asyncio.run(_keep(cluster, jobs.jobs))
        finally:
            cluster.close()


async def _keep(cluster: Any, jobs: int) -> None:
    """Have so many jobs until a signal comes."""
    ended = asyncio.create_task(_signal())
    while not ended.done():
        await asyncio.to_thread(cluster.scale, jobs=jobs)
        await asyncio.wait({ended}, timeout=10 * _POLL_SECONDS)


def serve_worker(
    place: SchedulerPlace,
    *,
    name: str | None = None,
    memory: int | None = None,
    seconds: float | None = None,
    host: str | None = None,
    patience: float = 60.0,
) -> None:
    """Be a worker until the scheduler ends, the time is over, or a signal comes.

    It runs in a process of its own, which is started again where it dies or takes too much memory. On SIGTERM it ends
    after the tile that is being written.

    Args:
        place: The scheduler.
        name: Name of the worker; default its address.
        memory: Bytes beyond which its process is ended; default what is available here.
        seconds: After so long it begins no further tile; None for never.
        host: Address or name of this machine that others reach it by; default as towards the scheduler.
        patience: How long the scheduler may take to answer, in seconds.

    Raises:
        SchedulerGoneError: If the scheduler does not answer.
    """
    from distributed import Nanny

    async def serve() -> None:
        environment = {} if seconds is None else {ENDS: str(time.time() + seconds)}
        nanny = Nanny(
            place.address,
            nthreads=1,
            name=name,
            memory_limit=memory or available_memory(),
            security=place.security(),
            protocol="tls" if place.address.startswith("tls://") else None,
            host=host or (LOOPBACK if _is_loopback(place.address) else None),
            death_timeout=patience,
            dashboard=False,
            dashboard_address=f"{LOOPBACK}:0",
            env=environment,
        )
        try:
            await nanny
        except (OSError, TimeoutError) as error:
            raise SchedulerGoneError(f"The scheduler at {place.address} does not answer ({error!r}).") from error
        finished = asyncio.create_task(nanny.finished())
        told = asyncio.create_task(_signal())
        await asyncio.wait({finished, told}, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            nanny.close_gracefully(reason="darts-worker-ends")  # It starts no other process then.
            if nanny.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGTERM)
            await asyncio.wait({finished, asyncio.create_task(_exited(nanny))}, timeout=_END_SECONDS)
        await nanny.close(reason="darts-worker-ends")

    with _settings():
        asyncio.run(serve())


async def _exited(nanny: Any) -> None:
    while nanny.pid is not None and _runs(nanny.pid):
        await asyncio.sleep(_POLL_SECONDS)


def _runs(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _published(scheduler_file: Path, place: SchedulerPlace, identity: dict[str, Any]) -> Iterator[None]:
    """Have the file of a scheduler until the block ends."""
    write_scheduler_file(scheduler_file, place, identity)
    try:
        yield
    finally:
        for path in (scheduler_file, place.certificate, place.key):
            if path is not None:
                path.unlink(missing_ok=True)


async def _signal() -> None:
    """Wait for Ctrl-C, SIGTERM or a lost terminal."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, came.set)
    await came.wait()


def lifetime(walltime: float) -> float:
    """Return after how many seconds a job of so many begins no further tile, so that it ends between two.

    Examples:
        >>> lifetime(4 * 3600), lifetime(60)
        (12960.0, 40.0)
    """
    return walltime - min(max(walltime / 10, 60), walltime / 3)


def parse_duration(text: str) -> float:
    """Return the seconds of a time as Slurm writes it, or with units.

    Examples:
        >>> parse_duration("4h"), parse_duration("1-00:00:00"), parse_duration("02:30"), parse_duration("90")
        (14400.0, 86400.0, 150.0, 5400.0)

    Raises:
        ConfigurationError: If it is something else.
    """
    units = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
    days, dash, rest = text.strip().rpartition("-")
    try:
        whole_days = int(days) if dash else 0
        number, unit = rest.rstrip("smindh"), rest[len(rest.rstrip("smindh")) :]
        if unit:
            seconds = float(number) * units[unit]
        else:
            parts = [float(part) for part in rest.split(":")]
            while days and len(parts) < 3:  # With days, hours come first.
                parts.append(0.0)
            weights = {1: [60], 2: [60, 1], 3: [3600, 60, 1]}[len(parts)]
            seconds = sum(part * weight for part, weight in zip(parts, weights, strict=True))
        seconds += 86400 * whole_days
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"The walltime is {text!r}; expected for example 4h, 04:00:00 or minutes.") from error
    if seconds <= 0:
        raise ConfigurationError(f"The walltime is {text!r}; expected more than nothing.")
    return seconds


def _slurm_time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours:02}:{rest // 60:02}:{rest % 60:02}"


def _bytes_of_slurm(text: str) -> str:
    """Return an amount of memory in Slurm's units, which are powers of two and megabytes by default, as Dask's."""
    number = text.strip().upper().rstrip("B")
    if number[-1:] not in ("K", "M", "G", "T"):
        number += "M"
    if not number[:-1].replace(".", "", 1).isdigit():
        raise ConfigurationError(f"The memory is {text!r}; expected for example 48G.")
    return f"{number}iB"


def _is_loopback(address: str) -> bool:
    return SchedulerPlace(address.replace("tls://", "tcp://")).is_closed
