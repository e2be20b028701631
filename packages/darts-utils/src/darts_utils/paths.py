"""Where data lie by default: three roots, the folders below them, and what releases before this one called them."""

import contextlib
import os
import shlex
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from darts_utils.errors import MovedFolderWarning

_MODEL_FILES = ("*.safetensors", "*.pt", "*.ckpt", "*/*.safetensors")
_RECORDS = ".results.parquet"
_MANIFESTS = ("*/manifest.json", "*/*/manifest.json")
_NEW_SUFFIX = ".darts.icechunk"


def _root(given: Path | str | None, variable: str, otherwise: Path) -> Path:
    chosen = given if given is not None else os.environ.get(variable) or otherwise
    return Path(chosen).expanduser().absolute()


class CubeOrigin(Enum):
    """Which datacube there is for a product, in the order in which they are searched."""

    DARTS = "darts"
    """Under its name."""
    RELEASE_0_1 = "release 0.1"
    """Under the name that release 0.1 gave it."""
    ORIGINAL = "original"
    """Only that of the original DARTS, a datacube of smart-geocubes, which cannot be read."""
    NONE = "none"
    """None."""


@dataclass(frozen=True)
class FoundCube:
    """The datacube of a product, as a search by name finds it; nothing is opened.

    Attributes:
        path: The datacube to read and fill. Where there is none, a new one belongs here.
        origin: Which one it is.
        original: The datacube of the original DARTS, with `CubeOrigin.ORIGINAL`.
    """

    path: Path
    origin: CubeOrigin
    original: Path | None = None


