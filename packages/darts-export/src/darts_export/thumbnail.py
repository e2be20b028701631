"""A picture of the tile: true colour, outlines of objects and of the reliable area, a title."""

import math
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_export.context import TileContext
from darts_export.layers import variable_values
from darts_export.products import COLOURS
from darts_utils import spatial_dims
from darts_utils.objects import find_objects

if TYPE_CHECKING:
    import xarray as xr

MAX_SIZE_PX = 1024
_TITLE_PX = 28
_SMALL_PX = 400
_OBJECT_COLOUR = (255, 64, 32)
_EXTENT_COLOUR = (64, 200, 255)
_NO_DATA_COLOUR = (24, 24, 24)
# Tundra is dark next to snow, ice and cloud: the upper end of the stretch leaves the brightest pixels out, and a
# gamma above 1 lifts the rest.
_PERCENTILES = (1.0, 97.0)
_GAMMA = 1.3
# The stretch never spans less than this reflectance, so that an even surface does not become noise.
_LEAST_SPAN = 0.08


def write_thumbnail(path: Path, tile: "xr.Dataset", context: TileContext) -> None:
    """Write the picture as JPEG, at most 1024 pixels wide and high.

    Args:
        path: The file to write.
        tile: The tile, with red, green and blue; the objects of `binarized_segmentation` and the border of `extent`
            are drawn where the tile has them. Not changed.
        context: What the title says.

    Raises:
        OSError: If the file cannot be written.
    """
    from PIL import Image

    height, width = (tile.sizes[dim] for dim in spatial_dims(tile))
    step = max(1, math.ceil(max(width / MAX_SIZE_PX, height / (MAX_SIZE_PX - _TITLE_PX))))
    colour = np.stack([_shrink(variable_values(tile, name), step) for name in COLOURS], axis=-1)
    picture = stretch(colour)
    if "extent" in tile:
        extent = variable_values(tile, "extent")[step // 2 :: step, step // 2 :: step] > 0
        picture[_inner_edge(_fit(extent, picture.shape[:2]))] = _EXTENT_COLOUR
    if "binarized_segmentation" in tile:
        objects = _shrink_mask(variable_values(tile, "binarized_segmentation"), step)
        picture[_outer_edge(objects)] = _OBJECT_COLOUR
    image = Image.fromarray(picture)
    if max(image.size) < _SMALL_PX:
        factor = math.ceil(_SMALL_PX / max(image.size))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    _with_title(image, context).save(path, "JPEG", quality=88, subsampling=0)


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


def _shrink(values: NDArray[np.floating], step: int) -> NDArray[Any]:
    """Shrink by a whole number: every block becomes the mean of a few of its pixels, NaN if one of them is."""
    height, width = (math.ceil(size / step) for size in values.shape)
    total = np.zeros((height, width), np.float32)
    offsets = sorted({step // 4, (3 * step) // 4})
    for dy in offsets:
        for dx in offsets:
            total += _fit(values[dy::step, dx::step], (height, width))
    return total / len(offsets) ** 2


def _fit(values: NDArray[np.generic], shape: tuple[int, int]) -> NDArray[np.generic]:
    """Repeat the last row and column where a block at the border was too small to have a sample."""
    missing = [(0, size - length) for size, length in zip(shape, values.shape, strict=True)]
    return np.pad(values, missing, mode="edge") if any(after for _, after in missing) else values


def _shrink_mask(mask: NDArray[np.generic], step: int) -> NDArray[np.bool_]:
    """Shrink by a whole number: a block is set if any of its pixels is, so that no object disappears."""
    objects = find_objects(mask)
    height, width = (math.ceil(size / step) for size in mask.shape)
    # Each run of pixels sets a stretch of blocks: +1 where it begins, -1 behind its end, summed up along the row.
    change = np.zeros((height, width + 1), np.int32)
    np.add.at(change, (objects.row // step, objects.start // step), 1)
    np.add.at(change, (objects.row // step, (objects.stop - 1) // step + 1), -1)
    return np.cumsum(change[:, :-1], axis=1) > 0


def _outer_edge(mask: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return the pixels outside a mask that share an edge with it."""
    wide = np.pad(mask.astype(np.bool_), 1)
    near = wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2]
    return near & ~wide[1:-1, 1:-1]


def _inner_edge(mask: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that share an edge with the outside, or with the border of the raster."""
    wide = np.pad(mask.astype(np.bool_), 1)
    inside = wide[2:, 1:-1] & wide[:-2, 1:-1] & wide[1:-1, 2:] & wide[1:-1, :-2]
    return wide[1:-1, 1:-1] & ~inside


def _with_title(image, context: TileContext):  # type: ignore[no-untyped-def]
    from PIL import Image, ImageDraw, ImageFont

    date = "" if context.time is None else f"  {context.time:%Y-%m-%d}"
    title = _plain(f"{context.tile_id}{date}")
    framed = Image.new("RGB", (image.width, image.height + _TITLE_PX), "white")
    framed.paste(image, (0, _TITLE_PX))
    draw = ImageDraw.Draw(framed)
    size = 16
    while size > 8 and draw.textlength(title, font=ImageFont.load_default(size)) > image.width - 12:
        size -= 1
    font = ImageFont.load_default(size)
    draw.text((6, _TITLE_PX // 2), title, fill="black", font=font, anchor="lm")
    return framed


def _plain(text: str) -> str:
    """Replace letters that the font of Pillow lacks by their base letter, and others by a question mark."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode()
