"""The commands of `darts cluster`: start a scheduler and workers, here or on Slurm, or one worker anywhere."""

from pathlib import Path
from typing import Any

import typer

from darts.cli.logs import start_logging
from darts.run import cluster
from darts.run.checks import check_cluster_is_installed


def run_local(workers: int, scheduler_file: Path, host: str | None) -> None:
    """Serve a cluster on this machine until Ctrl-C."""
    check_cluster_is_installed()
    start_logging()
    cluster.launch.serve_local(workers, scheduler_file, lambda location: _tell(location, scheduler_file), host)


def run_slurm(scheduler_file: Path, host: str | None, **jobs: Any) -> None:
    """Serve a scheduler here and workers in jobs of Slurm until Ctrl-C."""
    check_cluster_is_installed()
    start_logging()
    made = cluster.slurm.SlurmJobs(**jobs)
    cluster.slurm.serve_slurm(made, scheduler_file, lambda location: _tell(location, scheduler_file), host)


def run_worker(scheduler_file: Path, name: str | None, walltime: str | None) -> None:
    """Be a worker until the scheduler ends, the time is over, or a signal comes."""
    check_cluster_is_installed()
    start_logging()
    seconds = None if walltime is None else cluster.launch.lifetime(cluster.launch.parse_duration(walltime))
    cluster.launch.serve_worker(cluster.connection.find_scheduler(scheduler_file, None), name=name, seconds=seconds)


def _tell(location: "cluster.connection.SchedulerLocation", scheduler_file: Path) -> None:
    path = scheduler_file.absolute()
    typer.echo(f"The scheduler listens on {location.address}; Ctrl-C ends it and its workers.")
    typer.echo("Run, from any machine that sees the folders:")
    typer.echo(f"  darts inference planet-sequential --executor dask --scheduler-file {path} ...")
    typer.echo("A further worker, on any machine that reaches this one:")
    typer.echo(f"  darts cluster worker --scheduler-file {path}")