@dataclass(frozen=True)
class DefaultPaths:
    """The folders that DARTS uses where the caller names none.

    Each root is the argument, else the environment variable, else a default. They are resolved to absolute paths when
    the object is made, so that a later change of the environment or of the working directory changes nothing.

    What release 0.1 left in its own default folders is found there, with a :class:`darts_utils.MovedFolderWarning`
    that names the move to make. No folder is made.

    Attributes:
        darts_dir: Root of the two others. ``DARTS_DATA_DIR``, else the working directory.
        fast_dir: What is small and read often: models, training. ``DARTS_FAST_DATA_DIR``, else `darts_dir`.
        large_dir: What is large: datacubes, images, results. ``DARTS_LARGE_DATA_DIR``, else `darts_dir`.

    Examples:
        >>> paths = DefaultPaths("/data")
        >>> paths.arcticdem(2).relative_to("/data").as_posix()
        'aux/arcticdem_2m.darts.icechunk'
    """

    darts_dir: Path | str | None = None
    fast_dir: Path | str | None = None
    large_dir: Path | str | None = None

    def __post_init__(self) -> None:
        darts = _root(self.darts_dir, "DARTS_DATA_DIR", Path())
        object.__setattr__(self, "darts_dir", darts)
        object.__setattr__(self, "fast_dir", _root(self.fast_dir, "DARTS_FAST_DATA_DIR", darts))
        object.__setattr__(self, "large_dir", _root(self.large_dir, "DARTS_LARGE_DATA_DIR", darts))

    @property
    def models(self) -> Path:
        """Folder of model files; that of release 0.1 where only that one exists and holds models."""
        folder, before = Path(self.fast_dir or "") / "models", Path(self.darts_dir or "") / "models"
        if folder != before and not folder.exists() and _holds_any(before, _MODEL_FILES):
            return _moved(before, folder)
        return folder

    @property
    def training(self) -> Path:
        """Folder of training data and of what a training leaves."""
        return Path(self.fast_dir or "") / "training"

    @property
    def auxiliary(self) -> Path:
        """Folder of the auxiliary datacubes."""
        return self._large("aux")

    @property
    def output(self) -> Path:
        """Folder of the folders of results; :meth:`results` names one of them."""
        return self._large("output")

    @property
    def input(self) -> Path:
        """Folder of input images."""
        return self._large("input")

    @property
    def cache(self) -> Path:
        """Folder of what can be made or fetched again."""
        return self._large("cache")

    @property
    def logs(self) -> Path:
        """Folder of log files."""
        return self._large("logs")

    @property
    def archive(self) -> Path:
        """Folder of what is kept and no longer used."""
        return self._large("archive")

    def _large(self, name: str) -> Path:
        return Path(self.large_dir or "") / name

    def results(self, name: str) -> Path:
        """Folder of the results of a source, for example "planet"; that of release 0.1 where it holds results.

        Those in the folder of release 0.1 go before the new folder, so that no tile is computed a second time.
        """
        folder, before = self.output / name, Path(self.darts_dir or "") / "output" / name
        if folder != before and _holds_results(before):
            return _moved(before, folder)
        return folder

    @property
    def planet_orthotiles(self) -> Path:
        """PlanetScope orthotiles, laid out ``tile_id/scene_id/``."""
        return self.input / "planet" / "tiles"

    @property
    def planet_scenes(self) -> Path:
        """PlanetScope scenes, laid out ``scene_id/``."""
        return self.input / "planet" / "scenes"

    @property
    def sentinel2_grid(self) -> Path:
        """Grid of MGRS tiles."""
        return self.input / "sentinel2" / "grid"

    def sentinel2_raw(self, source: str) -> Path:
        """Store of raw Sentinel-2 scenes from a source ("cdse" or "gee"); that of release 0.1 where it holds some."""
        folder, before = (self.input / "sentinel2" / name for name in (f"{source}-scenes", f"raw-{source}"))
        if _holds_any(before, ("*",)):
            return _moved(before, folder)
        return folder

    @property
    def tcvis(self) -> Path:
        """Datacube of the Tasseled Cap trends (TCVIS) of 2000 to 2019."""
        return self._tctrend(2019)

    def tctrend(self, year: int) -> Path:
        """Datacube of the Tasseled Cap trends of the 20 years that end with `year`; that of release 0.1 where alone."""
        return self._tctrend(year)

    def _tctrend(self, year: int) -> Path:
        found, new = self.find_tctrend(year), self._new_tctrend(year)
        return found.path if found.origin is not CubeOrigin.RELEASE_0_1 else _moved(found.path, new, stacklevel=4)

    def arcticdem(self, resolution: int) -> Path:
        """ArcticDEM datacube of a resolution in metres (2, 10 or 32); that of release 0.1 where alone."""
        found, new = self.find_arcticdem(resolution), self._new_arcticdem(resolution)
        return found.path if found.origin is not CubeOrigin.RELEASE_0_1 else _moved(found.path, new)

    def find_tctrend(self, year: int) -> FoundCube:
        """Say which datacube of the Tasseled Cap trends up to a year there is, without a warning."""
        return self._find_cube(self._new_tctrend(year), "tcvis.icechunk" if year == 2019 else None)

    def find_arcticdem(self, resolution: int) -> FoundCube:
        """Say which ArcticDEM datacube of a resolution in metres there is, without a warning."""
        return self._find_cube(self._new_arcticdem(resolution), f"arcticdem_{resolution}m.icechunk")

    def _new_tctrend(self, year: int) -> Path:
        return self.auxiliary / tctrend_name(year)

    def _new_arcticdem(self, resolution: int) -> Path:
        return self.auxiliary / f"arcticdem_{resolution}m{_NEW_SUFFIX}"

    def _find_cube(self, new: Path, name_before: str | None) -> FoundCube:
        if _is_filled(new):
            return FoundCube(new, CubeOrigin.DARTS)
        before = None if name_before is None else Path(self.fast_dir or "") / "auxiliary" / name_before
        if before is not None and _is_filled(before):
            return FoundCube(before, CubeOrigin.RELEASE_0_1)
        original = original_cube(new)
        return FoundCube(new, CubeOrigin.NONE if original is None else CubeOrigin.ORIGINAL, original)


