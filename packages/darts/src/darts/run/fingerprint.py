"""Tell whether finished results are those that a configuration would give."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from darts.pipelines.options import options_of

STAGE_PACKAGES = (
    "darts-acquisition",
    "darts-preprocessing",
    "darts-segmentation",
    "darts-postprocessing",
    "darts-export",
)


def versions() -> dict[str, str]:
    """Return the versions of the packages whose code makes the results."""
    return {name: version(name) for name in ("darts-nextgen", *STAGE_PACKAGES)}


def results_configuration(pipeline: Any) -> dict[str, Any]:
    """Return the values of a pipeline's fields on which results depend.

    Args:
        pipeline: The pipeline.

    Returns:
        Values by field.
    """
    return {item.name: getattr(pipeline, item.name) for item in options_of(type(pipeline)) if item.affects_results}


def describe_files(files: Iterable[Path]) -> list[list[Any]]:
    """Describe input files by name, size and time of change, as one does who cannot read them all again.

    Args:
        files: The files.

    Returns:
        One list [name, bytes, nanoseconds] per file, sorted.
    """
    return sorted(_describe_file(path) for path in files)


def _describe_file(path: Path) -> list[Any]:
    try:
        facts = path.stat()
    except OSError:
        return [path.name, -1, -1]  # Loading the tile will say what is wrong with it.
    return [path.name, facts.st_size, facts.st_mtime_ns]


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hash what results depend on.

    Args:
        parts: Inputs, configuration, hashes of the models, versions: anything that JSON or `str` can express.

    Returns:
        SHA-256 in hexadecimal; equal for equal parts, whatever the order of the keys.

    Examples:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
