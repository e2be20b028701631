"""The commands that make a model out of labels; what they need loads when they are called."""

from pathlib import Path
from typing import Annotated, Any

import typer

_Samples = Annotated[Path, typer.Argument(help="Folder of training data.", show_default=False)]
_Device = Annotated[str | None, typer.Option(help="As for inference; default a GPU where one works.")]
_BlockKm = Annotated[float, typer.Option(help="Edge of the square blocks of ground that are held out, km.", min=0.01)]


def train(
    data: _Samples,
    out: Annotated[Path, typer.Option(help="Folder of the model.", show_default=False)],
    from_model: Annotated[
        Path | None, typer.Option("--from", help="Model to go on from, file or folder.", show_default=False)
    ] = None,
    arch: Annotated[str, typer.Option(help="Architecture of segmentation_models_pytorch.")] = "unet",
    encoder: Annotated[str, typer.Option(help="Its encoder; weights begin at random.")] = "resnet34",
    epochs: Annotated[int, typer.Option(help="Rounds.", min=1)] = 50,
    steps_per_epoch: Annotated[
        int | None, typer.Option(help="Batches of a round.", min=1, show_default="patches / batch size")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Patches of a batch.", min=2)] = 8,
    crop: Annotated[
        int | None,
        typer.Option(help="Edge of what is cut out of a patch at random, pixels.", min=32, show_default="the patch"),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.", min=0)] = 1e-3,
    loss: Annotated[str, typer.Option(help="Beside the focal loss: dice or tversky.")] = "dice",
    focal_gamma: Annotated[float, typer.Option(help="Exponent of the focal loss; 0 for cross entropy.", min=0)] = 2.0,
    patience: Annotated[
        int, typer.Option(help="Rounds without a better validation after which training ends; 0 for never.", min=0)
    ] = 10,
    folds: Annotated[
        int | None,
        typer.Option(help="Cross validation: train so many models, each without one fold.", min=2, show_default=False),
    ] = None,
    block_km: _BlockKm = 1.0,
    buffer_m: Annotated[
        float, typer.Option(help="Distance between what is trained on and what is held out, m.", min=0)
    ] = 100,
    min_object_size: Annotated[
        int, typer.Option(help="Objects and slumps with fewer pixels do not count as objects in validation.", min=0)
    ] = 32,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    threads: Annotated[int | None, typer.Option(help="Threads on the CPU.", min=1, show_default="all")] = None,
    license: Annotated[str, typer.Option(help="Licence of the model, for its card.")] = "",  # noqa: A002
    description: Annotated[str, typer.Option(help="What the model is for, for its card.")] = "",
    device: _Device = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more.")] = 0,
) -> None:
    """Train a model on training data, or go on where a training was ended."""
    from darts.cli.training import run_training
    from darts_training import TrainingOptions

    options = TrainingOptions(
        arch=arch,
        encoder=encoder,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=batch_size,
        crop=crop,
        learning_rate=learning_rate,
        overlap_loss=loss,  # type: ignore[arg-type]  # checked there
        focal_gamma=focal_gamma,
        patience=patience or None,
        min_object_px=min_object_size,
        seed=seed,
        threads=threads,
    )
    run_training(
        data,
        out,
        options,
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
