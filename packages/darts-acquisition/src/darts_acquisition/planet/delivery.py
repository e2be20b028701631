"""Deliveries in folders, flat orders and zip archives: which scenes they hold, and what the names of files say."""

import contextlib
import functools
import logging
import os
import re
import time
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from darts_acquisition.errors import SceneError, SceneNameError, SceneNotFoundError, SceneReadError
from darts_acquisition.tile import AnyPath
from darts_utils import DartsError, available_memory

_SCENE = r"(?P<day>\d{8})_(?P<time>\d{6})_(?:(?P<hundredths>\d{2})_)?[0-9a-z]{4}"
_ORTHOTILE = r"\d+_(?P<tile>\d+)_(?P<date>\d{4}-\d{2}-\d{2})_[0-9a-z]{4}"
_NAME = re.compile(f"{_SCENE}|{_ORTHOTILE}", re.IGNORECASE)

Kind = Literal["image", "mask", "metadata"]
KINDS: tuple[Kind, ...] = ("image", "mask", "metadata")
_TOOLS = r"(?:_(?:8b|harmonized|clip|reproject|coreg|file_format|cog))*"
"""What Planet's products and the tools of its orders append to the name of a file, without another meaning."""
_FILES: dict[Kind, re.Pattern[str]] = {
    "image": re.compile(rf".*(?:_BGRN_SR(?P<orthotile>(?:_\w+)?)|_SR(?P<scene>{_TOOLS}))\.tiff?", re.IGNORECASE),
    "mask": re.compile(rf".*_udm2(?P<scene>{_TOOLS})\.tiff?", re.IGNORECASE),
    "metadata": re.compile(r".*_metadata\.json", re.IGNORECASE),
}


@dataclass(frozen=True)
class PlanetName:
    """What a folder's name says: when the image was taken, ISO 8601 UTC (of an orthotile the day); which orthotile."""

    type: Literal["scene", "orthotile"]
    time: str
    tile: str | None = None


def parse_planet_type(path: AnyPath) -> Literal["scene", "orthotile"]:
    """Tell from the name of a scene's folder whether it is a PlanetScope scene or an orthotile.

    Args:
        path: Folder of the scene, or what `find_planet_scenes` returned. Only its name counts: `YYYYMMDD_HHMMSS_XXXX`
            or `YYYYMMDD_HHMMSS_NN_XXXX` is a scene, `<strip>_<tile>_YYYY-MM-DD_XXXX` an orthotile.

    Returns:
        "scene" or "orthotile".

    Raises:
        SceneNameError: If the name is neither.

    Examples:
        >>> parse_planet_type("scenes/20210821_210019_08_2405")
        'scene'
        >>> parse_planet_type("tiles/4372514/5790392_4372514_2022-07-16_2459")
        'orthotile'
    """
    return parse_planet_name(path).type


def parse_planet_name(path: AnyPath) -> PlanetName:
    """Take a folder's name apart; SceneNameError if it is neither that of a scene nor that of an orthotile."""
    name = name_of(path)
    try:
        match = _NAME.fullmatch(name)
        if match and match["tile"] is None:
            taken = datetime.strptime(match["day"] + match["time"], "%Y%m%d%H%M%S")  # noqa: DTZ007 - written as UTC
            fraction = f".{match['hundredths']}" if match["hundredths"] else ""
            return PlanetName("scene", f"{taken.isoformat()}{fraction}Z")
        if match:
            day = datetime.strptime(match["date"], "%Y-%m-%d").date()  # noqa: DTZ007 - written as UTC
            return PlanetName("orthotile", day.isoformat(), match["tile"])
        problem = "is no name of a PlanetScope folder"
    except ValueError:
        problem = "holds a date or time that does not exist"
    raise SceneNameError(
        f"{name!r} ({path}) {problem}. Expected YYYYMMDD_HHMMSS_XXXX or YYYYMMDD_HHMMSS_NN_XXXX for a scene, "
        "<strip>_<tile>_YYYY-MM-DD_XXXX for an orthotile."
    )


def name_of(path: AnyPath) -> str:
    """Return the name of a folder; "." has one too, and a link keeps its own."""
    return os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119 - a link is not followed


def looks_like_scene(name: str) -> bool:
    """Tell whether a name has the form of one of a scene or an orthotile, whether its date exists or not."""
    return _NAME.fullmatch(name) is not None


def scene_of(file_name: str) -> str | None:
    """Return the scene or orthotile that a file's name begins with; None if it begins with none."""
    match = _NAME.match(file_name)
    return match[0] if match and file_name[match.end() : match.end() + 1] in ("_", ".") else None


