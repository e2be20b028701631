"""The tree of commands. Each command's code, and the libraries that it needs, load only when it is called."""

import difflib
import errno
import importlib
import logging
import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from darts import cli
from darts.cli.arguments import (
    TRAIN_HELP,
    BlockKm,
    DeviceOption,
    argument,
    keep_options_before,
    option,
    with_options_before,
)
from darts.cli.groups import cluster, cube, dataset, export

logger = logging.getLogger(__name__)


class LazyGroup(TyperGroup):
    """A group whose further commands are built when they are called or listed.

    Attributes:
        lazy: Module and function that build the command, by the command's name.
        summaries: What a list of commands says of those that are not to be built for it.
        order: Names in the order in which they are listed; others follow as they were declared.
    """

    lazy: dict[str, str] = {}  # noqa: RUF012 - a class per group overrides it
    summaries: dict[str, str] = {}  # noqa: RUF012
    order: tuple[str, ...] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """List the names of all commands, those first that come first in `order`."""
        return sorted([*super().list_commands(ctx), *self.lazy], key=lambda name: (*self.order, name).index(name))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Build a command, or what stands for it in a list."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        if cmd_name in self.summaries:
            return TyperCommand(cmd_name, help=self.summaries[cmd_name])
        return self._build(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say which name is near, or else which there are."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            begun = [name for name in known if name.startswith(args[0])]
            groups = [name for name in known if args[0] in self._commands_of(ctx, name)]
            deeper = [f"{ctx.command_path} {name} {args[0]}" for name in groups]
            near = begun[:1] or deeper or difflib.get_close_matches(args[0], known, n=1)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There are {', '.join(known)}."
            ctx.fail(f"No such command {args[0]!r}. {hint}")
        name, command, rest = super().resolve_command(ctx, args)
        return name, self._build(name) if name in self.summaries else command, rest

    def _commands_of(self, ctx: Any, name: str) -> list[str]:
        """List the names of a group's commands; none of a command that is no group."""
        group = None if name in self.lazy else self.get_command(ctx, name)
        return group.list_commands(ctx) if isinstance(group, TyperGroup) else []

    def _build(self, name: str) -> Any:
        module, function = self.lazy[name].split(":")
        return getattr(importlib.import_module(module), function)(name)


def _lazy(function: str, *names: str, **summaries: str) -> type[LazyGroup]:
    """Return a group whose commands a function ("module:function") builds by their names."""
    built = dict.fromkeys((*names, *summaries), f"darts.cli.{function}")
    return type("Group", (LazyGroup,), {"lazy": built, "summaries": summaries})


class _Commands(_lazy("training_commands:train", train=TRAIN_HELP)):  # type: ignore[misc]
    """All commands, in the order in which one meets them: a map, how good it is, a model, and what else there is."""

    order = (
        *("demo", "inference", "status", "report", "evaluate", "dataset", "training-data", "train", "model"),
        *("cluster", "cube", "export", "runs", "timings", "paths", "env-info"),
    )


app = typer.Typer(
    name="darts",
    help="Map retrogressive thaw slumps from PlanetScope and Sentinel-2 images.",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
inference = typer.Typer(
    name="inference",
    help="Find thaw slumps in PlanetScope and Sentinel-2 images.",
    cls=_lazy("inference:inference", "planet-sequential", "sentinel2-sequential"),
    no_args_is_help=True,
)
_fetching = _lazy("inference:prepare", "planet", "sentinel2")
inference.add_typer(
    typer.Typer(name="prep-data", help="Fetch what an offline run needs.", cls=_fetching), no_args_is_help=True
)
app.add_typer(inference)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"darts {version_of('darts-nextgen')}")
        raise typer.Exit


def _before(variable: str, help_text: str, *names: str) -> Any:
    """Declare an option of inference that may stand before the command, or come from the environment."""
    text = f"{help_text}, for `darts inference`."
    return typer.Option(*names, help=text, show_default=False, envvar=variable, show_envvar=False)


@app.callback()
def _main(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback has shown it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    config_file: Annotated[Path | None, _before("DARTS_CONFIG_FILE", "Configuration, a TOML file")] = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more.", show_default=False)] = 0,
    log_dir: Annotated[Path | None, _before("DARTS_LOG_DIR", "Folder of a further log")] = None,
    log_plain: Annotated[bool, _before("DARTS_LOG_PLAIN", "Plain lines with the time", "--log-plain")] = False,
) -> None:
    """Map retrogressive thaw slumps from PlanetScope and Sentinel-2 images."""
    given = {"config_file": config_file, "verbose": verbose, "log_dir": log_dir, "log_plain": log_plain}
    keep_options_before(ctx, given)


@app.command()
def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder for the sample area and its results.")] = Path("darts-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the sample area.", min=0)] = 20,
    size: Annotated[int, typer.Option(help="Edge of the sample area, pixels of 3 m.", min=256)] = 2048,
    device: Annotated[str | None, typer.Option(help="As for inference; default a GPU where one works.")] = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more.")] = 0,
    *,
    ctx: typer.Context,
) -> None:
    """Make a sample area, map its slumps with a demonstration model, and compare them with the truth."""
    verbosity = with_options_before(ctx, {"verbose": verbose})["verbose"]
    cli.demo.run_demo(output_dir, seed=seed, size=size, device=device, verbosity=verbosity)


@app.command()
def paths() -> None:
    """Show the folders that are used where no option names another."""
    cli.environment.show_paths()


@app.command("env-info")
def env_info() -> None:
    """Show versions, processors, GPUs and what is missing to use them."""
    cli.environment.show_environment()


model = typer.Typer(name="model", help="Inspect model files and convert them; nothing in them is executed.")
app.add_typer(model, no_args_is_help=True)


