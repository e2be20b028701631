"""A made-up Arctic landscape with thaw slumps whose outlines are known: the same for the same seed and size."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from darts_demo.noise import Field, fractal
from darts_demo.sky import Sky, image_edge, make_sky, sun_angles, through, usable_data_mask
from darts_demo.slumps import Slump, Slumps, add_slumps
from darts_demo.surface import make_reflectance
from darts_demo.terrain import Terrain, make_terrain
from darts_utils import ParameterError, step

CELL_M = 3.0
CRS = "EPSG:32608"
LEFT_M, TOP_M = 468_000.0, 7_551_000.0
"""North-west corner of every landscape, on the Peel Plateau, where real thaw slumps abound."""
MARGIN_PX = 168
"""Ground beyond the image on every side, for which heights are known as well: 504 m."""
SMALLEST_PX = 64
_LONGITUDE, _LATITUDE = -135.7, 68.05


@dataclass(frozen=True)
class Landscape:
    """A landscape, its image, and the truth.

    Rows run from north to south. "Wide" arrays hold :data:`MARGIN_PX` more pixels on every side than the image.

    Attributes:
        seed: What it grew from.
        size: Rows and columns of the image.
        time: When the image was taken.
        azimuth: Direction of the sun, degrees clockwise from true north.
        elevation: Height of the sun, degrees.
        reflectance: (4, size, size) blue, green, red, nir, float32, surface reflectance, NaN where there is no data.
        udm: (8, size, size) uint8, the bands of PlanetScope's usable data mask.
        label: (size, size) int32, 0 outside slumps, else the slump's number: the truth.
        slumps: One entry per slump that reaches into the image; places are cells of the image.
        height: Wide, float32, elevation in metres.
        trends: (3, wide) uint8, Landsat trends of brightness, greenness and wetness.
    """

    seed: int
    size: int
    time: datetime
    azimuth: float
    elevation: float
    reflectance: Field
    udm: NDArray[np.uint8]
    label: NDArray[np.int32]
    slumps: tuple[Slump, ...]
    height: Field
    trends: NDArray[np.uint8]

    @property
    def geobox(self) -> GeoBox:
        """Grid of the image: 3 m, UTM zone 8 north."""
        return image_geobox(self.size)

    @property
    def wide_geobox(self) -> GeoBox:
        """Grid of the wide arrays."""
        return image_geobox(self.size, MARGIN_PX)


def make_landscape(seed: int, size: int = 2048, slumps_per_km2: float = 1.2) -> Landscape:
    """Make a landscape: terrain, plants, slumps, snow, clouds, and an image of it all.

    Args:
        seed: Same seed, same landscape; at least 0.
        size: Rows and columns of the image, pixels of 3 m.
        slumps_per_km2: Slumps to aim at; at least four in all, the first of them inside the image.

    Returns:
        The landscape.

    Raises:
        ParameterError: If the seed is negative or the size below 64.
    """
    if seed < 0 or size < SMALLEST_PX:
        raise ParameterError(f"seed is {seed} and size {size}; expected a seed from 0 and a size from {SMALLEST_PX}.")
    ground, cover, slumped, light, air, sensor, trend = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7)
    )
    wide = size + 2 * MARGIN_PX
    inner = slice(MARGIN_PX, MARGIN_PX + size)
    time = datetime(2022, 8, 1, 19, 10, tzinfo=UTC) + timedelta(
        days=int(light.integers(25)), seconds=int(light.integers(5400))
    )
    azimuth, elevation = sun_angles(time, _LONGITUDE, _LATITUDE)
    with step("terrain"):
        terrain = make_terrain(ground, wide, wide, CELL_M)
    with step("slumps"):
        slumps = add_slumps(slumped, terrain, slumps_per_km2, (inner, inner))
    with step("reflectance"):
        clear, snow = make_reflectance(cover, terrain, slumps, azimuth, elevation)
    with step("sky"):
        sky = make_sky(air, (wide, wide), CELL_M, azimuth, elevation)
        seen = through(sky, clear)[:, inner, inner]
        data = image_edge(sensor, (size, size))
    seen_sky = Sky(sky.cloud[inner, inner], sky.shadow[inner, inner])
    label = slumps.label[inner, inner].copy()
    present = set(np.unique(label).tolist())  # slumps that reach into the image
    return Landscape(
        seed=seed,
        size=size,
        time=time,
        azimuth=azimuth,
        elevation=elevation,
        reflectance=np.where(data, np.clip(seen, 0.0005, 1.2), np.float32(np.nan)),
        udm=usable_data_mask(seen_sky, snow[inner, inner], data),
        label=label,
        slumps=tuple(slump.moved(-MARGIN_PX) for slump in slumps.slumps if slump.number in present),
        height=slumps.height,
        trends=_trends(trend, terrain, slumps),
    )


def image_geobox(size: int, margin: int = 0) -> GeoBox:
    """Return the grid of a landscape's image: pixels of 3 m, UTM zone 8 north.

    Args:
        size: Rows and columns of the image.
        margin: Pixels to add on every side.

    Returns:
        The grid in EPSG:32608, north-up.
    """
    corner = Affine(CELL_M, 0, LEFT_M - margin * CELL_M, 0, -CELL_M, TOP_M + margin * CELL_M)
    return GeoBox((size + 2 * margin, size + 2 * margin), corner, CRS)


def _trends(rng: np.random.Generator, terrain: Terrain, slumps: Slumps) -> NDArray[np.uint8]:
    """Twenty years of change: slumps turn brighter, less green and drier, old scars greener."""
    change = slumps.mud + slumps.scarp
    trends = []
    for by_slump, by_growth in ((48, -10), (-55, 25), (-42, 8)):
        noise = fractal(rng, terrain.height.shape, 500 / CELL_M, 30 / CELL_M, 0.4)
        values = 127 + 5 * noise + by_slump * change + by_growth * slumps.healed
        trends.append(np.clip(np.round(values), 1, 255).astype(np.uint8))
    return np.stack(trends)