class OriginalPaths:
    """The object ``paths`` of the original DARTS, over a `DefaultPaths` made on first use; nothing here reads it.

    Its folders are attributes, and places that there are several of are methods, as they are there.

    Examples:
        >>> paths = OriginalPaths()
        >>> paths.set_defaults(DefaultPaths("/data"))
        >>> paths.arcticdem(2).relative_to(paths.aux).as_posix()
        'arcticdem_2m.darts.icechunk'
    """

    def __init__(self) -> None:
        self._defaults: DefaultPaths | None = None

    def set_defaults(self, defaults: DefaultPaths) -> None:
        """Take other roots from now on."""
        self._defaults = defaults

    def __getattr__(self, name: str) -> Path:
        attribute = {"out": "output", "aux": "auxiliary"}.get(name, name)
        if attribute not in ("output", "models", "auxiliary", "input", "cache", "logs", "training", "archive"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; DefaultPaths knows all folders.")
        found: Path = getattr(self._paths(), attribute)
        return found

    def _paths(self) -> DefaultPaths:
        if self._defaults is None:
            self._defaults = DefaultPaths()
        return self._defaults

    def arcticdem(self, resolution: int) -> Path:
        """ArcticDEM datacube of a resolution in metres."""
        return self._paths().arcticdem(resolution)

    def tcvis(self) -> Path:
        """Datacube of the Tasseled Cap trends of 2000 to 2019."""
        return self._paths().tcvis

    def planet_scenes(self) -> Path:
        """PlanetScope scenes."""
        return self._paths().planet_scenes

    def planet_orthotiles(self) -> Path:
        """PlanetScope orthotiles."""
        return self._paths().planet_orthotiles

    def sentinel2_raw_data(self, source: str) -> Path:
        """Store of raw Sentinel-2 scenes from a source ("cdse" or "gee")."""
        return self._paths().sentinel2_raw(source)

    def sentinel2_grid(self) -> Path:
        """Grid of MGRS tiles."""
        return self._paths().sentinel2_grid


paths = OriginalPaths()


def tctrend_name(year: int) -> str:
    """Return the name that the datacube of the Tasseled Cap trends of 20 years has.

    Args:
        year: The last of the years.

    Returns:
        Name of the folder.

    Examples:
        >>> tctrend_name(2019)
        'tctrend2019.darts.icechunk'
    """
    return f"tctrend{year}{_NEW_SUFFIX}"


def original_cube(path: Path | str) -> Path | None:
    """Return the datacube of the original DARTS that lies beside the place of a new one, None where there is none.

    Only names are compared: ``arcticdem_2m.icechunk`` belongs to ``arcticdem_2m.darts.icechunk``, and
    ``TCTrend2019.icechunk``, or ``tcvis.icechunk``, which it was called before, to ``tctrend2019.darts.icechunk``.

    Args:
        path: Where the datacube of DARTS lies or would be created.

    Returns:
        A folder that holds something.
    """
    path = Path(path)
    if not path.name.endswith(_NEW_SUFFIX):
        return None
    name = path.name.removesuffix(_NEW_SUFFIX)
    names = [name.replace("tctrend", "TCTrend"), *(["tcvis"] if name == "tctrend2019" else [])]
    return next((cube for name in names if _is_filled(cube := path.with_name(f"{name}.icechunk"))), None)


def _moved(before: Path, now: Path, stacklevel: int = 3) -> Path:
    """Warn that a folder of release 0.1 is used, and return it."""
    source, target, parent = (shlex.quote(str(path)) for path in (before, now, now.parent))
    move = f"mv -n {source}/* {target}/" if now.exists() else f"mkdir -p {parent} && mv {source} {target}"
    warnings.warn(
        f"{before} is used, where release 0.1 put it; it belongs at {now} now. To move it: {move}",
        MovedFolderWarning,
        stacklevel=stacklevel,
    )
    return before


def _is_filled(folder: Path) -> bool:
    return _holds_any(folder, ("*",))


def _holds_any(folder: Path, patterns: Iterable[str]) -> bool:
    """Say whether a folder is there, may be read and holds something visible that fits a pattern."""
    return any(not path.name.startswith(".") for path in _found(folder, patterns))


def _found(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    with contextlib.suppress(OSError):  # What may not be read is not used.
        for pattern in patterns:
            yield from folder.glob(pattern)


def _holds_results(folder: Path) -> bool:
    """Say whether a folder holds records of a run of DARTS, beside which lies its log, or results of a tile."""
    for path in _found(folder, ["*" + _RECORDS]):
        if path.with_name(path.name.removesuffix(_RECORDS) + ".log").exists():
            return True
    return any(_is_manifest(path) for path in _found(folder, _MANIFESTS))


def _is_manifest(path: Path) -> bool:
    try:
        return '"fingerprint"' in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
