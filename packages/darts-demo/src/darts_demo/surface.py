"""What grows and lies on the ground, and the sunlight that it reflects."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from darts_demo.noise import Field, fractal, smoothstep
from darts_demo.slumps import Slumps
from darts_demo.terrain import Terrain
from darts_utils import OPTICAL_BANDS

# Surface reflectance of what an Arctic tundra is made of, blue, green, red, near infrared: rounded from what
# Sentinel-2 sees on the Peel Plateau in August, with the haze taken off.
_TUSSOCK = (0.036, 0.062, 0.064, 0.240)
_HEATH = (0.046, 0.068, 0.082, 0.205)
_SHRUB = (0.022, 0.045, 0.030, 0.310)
_SEDGE = (0.032, 0.075, 0.046, 0.370)
_LICHEN = (0.085, 0.110, 0.125, 0.255)
_GRAVEL = (0.125, 0.150, 0.165, 0.205)
_SHALE = (0.085, 0.098, 0.108, 0.150)
_MUD = (0.090, 0.108, 0.120, 0.165)
_SCARP = (0.052, 0.062, 0.068, 0.092)
_LAKE = (0.024, 0.026, 0.015, 0.006)
_SHALLOWS = (0.045, 0.058, 0.048, 0.022)
_RIVER = (0.070, 0.088, 0.080, 0.038)
_SNOW = (0.780, 0.790, 0.770, 0.680)
_DIFFUSE = 0.3  # share of the light that comes from the whole sky


class _Canvas:
    """Four bands that surfaces are painted on, the later over the earlier."""

    def __init__(self, shape: tuple[int, int], colour: tuple[float, ...]) -> None:
        self.bands = np.empty((len(OPTICAL_BANDS), *shape), dtype=np.float32)
        self.bands[:] = np.array(colour, dtype=np.float32)[:, None, None]

    def paint(self, share: NDArray[np.floating], colour: tuple[float, ...]) -> None:
        for number, value in enumerate(colour):
            self.bands[number] += share * (np.float32(value) - self.bands[number])


def make_reflectance(
    rng: np.random.Generator, terrain: Terrain, slumps: Slumps, azimuth: float, elevation: float
) -> tuple[Field, NDArray[np.bool_]]:
    """Make what a satellite in clear air would see.

    Args:
        rng: Where the randomness comes from.
        terrain: The ground.
        slumps: Its slumps.
        azimuth: Direction of the sun, degrees clockwise from north.
        elevation: Height of the sun, degrees.

    Returns:
        Surface reflectance (4, rows, columns) float32 in the order of :data:`darts_utils.OPTICAL_BANDS`, and where
        snow lies, bool.
    """
    cell = terrain.cell
    slope = np.hypot(*np.gradient(ndimage.gaussian_filter(slumps.height, 1.5), cell))  # rise over run
    canvas = _Canvas(terrain.height.shape, _TUSSOCK)
    _paint_plants(rng, canvas, terrain, slope)
    _paint_bare(rng, canvas, terrain, slope)
    canvas.paint(slumps.healed * 0.8, _SEDGE)
    _paint_slumps(rng, canvas, slumps, cell)
    snow = _snow(rng, terrain, slumps, slope)
    canvas.paint(snow, _SNOW)
    canvas.bands *= 1 + 0.05 * fractal(rng, terrain.height.shape, 16 / cell, 2, 0.3)
    canvas.bands *= _light(slumps.height, cell, azimuth, elevation)
    _paint_water(canvas, terrain)
    blurred = [ndimage.gaussian_filter(band, 0.6) for band in canvas.bands]
    noise = rng.standard_normal(canvas.bands.shape, dtype=np.float32)
    return np.stack(blurred) + np.float32(0.0015) * noise, snow > 0.5


def _paint_plants(rng: np.random.Generator, canvas: _Canvas, terrain: Terrain, slope: Field) -> None:
    cell, shape = terrain.cell, terrain.height.shape
    patches = fractal(rng, shape, 600 / cell, 6, 0.5)
    detail = fractal(rng, shape, 90 / cell, 2, 0.3)
    relief = terrain.height - ndimage.uniform_filter(terrain.height, round(180 / cell), mode="nearest")
    canvas.paint(smoothstep(patches + 0.7 * detail + 0.5 * relief, -0.8, 1.8), _HEATH)
    canvas.paint(0.7 * smoothstep(patches + 0.6 * detail + 0.7 * relief, 1.5, 3.2), _LICHEN)
    valley = smoothstep(terrain.incised + 4 * patches + 3 * detail, 5, 20) * smoothstep(slope, 0.03, 0.12)
    canvas.paint(0.85 * valley, _SHRUB)
    width = 5 + 4 * np.log10(np.maximum(terrain.drained, 1e4) / 1e4)
    track = np.exp(-((terrain.stream / (width * (1 + 0.3 * detail).clip(0.3))) ** 2))
    canvas.paint(track * smoothstep(np.log10(np.maximum(terrain.drained, 1)), 4.2, 5.2) * 0.8, _SEDGE)
    canvas.paint(0.6 * track * smoothstep(terrain.incised, 8, 20), _SHRUB)
    canvas.paint(0.8 * smoothstep(terrain.lake + 10 * detail, 40, 4), _SEDGE)
    canvas.paint(0.9 * terrain.floodplain * smoothstep(patches + detail, -1.2, 0.6), _SHRUB)
    canvas.paint(0.7 * terrain.floodplain * smoothstep(patches - detail, 0.2, 1.2), _SEDGE)


def _paint_bare(rng: np.random.Generator, canvas: _Canvas, terrain: Terrain, slope: Field) -> None:
    """Paint what a network may take for slumps: river bars, bluffs of shale, blown-out ridges."""
    cell, shape = terrain.cell, terrain.height.shape
    bars = fractal(rng, shape, 240 / cell, 9 / cell, 0.8)
    near = ndimage.uniform_filter((terrain.water == 1).astype(np.float32), round(81 / cell), mode="nearest")
    canvas.paint(terrain.floodplain * smoothstep(bars + 5 * near, 0.9, 1.5), _GRAVEL)
    bluffs = fractal(rng, shape, 200 / cell, 12 / cell, 0.6)
    canvas.paint(0.9 * smoothstep(slope + 0.09 * bluffs, 0.52, 0.72), _SHALE)
    blown = fractal(rng, shape, 420 / cell, 9 / cell, 0.75)
    dry = smoothstep(terrain.incised, 10, 4) * smoothstep(terrain.lake, 30, 80)
    canvas.paint(0.85 * dry * smoothstep(blown, 2.15, 2.6), _GRAVEL)
    beach = smoothstep(terrain.lake, 14, 3) * smoothstep(bars, 0.8, 1.4)
    canvas.paint(beach, _SHALE)


def _paint_slumps(rng: np.random.Generator, canvas: _Canvas, slumps: Slumps, cell: float) -> None:
    tone = 1 + 0.12 * fractal(rng, slumps.label.shape, 120 / cell, 4, 0.5)
    canvas.paint(slumps.mud, _MUD)
    canvas.paint(0.8 * slumps.scarp, _SCARP)
    canvas.bands *= 1 + slumps.mud * (tone - 1)


def _snow(rng: np.random.Generator, terrain: Terrain, slumps: Slumps, slope: Field) -> Field:
    """Late snow in steep hollows that face north."""
    cell = terrain.cell
    south, _ = np.gradient(ndimage.gaussian_filter(slumps.height, 5), cell)
    shade = smoothstep(south, 0.16, 0.3) * smoothstep(slope, 0.18, 0.3)
    patches = fractal(rng, terrain.height.shape, 220 / cell, 9 / cell, 0.7)
    return shade * smoothstep(patches, 2.2, 2.5) * (terrain.water == 0)


def _light(height: Field, cell: float, azimuth: float, elevation: float) -> Field:
    """How much brighter or darker than flat ground each cell is: cosine law with diffuse light (Teillet 1982)."""
    south, east = np.gradient(height, cell)
    zenith, direction = np.radians(90 - elevation), np.radians(azimuth)
    towards = south * np.cos(direction) - east * np.sin(direction)
    cosine = (np.cos(zenith) + np.sin(zenith) * towards) / np.sqrt(1 + south**2 + east**2)
    return (_DIFFUSE + (1 - _DIFFUSE) * np.clip(cosine, 0, None) / np.cos(zenith)).astype(np.float32)


def _paint_water(canvas: _Canvas, terrain: Terrain) -> None:
    clear = smoothstep(terrain.depth, 0.2, 1.6)
    for kind, shallow, deep in ((1, _SHALLOWS, _RIVER), (2, _SHALLOWS, _RIVER), (3, _SHALLOWS, _LAKE)):
        canvas.paint((terrain.water == kind) * 0.95, shallow)
        canvas.paint((terrain.water == kind) * clear, deep)
