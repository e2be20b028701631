"""A picture of the tile: true colour, outlines of objects and of the reliable area, a title."""

import math
import unicodedata
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from darts_export.context import TileContext
from darts_export.layers import variable_values
from darts_export.preview import TITLE_PX, Preview, fit

_SMALL_PX = 400
_OBJECT_COLOUR = (255, 64, 32)
_EXTENT_COLOUR = (64, 200, 255)


def write_thumbnail(path: Path, preview: Preview, tile: xr.Dataset, context: TileContext) -> None:
    """Write the picture as JPEG, at most 1024 pixels wide and high.

    Args:
        path: The file to write.
        preview: The image of the tile. Not changed.
        tile: The tile; the objects of `binarized_segmentation` and the border of `extent` are drawn where the tile has
            them. Not changed.
        context: What the title says.

    Raises:
        OSError: If the file cannot be written.
    """
    picture, step = preview.picture.copy(), preview.step
    if "extent" in tile:
        extent = variable_values(tile, "extent")[step // 2 :: step, step // 2 :: step] > 0
        picture[_inner_edge(fit(extent, picture.shape[:2]))] = _EXTENT_COLOUR
    if "binarized_segmentation" in tile:
        objects = _shrink_mask(variable_values(tile, "binarized_segmentation"), step)
        picture[_outer_edge(objects)] = _OBJECT_COLOUR
    image = Image.fromarray(picture)
    if max(image.size) < _SMALL_PX:
        factor = math.ceil(_SMALL_PX / max(image.size))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    _with_title(image, context).save(path, "JPEG", quality=88, subsampling=0)


def _shrink_mask(mask: NDArray[np.generic], step: int) -> NDArray[np.bool_]:
    """Shrink by a whole number: a block is set if any of its pixels is, so that no object disappears."""
    rows, columns = (np.arange(0, size, step) for size in mask.shape)
    present = mask if mask.dtype == np.bool_ else np.greater(mask, 0)
    return np.logical_or.reduceat(np.logical_or.reduceat(present, rows, axis=0), columns, axis=1)


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
    date = "" if context.time is None else f"  {context.time:%Y-%m-%d}"
    title = _plain(f"{context.tile_id}{date}")
    framed = Image.new("RGB", (image.width, image.height + TITLE_PX), "white")
    framed.paste(image, (0, TITLE_PX))
    draw = ImageDraw.Draw(framed)
    size = 16
    while size > 8 and draw.textlength(title, font=ImageFont.load_default(size)) > image.width - 12:
        size -= 1
    font = ImageFont.load_default(size)
    draw.text((6, TITLE_PX // 2), title, fill="black", font=font, anchor="lm")
    return framed


def _plain(text: str) -> str:
    """Replace letters that the font of Pillow lacks by their base letter, and others by a question mark."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode()
