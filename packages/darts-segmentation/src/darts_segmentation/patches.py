"""The patches of a tile exactly as inference sends them to a network: for training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.bands import Channel, TilePatches, get_bands, valid_pixels
from darts_segmentation.engines import make_engine
from darts_segmentation.grid import Axis, PatchGrid
from darts_segmentation.values import check_values

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Patch:
    """One patch.

    Attributes:
        row: First row of the patch in the tile, negative where it begins in the mirrored border.
        column: First column, likewise.
        values: float32 of shape (channels, y, x), scaled to 0…1, missing values 0.
        rows: Row of the tile that each row of the patch shows, 1-D; mirrored beyond the tile.
        columns: Column of the tile, likewise.
    """

    row: int
    column: int
    values: NDArray[np.float32]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]


def cut_patches(
    tile: "xr.Dataset", channels: Sequence[Channel], patch_size: int, overlap: int = 0, reflection: int = 0
) -> tuple[NDArray[np.bool_], Iterator[Patch]]:
    """Cut the patches of a tile that a network with these channels would get on the CPU.

    Args:
        tile: As in :meth:`SMPSegmenter.segment_tile`. Not changed.
        channels: What the network's input channels show, in its order.
        patch_size: Edge length in pixels.
        overlap: Pixels that neighbours share, at most half of `patch_size`.
        reflection: Pixels by which the mirrored border is wider than 1.

    Returns:
        Where the tile has a valid value in one of the bands, bool (y, x); and the patches that show such a pixel, row
        by row, cut as they are asked for.

    Raises:
        InputTypeError: If `tile` is no Dataset.
        MissingBandError: If the tile lacks a band.
        GridError: If a band does not lie on (y, x), or the tile is empty or not north-up.
        ValueRangeError: If a band cannot be in the unit that the channels take.
    """
    engine = make_engine("cpu")
    bands = get_bands(tile, dict.fromkeys(channel.band for channel in channels), engine.take)
    check_values(bands, [channels])
    valid = valid_pixels(bands, [channels])
    grid = PatchGrid.plan((valid.shape[0], valid.shape[1]), patch_size, overlap, reflection)
    loader = engine.loader(TilePatches(grid, tuple(channels), tuple(bands[channel.band] for channel in channels)), 1)

    def cut() -> Iterator[Patch]:
        for row, column in grid.with_valid_pixels(valid):
            values = loader.load([(row, column)])[0].contiguous().numpy().copy()
            yield Patch(grid.y.starts[row], grid.x.starts[column], values, _shown(grid.y, row), _shown(grid.x, column))

    return valid, cut()


def _shown(axis: Axis, index: int) -> NDArray[np.intp]:
    source = axis.source(index)
    return np.arange(source.start, source.stop) if isinstance(source, slice) else source
