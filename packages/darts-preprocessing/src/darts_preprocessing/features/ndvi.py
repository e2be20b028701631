"""The normalized difference vegetation index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends.blocks import Block, row_strips, run_blocks
from darts_preprocessing.backends.interface import Array
from darts_preprocessing.backends.jit import FLOAT32, array_in, array_out, kernel
from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature, Inputs, Kernels
from darts_utils import get_band

if TYPE_CHECKING:
    import xarray as xr


def calculate_ndvi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``ndvi``: (nir − red) / (nir + red), both clipped to 0…1 first, the result clipped to −1…1.

    Args:
        ds: Tile with ``red`` and ``nir``, (y, x) float32 reflectance, NaN where there is none. Not changed.

    Returns:
        A new Dataset with ``ndvi``, (y, x) float32, −1 to 1, NaN where a band is NaN or both are 0 or less.

    Raises:
        InputTypeError: If `ds` is no Dataset.
        ValueRangeError: If a band cannot be reflectance from 0 to 1.
        GridError: If a band has other dimensions than (y, x).
        MissingBandError: If a band is absent.
    """
    return calculate("ndvi", ds)


@kernel(array_in(FLOAT32, 2), array_in(FLOAT32, 2), array_out(FLOAT32, 2))
def ndvi_rows(nir: NDArray, red: NDArray, out: NDArray) -> None:
    """Write the index for rows of float32 reflectance."""
    zero, one = np.float32(0), np.float32(1)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            n, r = nir[i, j], red[i, j]
            n = zero if n < zero else (one if n > one else n)
            r = zero if r < zero else (one if r > one else r)
            out[i, j] = (n - r) / (n + r)


def _on_cpu(inputs: Inputs) -> NDArray:
    nir, red = inputs["nir"], inputs["red"]
    out = np.empty(nir.shape, dtype=np.float32)

    def work(block: Block) -> None:
        rows = slice(block[0], block[0] + block[2])
        ndvi_rows(nir[rows], red[rows], out[rows])

    run_blocks(work, row_strips(out.shape))
    return out


def _on_gpu(inputs: Inputs) -> Array:
    xp = inputs.xp
    nir, red = (xp.clip(inputs[band], 0, 1) for band in ("nir", "red"))
    total = nir + red
    ratio = xp.divide(nir - red, xp.where(total == 0, xp.float32(np.nan), total))
    return xp.clip(ratio, -1, 1).astype(xp.float32, copy=False)


FEATURES = (
    Feature(
        band=get_band("ndvi"),
        definition="(nir − red) / (nir + red), both clipped to 0 … 1 first; NaN where both are 0 or less",
        needs=("nir", "red"),
        kernels=Kernels.of_one(_on_cpu, _on_gpu, (ndvi_rows,)),
        by_default=True,
        function=calculate_ndvi,
    ),
)
