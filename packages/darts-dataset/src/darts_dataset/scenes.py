"""Results of scenes: found, and chosen where there are several of one."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from darts_dataset.errors import DatasetError
from darts_dataset.readings import model_names
from darts_utils import ManifestError, ParameterError, ResultFolder, to_utc
from darts_utils.results import MANIFEST_FILE, parse_manifest, result_folders

_ROUNDING = 1e-6
"""By how much two shares that are apart may be more than the whole."""


@dataclass(frozen=True)
class Scene:
    """The results of one scene.

    Attributes:
        folder: Where they are.
        digest: SHA-256 of the manifest, which holds the digests of all files.
        time: When the scene was taken.
        source: What took it.
        created: When the results were made, as the manifest has it.
    """

    folder: ResultFolder
    digest: str
    time: datetime
    source: str
    created: str

    @property
    def tile_id(self) -> str:
        """Name of the scene."""
        return self.folder.tile_id


@dataclass(frozen=True)
class Found:
    """Scenes that can be used, and why others cannot, by the path of their folder as it was given."""

    scenes: list[Scene]
    left_out: dict[str, str]


def find_scenes(results: Iterable["str | os.PathLike[str]"], prefer: str | None = None) -> Found:
    """Find the finished results at some places.

    Args:
        results: Folders of tiles, or folders that hold such folders at any depth.
        prefer: "newest" or the name of a model: which results of a scene count where there are several.

    Returns:
        Scenes by name, whatever the order of `results`; those that held no data are not among them.

    Raises:
        DatasetError: If there are none, a place does not exist, or several of one scene and nothing says which counts.
    """
    given = [Path(path) for path in results]
    scenes: dict[str, list[Scene]] = {}
    left_out: dict[str, str] = {}
    absent = [str(root) for root in given if not root.exists()]
    expected = f"no finished results; expected folders of tiles, each with a {MANIFEST_FILE}."
    if absent or not given:
        raise DatasetError(f"{', '.join(absent) or 'no folder'}: {expected}")
    without = []
    for root in given:
        folders = result_folders(root)
        if root.is_dir() and not folders:
            without.append(root.as_posix())
        for folder in folders:
            try:
                scene = _read_scene(folder)
            except (ManifestError, DatasetError, OSError) as error:
                left_out[folder.as_posix()] = str(error)
                continue
            if scene is not None:
                scenes.setdefault(scene.tile_id, []).append(scene)
    if not scenes and not left_out:
        raise DatasetError(f"{', '.join(map(str, given))}: {expected}")
    left_out |= dict.fromkeys(without, expected)
    chosen = [_chosen(scenes[tile], prefer, left_out) for tile in sorted(scenes)]
    return Found([scene for scene in chosen if scene is not None], left_out)


def _read_scene(path: Path) -> Scene | None:
    content = (path / MANIFEST_FILE).read_bytes()
    folder = ResultFolder(path, parse_manifest(content, path / MANIFEST_FILE))
    if folder.is_empty:
        return None
    manifest = folder.manifest
    for band, file in (("polygonized", folder.segments()), ("extent", folder.extent())):
        if file is None:
            raise DatasetError(f"{path} holds no {band} as GeoParquet; export the tile with {band!r} among the bands.")
    return Scene(
        folder,
        hashlib.sha256(content).hexdigest(),
        _read_time(path, str(manifest.get("time") or "")),
        str(manifest.get("source") or "unknown"),
        str(manifest.get("created", "")),
    )


def _read_time(path: Path, text: str) -> datetime:
    try:
        time = to_utc(text)
    except ParameterError as error:
        raise DatasetError(f"{path} says that the scene was taken {text!r}; expected ISO 8601.") from error
    if time is None:
        raise DatasetError(f"{path} does not say when the scene was taken; a dataset needs the year.")
    return time


def _chosen(scenes: Sequence[Scene], prefer: str | None, left_out: dict[str, str]) -> Scene | None:
    """Return which of the results of one scene counts; None where one that may be meant is damaged, which is noted."""
    by_digest = {scene.digest: scene for scene in sorted(scenes, key=lambda scene: str(scene.folder.path))}
    if len(by_digest) == 1:  # Copies of one folder.
        return next(iter(by_digest.values()))
    if prefer == "newest":
        return max(by_digest.values(), key=lambda scene: (scene.created, scene.digest))
    if prefer is not None:
        wanted, damaged = [], {}
        for scene in by_digest.values():
            try:
                wanted += [scene] if prefer in model_names(scene) else []
            except DatasetError as error:
                damaged[str(scene.folder.path)] = str(error)
        left_out |= damaged
        if len(wanted) == 1:
            return wanted[0]
        if damaged:
            return None
    paths = " and ".join(str(scene.folder.path) for scene in by_digest.values())
    raise DatasetError(
        f"There are several results of the scene {scenes[0].tile_id}: {paths}. Give one of them, or say which count: "
        "prefer='newest', or the name of a model that only one of them was made with."
    )


def describe_clouds(scenes: Iterable[Scene]) -> str:
    """Say in how many scenes clouds, shadows or snow count as seen, and where most; an empty text where in none.

    Where the reliable share of a scene and its cloudy share are more than the whole, both hold the same ground.
    """
    counted = {}
    for scene in scenes:
        summary = scene.folder.manifest.get("summary")
        known = summary if isinstance(summary, dict) else {}
        reliable, cloudy = (known.get(f"{name}_share") for name in ("reliable", "cloudy"))
        if isinstance(reliable, float) and isinstance(cloudy, float) and (both := reliable + cloudy - 1) > _ROUNDING:
            counted[scene.tile_id] = both
    if not counted:
        return ""
    most = max(counted, key=lambda name: (counted[name], name))
    return (
        f"{len(counted)} scene{'s' * (len(counted) > 1)}, most in {most} (at least {100 * counted[most]:.2g} % of it)"
    )
