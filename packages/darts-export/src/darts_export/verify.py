"""Compare the files of a finished export with its manifest, byte by byte."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darts_export.jsonable import render_json
from darts_utils import ManifestError, ResultFolder
from darts_utils.results import MANIFEST_FILE, result_folders

DIGEST = "digest"
"""Entry of the manifest that says what the others are."""
_SIDECAR = ".aux.xml"


@dataclass(frozen=True)
class ExportCheck:
    """What was found in the folder of a tile.

    Attributes:
        path: The folder.
        failures: What is wrong with which file, by its name: changed, missing, unreadable.
        notes: What is worth a word and does no harm, by name of the file: others' files, statistics that a GIS program
            has changed.
    """

    path: Path
    failures: dict[str, str]
    notes: dict[str, str]


def verify_export(out_dir: Path | str) -> ExportCheck:
    """Read every file of an export and compare it with the manifest.

    Args:
        out_dir: The tile's folder.

    Returns:
        What was found. A manifest of a release that did not keep its own digest is a note.

    Raises:
        ManifestError: If the folder holds no manifest of an export.
    """
    folder = ResultFolder.open(out_dir)
    failures, notes = _check_manifest(folder)
    files: dict[str, object] = folder.manifest["files"]
    for name, entry in files.items():
        if reason := _why_not(folder.path / name, entry):
            (notes if name.endswith(_SIDECAR) else failures)[name] = reason
    for path in sorted(folder.path.iterdir()):
        if path.name != MANIFEST_FILE and path.name not in files:
            notes[path.name] = "the export did not write it"
    return ExportCheck(folder.path, failures, notes)


def find_exports(folder: Path | str) -> list[Path]:
    """List the folders of tiles in a folder of results, or the folder itself where it is one.

    Args:
        folder: A tile's folder, or one that holds such folders at any depth.

    Returns:
        Folders with a manifest, sorted.

    Raises:
        ManifestError: If there is none.
    """
    found = result_folders(folder)
    if not found:
        raise ManifestError(
            f"{folder} holds no {MANIFEST_FILE}, so no results of a tile; expected a folder of results."
        )
    return found


def digest_of(manifest: dict[str, object]) -> str:
    """Return the SHA-256 of a manifest without its own digest, as it is written."""
    return hashlib.sha256(render_json({key: value for key, value in manifest.items() if key != DIGEST})).hexdigest()


def _check_manifest(folder: ResultFolder) -> tuple[dict[str, str], dict[str, str]]:
    written = folder.manifest.get(DIGEST)
    if written is None:
        return {}, {MANIFEST_FILE: "it was written by a release that kept no digest of it"}
    content = (folder.path / MANIFEST_FILE).read_bytes()
    if content != render_json(folder.manifest) or written != digest_of(folder.manifest):
        return {MANIFEST_FILE: "it was changed"}, {}
    return {}, {}


def _why_not(path: Path, entry: Any) -> str:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    wanted = entry if isinstance(entry, dict) else {}
    if size != wanted.get("size"):
        return f"it has {size} bytes; expected {wanted.get('size')}"
    return "" if found == wanted.get("sha256") else "its content was changed"
