"""Where data lie by default: three roots, and the folders below them."""

import os
from dataclasses import dataclass
from pathlib import Path


def _root(given: Path | str | None, variable: str, otherwise: Path) -> Path:
    chosen = given if given is not None else os.environ.get(variable) or otherwise
    return Path(chosen).expanduser().absolute()


@dataclass(frozen=True)
class DefaultPaths:
    """The folders that DARTS uses where the caller names none.

    Each root is the argument, else the environment variable, else a default. They are resolved to absolute paths when
    the object is made, so that a later change of the environment or of the working directory changes nothing.

    Attributes:
        darts_dir: Models and results. ``DARTS_DATA_DIR``, else the working directory.
        fast_dir: What is read for every tile: the auxiliary datacubes. ``DARTS_FAST_DATA_DIR``, else `darts_dir`.
        large_dir: What is large: input images and raw scenes. ``DARTS_LARGE_DATA_DIR``, else `darts_dir`.

    Examples:
        >>> paths = DefaultPaths("/data")
        >>> paths.arcticdem(2).relative_to("/data").as_posix()
        'auxiliary/arcticdem_2m.icechunk'
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
        """Folder of model files."""
        return Path(self.darts_dir or "") / "models"

    @property
    def input(self) -> Path:
        """Folder of input images."""
        return Path(self.large_dir or "") / "input"

    @property
    def output(self) -> Path:
        """Folder of results."""
        return Path(self.darts_dir or "") / "output"

    @property
    def auxiliary(self) -> Path:
        """Folder of the auxiliary datacubes."""
        return Path(self.fast_dir or "") / "auxiliary"

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

    @property
    def tcvis(self) -> Path:
        """TCVIS datacube."""
        return self.auxiliary / "tcvis.icechunk"

    def arcticdem(self, resolution: int) -> Path:
        """ArcticDEM datacube of a resolution in metres (2, 10 or 32)."""
        return self.auxiliary / f"arcticdem_{resolution}m.icechunk"

    def sentinel2_raw(self, source: str) -> Path:
        """Store of raw Sentinel-2 scenes from a source ("cdse" or "gee")."""
        return self.input / "sentinel2" / f"raw-{source}"
