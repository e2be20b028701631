"""The manifest: the file that says what belongs to a finished export, written last."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from darts_export.jsonable import write_json
from darts_export.products import planned_files
from darts_export.verify import DIGEST, digest_of
from darts_export.version import software_versions
from darts_utils import ManifestError, ResultFolder
from darts_utils import read_manifest as read_manifest
from darts_utils.results import MANIFEST_FILE

_FORMAT = 1


def write_manifest(folder: Path, about: Mapping[str, object], metadata: Mapping[str, object]) -> dict[str, object]:
    """Write ``manifest.json`` with size and SHA-256 of every file that is in the folder.

    Args:
        folder: The folder, complete but for the manifest.
        about: Entries of the manifest: status, tile and what was asked for.
        metadata: The caller's metadata, as JSON.

    Returns:
        The manifest, see :func:`read_manifest`.

    Raises:
        OSError: If a file cannot be read or written.
    """
    manifest: dict[str, object] = {
        "format": _FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        **about,
        "files": {
            path.name: {"size": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(folder.iterdir(), key=lambda path: path.name)
        },
        "versions": software_versions(),
        "metadata": metadata,
    }
    manifest[DIGEST] = digest_of(manifest)
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def missing_outputs(
    out_dir: Path | str,
    bands: Iterable[str],
    ensemble_subsets: Iterable[str] = (),
    fingerprint: str | None = None,
    manifest: dict[str, object] | None = None,
    *,
    debug: bool = False,
) -> Literal["all", "some", "none"]:
    """Say whether the results asked for are missing, trusting the manifest and not the names.

    Args:
        out_dir: The tile's folder.
        bands: Names of products or variables, as for ``export_tile``.
        ensemble_subsets: Members of the ensemble, as for ``export_tile``.
        fingerprint: Fingerprint of the configuration. Where it is given and the manifest has another one, nothing
            there counts. None compares nothing.
        manifest: What :func:`read_manifest` returned for the folder, so that it is not read once more.
        debug: Whether the whole tile as NetCDF is asked for, as for ``export_tile``.

    Returns:
        "none" if every file is in the manifest and in the folder with the recorded size, "all" if none is, "some"
        otherwise. Without a readable manifest: "all". Where the scene held no data (:func:`export_empty`): "none".

    Raises:
        ParameterError: If an argument is a single string, or a name cannot be part of a file name.
    """
    wanted = planned_files(bands, ensemble_subsets, debug)
    try:
        folder = ResultFolder.open(out_dir) if manifest is None else ResultFolder(Path(out_dir), manifest)
    except ManifestError:
        return "all"
    if fingerprint is not None and folder.manifest.get("fingerprint") != fingerprint:
        return "all"
    missing = [] if folder.is_empty else folder.missing(wanted)
    if not missing:
        return "none"
    return "some" if len(missing) < len(wanted) else "all"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
