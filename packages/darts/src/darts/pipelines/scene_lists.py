"""Lists of scenes in files: JSON, or one name per line."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from darts.errors import ConfigurationError
from darts.pipelines.textfiles import read_text
from darts_utils import write_atomically

_TRAILING_COMMA = re.compile(r",\s*\]\s*\Z")
"""What people leave when they delete the last line of a list; a text in quotes cannot end in it."""
_EXPECTED = 'expected one name per line, or JSON such as ["<scene>", "<scene>"]'


def read_scene_list(path: Path, option: str) -> list[str]:
    """Read a list of scenes: a JSON list of names, or one name per line.

    The file is UTF-8 with or without a byte order mark, with any line ends. A comma after the last name of a JSON list
    does not matter. In lines, ``#`` begins a comment, and empty ones count for nothing.

    Returns:
        The names in their order, each once; empty for a file without a name.

    Raises:
        ConfigurationError: If the file is absent or holds something else.
    """
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise ConfigurationError(f"There is no file {path}; correct {option}.") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} See {option}.") from error
    names = _names_of_json(text, path) if text.lstrip()[:1] in ("[", "{", '"') else _names_of_lines(text, path)
    return list(dict.fromkeys(names))


def _names_of_json(text: str, path: Path) -> Iterable[str]:
    try:
        names = json.loads(_TRAILING_COMMA.sub("]", text))
    except json.JSONDecodeError as error:
        found = f"is none at line {error.lineno}, column {error.colno} ({error.msg})"
        raise ConfigurationError(f"{path} begins like JSON and {found}; {_EXPECTED}.") from error
    if not isinstance(names, list):
        kind = "an object" if isinstance(names, dict) else "a single name"
        raise ConfigurationError(f"{path} is no list of scenes but {kind}; {_EXPECTED}.")
    for number, name in enumerate(names, start=1):
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"{path} is no list of scenes: entry {number} is {json.dumps(name)}; {_EXPECTED}.")
    return [name.strip() for name in names]


def _names_of_lines(text: str, path: Path) -> Iterable[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        name = line.partition("#")[0].strip()
        if any(sign in name for sign in ",;\t\"'"):
            raise ConfigurationError(f"{path} is no list of scenes: line {number} is {name!r}; {_EXPECTED}.")
        if name:
            yield name


def write_scene_list(path: Path, names: Sequence[str]) -> None:
    """Write a JSON list of scenes, whole or not at all, and make the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(list(names), indent=2) + "\n").encode())
