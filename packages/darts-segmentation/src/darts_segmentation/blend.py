"""Put the probabilities of overlapping patches together to a tile."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.errors import OutputError
from darts_segmentation.grid import PatchGrid

if TYPE_CHECKING:
    import torch

_BLOCK_ROWS = 1024


class Blend:
    """Adds up weighted patches on the device where they were computed.

    The weights of all patches that cover a pixel sum to 1, so that the sum is the result and nothing is to be divided.
    Patches without a valid pixel may be left out: they would only add to pixels that end as NaN.

    Args:
        grid: The patches of the tile.
        device: Where the patches are.
    """

    def __init__(self, grid: PatchGrid, device: "torch.device") -> None:
        import torch

        self._grid = grid
        self._sums = torch.zeros((grid.y.size, grid.x.size), dtype=torch.float32, device=device)
        self._weights_y = torch.from_numpy(grid.y.weights).to(device)
        self._weights_x = torch.from_numpy(grid.x.weights).to(device)

    def add(self, places: Sequence[tuple[int, int]], patches: "torch.Tensor") -> None:
        """Add patches, without taking memory.

        Args:
            places: Row and column of each patch in the grid.
            patches: float32 of shape (patches, y, x); weighted in place.
        """
        for (row, column), patch in zip(places, patches, strict=True):
            tile_y, patch_y = self._grid.y.inside(row)
            tile_x, patch_x = self._grid.x.inside(column)
            weighted = patch[patch_y, patch_x].mul_(self._weights_y[row, patch_y, None])
            self._sums[tile_y, tile_x].addcmul_(weighted, self._weights_x[column, patch_x])

    def finish(self, valid: NDArray[np.bool_]) -> "torch.Tensor":
        """Return the blended tile.

        Args:
            valid: bool of shape (y, x), True where the tile has data.

        Returns:
            float32 of shape (y, x), 0…1, NaN where not valid.

        Raises:
            OutputError: If a valid pixel is NaN, because a network returned NaN.
        """
        import torch

        for top in range(0, len(valid), _BLOCK_ROWS):
            rows = self._sums[top : top + _BLOCK_ROWS]
            rows_valid = torch.from_numpy(valid[top : top + _BLOCK_ROWS]).to(rows.device)
            broken = int((rows.isnan() & rows_valid).count_nonzero())
            if broken:
                raise OutputError(
                    f"The network returned NaN for {broken} pixels with valid input, in rows {top} to "
                    f"{top + len(rows)}. In fp16 numbers may have become too large: choose another precision; else "
                    "the model is broken."
                )
            # Rounding may lift a sum of weights, and with it a probability of 1, by a few last bits.
            rows.clamp_(max=1).masked_fill_(~rows_valid, torch.nan)
        return self._sums
