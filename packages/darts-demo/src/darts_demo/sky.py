"""What lies between ground and sensor: the sun's place, clouds and their shadows, the slanted edge of the image."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from darts_demo.noise import Field, fractal, smoothstep

_CLOUD_BASE_M = (450.0, 800.0)


@dataclass(frozen=True)
class Sky:
    """The atmosphere over an area.

    Attributes:
        cloud: Opacity of clouds and haze, float32, 0…1.
        shadow: Depth of cloud shadow, float32, 0…1.
    """

    cloud: Field
    shadow: Field


def sun_angles(time: datetime, longitude: float, latitude: float) -> tuple[float, float]:
    """Return where the sun stands, good to about two degrees.

    Declination after Cooper (1969), time without the equation of time.

    Args:
        time: When, with a time zone.
        longitude: Degrees east.
        latitude: Degrees north.

    Returns:
        Azimuth in degrees clockwise from north, and elevation in degrees.
    """
    utc = time.astimezone(UTC)
    day = utc.timetuple().tm_yday
    declination = np.radians(23.45 * np.sin(2 * np.pi * (284 + day) / 365))
    hours = utc.hour + utc.minute / 60 + utc.second / 3600
    angle = np.radians(15 * (hours - 12) + longitude)
    phi = np.radians(latitude)
    up = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(angle)
    north = np.cos(phi) * np.sin(declination) - np.sin(phi) * np.cos(declination) * np.cos(angle)
    east = -np.cos(declination) * np.sin(angle)
    return float(np.degrees(np.arctan2(east, north)) % 360), float(np.degrees(np.arcsin(up)))


def make_sky(rng: np.random.Generator, shape: tuple[int, int], cell: float, azimuth: float, elevation: float) -> Sky:
    """Let a few fair-weather clouds drift in from one side, with their shadows.

    Args:
        rng: Where the randomness comes from.
        shape: Rows and columns.
        cell: Cell size in metres.
        azimuth: Direction of the sun, degrees clockwise from north.
        elevation: Height of the sun, degrees.

    Returns:
        Clouds and shadows; a few percent of the area.
    """
    noise = fractal(rng, shape, 900 / cell, 4, 0.75)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    middle = rng.uniform(0.1, 0.9, 2) * shape
    reach = 0.18 * max(shape)
    near = np.exp(-(((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2) / (2 * reach**2))).astype(np.float32)
    cloud = smoothstep(noise + 2.6 * near, 2.7, 4.3)
    height = rng.uniform(*_CLOUD_BASE_M) / np.tan(np.radians(elevation)) / cell
    direction = np.radians(azimuth)
    away = round(height * np.cos(direction)), round(-height * np.sin(direction))
    shadow = ndimage.shift(cloud, away, order=0)
    return Sky(cloud, smoothstep(shadow, 0.1, 0.7) * (1 - cloud))


def through(sky: Sky, bands: Field) -> Field:
    """Return surface reflectance as a sensor would get it below clouds and shadows that nobody corrected.

    Args:
        sky: The atmosphere.
        bands: (4, rows, columns) float32, surface reflectance in clear air. Not changed.

    Returns:
        The same shape.
    """
    bright = np.array([0.52, 0.52, 0.53, 0.58], dtype=np.float32)[:, None, None]
    skylight = np.array([0.42, 0.36, 0.32, 0.28], dtype=np.float32)[:, None, None]
    lit = bands * (1 - sky.shadow * (1 - skylight))
    return lit * (1 - sky.cloud) + bright * sky.cloud


def image_edge(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where the image holds data: all but a wedge along one side, as in images that a satellite took askew.

    Returns:
        True where there is data, bool.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    y, x = (rows + 0.5) / shape[0], (columns + 0.5) / shape[1]
    across, along = ((x, y), (1 - x, y), (y, x), (1 - y, x))[rng.integers(4)]
    lean = rng.uniform(0.10, 0.16) * rng.choice([-1, 1])
    return across > 0.06 + lean * (along - 0.5)


def usable_data_mask(sky: Sky, snow: NDArray[np.bool_], data: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the eight UDM2 bands that Planet's classifier would ideally deliver.

    Args:
        sky: The atmosphere.
        snow: (rows, columns) bool, True where snow lies.
        data: (rows, columns) bool, True where the image holds data.

    Returns:
        (8, rows, columns) uint8: clear, snow, shadow, light haze, heavy haze, cloud (0 or 1), confidence in percent,
        unusable data (bit 0: no data).
    """
    cloud = data & (sky.cloud > 0.5)
    heavy = data & (sky.cloud > 0.25) & ~cloud
    shadow = data & (sky.shadow > 0.35) & ~cloud & ~heavy
    light = data & (sky.cloud > 0.06) & ~cloud & ~heavy & ~shadow
    white = data & snow & ~cloud & ~heavy & ~shadow & ~light
    clear = data & ~(cloud | heavy | shadow | light | white)
    doubt = 60 * np.abs(np.clip(sky.cloud, 0.06, 0.5) - 0.06) * (sky.cloud < 0.5)
    confidence = np.where(data, 97 - doubt, 0)
    return np.stack([clear, white, shadow, light, heavy, cloud, confidence, ~data]).astype(np.uint8)
