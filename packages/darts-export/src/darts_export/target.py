"""Which folders an export may replace: one rule, for planning and for the export itself."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from darts_export.errors import ExportError, ExportTargetError, ManifestError
from darts_export.products import (
    COLLECTION_FILE,
    DEBUG_FILE,
    DEFAULT_EXPORT_BANDS,
    EXPORT_BANDS,
    ITEM_FILE,
    PREVIEW_FILE,
    folded,
    planned_files,
)
from darts_utils import BANDS
from darts_utils.results import MANIFEST_FILE, parse_manifest

_SIDECARS = (".aux.xml", ".ovr", ".msk", "-wal", "-shm", "-journal")
_OF_THE_SYSTEM = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What file managers put into folders that somebody looked at."""
_SHOWN = 5

_METADATA_FILE = "darts_inference.json"
_OF_MODELS = re.compile(
    r"(probabilities[-_]|binarized-|binarized_segmentation-).+\.tif|prediction_segments-.+\.(gpkg|parquet)"
)
_EXPORTED = frozenset(
    {MANIFEST_FILE, ITEM_FILE, COLLECTION_FILE, DEBUG_FILE, PREVIEW_FILE}
    | {file for name in (*EXPORT_BANDS, *BANDS) for file in planned_files([name])}
)


def resolved_folder(out_dir: Path | str) -> Path:
    """Return the folder that a path means, behind links."""
    return Path(out_dir).expanduser().resolve()


def check_export_target(
    out_dir: Path | str,
    bands: Iterable[str] = DEFAULT_EXPORT_BANDS,
    ensemble_subsets: Iterable[str] = (),
    overwrite: bool = False,
    debug: bool = False,
) -> None:
    """Raise where ``export_tile`` with the same arguments would refuse the folder; reads names and the manifest only.

    An absent or empty folder is fine. In a folder with a manifest of an export, what the manifest names is replaced
    and other files stay, unless one of them has the name of a file that would be written. A folder that holds files
    but no manifest is refused. `overwrite` lifts both refusals for a folder in which every file has a name that an
    export of this or of the original DARTS gives, or is a raster with a ``DARTS_*`` tag, and which is known for one by
    its manifest, by such a raster, or by ``darts_inference.json``: it is then replaced as a whole. So is, without
    `overwrite`, such a folder whose manifest is damaged: its results are not known to be whole.

    Args:
        out_dir: The tile's folder; it need not exist.
        bands: As for ``export_tile``.
        ensemble_subsets: As for ``export_tile``.
        overwrite: As for ``export_tile``.
        debug: As for ``export_tile``.

    Raises:
        ExportTargetError: If the folder is a file, or holds files that must not be replaced; the message names them.
        ExportError: If the folder cannot be read.
        ParameterError: If a name cannot be part of a file name.
    """
    files_beside(resolved_folder(out_dir), planned_files(bands, ensemble_subsets, debug), overwrite)


def files_beside(folder: Path, planned: Sequence[str], overwrite: bool) -> list[str]:
    """List what stays in a folder when an export replaces the one that is there.

    Args:
        folder: The folder; it need not exist.
        planned: Names of the files that will be written, beside the manifest.
        overwrite: See :func:`check_export_target`.

    Returns:
        Names of files and folders, without those of the export that is there and without what programs keep beside
        them (statistics, journals).

    Raises:
        ExportTargetError: If the folder must not be replaced, see :func:`check_export_target`.
        ExportError: If the folder cannot be read.
    """
    try:
        manifest, found = _look(folder)
    except OSError as error:
        if folder.is_file():
            raise ExportTargetError(f"{folder} is a file; expected a folder, or nothing.") from error
        raise ExportError(f"{folder} cannot be read: {error.strerror or error}.") from error
    if manifest is None:
        foreign = set(found) - _OF_THE_SYSTEM
        if foreign:
            reason = _why_not_an_export(folder, found, foreign, planned, known=False)
            if reason or not (overwrite or MANIFEST_FILE in found):  # A damaged manifest: results that are not whole.
                what = f"{folder} holds files but no manifest of an export ({_listed(foreign)}), so it is not replaced"
                raise ExportTargetError(f"{what}{_advice(reason, overwrite)}")
        return sorted(set(found) - foreign)
    exported = [MANIFEST_FILE, *manifest["files"]]
    others = set(found) - {f"{name}{end}" for name in exported for end in ("", *_SIDECARS)}
    taken = _taken(folder, others, [MANIFEST_FILE, *planned])
    if taken:
        reason = _why_not_an_export(folder, found, others, planned, known=True)
        if reason or not overwrite:
            what = f"{folder} holds {_listed(taken)}, which its export did not write and the new one would replace"
            raise ExportTargetError(f"{what}{_advice(reason, overwrite)}")
    return sorted(others - taken)


def _look(folder: Path) -> tuple[dict[str, Any] | None, dict[str, bool]]:
    """Return a folder's manifest, None where there is none, and its names, each with whether it is a plain file."""
    path = folder / MANIFEST_FILE
    while True:
        content = _content(path)
        try:
            with os.scandir(folder) as entries:
                found = {entry.name: entry.is_file() for entry in entries}
        except FileNotFoundError:
            return None, {}
        # Another writer may replace the folder meanwhile: the names must belong to the manifest.
        if content == _content(path):
            break
    try:
        return (None if content is None else parse_manifest(content, path)), found
    except ManifestError:
        return None, found


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        return None


def _taken(folder: Path, others: Iterable[str], planned: Iterable[str]) -> set[str]:
    """Return those of the other files that a planned one would take the place of."""
    by_form = {folded(name): name for name in planned}
    same = {name: by_form[folded(name)] for name in others if folded(name) in by_form}
    # Where the names differ by case, only some file systems take them for one.
    return {name for name, new in same.items() if name == new or os.path.lexists(folder / new)}


def _why_not_an_export(
    folder: Path, found: dict[str, bool], others: Iterable[str], planned: Iterable[str], known: bool
) -> str:
    """Say why a folder is not known to hold nothing but results of DARTS; empty where it is."""
    names = _EXPORTED.union(planned)
    strange = [name for name in sorted(set(others) - _OF_THE_SYSTEM) if not (found[name] and _is_exported(name, names))]
    strange = [name for name in strange if not (found[name] and name.endswith(".tif") and _has_tag(folder / name))]
    if strange:
        return f"{_listed(strange)}: no export of DARTS gives such a name"
    rasters = sorted(name for name in found if name.endswith(".tif"))
    if known or _METADATA_FILE in found or any(_has_tag(folder / name) for name in rasters):
        return ""
    return f"no raster there has a tag DARTS_*, and there is no {_METADATA_FILE}"


def _is_exported(name: str, names: frozenset[str]) -> bool:
    for end in ("", *_SIDECARS):
        base = name.removesuffix(end)
        if base in names or _OF_MODELS.fullmatch(base):
            return True
    stem = name.removesuffix(".qml")
    return stem != name and any(_is_exported(f"{stem}{end}", names) for end in (".tif", ".gpkg"))


def _has_tag(path: Path) -> bool:
    try:
        with rasterio.open(path) as raster:
            return any(tag.startswith("DARTS_") for tag in raster.tags())
    except (RasterioError, NotGeoreferencedWarning):
        return False


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _advice(reason: str, overwrite: bool) -> str:
    if not reason:
        return "; they are results of DARTS: overwrite replaces them. Or move them away, or choose another folder."
    why = f", not even with overwrite ({reason})" if overwrite else ""
    return f"{why}; move them away, or choose another folder."
