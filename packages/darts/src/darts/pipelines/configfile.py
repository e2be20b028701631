"""Read a pipeline's configuration from a TOML file, and write it back."""

import dataclasses
import difflib
import logging
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from darts.errors import ConfigurationError
from darts.pipelines.options import given, options_of
from darts.pipelines.textfiles import read_text
from darts_utils import write_atomically

logger = logging.getLogger(__name__)

OTHER_TABLES = frozenset(
    {
        *("calibrate", "cluster", "dataset", "demo", "evaluate", "evaluation", "export", "report", "status"),
        *("train", "training", "training_data", "visualize", "wandb"),
    }
)
"""Tables in [darts] that are not for pipelines: those of other commands with settings, and of training."""

INFERENCE_TABLES = frozenset({"planet_sequential", "sentinel2_sequential", "prep_data"})
"""Tables in [darts.inference]: the commands of that group."""

NONE = "none"
"""What stands for None in a file where None is not the default; the pipelines read it so."""


def read_config(
    path: Path, command: tuple[str, ...], known: set[str], own_keys: set[str] | None = None
) -> dict[str, object]:
    """Read the values that a configuration file sets for a command.

    The table ``[darts]`` counts first, that of the command's group (``[darts.inference]``) overrides it, and the
    command's own (``[darts.inference.planet-sequential]``) overrides both. Other tables in them only give order, and
    their keys count as if they stood outside; those that belong to other commands (`OTHER_TABLES`) are not read. Dashes
    and underscores are the same. The file is UTF-8, with or without a byte order mark, with any line ends.

    Args:
        path: The TOML file.
        command: The command's words, for example ``("inference", "planet-sequential")``.
        known: Every key that may stand in the file.
        own_keys: Those of them that the command has; those of other commands may stand in ``[darts]``, where they are
            left out, and not in the command's own table. None means all.

    Returns:
        Values by name, with underscores.

    Raises:
        ConfigurationError: If the file is absent, is no TOML, has no table ``[darts]``, has a known key outside it, or
            a key that is unknown or doubled.
    """
    content = _parse(path)
    _check_top_level(content, known, path)
    own_keys = known if own_keys is None else own_keys
    *shared, own = _tables(content, ("darts", *command), path)
    values: dict[str, object] = {}
    for table, allowed in [*((table, known) for table in shared), (own, own_keys)]:
        found = _flatten(table, path)
        for key in (key for key in found if key not in allowed):
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(allowed))}."
            raise ConfigurationError(f"{path}: unknown key {key!r}; {hint}")
        values |= {key: value for key, value in found.items() if key in own_keys}
    return values


def _parse(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(read_text(path))
    except FileNotFoundError as error:
        raise ConfigurationError(f"The configuration file {path} does not exist.") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"The configuration file {error}") from error
    except tomllib.TOMLDecodeError as error:
        hint = " Text stands in quotes." if "Invalid value" in str(error) else ""
        raise ConfigurationError(f"The configuration file {path} cannot be read: {error}.{hint}") from error


def _check_top_level(content: Mapping[str, object], known: set[str], path: Path) -> None:
    """Refuse what was meant for [darts] and stands outside; name the rest in one warning.

    Raises:
        ConfigurationError: If there is no [darts], or a known key, or nearly one, stands outside every table.
    """
    others = [name for name in content if name != "darts"]
    stray = {name: near for name in others if not isinstance(content[name], dict) and (near := _near(name, known))}
    listed = ", ".join(f"[{name}]" if isinstance(content[name], dict) else name for name in others)
    if "darts" not in content:
        misspelt = [name for name in others if _near(name, {"darts"})]
        if misspelt:
            hint = f"did you mean [darts] where it says {misspelt[0]!r}?"
        elif stray:
            hint = f"put a line [darts] above {next(iter(stray))!r}."
        else:
            hint = "name a file of DARTS with --config-file, or none to read no file."
        raise ConfigurationError(f"{path}: expected a table [darts], found {listed or 'an empty file'}; {hint}")
    for name, near in stray.items():
        meant = "" if near == _underscores(name) else f"; did you mean {near!r}?"
        raise ConfigurationError(f"{path}: {name!r} stands outside [darts], where it does not count; move it{meant}.")
    if others:
        logger.warning("%s: only the table [darts] is read, and not %s.", path, listed)


