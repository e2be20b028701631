"""The commands that make a model out of labels; what they need loads when they are called."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.markup import escape

from darts.cli.arguments import command_line_type

TRAIN_HELP = "Train a model on training data, or go on where a training was ended."

_Samples = Annotated[Path, typer.Argument(help="Folder of training data.", show_default=False)]
_Device = Annotated[str | None, typer.Option(help="As for inference; default a GPU where one works.")]
_BlockKm = Annotated[float, typer.Option(help="Edge of the square blocks of ground that are held out, km.", min=0.01)]


def train() -> Any:
    """Build the command `train`, with an option for every field of the options of training that a word can hold."""
    from darts_training import TrainingOptions

    helps = _attributes(TrainingOptions)
    hints = get_type_hints(TrainingOptions)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[command_line_type(hints[field.name]), typer.Option(help=escape(helps[field.name]))],
        )
        for field in dataclasses.fields(TrainingOptions)
        if field.name != "architecture"
    ]
    own = [each for each in inspect.signature(_train).parameters.values() if each.kind is not each.VAR_KEYWORD]

    def command(**values: Any) -> None:
        _train(**values)

    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in (*own, *options)}
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command("train", help=TRAIN_HELP)(command)
    return typer.main.get_command(app)


def _attributes(described: type) -> dict[str, str]:
    """Return what the docstring of a class says of its attributes."""
    text = (inspect.getdoc(described) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def _train(
    *,
    data: _Samples,
    out: Annotated[Path, typer.Option(help="Folder of the model.", show_default=False)],
    from_model: Annotated[
        Path | None, typer.Option("--from", help="Model to go on from, file or folder.", show_default=False)
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Cross validation: train so many models, each without one fold.", min=2, show_default=False),
    ] = None,
    block_km: _BlockKm = 1.0,
    buffer_m: Annotated[
        float, typer.Option(help="Distance between what is trained on and what is held out, m.", min=0)
    ] = 100,
    license: Annotated[str, typer.Option(help="Licence of the model, for its card.")] = "",  # noqa: A002
    description: Annotated[str, typer.Option(help="What the model is for, for its card.")] = "",
    device: _Device = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more.")] = 0,
    **options: Any,
) -> None:
    from darts.cli.training import run_training
    from darts_training import TrainingOptions

    run_training(
        data,
        out,
        TrainingOptions(**options),
        folds=folds,
        block_m=1000 * block_km,
        buffer_m=buffer_m,
        base=from_model,
        texts={"license": license, "description": description},
        device=device,
        verbosity=verbose,
    )


def calibrate(
    words: Annotated[list[Path], typer.Argument(help="Models, then the folder of training data.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder of the new model; of several models, their ensemble.json.", show_default=False)
    ],
    block_km: _BlockKm = 1.0,
    device: _Device = None,
) -> None:
    """Fit a temperature on ground that was held out, so that probabilities are frequencies."""
    from darts.cli.training import run_calibration

    if len(words) < 2:
        raise typer.BadParameter("expected at least one model, and the folder of training data")
    run_calibration(words[:-1], words[-1], out, block_m=1000 * block_km, device=device)


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "labels": (
        ...,
        Annotated[Path, typer.Option(help="Vector file of labels: polygons in any CRS.", show_default=False)],
    ),
    "area": (
        ...,
        Annotated[Path, typer.Option(help="Vector file of the area in which labels are complete.", show_default=False)],
    ),
    "out": (..., Annotated[Path, typer.Option(help="Folder of the training data.", show_default=False)]),
    "bands": (
        None,
        Annotated[
            list[str] | None,
            typer.Option(
                help="Band that the samples show; repeat it. Or name a model with --model-files to make them for it.",
                show_default="blue, green, red, nir, ndvi, relative_elevation, slope",
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


def create_planet() -> Any:
    """Build the command `training-data create planet`."""
    from darts.pipelines.sequential_v2 import PlanetPipeline

    return _create(PlanetPipeline, "planet-sequential", "PlanetScope scenes and orthotiles")


def create_sentinel2() -> Any:
    """Build the command `training-data create sentinel2`."""
    from darts.pipelines.sequential_v2 import Sentinel2Pipeline

    return _create(Sentinel2Pipeline, "sentinel2-sequential", "Sentinel-2 scenes")


def _create(pipeline: type, name: str, images: str) -> Any:
    from darts.cli.inference import pipeline_command
    from darts.cli.training import run_creation

    text = f"Cut {images} and labels into training data; the other options, and the configuration, are those of a run."
    return pipeline_command(pipeline, name, text, {}, run_creation, more=_OPTIONS)
