"""The command that trains a model, whose options are those of training."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.markup import escape

import darts_training
from darts import cli
from darts.cli.arguments import TRAIN_HELP, BlockKm, DeviceOption, argument, command_line_type, option
from darts_training import TrainingOptions

_SHOWN = (("pixels", "iou", "IoU of pixels"), ("objects", "f1@0.3", "F1 of objects, overlap 0.3"))


def train(name: str) -> Any:
    """Build the command `train`, with an option for every field of the options of training that a word can hold."""
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
    app.command(name, help=TRAIN_HELP)(command)
    return typer.main.get_command(app)


def _attributes(described: type) -> dict[str, str]:
    """Return what the docstring of a class says of its attributes."""
    text = (inspect.getdoc(described) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def _train(
    *,
    data: Annotated[Path, argument("Folder of training data.")],
    out: Annotated[Path, option("Folder of the model.")],
    from_model: Annotated[
        Path | None, typer.Option("--from", help="Model to go on from, file or folder.", show_default=False)
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Cross validation: train so many models, each without one fold.", min=2, show_default=False),
    ] = None,
    block_km: BlockKm = 1.0,
    buffer_m: Annotated[
        float, typer.Option(help="Distance between what is trained on and what is held out, m.", min=0)
    ] = 100,
    license: Annotated[str, typer.Option(help="Licence of the model, for its card.")] = "",  # noqa: A002
    description: Annotated[str, typer.Option(help="What the model is for, for its card.")] = "",
    device: DeviceOption = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more.")] = 0,
    **options: Any,
) -> None:
    cli.logs.start_logging(verbose)
    samples, chosen = darts_training.read_samples(data), TrainingOptions(**options)
    divided = darts_training.make_folds(samples, folds or 5, block_m=1000 * block_km, buffer_m=buffer_m)
    with cli.rounds.showing_rounds(chosen.epochs, folds) as shown:
        given: dict[str, Any] = {"base": from_model, "device": device, "on_step": shown.step, "folds": divided}
        given["texts"] = {"license": license, "description": description}
        try:
            if folds is None:
                trained = darts_training.train(samples, out, chosen, **given)
                evaluation, models = trained.evaluation, [trained]
            else:
                models, evaluation = darts_training.cross_validate(samples, out, chosen, on_fold=shown.fold, **given)
        except KeyboardInterrupt:
            typer.echo("Stopped. The same command goes on where this training was.", err=True)
            raise
    if evaluation is not None:
        cli.evaluation.print_figures(evaluation, _SHOWN, width=0)
    elif folds is None:
        kept = "; its licence and description stay as they are" if license or description else ""
        typer.echo(
            f"note: this model was trained before, with the same options and samples, and nothing was done{kept}."
        )
    for model in models:
        typer.echo(f"model: {model.path}")