def _tables(content: Mapping[str, Any], words: Sequence[str], path: Path) -> list[dict[str, Any]]:
    """Return the tables that the words lead to, outermost first, each without the tables of other commands."""
    tables = []
    table = dict(content)
    for depth, word in enumerate(map(_underscores, words)):
        name = "[" + ".".join(words[: depth + 1]) + "]"
        table = table.get(word, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{path}: expected a table {name}, found {type(table).__name__}.")
        table = _normalized(table, path)
        inner = _underscores(words[depth + 1]) if depth + 1 < len(words) else None
        commands = set(table) if depth == 1 else OTHER_TABLES if depth == 0 else set()
        left_out = {key for key in table if key in commands and key != inner and isinstance(table[key], dict)}
        if depth == 1:
            _check_commands(left_out, name, path)
        tables.append({key: value for key, value in table.items() if key != inner and key not in left_out})
    return tables


def _check_commands(tables: Iterable[str], group: str, path: Path) -> None:
    """Refuse a table of a misspelt command, and name those of unknown ones in a warning."""
    unknown = sorted(set(tables) - INFERENCE_TABLES)
    for name in unknown:
        near = _near(name, INFERENCE_TABLES)
        if near:
            raise ConfigurationError(
                f"{path}: {group} has no command {name.replace('_', '-')!r}; did you mean {near.replace('_', '-')!r}?"
            )
    if unknown:
        logger.warning("%s: %s holds tables that no command reads: %s.", path, group, ", ".join(unknown))


def _near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a name is, but for case, dashes and a slip or two; else None."""
    return next(iter(difflib.get_close_matches(_underscores(name).lower(), known, n=1, cutoff=0.8)), None)


def _underscores(name: str) -> str:
    return name.replace("-", "_")


def _normalized(table: Mapping[str, object], path: Path) -> dict[str, object]:
    """Write the keys of a table with underscores.

    Raises:
        ConfigurationError: If two of them are the same then.
    """
    normal: dict[str, object] = {}
    for key, value in table.items():
        if _underscores(key) in normal:
            raise ConfigurationError(f"{path}: {key!r} is set twice, with a dash and with an underscore.")
        normal[_underscores(key)] = value
    return normal


def _flatten(table: Mapping[str, object], path: Path) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in table.items():
        new = _flatten(value, path) if isinstance(value, dict) else {_underscores(key): value}
        doubled = flat.keys() & new.keys()
        if doubled:
            raise ConfigurationError(f"{path}: {sorted(doubled)[0]!r} is set twice, in different tables.")
        flat |= new
    return flat


def config_values(pipeline: Any) -> dict[str, object]:
    """Return a pipeline's configuration as TOML and JSON hold it: paths as text, None left out where it is the default.

    Returns:
        Values by name; the default folders as a nested table ``default_dirs``.
    """
    values = {}
    for item in options_of(type(pipeline)):
        value = given(getattr(pipeline, item.name))
        # TOML has no null. A None that is the default is left out; one that is not is written as a word.
        values[item.name] = NONE if value is None and item.default is not None else value
    values["default_dirs"] = dataclasses.asdict(pipeline.default_dirs)
    return dict(_plain(values))


def write_config(pipeline: object, path: Path) -> None:
    """Write a pipeline's configuration so that ``--config-file`` reads it back to the same pipeline."""
    write_atomically(path, tomli_w.dumps({"darts": config_values(pipeline)}).encode())


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
