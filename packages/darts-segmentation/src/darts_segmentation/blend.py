"""Put the probabilities of overlapping patches together to a tile."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.arrays import namespace
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
        device: Where the patches are; None for arrays of numpy.
    """

    def __init__(self, grid: PatchGrid, device: "torch.device | None") -> None:
        self._grid = grid
        self._device = device
        self._sums: Any = self._on_device(np.zeros((grid.y.size, grid.x.size), np.float32))
        self._weights_y = self._on_device(grid.y.weights)
        self._weights_x = self._on_device(grid.x.weights)

    def _on_device(self, array: NDArray[Any]) -> Any:
        if self._device is None:
            return array
        import torch

        return torch.from_numpy(array).to(self._device)

    def add(self, places: Sequence[tuple[int, int]], patches: Any) -> None:
        """Add patches, without taking memory.

        Args:
            places: Row and column of each patch in the grid.
            patches: float32 of shape (patches, y, x); weighted in place.
        """
        for (row, column), patch in zip(places, patches, strict=True):
            tile_y, patch_y = self._grid.y.inside(row)
            tile_x, patch_x = self._grid.x.inside(column)
            weighted, sums = patch[patch_y, patch_x], self._sums[tile_y, tile_x]
            weighted *= self._weights_y[row, patch_y, None]
            if self._device is None:
                weighted *= self._weights_x[column, patch_x]
                sums += weighted
            else:  # In one step, which rounds once.
                sums.addcmul_(weighted, self._weights_x[column, patch_x])

    def finish(self, valid: NDArray[np.bool_]) -> Any:
        """Return the blended tile.

        Args:
            valid: bool of shape (y, x), True where the tile has data.

        Returns:
            float32 of shape (y, x), 0…1, NaN where not valid: of numpy, or a tensor where the patches are.

        Raises:
            OutputError: If a valid pixel is NaN, because a network returned NaN.
        """
        isnan = namespace(self._sums).isnan
        broken = []
        for top in range(0, len(valid), _BLOCK_ROWS):
            rows = self._sums[top : top + _BLOCK_ROWS]
            rows_valid = self._on_device(valid[top : top + _BLOCK_ROWS])
            broken.append((isnan(rows) & rows_valid).sum())
            # Rounding may lift a sum of weights, and with it a probability of 1, by a few last bits.
            if self._device is None:
                rows.clip(max=1, out=rows)
                rows[~rows_valid] = np.nan
            else:
                rows.clamp_(max=1).masked_fill_(~rows_valid, np.nan)
        if int(sum(broken)):  # The device is waited for here alone.
            first = next(index for index, count in enumerate(broken) if int(count))
            raise OutputError(
                f"The network returned NaN for {int(sum(broken))} pixels with valid input, from rows "
                f"{first * _BLOCK_ROWS} to {min((first + 1) * _BLOCK_ROWS, len(valid))} on. In fp16 numbers may have "
                "become too large: choose another precision; else the model is broken."
            )
        return self._sums
