"""What results depend on: kept in the manifest of a tile, and compared with what they would depend on now."""

import hashlib
import importlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import darts_export.version

FORMAT = 2
"""Format of what the manifest keeps; that of release 0.1 had none, and cannot be compared."""
DEPENDS_ON = "depends_on"
"""Key under which the manifest's metadata keep it."""

STAGE_PACKAGES = (
    "darts-utils",
    "darts-acquisition",
    "darts-preprocessing",
    "darts-segmentation",
    "darts-postprocessing",
    "darts-export",
)
QUALITY_LEVELS: dict[object, int] = {"none": 0, "low_quality": 1, "high_quality": 2}
"""Numbers of the levels of quality that have a name."""
_OTHER_PACKAGES = ("darts-nextgen", "torch", "openvino", "rasterio", "pyproj")


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of the packages whose code makes the results, for the reader; none of them decides anything.

    That of rasterio stands for GDAL, that of pyproj for PROJ, which they bring.
    """
    found = {}
    for name in (*STAGE_PACKAGES, *_OTHER_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def results_versions() -> dict[str, int]:
    """Return `RESULTS_VERSION` of each stage package: it is raised by hand when numbers change."""
    modules = {name: importlib.import_module(f"{name.replace('-', '_')}.version") for name in STAGE_PACKAGES}
    return {name: int(module.RESULTS_VERSION) for name, module in modules.items()}


def files_version() -> int:
    """Return `FILES_VERSION` of the export: it is raised when files or columns change that can be made anew."""
    return int(darts_export.version.FILES_VERSION)


def shared_dependencies(configuration: Mapping[str, object], models: Mapping[str, str]) -> dict[str, object]:
    """Return what the results of every tile of a run depend on.

    Args:
        configuration: Fields on which results depend, by name, ``precision`` and ``engine`` among them.
        models: SHA-256 of each model by name.

    Returns:
        ``format``, ``configuration``, ``models``, ``engine``, ``code`` and ``files``.
    """
    fields = dict(configuration)
    engine = {"engine": fields.pop("engine", "torch"), "precision": fields.pop("precision", "fp32")}
    return {
        "format": FORMAT,
        "configuration": fields,
        "models": dict(models),
        "engine": engine,
        "code": results_versions(),
        "files": files_version(),
    }


def fingerprint(depends_on: Mapping[str, object]) -> str:
    """Hash what results depend on.

    Args:
        depends_on: Anything that JSON or `str` can express.

    Returns:
        SHA-256 in hexadecimal; equal for equal parts, whatever the order of the keys.

    Examples:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(depends_on, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what differs between what results depended on and what they would depend on now.

    A precision of "auto" is content with any: it is decided once, on the first tile that is computed.

    Args:
        before: What the manifest holds, of the present format.
        now: What :func:`shared_dependencies` returned.

    Returns:
        The names of what differs with both values, an empty string if nothing does.

    Examples:
        >>> describe_change({"configuration": {"overlap": 128}}, {"configuration": {"overlap": 256}})
        'overlap was 128, is 256'
    """
    changes = []
    for part in ("configuration", "models", "engine", "code"):
        old, new = (numbered(side.get(part, {})) for side in (before, now))
        differing = [key for key in sorted({*old, *new}) if plain(old.get(key)) != plain(new.get(key))]
        differing = [key for key in differing if (key, new.get(key)) != ("precision", "auto")]
        changes += [_change(part, key, old.get(key), new.get(key)) for key in differing]
    return ", ".join(changes)


def numbered(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the number of its level of quality, which may have been given by its name."""
    level = configuration.get("quality_level")
    named = {"quality_level": QUALITY_LEVELS[level]} if level in QUALITY_LEVELS else {}
    return {**configuration, **named}


def _change(part: str, key: str, old: object, new: object) -> str:
    if part == "models":
        return f"model {key}"
    name = f"results version of {key}" if part == "code" else key
    return f"{name} was {old}, is {new}"


def plain(value: object) -> object:
    """Bring a value into the form that JSON gives it back in."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)
