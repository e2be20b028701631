"""The image of a tile for people: true colour, small, without lines; the thumbnail is drawn on it."""

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from darts_export.layers import variable_values
from darts_export.products import COLOURS
from darts_utils import spatial_dims

MAX_SIZE_PX = 1024
TITLE_PX = 28
"""Height of the title that a thumbnail has above the image, within the same size."""
_NO_DATA_COLOUR = (24, 24, 24)
# Tundra is dark next to snow, ice and cloud: the upper end of the stretch leaves the brightest pixels out, and a
# gamma above 1 lifts the rest.
_PERCENTILES = (1.0, 97.0)
_GAMMA = 1.3
# The stretch never spans less than this reflectance, so that an even surface does not become noise.
_LEAST_SPAN = 0.08


@dataclass(frozen=True)
class Preview:
    """A small image.

    Attributes:
        picture: Array (y, x, 3), uint8; dark grey where there is no data.
        valid: Array (y, x), bool, True where there is data.
        step: Pixels of the tile along the edge of one of the image.
    """

    picture: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    step: int


def make_preview(tile: xr.Dataset) -> Preview:
    """Make the image of a tile, at most 1024 pixels wide and high.

    Args:
        tile: The tile, with red, green and blue. Not changed.

    Returns:
        The image.

    Raises:
        ParameterError: If a variable lacks a dimension of the grid.
    """
    height, width = (tile.sizes[dim] for dim in spatial_dims(tile))
    step = max(1, math.ceil(max(width / MAX_SIZE_PX, height / (MAX_SIZE_PX - TITLE_PX))))
    colour = np.stack([_shrink(variable_values(tile, name), step) for name in COLOURS], axis=-1)
    return Preview(stretch(colour), np.isfinite(colour).all(axis=-1), step)


def stretch(colour: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch reflectance to a picture in which tundra shows.

    Args:
        colour: Array (y, x, 3) of reflectance, float, NaN where there is none. Not changed.

    Returns:
        Array (y, x, 3), uint8. Each channel runs from its 1st to its 97th percentile; missing pixels are dark grey.
    """
    valid = np.isfinite(colour).all(axis=-1)
    picture = np.empty(colour.shape, np.uint8)
    picture[~valid] = _NO_DATA_COLOUR
    if valid.any():
        pixels = colour[valid]
        low, high = np.percentile(pixels, _PERCENTILES, axis=0)
        span = np.maximum(high - low, _LEAST_SPAN)
        scaled = np.clip((pixels - low) / span, 0, 1) ** (1 / _GAMMA)
        picture[valid] = np.rint(scaled * 255).astype(np.uint8)
    return picture


def fit(values: NDArray[np.generic], shape: tuple[int, int]) -> NDArray[np.generic]:
    """Repeat the last row and column where a block at the border was too small to have a sample."""
    missing = [(0, size - length) for size, length in zip(shape, values.shape, strict=True)]
    return np.pad(values, missing, mode="edge") if any(after for _, after in missing) else values


def _shrink(values: NDArray[np.floating], step: int) -> NDArray:
    """Shrink by a whole number: every block becomes the mean of a few of its pixels, NaN if one of them is."""
    height, width = (math.ceil(size / step) for size in values.shape)
    total = np.zeros((height, width), np.float32)
    offsets = sorted({step // 4, (3 * step) // 4})
    for dy in offsets:
        for dx in offsets:
            total += fit(values[dy::step, dx::step], (height, width))
    return total / len(offsets) ** 2