def kind_of(file_name: str) -> Kind | None:
    """Return what a file of a delivery is by its name; None for one that no tile is made from, and for hidden ones."""
    return next((kind for kind in KINDS if file_name[:1] != "." and _FILES[kind].fullmatch(file_name)), None)


def words_after(file_name: str, kind: Kind) -> frozenset[str]:
    """Return what is appended to the name of an image or a mask, for example {"harmonized", "clip"}."""
    match = _FILES[kind].fullmatch(file_name)
    groups = match.groupdict() if match else {}
    words = groups.get("scene") or groups.get("orthotile") or ""
    return frozenset(words.lower().replace("file_format", "cog").split("_")) - {""}


logger = logging.getLogger(__name__)

WHAT: dict[Kind, str] = {"image": "surface reflectance image", "mask": "usable data mask", "metadata": "metadata file"}
_EXPECTED: dict[Kind, str] = {
    "image": "*_SR_harmonized.tif, *_SR_8b.tif, *_SR.tif or *_SR_clip.tif",
    "mask": "*_udm2.tif or *_udm2_clip.tif",
    "metadata": "*_metadata.json",
}
_STEMS: dict[Kind, str] = {"image": "_sr", "mask": "_udm2"}
_SIDECARS = (".msk", ".aux.xml")
"""What the names of files end in where GDAL keeps a mask and no-data values beside an image."""
_SETTLED_NS = 2_000_000_000
"""Age of a change after which every further one shows in the time of a folder."""
_BUNDLES = 2
"""Levels of folders below a scene's own, in some layouts of orders."""


