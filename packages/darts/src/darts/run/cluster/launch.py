"""Start schedulers and workers: on this machine, or one worker for any batch system."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import LocalCluster, Nanny, Scheduler, Security

from darts.errors import ConfigurationError, SchedulerGoneError
from darts.run.cancel import heeded_signals
from darts.run.checks import writing_into
from darts.run.cluster import connection
from darts.run.cluster.connection import SchedulerLocation
from darts.run.cluster.quiet import preloads, quieten
from darts.run.cluster.remote import END, ENDS, NEWS
from darts_utils import available_memory

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
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
def scheduler_settings() -> Iterator[None]:
    """Use settings of Dask that fit long tiles, where the user has none."""
    changed = {name: value for name, value in _SETTINGS.items() if _is_default(name)}
    with dask.config.set(changed):
        yield


def _is_default(name: str) -> bool:
    defaults: dict[str, object] = {}
    for layer in dask.config.defaults:
        defaults = dask.config.merge(defaults, layer)
    return bool(dask.config.get(name, None) == dask.config.get(name, None, config=defaults))


async def local_cluster(workers: int, host: str = LOOPBACK, security: Security | None = None) -> Any:
    """Start a scheduler in this process and workers in others.

    Args:
        workers: Number of worker processes, which share CPUs and memory.
        host: Address to listen on.
        security: Settings of TLS; None for none, which only the loopback interface may do without.

    Returns:
        The cluster of Dask, running.
    """
    quieten()
    with scheduler_settings():
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
            preload=preloads(),
            asynchronous=True,
        )


def serve_local(
    workers: int, scheduler_file: Path, tell: Callable[[SchedulerLocation], None], host: str | None = None
) -> None:
    """Serve a cluster on this machine until a signal comes.

    Args:
        workers: Number of worker processes here; 0 where all are on other machines.
        scheduler_file: File to write, by which others find it; removed in the end.
        tell: Is told where the scheduler is, once it is there.
        host: Address or name of this machine that others reach it by, with TLS; default the loopback interface only.

    Raises:
        ConfigurationError: If the file is that of a scheduler that answers, or the host is not this machine.
    """

    async def serve() -> None:
        await connection.refuse_taken(scheduler_file)
        files: tuple[Path, ...] = ()
        if host is not None:
            with writing_into(scheduler_file.absolute().parent, "The file of the scheduler"):
                files = connection.make_certificate(scheduler_file.absolute())
        with listening(host, files):
            cluster = await local_cluster(
                workers, host or LOOPBACK, connection.make_security(*files) if files else None
            )
        try:
            location, ended = SchedulerLocation(cluster.scheduler_address, *files), signal_event()
            with published(scheduler_file, location, cluster.scheduler.identity(0)):
                tell(location)
                await ended.wait()
                await tell_end(cluster.scheduler)
        finally:
            await cluster.close()

    asyncio.run(serve())


def serve_worker(
    location: SchedulerLocation,
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
        location: The scheduler.
        name: Name of the worker; default its address.
        memory: Bytes beyond which its process is ended; default what is available here.
        seconds: After so long it begins no further tile; None for never.
        host: Address or name of this machine that others reach it by; default as towards the scheduler.
        patience: How long the scheduler may take to answer, in seconds.

    Raises:
        SchedulerGoneError: If the scheduler does not answer.
    """
    is_loopback = SchedulerLocation(location.address.replace("tls://", "tcp://")).is_closed

    async def serve() -> None:
        environment = {} if seconds is None else {ENDS: str(time.time() + seconds)}
        nanny = Nanny(
            location.address,
            nthreads=1,
            name=name,
            memory_limit=memory or available_memory(),
            security=location.security(),
            protocol="tls" if location.address.startswith("tls://") else None,
            host=host or (LOOPBACK if is_loopback else None),
            death_timeout=patience,
            dashboard=False,
            dashboard_address=f"{LOOPBACK}:0",
            env=environment,
            preload=preloads(),
        )
        try:
            await nanny
        except (OSError, TimeoutError, RuntimeError) as error:  # Dask makes the last of the others.
            raise SchedulerGoneError(location.silence(error)) from error
        finished = asyncio.create_task(nanny.finished())
        told = asyncio.create_task(signal_event().wait())
        await asyncio.wait({finished, told}, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            nanny.close_gracefully(reason="darts-worker-ends")  # It starts no other process then.
            if nanny.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGTERM)
            await asyncio.wait({finished, asyncio.create_task(_exited(nanny))}, timeout=_END_SECONDS)
        await nanny.close(reason="darts-worker-ends")

    quieten()
    with scheduler_settings():
        asyncio.run(serve())


async def _exited(nanny: Nanny) -> None:
    with suppress(psutil.NoSuchProcess):
        while nanny.pid is not None and psutil.Process(nanny.pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(_POLL_SECONDS)


@contextmanager
def listening(host: str | None, files: Iterable[Path]) -> Iterator[None]:
    """Make a sentence of it where a scheduler cannot start in the block, and remove what was written for it.

    Raises:
        ConfigurationError: If that is no address of this machine.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        for path in files:
            path.unlink()
        where = "this machine" if host is None else f"{host}; name an address of this machine with --host"
        raise ConfigurationError(
            f"The scheduler cannot listen on {where} ({connection.first_cause(error)})."
        ) from error


@contextmanager
def published(scheduler_file: Path, location: SchedulerLocation, identity: dict[str, object]) -> Iterator[None]:
    """Have the file of a scheduler until the block ends; what another one wrote in its place stays."""
    with writing_into(scheduler_file.absolute().parent, "The file of the scheduler"):
        connection.write_scheduler_file(scheduler_file, location, identity)
    own = scheduler_file.read_bytes()
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if scheduler_file.read_bytes() == own:
                for path in (scheduler_file, location.certificate, location.key):
                    if path is not None:
                        path.unlink(missing_ok=True)


async def tell_end(scheduler: Scheduler) -> None:
    """Tell runs that their scheduler ends, before their workers leave."""
    scheduler.log_event(NEWS, END)
    await asyncio.sleep(_POLL_SECONDS)


def signal_event() -> asyncio.Event:
    """Return what is set when Ctrl-C, SIGTERM or a lost terminal comes, from now on."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    for number in heeded_signals():
        loop.add_signal_handler(number, came.set)
    return came


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
