"""The reader of result folders: what the manifest of an export says, and which of its files are there."""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darts_utils.errors import ManifestError

MANIFEST_FILE = "manifest.json"
"""Name of the file that an export writes last; without it a folder holds no finished results."""
_DECIDING = (
    "binarization_threshold",
    "min_object_size",
    "quality_level",
    "mask_erosion_size",
    "edge_erosion_size",
    "edge_objects",
    "tpi_outer_radius",
    "tpi_inner_radius",
    "tta",
)
"""Options of a run that decide what is a slump, and what of it is seen."""


def read_manifest(out_dir: Path | str) -> dict[str, Any]:
    """Read the manifest of a finished export.

    Args:
        out_dir: The tile's folder.

    Returns:
        The manifest: ``status`` ("success", or "empty" with a ``reason`` where the scene held no data), ``files`` (by
        name: ``size`` in bytes, ``sha256``), ``summary``, ``fingerprint``, ``bands``, ``ensemble_subsets``,
        ``tile_id``, ``time``, ``source``, ``created``, ``versions``, ``metadata``, ``format``. Manifests of early
        releases lack the summary, and their status is "success".

    Raises:
        ManifestError: If there is none, or it cannot be read.
    """
    path = Path(out_dir) / MANIFEST_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error}. The folder holds no finished export.") from error
    return parse_manifest(content, path)


def parse_manifest(content: bytes, path: Path) -> dict[str, Any]:
    """Make a manifest out of the bytes of its file.

    Args:
        content: The bytes.
        path: Where they come from, for the message.

    Returns:
        The manifest, see :func:`read_manifest`.

    Raises:
        ManifestError: If they are no manifest.
    """
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} cannot be read: {error}. The folder holds no finished export.") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ManifestError(f"{path} is no manifest of an export: it lists no files.")
    manifest.setdefault("status", "success")
    return manifest


def result_folders(folder: Path | str) -> list[Path]:
    """List the folders of finished exports at a place.

    Args:
        folder: A tile's folder, or one that holds such folders at any depth; links to folders are followed.

    Returns:
        The folders with a manifest, readable or not, sorted; a folder that several links lead to, once. What lies in
        hidden folders (".name"), as an export's draft does, is not among them.

    Raises:
        ManifestError: If a folder may not be looked into.
    """

    def note(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise ManifestError(
                f"{error.filename} may not be looked into, and may hold results; make it readable, or name the folders "
                "beside it."
            ) from error

    found, known = [], set()
    for path, names, files in os.walk(folder, onerror=note, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith("."))
        real = os.path.realpath(path)
        if real in known:
            names.clear()
            continue
        known.add(real)
        if MANIFEST_FILE in files:
            found.append(Path(path))
    return sorted(found)


def describe_mixture(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Say in what results differ that are taken together: their models, and the options that decide what is a slump.

    Args:
        manifests: What :func:`read_manifest` returns for each. What one does not say, it does not differ in.

    Returns:
        What differs, with the number of tiles of each; an empty string where nothing does.

    Examples:
        >>> one, other = ({"metadata": {"configuration": {"min_object_size": size}}} for size in (32, 8))
        >>> describe_mixture([one, one, other])
        'min_object_size (32 in 2 tiles, 8 in 1 tile)'
    """
    found: dict[str, Counter[str]] = {}
    for manifest in manifests:
        for name, value in _decided(manifest).items():
            found.setdefault(name, Counter())[value] += 1
    several = {name: counts for name, counts in found.items() if len(counts) > 1}
    return "; ".join(
        f"{name} ({', '.join(f'{value} in {n} tile' + 's' * (n > 1) for value, n in counts.most_common())})"
        for name, counts in sorted(several.items(), key=lambda item: (item[0] != "models", item[0]))
    )


def _decided(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return as texts what a manifest says of its models and of the options that decide."""
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    configuration, models = metadata.get("configuration"), metadata.get("models")
    known = configuration if isinstance(configuration, dict) else {}
    decided = {name: str(known[name]) for name in _DECIDING if name in known}
    if isinstance(models, dict) and models:
        digests = {name: of_model.get("sha256") for name, of_model in models.items() if isinstance(of_model, dict)}
        named = sorted(f"{name} {digest[:8]}" if (digest := digests.get(name)) else str(name) for name in models)
        decided["models"] = " + ".join(named)
    return decided


@dataclass(frozen=True)
class ResultFolder:
    """The results of one tile, as their manifest describes them.

    Attributes:
        path: The tile's folder.
        manifest: What :func:`read_manifest` returns.
    """

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> "ResultFolder":
        """Read the manifest of a folder; no other file is touched.

        Args:
            path: The tile's folder.

        Returns:
            The folder.

        Raises:
            ManifestError: If the folder holds no readable manifest. Where folders in it do, the message names one.
        """
        try:
            return cls(Path(path), read_manifest(path))
        except ManifestError as error:
            below = sorted(each.parent.name for each in Path(path).glob(f"*/{MANIFEST_FILE}"))
            if not below:
                raise
            raise ManifestError(
                f"{error} Of the folders in it {len(below)} do, {below[0]} first: open these."
            ) from error

    @property
    def tile_id(self) -> str:
        """Name of the tile, the folder's where the manifest does not say."""
        return str(self.manifest.get("tile_id") or self.path.name)

    @property
    def is_empty(self) -> bool:
        """Whether the scene held no data, so that there are no files."""
        return bool(self.manifest["status"] == "empty")

    def segments(self, model: str | None = None) -> Path | None:
        """Return the path of the objects as GeoParquet, None where they were not exported.

        Args:
            model: Member of the ensemble, None for the ensemble as a whole.

        Returns:
            The path.
        """
        return self._listed("prediction_segments.parquet" if model is None else f"prediction_segments-{model}.parquet")

    def extent(self) -> Path | None:
        """Return the path of the reliable area as GeoParquet, None where it was not exported."""
        return self._listed("prediction_extent.parquet")

    def missing(self, names: Iterable[str]) -> list[str]:
        """List those files that the manifest does not name, or that are not there with the size that it names.

        Args:
            names: Names of files.

        Returns:
            Names, in the order given. The content is not compared.
        """
        return [name for name in names if not self._is_there(name)]

    def _listed(self, name: str) -> Path | None:
        return self.path / name if name in self.manifest["files"] else None

    def _is_there(self, name: str) -> bool:
        entry = self.manifest["files"].get(name)
        try:
            found = os.stat(os.path.join(self.path, name))  # noqa: PTH116, PTH118 - planning asks for a million files
        except (OSError, ValueError):
            return False
        return isinstance(entry, dict) and stat.S_ISREG(found.st_mode) and found.st_size == entry.get("size")