@dataclass(frozen=True)
class Delivery:
    """The files of one scene that a tile can be made from.

    `path` is the scene's folder, or its name in a folder or an archive that holds several. Files in a zip `archive` are
    paths below it.
    """

    path: Path
    files: tuple[Path, ...]
    archive: Path | None = None

    @classmethod
    def open(cls, path: AnyPath) -> "Delivery":
        """Look for the files of a scene; SceneNotFoundError, or SceneError if one names another scene."""
        where = Path(os.path.abspath(path))  # noqa: PTH100 - a link keeps its own name
        name = where.name.lower() if looks_like_scene(where.name) else None
        nearest = next((each for each in (where, *where.parents) if each.exists()), where)
        archive = nearest if nearest.suffix.lower() == ".zip" and nearest.is_file() else None
        if archive is not None:
            folder = where.parent if where != archive else archive  # All of it, or a folder in it.
            members = [archive / member for member in _members(archive).get(name or "", ())]
            levels = [[file for file in members if folder in file.parents]]
        else:
            levels = [[file for file in level if file.is_file()] for level in _levels_below(where)]
        files = {kind: next((found for level in levels if (found := _of_kind(level, kind))), []) for kind in KINDS}
        if archive is None and name and not all(files.values()):
            with contextlib.suppress(OSError):
                named = _index(where.parent).get(name, ())
                beside = [file for each in named if (file := where.parent / each).is_file()]
                files = {kind: found or _of_kind(beside, kind) for kind, found in files.items()}
        delivery = cls(Path(path), tuple(file for found in files.values() for file in found), archive)
        if not delivery.files and (archive is not None or not where.is_dir()):
            raise SceneNotFoundError(
                f"{path} {_problem(where)} find_planet_scenes lists the scenes of a folder or a zip archive."
            )
        for file in delivery.files if name else ():
            other = scene_of(file.name)
            if other and other.lower() != name:
                raise SceneError(f"{path} holds {file.name} of scene {other}; move it to a folder of its own.")
        return delivery

    def find(self, kind: Kind) -> Path:
        """Return the one file of a kind, the best one where a scene was delivered as several products.

        Of images harmonised ones come first, then those with four bands, then those that the tools of an order have
        changed least; of masks first the one that was changed as the image was. SceneNotFoundError if there is none,
        SceneError if there are two alike.
        """
        file = self.find_optional(kind)
        if file is None:
            present = ", ".join(sorted(self._names_present())) or "nothing"
            raise SceneNotFoundError(f"{self.path} holds no {WHAT[kind]}: expected {_EXPECTED[kind]}, found {present}.")
        if others := [other.name for other in _of_kind(self.files, kind) if other != file]:
            logger.info("%s: of its products %s is used, and not %s.", self.path, file.name, ", ".join(others))
        return file

    def _names_present(self) -> set[str]:
        """Name all files of the scene, those that no tile is made from too: one may be what was ordered by mistake."""
        if self.archive is None and (levels := _levels_below(self.path)):
            return {each.name for each in levels[0]}
        named = _index(self.archive or self.path.parent).get(self.path.name.lower(), ())
        return {name.rpartition("/")[2] for name in named} | {each.name for each in self.files}

    def find_optional(self, kind: Kind) -> Path | None:
        """Do as `find`, but return None where there is none."""
        ranked = sorted((self._rank(file, kind), file) for file in _of_kind(self.files, kind))
        if not ranked:
            return None
        alike = [file.name for rank, file in ranked if rank == ranked[0][0]]
        if len(alike) > 1:
            pattern = f"*{alike[0][alike[0].lower().rfind(_STEMS[kind]) :]}" if kind in _STEMS else _EXPECTED[kind]
            if len(set(alike)) < len(alike):  # Copies in several folders.
                alike = [str(file) for _, file in ranked[: len(alike)]]
            raise SceneError(
                f"{self.path} holds {len(alike)} files where one {WHAT[kind]} ({pattern}) is expected: "
                f"{', '.join(alike)}. Keep the right one."
            )
        return ranked[0][1]

    def sidecars(self, file: Path) -> list[Path]:
        """List the files beside one in which GDAL keeps a mask and no-data values of it."""
        beside = [file.with_name(file.name + ending) for ending in _SIDECARS]
        if self.archive is None:
            return [each for each in beside if each.is_file()]
        members = _members(self.archive).get((scene_of(file.name) or "").lower(), ())
        return [each for each in beside if each.relative_to(self.archive).as_posix() in members]

    def read(self, file: Path, count: int = -1) -> bytes:
        """Read a file, or its first bytes; a whole one out of an archive is checked against its CRC-32.

        SceneReadError if it cannot be read, SceneError if it does not fit into memory.
        """
        try:
            if self.archive is None:
                with file.open("rb") as stream:
                    return stream.read(count)
            with zipfile.ZipFile(self.archive) as archive:
                member = archive.getinfo(file.relative_to(self.archive).as_posix())
                if member.file_size > available_memory():
                    raise SceneError(f"{file} has {member.file_size / 2**30:.1f} GB, more than the memory left.")
                with archive.open(member) as stream:
                    return stream.read(count)
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # also encrypted or too new archives
            raise SceneReadError(f"{file} cannot be read: {error}. Download it again.") from error

    def _rank(self, file: Path, kind: Kind) -> tuple[int, ...]:
        words = words_after(file.name, kind)
        if kind == "image":
            return "harmonized" not in words, "8b" in words, len(words)
        images = sorted(_of_kind(self.files, "image"), key=lambda image: self._rank(image, "image"))
        like = words_after(images[0].name, "image") - {"harmonized", "8b"} if images else frozenset()
        return words != like, len(words)


def find_planet_scenes(folder: AnyPath) -> list[Path]:
    """List the PlanetScope scenes and orthotiles that a folder holds, whatever its layout.

    A scene is a folder with its name, or the files in a folder or a zip archive whose names begin with it. Folders may
    lie in one another and be links; what is hidden does not count. What looks like a scene and is none is listed as
    well, so that loading it says what is wrong: an empty folder with a scene's name, or what cannot be read.

    Args:
        folder: A folder, an archive, or the folder of one scene.

    Returns:
        A path of each scene that the loaders take, sorted: its folder, or `<folder>/<scene>` or `<archive>/<scene>`,
        which need not exist. Folders with something else and no scene are left out with a warning.

    Raises:
        SceneNotFoundError: If there is no such folder.
    """
    start = Path(folder)
    if not start.exists():
        raise SceneNotFoundError(f"There is no folder {start}; correct the path.")
    if start.is_dir() and looks_like_scene(name_of(start)):
        return [start]
    scenes = _scenes_in(start, set())
    if not scenes and any(_levels_below(start, 0)):
        logger.warning("%s is left out: it holds no file of a scene.", start)
    return scenes or []


def list_planet_files(path: AnyPath) -> list[Path]:
    """List the files that a scene's tile is made from, as far as they are there; nothing where they cannot be told.

    Args:
        path: Folder of the scene, or what `find_planet_scenes` returned.

    Returns:
        Image, mask and metadata file, and what GDAL keeps beside an image. Files in a zip archive are paths below it.
    """
    try:
        delivery = Delivery.open(path)
        files = [file for kind in KINDS if (file := delivery.find_optional(kind))]
    except (DartsError, OSError):
        return []
    return [*files, *(sidecar for file in files for sidecar in delivery.sidecars(file))]


