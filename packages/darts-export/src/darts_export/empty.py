"""Record that a scene holds no data: a folder that is finished without results."""

from collections.abc import Mapping
from pathlib import Path

from darts_export.attempt import attempt
from darts_export.context import read_metadata
from darts_export.errors import ExportError
from darts_export.manifest import write_manifest
from darts_export.summary import Summary
from darts_export.target import files_beside, resolved_folder
from darts_utils.staging import carry_over, replaced_folder
from darts_utils.staging import remove_interrupted as remove_interrupted


def export_empty(
    out_dir: Path | str,
    reason: str,
    *,
    tile_id: str,
    metadata: Mapping[str, object] | None = None,
    fingerprint: str | None = None,
    overwrite: bool = False,
) -> dict[str, object]:
    """Write a folder that says that a tile's scene holds no data: a manifest with the status "empty", and no results.

    An export that is already in `out_dir` is replaced in one step, as by ``export_tile``, which replaces this folder
    likewise.

    Args:
        out_dir: The tile's folder; parents are made.
        reason: Why there is nothing to map, a sentence for people.
        tile_id: Name of the tile.
        metadata: What else to record, as for ``export_tile``. Not changed.
        fingerprint: Fingerprint of the configuration, for :func:`missing_outputs`.
        overwrite: As for ``export_tile``.

    Returns:
        The manifest, see :func:`read_manifest`.

    Raises:
        ParameterError: If `metadata` cannot be written as JSON.
        ExportTargetError: If `out_dir` must not be replaced, see :func:`check_export_target`.
        ExportError: If a file cannot be written. Then `out_dir` is as it was.
    """
    folder = resolved_folder(out_dir)
    given = read_metadata(metadata)
    source = given.get("source")
    about: dict[str, object] = {
        "status": "empty",
        "reason": str(reason),
        "tile_id": str(tile_id),
        "time": None,
        "source": source if isinstance(source, str) and source else None,
        "fingerprint": fingerprint,
        "bands": [],
        "ensemble_subsets": [],
        "summary": Summary().to_dict(),
    }
    files_beside(folder, [], overwrite)
    with replaced_folder(folder, ExportError) as new:
        manifest = attempt(folder, lambda: write_manifest(new, about, given))
        beside = files_beside(folder, [], overwrite)
        attempt(folder, lambda: carry_over(folder, new, beside))
    return manifest
