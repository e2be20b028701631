"""Values as JSON can hold them."""

import json
import math
from collections.abc import Hashable, Mapping
from datetime import date
from pathlib import Path, PurePath

import numpy as np

from darts_utils import ParameterError


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON that people can read, UTF-8.

    Args:
        path: The file to write.
        content: What :func:`to_json` returns.

    Raises:
        OSError: If the file cannot be written.
    """
    path.write_bytes(render_json(content))


def render_json(content: Mapping[str, object]) -> bytes:
    """Return the bytes that :func:`write_json` writes."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_json(value: object, where: str) -> object:
    """Copy a value into what JSON can hold: mappings, lists, strings, finite numbers, booleans and None.

    NaN and infinities become None; numpy scalars and arrays, paths, dates and sets are converted.

    Args:
        value: Any such value. Not changed, and nothing of it is shared with the copy.
        where: Where it stands, for the message.

    Returns:
        The copy.

    Raises:
        ParameterError: If something in it has no place in JSON.

    Examples:
        >>> to_json({"sun": float("nan"), "bands": ("red", "nir")}, "metadata")
        {'sun': None, 'bands': ['red', 'nir']}
    """
    if isinstance(value, np.generic):
        value = value.item() if not isinstance(value, np.datetime64) else str(value)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key, where): to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, np.ndarray):
        return to_json(value.tolist(), where)
    if isinstance(value, set | frozenset):
        return sorted((to_json(item, where) for item in value), key=str)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise ParameterError(f"{where} is a {type(value).__name__}, which JSON cannot hold; pass a string or a mapping.")


def _key(key: Hashable, where: str) -> str:
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bool | int | float):
        return str(key)
    raise ParameterError(f"{where} has the key {key!r}; expected a string.")