def _problem(where: Path) -> str:
    folder = f"expected a folder with {_EXPECTED['image']}"
    if not where.exists():
        return f"does not exist; {folder}, or files {where.name}_* beside it."
    scene = scene_of(where.name)
    named = f"; a scene among others is named by {where.with_name(scene)}" if scene else ""
    return f"is a file; {folder}{named}."


def _scenes_in(folder: Path, seen: set[tuple[str, str]]) -> list[Path] | None:
    """List the scenes below a folder or in an archive, and warn of parts of it that hold none; None if it was seen."""
    if _was_seen(folder, os.path.realpath(folder).rpartition(os.sep)[2], seen):
        return None
    try:
        if folder.is_file():
            inside = {name: [member.rpartition("/")[2] for member in each] for name, each in _members(folder).items()}
            return sorted(folder / each[0][: len(name)] for name, each in inside.items() if any(map(kind_of, each)))
        # A link comes last: what it leads to is better known by its own place.
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_symlink(), entry.name))
    except (OSError, SceneReadError):
        return [folder]
    scenes: set[Path] = set()
    for name, files in _by_scene([entry.name for entry in entries]).items():
        if first := next((file for file in files if kind_of(file) and (folder / file).is_file()), None):
            scenes.add(folder / first[: len(name)])
    without = []
    for entry in entries:
        found: list[Path] | None = None
        if entry in scenes or entry.name.startswith("."):
            continue
        if looks_like_scene(entry.name):
            if (entry.is_dir() or entry.is_symlink()) and not _was_seen(entry, entry.name, seen):
                files = [file.name for level in _levels_below(entry) for file in level]
                found = [entry] if not files or any(map(kind_of, files)) else []  # An empty one says so when loaded.
        elif entry.is_dir() or (entry.suffix.lower() == ".zip" and entry.is_file()):
            found = _scenes_in(entry, seen)
        scenes.update(found or [])
        if found == []:
            without.append(entry)
    for entry in without if scenes else ():
        logger.warning("%s is left out: it holds no file of a scene.", entry)
    return sorted(scenes)


def _was_seen(path: Path, name: str, seen: set[tuple[str, str]]) -> bool:
    """Tell whether a folder was seen under a name, through another link perhaps; from now on it was."""
    count = len(seen)
    seen.add((os.path.realpath(path), name))
    return len(seen) == count


def _levels_below(folder: Path, levels: int = _BUNDLES) -> list[list[Path]]:
    """List what is visible in a folder, then in its folders, and so on; nothing of what cannot be read."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
    below = [_levels_below(entry, levels - 1) for entry in entries if entry.is_dir()] if levels else []
    deeper = zip_longest(*below, fillvalue=())
    return [entries, *([file for part in parts for file in part] for parts in deeper)]


def _members(archive: Path) -> dict[str, list[str]]:
    """List the members of an archive by scene, see `_index`; SceneReadError if it cannot be read."""
    try:
        return _index(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise SceneReadError(f"{archive} cannot be read as a zip archive: {error}. Download it again.") from error


def _index(path: Path) -> dict[str, list[str]]:
    """List what is in a folder or an archive by the scenes, in small letters, that the names of files begin with.

    Looking a scene up costs no more where there are many. A folder that was changed just now is read anew each time: it
    may change once more within the grain of its clock.
    """
    state = path.stat()
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    settled = time.time_ns() - state.st_mtime_ns > _SETTLED_NS
    return _read_index(path, key) if settled else _read_index.__wrapped__(path, key)


@functools.lru_cache(maxsize=4)
def _read_index(path: Path, state: tuple[int, ...]) -> dict[str, list[str]]:  # noqa: ARG001 - tells states apart
    if path.is_dir():
        names = os.listdir(path)  # noqa: PTH208 - names are all it takes
    else:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir() and ".." not in info.filename]
    return _by_scene(sorted(names))


def _by_scene(names: Iterable[str]) -> dict[str, list[str]]:
    """Group files by the scenes, in small letters, that their names begin with."""
    found: dict[str, list[str]] = {}
    for name in names:
        if scene := scene_of(name.rpartition("/")[2]):
            found.setdefault(scene.lower(), []).append(name)
    return found


def _of_kind(files: Iterable[Path], kind: Kind) -> list[Path]:
    return [file for file in files if kind_of(file.name) == kind]
