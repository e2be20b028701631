"""The manifest: the file that says what belongs to a finished export, written last."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from darts_export.context import TileContext
from darts_export.errors import ManifestError
from darts_export.jsonable import write_json
from darts_export.products import MANIFEST_FILE, planned_files

_FORMAT = 1
_SIDECARS = (".aux.xml", ".ovr", ".msk", "-wal", "-shm", "-journal")


def write_manifest(
    folder: Path, context: TileContext, bands: Iterable[str], ensemble_subsets: Iterable[str], versions: dict[str, str]
) -> dict[str, Any]:
    """Write ``manifest.json`` with size and SHA-256 of every file that is in the folder.

    Args:
        folder: The folder, complete but for the manifest.
        context: What the manifest says about the tile.
        bands: The names asked for.
        ensemble_subsets: The members asked for.
        versions: Versions of the software by name.

    Returns:
        The manifest.

    Raises:
        OSError: If a file cannot be read or written.
    """
    manifest: dict[str, Any] = {
        "format": _FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "tile_id": context.tile_id,
        "time": context.time_text or None,
        "source": context.source or None,
        "fingerprint": context.fingerprint,
        "bands": sorted(set(bands)),
        "ensemble_subsets": sorted(set(ensemble_subsets)),
        "files": {
            path.name: {"size": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(folder.iterdir(), key=lambda path: path.name)
        },
        "versions": versions,
        "metadata": context.metadata,
    }
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def read_manifest(out_dir: Path | str) -> dict[str, Any]:
    """Read the manifest of a finished export.

    Args:
        out_dir: The tile's folder.

    Returns:
        The manifest: ``files`` (by name: ``size`` in bytes, ``sha256``), ``fingerprint``, ``bands``,
        ``ensemble_subsets``, ``tile_id``, ``time``, ``source``, ``created``, ``versions``, ``metadata``, ``format``.

    Raises:
        ManifestError: If there is none, or it cannot be read.
    """
    path = Path(out_dir) / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read: {error}. The folder holds no finished export.") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ManifestError(f"{path} is no manifest of an export: it lists no files.")
    return manifest


def missing_outputs(
    out_dir: Path | str, bands: Iterable[str], ensemble_subsets: Iterable[str] = (), fingerprint: str | None = None
) -> Literal["all", "some", "none"]:
    """Say whether the results asked for are missing, trusting the manifest and not the names.

    Args:
        out_dir: The tile's folder.
        bands: Names of products or variables, as for ``export_tile``.
        ensemble_subsets: Members of the ensemble, as for ``export_tile``.
        fingerprint: Fingerprint of the configuration. Where it is given and the manifest has another one, nothing
            there counts. None compares nothing.

    Returns:
        "none" if every file is in the manifest and in the folder with the recorded size, "all" if none is, "some"
        otherwise. Without a readable manifest: "all".

    Raises:
        ParameterError: If an argument is a single string, or a name cannot be part of a file name.
    """
    folder = Path(out_dir)
    wanted = planned_files(bands, ensemble_subsets)
    try:
        manifest = read_manifest(folder)
    except ManifestError:
        return "all"
    if fingerprint is not None and manifest.get("fingerprint") != fingerprint:
        return "all"
    there = [name for name in wanted if _is_there(folder / name, manifest["files"].get(name))]
    if len(there) == len(wanted):
        return "none"
    return "some" if there else "all"


def other_files(folder: Path) -> list[str]:
    """List what a folder holds beside an export: files and folders that its manifest does not name.

    Args:
        folder: The folder; it need not exist.

    Returns:
        Names, without what programs keep beside the export's files (statistics, journals).
    """
    while True:
        # Another writer may replace the folder meanwhile: the names must belong to the manifest.
        before = _exported_files(folder)
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if before == _exported_files(folder):
            break
    ours = {f"{name}{end}" for name in before for end in ("", *_SIDECARS)}
    return sorted(set(names) - ours)


def _exported_files(folder: Path) -> list[str]:
    try:
        return [MANIFEST_FILE, *read_manifest(folder)["files"]]
    except ManifestError:
        return []


def _is_there(path: Path, facts: Mapping[str, Any] | None) -> bool:
    try:
        return isinstance(facts, dict) and path.is_file() and path.stat().st_size == facts.get("size")
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
