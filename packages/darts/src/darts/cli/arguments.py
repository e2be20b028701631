"""How the words of the command line are read where typer's way would surprise: values too many, options too early."""

import difflib
import logging
import os
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

logger = logging.getLogger(__name__)

TRAIN_HELP = "Train a model on training data, or go on where a training was ended."
DeviceOption = Annotated[str | None, typer.Option(help="As for inference; default a GPU where one works.")]
BlockKm = Annotated[float, typer.Option(help="Edge of the square blocks of ground that are held out, km.", min=0.01)]
_BEFORE = "options before the command"
OTHER_VARIABLES = frozenset(
    {
        *("DARTS_CONFIG_FILE", "DARTS_LOG_DIR", "DARTS_LOG_PLAIN"),
        *("DARTS_DATA_DIR", "DARTS_FAST_DATA_DIR", "DARTS_LARGE_DATA_DIR"),
        *("DARTS_ARCTICDEM_STAC_URL", "DARTS_EARTHENGINE_URL", "DARTS_SENTINEL2_GRID_URL"),
        *("DARTS_CDSE_PROFILE", "DARTS_CDSE_REQUESTS_PER_SECOND", "DARTS_CDSE_S3_URL", "DARTS_CDSE_STAC_URL"),
        *("DARTS_KEEP_HEAP", "DARTS_PLAIN_START", "DARTS_WORKER_ENDS"),
    }
)
"""What is read from the environment and is no option of a pipeline."""


def option(text: str, default: str | bool = False) -> Any:
    """Declare an option whose help shows no default, or what a text says of it."""
    return typer.Option(help=text, show_default=default)


def argument(text: str, shown: str | None = None) -> Any:
    """Declare an argument, which has no default; `shown` is what the help calls it, if not by its name."""
    return typer.Argument(help=text, show_default=False, metavar=shown)


class RepeatedOptionsCommand(TyperCommand):
    """A command whose lists repeat the option, and which says so where several values follow one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command's name.

        Raises:
            UsageError: If a word belongs to no option.
            BadParameter: If a value is none of its option's; the message names the variable that it comes from.
        """
        words = list(args)
        ctx.allow_extra_args = True
        try:
            extra: list[str] = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if error.param is not None and from_environment(ctx, str(error.param.name)):
                error.message += f" (from the variable {error.param.envvar})"
            raise
        if extra and not ctx.resilient_parsing:
            ctx.fail(self._explain(ctx, words, extra[0]))
        return extra

    def _explain(self, ctx: typer.Context, words: list[str], extra: str) -> str:
        """Say what is wrong with a word that no option took, and how the nearest option before it is repeated."""
        positions = [position for position, word in enumerate(words) if word == extra]
        behind_a_value = [
            position for position in positions if position > 1 and not words[position - 1].startswith("-")
        ]
        before = words[: (behind_a_value or positions or [0])[0]]
        name = next((word for word in reversed(before) if word.startswith("-")), "").partition("=")[0]
        lists = {name for parameter in self.get_params(ctx) if parameter.multiple for name in parameter.opts}
        if name not in lists:
            return f"Unexpected word {extra!r}: there is no option before it that takes it."
        first = before[-1].rpartition("=")[2]
        return f"Unexpected word {extra!r}: {name} takes one value; repeat it: {name} {first} {name} {extra}"


def keep_options_before(ctx: typer.Context, given: Mapping[str, object]) -> None:
    """Keep the options that stand before the command for it.

    Raises:
        UsageError: If the command that follows knows only "verbose", and others were given.
    """
    others = [name for name, value in given.items() if value and name != "verbose" and not from_environment(ctx, name)]
    if others and ctx.invoked_subcommand not in (None, "inference"):
        option = "--" + others[0].replace("_", "-")
        ctx.fail(f"{option} goes with `darts inference`; `darts {ctx.invoked_subcommand}` does not know it.")
    ctx.meta[_BEFORE] = dict(given)


def from_environment(ctx: typer.Context, name: str) -> bool:
    """Say whether an option got its value from its environment variable."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "ENVIRONMENT"


def variable_of(option: str) -> str:
    """Return the name of the environment variable that sets an option."""
    return f"DARTS_{option.upper()}"


def tell_environment(ctx: typer.Context, given: Iterable[str], options: Iterable[str]) -> list[str]:
    """Say which options the environment set, and warn of variables that set nothing: nobody should have to guess.

    Args:
        ctx: The command's context.
        given: Names of the command's options that have a value.
        options: Names of the options of all commands that variables may set.

    Returns:
        Those of `given` that the environment set.
    """
    set_there = [name for name in given if from_environment(ctx, name)]
    if set_there:
        logger.info("From the environment: %s.", ", ".join(map(variable_of, set_there)))
    known = {variable_of(name) for name in options} | OTHER_VARIABLES
    for name in sorted(os.environ):
        if name.startswith("DARTS_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            advice = f"; did you mean {near[0]}?" if near else "."
            logger.warning("%s is set, but DARTS knows no such variable%s", name, advice)
    return set_there


def with_options_before(ctx: typer.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a command's options by those that stood before it; its own go first, and ``-v`` adds up.

    Args:
        ctx: The command's context.
        given: Values of the command's options by name; None, 0 or False where absent.

    Returns:
        Values for the same names.
    """
    before = ctx.meta.get(_BEFORE, {})
    merged = {name: value or before.get(name, value) for name, value in given.items()}
    return merged | {"verbose": given["verbose"] + before.get("verbose", 0)}


def command_line_type(annotation: object) -> object:
    """Reduce a field's type to one that the command line knows; the pipeline itself checks the value later."""
    annotation = _bare(annotation)
    members = typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else ()
    kinds = [_bare(kind) for kind in members or (annotation,) if kind is not type(None)]
    if len(kinds) == 1:
        kind = kinds[0]
        if kind in (int, float, bool, Path):
            return kind | None
        if typing.get_origin(kind) is list:
            return list[_bare(typing.get_args(kind)[0])] | None  # type: ignore[misc]
    return str | None


def _bare(kind: object) -> object:
    """Take the checks off an annotated type."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
