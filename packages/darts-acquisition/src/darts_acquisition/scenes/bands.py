"""The bands of Sentinel-2 L2A: what a tile calls them, and what the two sources do."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from darts_utils import BANDS, OPTICAL_BANDS, ParameterError, band_attrs

TILE_RESOLUTION = 10
"""Pixel size of a tile in metres."""


@dataclass(frozen=True)
class S2Band:
    """A band of Sentinel-2 L2A.

    Attributes:
        name: Name in a tile, the common name of the STAC extension `eo`; or `s2_scl`.
        number: ESA's number of the band, for example "B02"; or "SCL".
        resolution: Native pixel size in metres.
        dtype: Data type of the raw integers.
        long_name: What the values of a tile are.
        nodata: Raw integer that stands for no data.
        quality: Of a band that says how good pixels are: the data quality (uint8: 0 invalid, 1 low, 2 high) that
            follows from its raw integers. None for reflectance.
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
    """Return the data quality that follows from the scene classification.

    Classes 0 (no data) and 1 (saturated or defective) are invalid; 3, 8, 9 and 11 (cloud shadow, cloud of medium and
    of high probability, snow) are of low quality; 2, 4, 5, 6, 7 and 10 are of high quality. Classes: ESA, "Sentinel-2
    Products Specification Document", Level-2A scene classification. A value that is no class is invalid.

    Args:
        scl: Scene classification, any shape, uint8.

    Returns:
        uint8 of the same shape: 0 invalid, 1 low, 2 high.
    """
    quality = np.zeros(256, "uint8")
    quality[[3, 8, 9, 11]] = 1
    quality[[2, 4, 5, 6, 7, 10]] = 2
    return quality[scl]


def _reflectance(name: str, number: str, resolution: int) -> S2Band:
    return S2Band(name, number, resolution, "uint16", f"{name} surface reflectance")


SCL = S2Band("s2_scl", "SCL", 20, "uint8", BANDS["s2_scl"].long_name, quality=quality_from_scl)
REFLECTANCE_BANDS = (
    _reflectance("coastal", "B01", 60),
    _reflectance("blue", "B02", 10),
    _reflectance("green", "B03", 10),
    _reflectance("red", "B04", 10),
    _reflectance("rededge071", "B05", 20),
    _reflectance("rededge075", "B06", 20),
    _reflectance("rededge078", "B07", 20),
    _reflectance("nir", "B08", 10),
    _reflectance("nir08", "B8A", 20),
    _reflectance("nir09", "B09", 60),
    _reflectance("swir16", "B11", 20),
    _reflectance("swir22", "B12", 20),
)
"""All reflectance bands of the L2A product, by wavelength. B10 is not part of it."""


def select_bands(bands: "Iterable[str] | str | None" = None) -> tuple[S2Band, ...]:
    """Look up the bands that a caller names, each once, by wavelength.

    Args:
        bands: Names in a tile ("blue") or ESA's numbers ("B02"); None for blue, green, red and nir; "all" for every
            reflectance band.

    Raises:
        ParameterError: If a name is unknown, or there is none.

    Examples:
        >>> [band.name for band in select_bands(["B08", "blue"])]
        ['blue', 'nir']
    """
    if bands == "all":
        return REFLECTANCE_BANDS
    wanted = set(OPTICAL_BANDS if bands is None else [bands] if isinstance(bands, str) else bands)
    found = tuple(band for band in REFLECTANCE_BANDS if {band.name, band.number} & wanted)
    known = {name for band in (*REFLECTANCE_BANDS, SCL) for name in (band.name, band.number)}
    unknown = sorted(wanted - known)
    if unknown or not found:
        raise ParameterError(
            f"bands is {bands!r}, {unknown[0] + ' is unknown' if unknown else 'which names no reflectance band'}; "
            f"expected some of {', '.join(band.name for band in REFLECTANCE_BANDS)}, or 'all'."
        )
    return found


def bands_of_scene(bands: "Iterable[str] | str | None" = None) -> tuple[S2Band, ...]:
    """Return all that is fetched and stored of a scene: what `select_bands` finds, and the scene classification."""
    return (*select_bands(bands), SCL)
