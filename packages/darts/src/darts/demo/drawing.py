"""A picture of a result: the image in true colour, what was found, and what was there."""

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from darts_acquisition import load_planet_scene
from darts_demo import SampleArea, read_truth
from darts_utils import GridError, MissingBandError, ParameterError, write_atomically

if TYPE_CHECKING:
    import xarray as xr

FOUND_COLOUR = (255, 214, 10)
TRUE_COLOUR = (0, 229, 255)
_LINES = (FOUND_COLOUR, TRUE_COLOUR, (24, 24, 24), (235, 235, 235))
_WHITE_AT = {"red": 0.17, "green": 0.16, "blue": 0.14}  # reflectance that is drawn as white
_GAMMA = 0.75
_FOUND_PX, _TRUE_PX = 2, 4  # widths; where both outlines agree, the truth frames what was found
_BAR_PX = 30
_TRIES = ((1.0, 128), (1.0, 64), (0.85, 64), (0.7, 64), (0.55, 48), (0.4, 32), (0.25, 16))


def draw_result(area: SampleArea, results: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Draw what the pipeline found in a sample area over its image, with the true outlines.

    Args:
        area: The sample area.
        results: Folder that the pipeline wrote for its scene; ``binarized.tif`` is read.
        path: PNG file to write, below 300 kB; its folder must exist.

    Returns:
        The path.
    """
    with rasterio.open(Path(results) / "binarized.tif") as file:
        found = file.read(1) == 1
    return draw_map(path, load_planet_scene(area.scene_dir), found, read_truth(area))


def draw_map(
    path: str | os.PathLike[str],
    tile: "xr.Dataset",
    found: NDArray[np.bool_],
    truth: NDArray[np.integer] | NDArray[np.bool_],
    width_px: int = 900,
    max_bytes: int = 300_000,
) -> Path:
    """Draw a tile in true colour with the outlines of what was found and of the truth.

    Args:
        path: PNG file to write; its folder must exist.
        tile: Tile with ``red``, ``green``, ``blue`` (y, x), surface reflectance, NaN where there is none. Not changed.
        found: (y, x) bool, True where slumps were found; outlined in yellow.
        truth: (y, x), True or above 0 in true slumps; outlined in light blue.
        width_px: Width of the picture in pixels, at least 200; smaller where the tile or `max_bytes` is.
        max_bytes: Largest size of the file; colours, then pixels are given up until it fits.

    Returns:
        The path.

    Raises:
        MissingBandError: If a band is absent.
        GridError: If the masks do not have the tile's shape.
        ParameterError: If the width is below 200 or the picture cannot be made as small as `max_bytes`.
    """
    missing = [band for band in _WHITE_AT if band not in tile]
    if missing:
        raise MissingBandError(f"The tile lacks {', '.join(missing)}; expected red, green and blue.")
    shape = tile["red"].shape
    if not found.shape == np.shape(truth) == shape:
        raise GridError(f"The tile has shape {shape}, what was found {found.shape}, the truth {np.shape(truth)}.")
    if width_px < 200:
        raise ParameterError(f"width_px is {width_px}; expected at least 200.")
    picture = _true_colour(np.stack([tile[band].values for band in _WHITE_AT], axis=-1))
    scale = min(1.0, width_px / shape[1])
    for share, palette in _TRIES:
        content = _png(picture, found, np.asarray(truth) > 0, scale * share, palette)
        if len(content) <= max_bytes:
            write_atomically(path, content)
            return Path(path)
    raise ParameterError(f"max_bytes is {max_bytes}; even the smallest picture takes {len(content)}.")


def _true_colour(colours: NDArray[np.float32]) -> NDArray[np.uint8]:
    bright = np.clip(colours / np.array(list(_WHITE_AT.values()), dtype=np.float32), 0, 1) ** _GAMMA
    return np.round(255 * np.nan_to_num(bright)).astype(np.uint8)


def _png(
    picture: NDArray[np.uint8], found: NDArray[np.bool_], truth: NDArray[np.bool_], scale: float, colours: int
) -> bytes:
    """The scaled picture with both outlines and a bar that explains them, as a PNG with a palette.

    The picture's own colours are reduced without dithering, whose noise does not compress; the lines keep theirs.
    """
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    few = small.quantize(colours - len(_LINES), method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = (few.getpalette() or [])[: 3 * (colours - len(_LINES))]
    first = len(palette) // 3
    few.putpalette([*palette, *(part for colour in _LINES for part in colour)])
    found_index, true_index, bar_index, text_index = range(first, first + len(_LINES))
    pixels = np.array(few)
    pixels[_outline(truth, size, _TRUE_PX)] = true_index
    pixels[_outline(found, size, _FOUND_PX)] = found_index
    canvas = Image.new("P", (size[0], size[1] + _BAR_PX), bar_index)
    canvas.putpalette(few.getpalette() or [])
    canvas.paste(Image.fromarray(pixels), (0, 0))
    draw = ImageDraw.Draw(canvas)
    middle = size[1] + _BAR_PX // 2
    for left, text, index in ((12, "found", found_index), (108, "truth", true_index)):
        draw.line([(left, middle), (left + 26, middle)], fill=index, width=3)
        draw.text((left + 34, middle - 7), text, fill=text_index)
    buffer = BytesIO()
    canvas.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _outline(mask: NDArray[np.bool_], size: tuple[int, int], width: int) -> NDArray[np.bool_]:
    """The pixels just outside a mask that is scaled to a size (width, height)."""
    small = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) > 127
    return ndimage.binary_dilation(small, iterations=width) & ~small
