"""A raw scene: integers as the provider delivers them, each band on its own grid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.errors import SceneError, SceneGridError
from darts_acquisition.scenes.bands import TILE_RESOLUTION, S2Band

if TYPE_CHECKING:
    from affine import Affine
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True)
class RawGrid:
    """Where the pixels of a band lie, and what its integers mean.

    Attributes:
        crs: Code of the CRS, for example "EPSG:32608".
        transform: Affine transform of pixel edges, in the order of GDAL's `Affine`: a, b, c, d, e, f.
        shape: Height and width in pixels.
        scale: Reflectance per unit; 1 for classes.
        offset: Reflectance of 0, were it data; 0 for classes.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]
    scale: float = 1.0
    offset: float = 0.0

    @property
    def affine(self) -> "Affine":
        """The transform as an object that computes."""
        from affine import Affine

        return Affine(*self.transform)

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> "RawGrid":
        """Read what `dataclasses.asdict` made of a grid, and JSON of that."""
        a, b, c, d, e, f = (float(value) for value in attrs["transform"])
        return cls(
            str(attrs["crs"]),
            (a, b, c, d, e, f),
            (int(attrs["shape"][0]), int(attrs["shape"][1])),
            float(attrs["scale"]),
            float(attrs["offset"]),
        )


@dataclass(frozen=True)
class RawBand:
    """A band as the provider delivers it.

    Attributes:
        band: Which one.
        grid: Where its pixels lie.
        values: Raw integers, shape of the grid, data type of the band.
        rows_at_once: How many rows are best read at once.
    """

    band: S2Band
    grid: RawGrid
    values: np.ndarray
    rows_at_once: int = 183

    def read(self, rows: slice = slice(None)) -> np.ndarray:
        """Return a view of rows, as a band in the store reads them."""
        return self.values[rows]


@dataclass(frozen=True)
class SceneMetadata:
    """What is known of a scene besides its pixels.

    Attributes:
        source: Name of the source in the store.
        scene_id: The source's name of the scene.
        attrs: Attributes of the tile, JSON values; angles that are unknown are absent.
    """

    source: str
    scene_id: str
    attrs: dict[str, Any] = field(default_factory=dict)


def tile_geobox(grids: Mapping[str, tuple[S2Band, RawGrid]], where: str) -> "GeoBox":
    """Return the grid of 10 m that all bands of a scene share; `where` names the scene in messages.

    Raises:
        SceneError: If there is no band.
        SceneGridError: If the bands do not share one: another CRS, corner or size, or pixels of another size.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    found: dict[tuple[Any, ...], str] = {}
    for name, (band, grid) in grids.items():
        a, b, c, d, e, f = grid.transform
        if (a, b, d, e) != (band.resolution, 0, 0, -band.resolution):
            raise SceneGridError(
                f"{where}: {band.number} has pixels of ({a}, {b}, {d}, {e}); expected {band.resolution} m, north-up."
            )
        height, width = (size * band.factor for size in grid.shape)
        found.setdefault((grid.crs, c, f, height, width), name)
    if not found:
        raise SceneError(f"{where} holds no band.")
    if len(found) > 1:
        listed = "; ".join(f"{name}: {key}" for key, name in found.items())
        raise SceneGridError(f"{where}: the bands lie on different grids (CRS, left, top, height, width): {listed}.")
    crs, left, top, height, width = next(iter(found))
    return GeoBox((height, width), Affine(TILE_RESOLUTION, 0, left, 0, -TILE_RESOLUTION, top), crs)