@model.command("info")
def model_info(file: Annotated[Path, argument("Model file or folder.")]) -> None:
    """Show what a model is, needs and was trained on."""
    cli.models.show_model(file)


@model.command("convert")
def model_convert(
    file: Annotated[Path, argument("Model file or folder.")],
    out: Annotated[
        Path, argument("What to write: a folder or .safetensors file (our own format), .onnx, or .pt2 (torch.export).")
    ],
    target: Annotated[
        Literal["safetensors", "onnx", "torch-export", "openvino"] | None,
        typer.Option("--format", help="Kind of the new model; openvino is a folder.", show_default="as OUT ends"),
    ] = None,
) -> None:
    """Write a model in DARTS's own format, or as a program for use elsewhere."""
    cli.models.convert(file, out, target)


@model.command("quantise")
def model_quantise(
    file: Annotated[Path, argument("Model file or folder.")],
    data: Annotated[
        Path, argument("Training data, or a folder of tiles with thaw slumps, as a run with --debug-data writes.")
    ],
    out: Annotated[Path, option("Folder to write.")],
) -> None:
    """Write a model that computes with eight-bit integers by OpenVINO, if it keeps the map."""
    cli.quantisation.quantise(file, data, out)


@model.command("calibrate")
def model_calibrate(
    words: Annotated[list[Path], argument("Models, then the folder of training data.")],
    out: Annotated[Path, option("Folder of the new model; of several models, their ensemble.json.")],
    block_km: BlockKm = 1.0,
    device: DeviceOption = None,
) -> None:
    """Fit a temperature on ground that was held out, so that probabilities are frequencies."""
    if len(words) < 2:
        raise typer.BadParameter("expected at least one model, and the folder of training data")
    cli.training.run_calibration(words[:-1], words[-1], out, block_m=1000 * block_km, device=device)


training_data = typer.Typer(name="training-data", help="Make training data out of images and labels.")
app.add_typer(training_data, no_args_is_help=True)
_cutting = _lazy("creation:create", "planet", "sentinel2")
training_data.add_typer(typer.Typer(name="create", help="Cut images and labels.", cls=_cutting), no_args_is_help=True)

for _group in (cube, export, dataset, cluster):
    app.add_typer(_group, no_args_is_help=True)

_OutputFolder = Annotated[Path, argument("Folder of the results.")]
_LabelArea = Annotated[Path | None, option("Vector file of the area in which the labels are complete.")]


@app.command()
def runs(output: _OutputFolder) -> None:
    """List the runs that wrote into a folder of results, with counts and times."""
    cli.history.show_runs(output)


@app.command()
def status(output: _OutputFolder, run: Annotated[str | None, option("Name of the run.", "the newest")] = None) -> None:
    """Show how far a run is, while it goes on and from any machine: counts, rate, time left, failures."""
    cli.history.show_status(output, run)


@app.command()
def timings(
    output: _OutputFolder,
    picture: Annotated[Path | None, option("PNG file to write.", "timings.png in the working directory")] = None,
    run: Annotated[str | None, option("Name of the run.", "the last that computed")] = None,
) -> None:
    """Draw where the time of a run went: stages by tile."""
    cli.history.show_timings(output, picture, run)


@app.command()
def report(
    output: _OutputFolder,
    out: Annotated[Path | None, option("Folder of the report.", "report, in that of the results")] = None,
    labels: Annotated[Path | None, option("Vector file of labels, to say how good the map is.")] = None,
    area: _LabelArea = None,
    tile: Annotated[
        list[str] | None, option("Tile that gets a page where there are more than 100; up to 100 all do.")
    ] = None,
) -> None:
    """Write pages to look at the newest run, which open without internet, and projects for QGIS."""
    cli.history.make_report(output, out, labels, area, tile or [])


@app.command()
def evaluate(
    predictions: Annotated[
        list[Path], argument("Folders of results or one dataset, then the file of labels.", "results")
    ],
    labels: Annotated[Path, argument("Vector file of labels: polygons in any CRS.")],
    area: _LabelArea = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("evaluation"),
    model: Annotated[str | None, option("Member of the ensemble.", "the ensemble as a whole")] = None,
    year: Annotated[int | None, option("Year of a dataset.", "its only one")] = None,
    block_km: Annotated[float | None, option("Edge of the blocks behind the intervals, km.", "by the area")] = None,
    expert_column: Annotated[str | None, option("Column that names who drew a label.", "a usual name")] = None,
    min_area: Annotated[float, typer.Option(help="Smaller objects and labels do not count as objects, m².", min=0)] = 0,
) -> None:
    """Say how good a map is: compare results with labels, every figure with its interval."""
    cli.evaluation.run_evaluation(
        predictions, labels, area, out, expert_column, block_km, model=model, year=year, min_object_m2=min_area
    )


def run_command() -> None:
    """Run the command; an error that DARTS raised on purpose is one sentence, and a code that says of which kind.

    So is a file or folder that cannot be read or written, with code 1.
    """
    try:
        app()
    except Exception as error:
        # Imported only now, since it brings numpy, and `darts --help` should not wait for that.
        from darts.run.codes import NOT_DONE, code_of_error
        from darts_utils import DartsError

        if isinstance(error, DartsError):
            typer.echo(f"Error: {error}", err=True)
            sys.exit(code_of_error(error))
        if (sentence := _fault_of_a_file(error)) is None:
            raise
        logger.debug("As raised:", exc_info=True)
        typer.echo(f"Error: {sentence}", err=True)
        sys.exit(NOT_DONE)


def _fault_of_a_file(error: Exception) -> str | None:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read or written: {error.strerror}."
    full = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
    return next((f"A file could not be written: {why}." for why in full if why in str(error)), None)
