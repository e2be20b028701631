"""Decide which tiles of a run are finished already, and say why the others are not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from darts.run.fingerprint import describe_files, fingerprint
from darts.run.task import TileJob, Work

DEPENDS_ON = "depends_on"
"""Key under which the manifest's metadata keep what the results depend on."""


@dataclass(frozen=True)
class Decision:
    """What a run will do about a tile.

    Attributes:
        work: The tile.
        todo: Whether it will be computed.
        why: The reason, in words.
    """

    work: Work
    todo: bool
    why: str


def decide(
    job: TileJob, shared: Mapping[str, Any], bands: Iterable[str], subsets: Iterable[str], overwrite: bool
) -> Decision:
    """Decide about one tile: it is finished if its manifest is complete and its results depend on the same things.

    Args:
        job: The tile.
        shared: What the results of every tile of the run depend on: configuration, models, versions.
        bands: What is to be exported.
        subsets: Members of the ensemble to export.
        overwrite: Whether finished tiles are computed again.

    Returns:
        The decision.
    """
    from darts_export import ManifestError, missing_outputs, read_manifest

    depends_on = {**shared, "inputs": describe_files(job.inputs)}
    work = Work(job, fingerprint(depends_on), depends_on)
    try:
        manifest = read_manifest(job.output)
    except ManifestError:
        return Decision(work, True, "no finished results")
    if overwrite:
        return Decision(work, True, "finished, but overwrite is set")
    if manifest.get("fingerprint") != work.fingerprint:
        before = (manifest.get("metadata") or {}).get(DEPENDS_ON)
        return Decision(work, True, f"changed since: {describe_change(before, depends_on)}")
    if missing_outputs(job.output, bands, subsets, fingerprint=work.fingerprint) != "none":
        return Decision(work, True, "files are missing or differ from the manifest")
    return Decision(work, False, "finished")


def describe_change(before: Any, now: Mapping[str, Any]) -> str:
    """Say what differs between what results depended on before and what they would depend on now.

    Args:
        before: What the manifest holds; None or anything else where it is not known.
        now: The same, now.

    Returns:
        The names of what differs with both values where they are short.

    Examples:
        >>> describe_change({"configuration": {"overlap": 128}}, {"configuration": {"overlap": 256}})
        'overlap was 128, is 256'
    """
    if not isinstance(before, Mapping):
        return "it is not known what the results depended on"
    changes = []
    for part, new in now.items():
        old = before.get(part)
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            differing = [key for key in sorted({*new, *old}) if _plain(new.get(key)) != _plain(old.get(key))]
            changes += [_change(part, key, old.get(key), new.get(key)) for key in differing]
        elif _plain(new) != _plain(old):
            changes.append(part)
    return ", ".join(changes) or "the way of comparing results"


def _change(part: str, key: str, old: Any, new: Any) -> str:
    if part == "models":
        return f"model {key}"
    return f"{key} was {old}, is {new}"


def _plain(value: Any) -> Any:
    """Bring a value into the form that JSON gives it back in."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)
