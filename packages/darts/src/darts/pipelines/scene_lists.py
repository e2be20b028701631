"""Lists of scenes in JSON files."""

import json
from collections.abc import Sequence
from pathlib import Path

from darts.errors import ConfigurationError
from darts_utils import write_atomically


def read_scene_list(path: Path, option: str) -> list[str]:
    """Read a JSON list of scenes.

    Args:
        path: The file.
        option: The option that names it, for the message.

    Returns:
        The names, in their order.

    Raises:
        ConfigurationError: If the file is absent or holds something else.
    """
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"There is no file {path}; correct {option}.") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read as a JSON list of scenes ({error}); see {option}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f'{path} is no list of scenes; expected JSON such as ["<scene>", "<scene>"].')
    return names


def write_scene_list(path: Path, names: Sequence[str]) -> None:
    """Write a JSON list of scenes, whole or not at all.

    Args:
        path: The file; its folder is created.
        names: Names of scenes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(list(names), indent=2) + "\n").encode())
