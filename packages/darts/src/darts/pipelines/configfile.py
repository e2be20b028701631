"""Read a pipeline's configuration from a TOML file, and write it back."""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darts.errors import ConfigurationError
from darts.pipelines.options import given, options_of
from darts_utils import write_atomically

_COMMAND_TABLES = ("inference",)
NONE = "none"
"""What stands for None in a file where None is not the default; the pipelines read it so."""


def read_config(
    path: Path, command: tuple[str, ...], known: set[str], own_keys: set[str] | None = None
) -> dict[str, Any]:
    """Read the values that a configuration file sets for a command.

    The table ``[darts]`` counts first, tables nested in it flattened; the command's own table, for example
    ``[darts.inference.planet-sequential]``, goes over it. Dashes and underscores in keys are the same.

    Args:
        path: The TOML file.
        command: The command's words, for example ``("inference", "planet-sequential")``.
        known: Every key that may stand in the file.
        own_keys: Those of them that the command has; those of other commands may stand in ``[darts]``, where they are
            left out, and not in the command's own table. None means all.

    Returns:
        Values by name, with underscores.

    Raises:
        ConfigurationError: If the file is absent, is no TOML, or has a key that is unknown or doubled.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"The configuration file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The configuration file {path} cannot be read: {error}.") from error
    shared = content.get("darts", {})
    if not isinstance(shared, dict):
        raise ConfigurationError(f"{path}: expected a table [darts], found a {type(shared).__name__}.")
    own: Any = shared
    for word in command:
        own = own.get(word, {}) if isinstance(own, dict) else {}
    general = {key: value for key, value in shared.items() if key not in _COMMAND_TABLES}
    own_keys = known if own_keys is None else own_keys
    shared_values, own_values = _flatten(general, path), _flatten(own if isinstance(own, dict) else {}, path)
    _check_keys(shared_values, known, path)
    _check_keys(own_values, own_keys, path)
    return {key: value for key, value in shared_values.items() if key in own_keys} | own_values


def _check_keys(values: Mapping[str, Any], known: set[str], path: Path) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}."
            raise ConfigurationError(f"{path}: unknown key {key!r}; {hint}")


def _flatten(table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        new = _flatten(value, path) if isinstance(value, dict) else {key.replace("-", "_"): value}
        doubled = flat.keys() & new.keys()
        if doubled:
            raise ConfigurationError(f"{path}: {sorted(doubled)[0]!r} is set twice, in different tables.")
        flat |= new
    return flat


def config_values(pipeline: Any) -> dict[str, Any]:
    """Return a pipeline's configuration as TOML and JSON hold it: paths as text, None left out where it is the default.

    Args:
        pipeline: The pipeline.

    Returns:
        Values by name; the default folders as a nested table ``default_dirs``.
    """
    values = {}
    for item in options_of(type(pipeline)):
        value = given(getattr(pipeline, item.name))
        # TOML has no null. A None that is the default is left out; one that is not is written as a word.
        values[item.name] = NONE if value is None and item.default is not None else value
    values["default_dirs"] = dataclasses.asdict(pipeline.default_dirs)
    plain: dict[str, Any] = _plain(values)
    return plain


def write_config(pipeline: Any, path: Path) -> None:
    """Write a pipeline's configuration so that ``--config-file`` reads it back to the same pipeline.

    Args:
        pipeline: The pipeline.
        path: The TOML file to write.
    """
    import tomli_w

    write_atomically(path, tomli_w.dumps({"darts": config_values(pipeline)}).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
