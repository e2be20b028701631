"""Put the probabilities of overlapping patches together to a tile."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.arrays import namespace, upload
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

    Attributes:
        broken: After `finish` how many valid pixels are NaN, because a network returned NaN: integers of shape
            (blocks of rows,), where the patches are; see :func:`check_whole`.
    """

    def __init__(self, grid: PatchGrid, device: "torch.device | None") -> None:
        self._grid = grid
        self._device = device
        self.broken: Any = None
        self._sums: Any = self._zeros((grid.y.size, grid.x.size))
        self._weights_y = self._on_device(grid.y.weights)
        self._weights_x = self._on_device(grid.x.weights)

    def _zeros(self, shape: tuple[int, int]) -> Any:
        if self._device is None:
            return np.zeros(shape, np.float32)
        import torch

        return torch.zeros(shape, dtype=torch.float32, device=self._device)

    def _on_device(self, array: object) -> Any:
        if self._device is None or not isinstance(array, np.ndarray):
            return array
        return upload(array, self._device)

    def add(self, positions: Sequence[tuple[int, int]], patches: Any) -> None:
        """Add patches, without taking memory.

        Args:
            positions: Row and column of each patch in the grid.
            patches: float32 of shape (patches, y, x); weighted in place.
        """
        for (row, column), patch in zip(positions, patches, strict=True):
            tile_y, patch_y = self._grid.y.inside(row)
            tile_x, patch_x = self._grid.x.inside(column)
            weighted, sums = patch[patch_y, patch_x], self._sums[tile_y, tile_x]
            weighted *= self._weights_y[row, patch_y, None]
            if self._device is None:
                weighted *= self._weights_x[column, patch_x]
                sums += weighted
            else:  # In one step, which rounds once.
                sums.addcmul_(weighted, self._weights_x[column, patch_x])

    def finish(self, valid: Any) -> Any:
        """Return the blended tile; nobody waits for it.

        Args:
            valid: bool of shape (y, x), True where the tile has data: of numpy, or a tensor where the patches are.

        Returns:
            float32 of shape (y, x), 0…1, NaN where not valid: of numpy, or a tensor where the patches are.
        """
        isnan, stack = namespace(self._sums).isnan, namespace(self._sums).stack
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
        self.broken = stack(broken)
        return self._sums


def check_whole(broken: Sequence[NDArray], rows: int) -> None:
    """Raise an error if a network returned NaN for valid pixels.

    Args:
        broken: What :attr:`Blend.broken` holds for each layer of a tile, on the host.
        rows: Rows of the tile.

    Raises:
        OutputError: If a valid pixel is NaN.
    """
    for counts in broken:
        if counts.any():
            first = int(np.flatnonzero(counts)[0])
            raise OutputError(
                f"The network returned NaN for {int(counts.sum())} pixels with valid input, from rows "
                f"{first * _BLOCK_ROWS} to {min((first + 1) * _BLOCK_ROWS, rows)} on. In fp16 numbers may have "
                "become too large: choose another precision; else the model is broken."
            )
