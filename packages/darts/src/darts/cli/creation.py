"""The commands of `darts training-data create`, whose options are those of a run and a few more."""

from pathlib import Path
from typing import Annotated, Any

import typer

from darts import cli
from darts.cli.arguments import option
from darts.cli.inference import IMAGES, Options, pipeline_command
from darts.pipelines.sequential_v2 import _BasePipeline

_OPTIONS: Options = {
    "labels": (..., Annotated[Path, option("Vector file of labels: polygons in any CRS.")]),
    "area": (..., Annotated[Path, option("Vector file of the area in which labels are complete.")]),
    "out": (..., Annotated[Path, option("Folder of the training data.")]),
    "bands": (
        None,
        Annotated[
            list[str] | None,
            option(
                "Band that the samples show; repeat it. Or name a model with --model-files to make them for it.",
                "blue, green, red, nir, ndvi, relative_elevation, slope",
            ),
        ],
    ),
    "sample_size": (512, Annotated[int, typer.Option(help="Edge of a sample, pixels.", min=32)]),
    "sample_overlap": (0, Annotated[int, typer.Option(help="Pixels that samples share with neighbours.", min=0)]),
    "ignore_border": (
        0,
        Annotated[int, typer.Option(help="Border around slumps that is not labelled, pixels.", min=0)],
    ),
    "half": (False, Annotated[bool, typer.Option("--half", help="Write float16, which rounds, and half as much.")]),
}


def create(source: str) -> Any:
    """Build a command of `training-data create`."""
    text = f"Cut {IMAGES[source]} and labels into training data; the other options, and the configuration, are those "
    return pipeline_command(source, source, f"{text}of a run.", _run, _OPTIONS)


def _run(pipeline: _BasePipeline, **options: Any) -> None:
    cli.training.run_creation(pipeline, **options)
