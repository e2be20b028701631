"""A raw scene: its bands, as the provider delivers them, each on its own grid, and what its metadata say."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_acquisition.errors import SceneError, SceneGridError
from darts_acquisition.tile import BandNames
from darts_utils import BANDS, OPTICAL_BANDS, ParameterError, band_attrs

TILE_RESOLUTION = 10
"""Pixel size of a tile in metres."""


@dataclass(frozen=True)
class S2Band:
    """A band of Sentinel-2 L2A.

    `name` is that in a tile, the common name of the STAC extension `eo`, or `s2_scl`; `number` is ESA's ("B02", "SCL").
    `resolution` is the native pixel size in metres, `dtype` and `nodata` are those of the raw integers, `long_name` is
    what the values of a tile are. Of a band that says how good pixels are, `quality` makes the data quality (uint8: 0
    invalid, 1 low, 2 high) of raw integers; None for reflectance.
    """

    name: str
    number: str
    resolution: int
    dtype: str
    long_name: str
    nodata: int = 0
    quality: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def cdse_asset(self) -> str:
        """Name of the asset in the Copernicus Data Space, for example "B02_10m"."""
        return f"{self.number}_{self.resolution}m"

    @property
    def gee_band(self) -> str:
        """Name in Earth Engine, for example "B2"."""
        return self.number if not self.number.startswith("B0") else f"B{self.number[2:]}"

    @property
    def factor(self) -> int:
        """Pixels of a tile along the edge of one of the band's."""
        return self.resolution // TILE_RESOLUTION

    def attrs(self, **extra: str) -> dict[str, str]:
        """Return the attributes that the band carries in a tile."""
        if self.name in BANDS:
            return band_attrs(self.name, **extra)
        return {"long_name": self.long_name, "units": "1"} | extra


def quality_from_scl(scl: np.ndarray) -> np.ndarray:
    """Return the data quality (uint8: 0 invalid, 1 low, 2 high) of a scene classification, uint8 of any shape.

    Classes 0 (no data) and 1 (saturated or defective) are invalid; 3, 8, 9 and 11 (cloud shadow, cloud of medium and
    of high probability, snow) are of low quality; 2, 4, 5, 6, 7 and 10 are of high quality. Classes: ESA, "Sentinel-2
    Products Specification Document", Level-2A scene classification. A value that is no class is invalid.
    """
    quality = np.zeros(256, "uint8")
    quality[[3, 8, 9, 11]] = 1
    quality[[2, 4, 5, 6, 7, 10]] = 2
    return quality[scl]


SCL = S2Band("s2_scl", "SCL", 20, "uint8", BANDS["s2_scl"].long_name, quality=quality_from_scl)
_NAMES = {
    "B01": ("coastal", 60),
    "B02": ("blue", 10),
    "B03": ("green", 10),
    "B04": ("red", 10),
    "B05": ("rededge071", 20),
    "B06": ("rededge075", 20),
    "B07": ("rededge078", 20),
    "B08": ("nir", 10),
    "B8A": ("nir08", 20),
    "B09": ("nir09", 60),
    "B11": ("swir16", 20),
    "B12": ("swir22", 20),
}
REFLECTANCE_BANDS = tuple(
    S2Band(name, number, resolution, "uint16", f"{name} surface reflectance")
    for number, (name, resolution) in _NAMES.items()
)
"""All reflectance bands of the L2A product, by wavelength. B10 is not part of it."""


def select_bands(bands: BandNames = None) -> tuple[S2Band, ...]:
    """Look up the bands that a caller names, each once, by wavelength; ParameterError if one is unknown, or none.

    Names are those in a tile ("blue") or ESA's numbers ("B02"); None means blue, green, red and nir, "all" every
    reflectance band.
    """
    if bands == "all":
        return REFLECTANCE_BANDS
    wanted = set(OPTICAL_BANDS if bands is None else [bands] if isinstance(bands, str) else bands)
    found = tuple(band for band in REFLECTANCE_BANDS if {band.name, band.number} & wanted)
    known = {name for band in (*REFLECTANCE_BANDS, SCL) for name in (band.name, band.number)}
    unknown = sorted(map(str, wanted - known))
    if unknown or not found:
        raise ParameterError(
            f"bands is {bands!r}, {unknown[0] + ' is unknown' if unknown else 'which names no reflectance band'}; "
            f"expected some of {', '.join(band.name for band in REFLECTANCE_BANDS)}, or 'all'."
        )
    return found


