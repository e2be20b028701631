"""The commands of `darts inference`, whose options are the fields of the pipelines."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from pydantic import ValidationError
from rich.markup import escape

import darts.run
from darts import cli
from darts.cli import arguments
from darts.errors import ConfigurationError
from darts.pipelines.configfile import NONE, read_config
from darts.pipelines.options import PATH_OPTIONS, build, known_keys, options_of
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline, _BasePipeline
from darts.run.names import counted

_DEFAULT_CONFIG = Path("config.toml")
_RUN_PANEL = "Run"

Options: TypeAlias = Mapping[str, tuple[object, object]]
"""Options that are no fields of a pipeline: default and annotated type by name."""

_COMMON: Options = {
    "config_file": (
        None,
        Annotated[
            Path | None,
            typer.Option(
                help="TOML file with options; the command line overrides it, and none reads no file.",
                show_default="config.toml where present",
                rich_help_panel=_RUN_PANEL,
            ),
        ],
    ),
    "verbose": (0, Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv says everything.")]),
    "log_dir": (
        None,
        Annotated[
            Path | None, typer.Option(help="Also write everything into a log file there.", rich_help_panel=_RUN_PANEL)
        ],
    ),
    "log_plain": (
        False,
        Annotated[
            bool,
            typer.Option("--log-plain", help="Plain lines for batch systems: no colours.", rich_help_panel=_RUN_PANEL),
        ],
    ),
}


def _switch(name: str, text: str) -> tuple[object, object]:
    return False, Annotated[bool, typer.Option(name, help=text)]


def _choice(text: str) -> tuple[object, object]:
    return None, Annotated[bool | None, typer.Option(help=text, show_default=False)]


_RUN: Options = {
    "shift_test": (
        None,
        Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Map so many tiles twice, the second time with the patches shifted, and say how far the two maps "
                "agree (IoU); write nothing.",
                show_default=False,
            ),
        ],
    ),
    "dry_run": _switch(
        "--dry-run", "List what would be done about each tile and why, and what would be fetched; do nothing."
    ),
}
_PREPARE: Options = {
    "optical": _switch("--optical", "Fetch the raw scenes of the selection into the store."),
    "aux": _switch("--aux", "Fill the datacubes that the models need for the area of all tiles, margins included."),
    "arcticdem": _choice("Fill the ArcticDEM datacube, or do not, whatever the models need."),
    "tcvis": _choice("Fill the TCVIS datacube, or do not, whatever the models need."),
}
_PIPELINES: dict[str, type[_BasePipeline]] = {"planet": PlanetPipeline, "sentinel2": Sentinel2Pipeline}
"""All pipelines: a configuration file may serve several, and each ignores the keys of the others."""
IMAGES = {"planet": "PlanetScope scenes and orthotiles", "sentinel2": "Sentinel-2 scenes"}


def inference(command: str) -> Any:
    """Build a command of `inference`."""
    source = command.removesuffix("-sequential")
    return pipeline_command(source, command, f"Find thaw slumps in {IMAGES[source]}.", _run, _RUN)


def prepare(source: str) -> Any:
    """Build a command of `inference prep-data`."""
    what = "Sentinel-2 scenes and the auxiliary data for them"
    if source == "planet":
        what = f"the auxiliary data for {IMAGES[source]}"
    return pipeline_command(source, source, f"Fetch {what}; the options are those of the run.", _prepare, _PREPARE)


def pipeline_command(source: str, name: str, text: str, action: Callable[..., None], own: Options) -> Any:
    """Build a command around a pipeline, with an option for every field.

    Args:
        source: "planet" or "sentinel2"; its run has a table in the configuration file.
        name: Name of the command.
        text: What the command does.
        action: Takes the pipeline and the command's own options.
        own: These, which stand first in its help.

    Returns:
        The command.
    """
    pipeline = _PIPELINES[source]

    def command(ctx: typer.Context, **values: Any) -> None:
        common = arguments.with_options_before(ctx, {name: values.pop(name) for name in _COMMON})
        chosen = {name: values.pop(name) for name in own}
        cli.logs.start_logging(common["verbose"], common["log_dir"], common["log_plain"])
        given = {name: value for name, value in values.items() if value is not None and value != []}
        set_there = arguments.tell_environment(ctx, given, known_keys(*_PIPELINES.values()))
        words = ("inference", f"{source}-sequential")
        action(_configure(pipeline, words, given, common["config_file"], set_there), **chosen)

    options = {**own, **{name: (None, annotation) for name, annotation in _fields_of(pipeline)}, **_COMMON}
    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (default, annotation) in options.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    text += " Each option may also be set in the environment: DARTS_DEVICE=cpu for --device cpu."
    app.command(name, help=text, cls=arguments.RepeatedOptionsCommand)(command)
    return typer.main.get_command(app)


def _run(pipeline: _BasePipeline, *, dry_run: bool, shift_test: int | None) -> None:
    if shift_test is not None:
        _show_shift_test(pipeline, shift_test)
    elif dry_run:
        plan = pipeline.plan()
        _list_plan(plan)
        if plan.fetch is not None and plan.fetch.fails:
            raise typer.Exit(1)  # as the run would end
    else:
        pipeline.cli(pipeline=pipeline)


def _show_shift_test(pipeline: _BasePipeline, tiles: int) -> None:
    both = either = 0
    for each in darts.run.shift_test(pipeline, tiles):
        typer.echo(f"{each.tile_id}: IoU {each.iou:.4f} of {each.either} pixels")
        both, either = both + each.both, either + each.either
    typer.echo(f"IoU of the map with itself on shifted patches: {both / either if either else 1.0:.4f}")


def _prepare(pipeline: _BasePipeline, **what: Any) -> None:
    pipeline.cli_prepare_data(pipeline=pipeline, **what)


def _fields_of(pipeline: type) -> Iterator[tuple[str, object]]:
    for item in options_of(pipeline):
        default = "on" if item.default is True else "off" if item.default is False else item.default
        if isinstance(default, list):
            default = ", ".join(default)
        shown = item.help if default in (None, dataclasses.MISSING) else f"{item.help} [default: {default}]"
        described = typer.Option(
            help=escape(shown),
            show_default=False,
            envvar=arguments.variable_of(item.name),
            show_envvar=False,
            rich_help_panel=item.panel,
        )
        yield item.name, Annotated[arguments.command_line_type(item.annotation), described]
    for name, help_text in PATH_OPTIONS.items():
        yield name, Annotated[Path | None, typer.Option(help=help_text, show_default=False, rich_help_panel="Folders")]


def _configure(
    pipeline: type, words: tuple[str, ...], given: dict[str, Any], config_file: Path | None, set_there: list[str]
) -> Any:
    """Make the pipeline: command line before environment (its options are `set_there`) before file before default."""
    values: dict[str, Any] = {}
    path = config_file or (_DEFAULT_CONFIG if _DEFAULT_CONFIG.exists() else None)
    if path is not None and str(path) != NONE:
        values = read_config(path, words, known_keys(*_PIPELINES.values()), known_keys(pipeline))
    try:
        return build(pipeline, values | given)
    except ValidationError as error:
        origins = (
            dict.fromkeys(values, str(path))
            | dict.fromkeys(given, "")
            | {n: arguments.variable_of(n) for n in set_there}
        )
        raise ConfigurationError(_sentence(error, origins)) from error


def _list_plan(plan: "darts.run.Plan") -> None:
    fails = {} if plan.fetch is None else plan.fetch.fails
    for decision in plan.decisions:
        tile = decision.task.tile_id
        action, why = ("fails", fails[tile]) if decision.todo and tile in fails else (decision.action, decision.why)
        typer.echo(f"{action:8}{tile}: {why}")
    counts = plan.counts
    typer.echo(f"{counted(counts['total'], 'tile')}: {counts['to_compute']} to compute, {counts['finished']} finished.")
    for line in plan.fetch.lines() if plan.fetch is not None else ():
        typer.echo(line)


def _sentence(error: ValidationError, origins: Mapping[str, str]) -> str:
    """Turn what pydantic found first into a sentence that names the option, and where its value comes from."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not first["loc"]:
        return f"{message}."
    name = str(first["loc"][0])
    origin = f" (from {origins[name]})" if origins.get(name) else ""
    return f"--{name.replace('_', '-')} is {first['input']!r}{origin}: {message}."
