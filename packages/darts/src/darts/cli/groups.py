"""The groups of commands beside the map itself: datacubes, finished results, datasets, clusters."""

from pathlib import Path
from typing import Annotated

import typer

from darts import cli
from darts.cli.arguments import argument, option

cube = typer.Typer(name="cube", help="Inspect the datacubes of auxiliary data.")

_CubePath = Annotated[str, argument("Folder of the datacube, or s3://bucket/prefix.")]


@cube.command("info")
def cube_info(
    path: _CubePath,
    geojson: Annotated[Path | None, option("File for the filled area.", "printed as the last line")] = None,
) -> None:
    """Show extent, size and filled area (GeoJSON) of a datacube."""
    cli.cubes.show_cube(path, geojson)


@cube.command("import")
def cube_import(
    origin: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Datacube of smart-geocubes (those of the first DARTS), or a GeoTIFF or VRT of ArcticDEM tiles.",
            show_default=False,
        ),
    ],
    product: Annotated[
        str | None,
        option(
            "What it holds: arcticdem-2m, -10m, -32m, or tcvis-2000-2019 (or another period).", "what it says itself"
        ),
    ] = None,
    to: Annotated[
        str | None, option("The new datacube, a folder or s3://bucket/prefix.", "where a run looks for it")
    ] = None,
) -> None:
    """Take over a datacube that another program filled: what is provably complete, into a new one."""
    cli.cubes.take_over(origin, product, to)


@cube.command("verify")
def cube_verify(
    path: _CubePath,
    repair: Annotated[
        bool, typer.Option("--repair", help="Note damaged chunks as missing, so that they are fetched again.")
    ] = False,
) -> None:
    """Read all that a datacube holds and compare it with its checksums; code 1 if something is damaged."""
    cli.cubes.verify(path, repair=repair)


export = typer.Typer(name="export", help="Inspect finished results.")


@export.command("verify")
def export_verify(folders: Annotated[list[Path], argument("Folders of results, or of tiles.")]) -> None:
    """Compare every file of finished results with its manifest; code 1 if one was changed or is missing."""
    cli.exports.verify(folders)


dataset = typer.Typer(name="dataset", help="Make one dataset out of the results of many scenes.")
_DatasetFolder = Annotated[Path, argument("Folder of the dataset.")]


@dataset.command("build")
def dataset_build(
    results: Annotated[list[Path], argument("Folders of results.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset; one that is there is updated.")] = Path("dataset"),
    previous: Annotated[Path | None, option("Folder of the release before, whose ids are kept.")] = None,
    keep_share: Annotated[
        float, typer.Option(help="Drop objects that a smaller share of their looks has.", min=0, max=1)
    ] = 0.0,
    cell_km: Annotated[
        float, typer.Option(help="Edge of the cells in which overlaps are searched: smaller ones take less memory, km.")
    ] = 50,
    prefer: Annotated[str | None, option("Which results of one scene count: newest, or a model.", "none")] = None,
    season: Annotated[
        list[int] | None, option("Month whose looks are merged, 1 to 12; repeat it.", "the whole year")
    ] = None,
) -> None:
    """Merge detections to objects with ids that stay, and write one dataset; code 1 if results were left out."""
    cli.datasets.run_build(
        results, out, previous, keep_share=keep_share, cell_km=cell_km, prefer=prefer, season=season or None
    )


@dataset.command("check")
def dataset_check(folder: _DatasetFolder) -> None:
    """Compare files with checksums, columns with the dictionary, tables with one another; code 1 if one differs."""
    cli.datasets.run_check(folder)


@dataset.command("info")
def dataset_info(folder: _DatasetFolder) -> None:
    """Say what is in a dataset, by year."""
    cli.datasets.show_info(folder)


cluster = typer.Typer(name="cluster", help="Start a scheduler and workers for `--executor dask`.")

_SchedulerFile = Annotated[
    Path, typer.Option(help="File by which runs and workers find the scheduler, in a folder that all machines see.")
]


@cluster.command("local")
def cluster_local(
    scheduler_file: _SchedulerFile = Path("scheduler.json"),
    workers: Annotated[int, typer.Option(help="Number of worker processes here.", min=0)] = 1,
    host: Annotated[
        str | None, option("Address of this machine, for workers on others, with TLS.", "the loopback interface")
    ] = None,
) -> None:
    """Serve a scheduler and workers on this machine until Ctrl-C; without --host, for this machine only."""
    cli.cluster.run_local(workers, scheduler_file, host)


@cluster.command("slurm")
def cluster_slurm(
    jobs: Annotated[int, typer.Option(help="Jobs, each of which is a worker.", min=1, show_default=False)],
    scheduler_file: _SchedulerFile = Path("scheduler.json"),
    gpus: Annotated[int, typer.Option(help="GPUs of each job.", min=0)] = 1,
    cpus: Annotated[int, typer.Option(help="CPUs of each job.", min=1)] = 8,
    mem: Annotated[str, typer.Option(help="Memory of each job, as for sbatch.")] = "48G",
    partition: Annotated[str | None, option("Partition.", "Slurm's")] = None,
    account: Annotated[str | None, option("Account.", "Slurm's")] = None,
    walltime: Annotated[str, typer.Option(help="Longest time of a job: 4h, 04:00:00, or minutes.")] = "4h",
    directive: Annotated[
        list[str] | None, typer.Option(help='Further option of sbatch, such as "--constraint=a100"; repeat it.')
    ] = None,
    host: Annotated[str | None, option("Address of this machine for the jobs.", "that to the network")] = None,
    log_dir: Annotated[Path, typer.Option(help="Folder of the jobs' output.")] = Path("darts-worker-logs"),
) -> None:
    """Serve a scheduler here and workers in jobs of Slurm until Ctrl-C; a job that ends is followed by another."""
    cli.cluster.run_slurm(
        scheduler_file, host,
        jobs=jobs, gpus=gpus, cpus=cpus, mem=mem, partition=partition, account=account, walltime=walltime,
        directives=tuple(directive or ()), logs=log_dir,
    )  # fmt: skip


@cluster.command("worker")
def cluster_worker(
    scheduler_file: _SchedulerFile = Path("scheduler.json"),
    name: Annotated[str | None, option("Name of the worker.", "its address")] = None,
    walltime: Annotated[str | None, option("Longest time of its job, so that it ends between tiles.", "none")] = None,
) -> None:
    """Be one worker, in a job of any batch system; SIGTERM ends it after the tile that is being written."""
    cli.cluster.run_worker(scheduler_file, name, walltime)