def bands_of_scene(bands: BandNames = None) -> tuple[S2Band, ...]:
    """Return all that is fetched and stored of a scene: what `select_bands` finds, and the scene classification."""
    return (*select_bands(bands), SCL)


@dataclass(frozen=True)
class RawGrid:
    """Where the pixels of a band lie, and what its integers mean: reflectance = DN · scale + offset.

    `crs` is a code ("EPSG:32608"), `transform` that of pixel edges in the order of `affine.Affine`, `shape` height and
    width in pixels.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]
    scale: float = 1.0
    offset: float = 0.0

    @property
    def affine(self) -> Affine:
        """The transform as an object that computes."""
        return Affine(*self.transform)

    @classmethod
    def of(cls, crs: object, transform: Iterable[Any], shape: Iterable[Any], scale: Any, offset: Any) -> "RawGrid":
        """Read a grid from what JSON has of it; TypeError or ValueError if a number is none, or one is too many."""
        a, b, c, d, e, f = (float(value) for value in transform)
        height, width = (int(size) for size in shape)
        return cls(str(crs), (a, b, c, d, e, f), (height, width), float(scale), float(offset))


@dataclass(frozen=True)
class RawBand:
    """A band as the provider delivers it: raw integers, of the shape of its grid and the band's data type."""

    band: S2Band
    grid: RawGrid
    values: np.ndarray
    rows_at_once: int = 183

    def read(self, rows: slice = slice(None)) -> np.ndarray:
        """Return a view of rows, as a band in the store reads them."""
        return self.values[rows]


@dataclass(frozen=True)
class SceneMetadata:
    """What is known of a scene besides its pixels; `attrs` are those of the tile, JSON values, angles only if known."""

    source: str
    scene_id: str
    attrs: dict[str, Any] = field(default_factory=dict)


def tile_geobox(grids: Mapping[str, tuple[S2Band, RawGrid]], where: str) -> GeoBox:
    """Return the grid of 10 m that all bands of a scene share; `where` names the scene in messages.

    SceneError if there is no band; SceneGridError if the bands do not share one: another CRS, corner or size, or pixels
    of another size.
    """
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


def grid_of(
    asset: Mapping[str, Any], general: Mapping[str, object], where: str, scaling: tuple[float, float]
) -> RawGrid:
    """Return where the pixels of an asset lie, by itself or else by `general`; SceneError if neither says it."""
    said: dict[str, Any] = {
        name: asset.get(f"proj:{name}") or general.get(f"proj:{name}")
        for name in ("code", "epsg", "transform", "shape")
    }
    try:
        crs = said["code"] or f"EPSG:{int(said['epsg'])}"
        return RawGrid.of(crs, said["transform"][:6], said["shape"], *scaling)
    except (TypeError, ValueError, IndexError) as error:
        raise SceneError(f"{where}: the item lacks proj:code, proj:transform or proj:shape.") from error


def read_angle(values: Mapping[str, object], name: str, low: float, high: float, where: str) -> float | None:
    """Return an angle in degrees, None where there is none; SceneError if it cannot be. `where` is for the message."""
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SceneError(f"{where}: {name} is {value!r}; expected degrees, {low} to {high}.")
    return float(value)


def read_time(text: Any, where: str, name: str = "datetime") -> datetime:
    """Read a time, in UTC where it does not say; SceneError if it is none."""
    try:
        timestamp = datetime.fromisoformat(text)
        return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise SceneError(f"{where}: {name} is {text!r}; expected a time as ISO 8601.") from error


def time_of_item(item: Mapping[str, Any], *names: str) -> datetime:
    """Return the first time that a STAC item has of some properties, in UTC; SceneError if it is none."""
    return read_time(next(filter(None, map(item["properties"].get, names)), None), f"Scene {item['id']}")


def scene_metadata(source: str, scene_id: str, time: datetime, **others: object) -> SceneMetadata:
    """Return what a source says of a Sentinel-2 scene; values that are None are left out."""
    attrs = {"time": in_utc(time), "s2_source": source, "s2_scene_id": scene_id}
    return SceneMetadata(source, scene_id, attrs | {name: value for name, value in others.items() if value is not None})


def in_utc(timestamp: datetime, precision: str = "auto") -> str:
    """Write a time in UTC as ISO 8601; `precision` is a `timespec` of `datetime.isoformat`."""
    return timestamp.isoformat(timespec=precision).replace("+00:00", "Z")
