"""Nir's dissection index."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends.arrays import strips, surrounded
from darts_preprocessing.backends.blocks import row_strips, run_blocks
from darts_preprocessing.backends.interface import Array
from darts_preprocessing.backends.jit import FLOAT32, INT, array_in, array_out, kernel
from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature, Inputs, Kernels, window_of
from darts_preprocessing.grid import Length
from darts_utils import Band

if TYPE_CHECKING:
    import xarray as xr


def calculate_dissection_index(ds: xr.Dataset, window: Length = "100m") -> xr.Dataset:
    """Add ``dissection_index``: the relief around a cell, relative to the highest elevation there.

    (highest − lowest) / highest over a square window (Nir 1957, Geographical Research Forum), 0 where it is level and
    1 where it is cut down to elevation 0; lower cells count as 0. NaN where the cell itself is NaN, or nothing around
    it is above 0. The result depends on what elevations are measured from: ArcticDEM counts from the ellipsoid.

    Args:
        ds: As for :func:`calculate_slope`, with the same errors.
        window: Side of the window: metres (100 or "100m"), rounded up to an odd number of cells, or cells ("3px").

    Returns:
        A new Dataset with ``dissection_index``, (y, x) float32, 0 to 1, besides what `ds` holds.

    Raises:
        ParameterError: If the window is malformed or a single cell.
    """
    return calculate("dissection_index", ds, window=window)


@kernel(array_in(FLOAT32, 2), INT, INT, INT, array_out(FLOAT32, 2))
def dissection_rows(dem: NDArray, window: int, start_row: int, stop_row: int, out: NDArray) -> None:
    """Write the dissection index for some rows."""
    height, width = dem.shape
    half = window // 2
    # Padded with what never counts, so that each cell sees a whole window.
    high, low = np.empty(width + 2 * half), np.empty(width + 2 * half)
    for row in range(start_row, stop_row):
        high[:] = -np.inf
        low[:] = np.inf
        inner_high, inner_low = high[half : half + width], low[half : half + width]
        for i in range(max(row - half, 0), min(row + half + 1, height)):
            line = dem[i]
            for j in range(width):  # a comparison with NaN is false, so that NaN does not count
                value = np.float64(line[j])
                inner_high[j] = value if value > inner_high[j] else inner_high[j]
                inner_low[j] = value if value < inner_low[j] else inner_low[j]
        for j in range(width):
            highest, lowest = -np.inf, np.inf
            for k in range(j, j + window):
                highest = max(highest, high[k])
                lowest = min(lowest, low[k])
            valid = dem[row, j] == dem[row, j] and highest > 0
            out[row, j] = (highest - max(lowest, 0.0)) / highest if valid else np.nan


def _on_cpu(inputs: Inputs) -> NDArray:
    dem, window = inputs["dem"], inputs.settings["dissection_index"]
    out = np.empty(dem.shape, dtype=np.float32)
    run_blocks(lambda block: dissection_rows(dem, window, block[0], block[0] + block[2], out), row_strips(out.shape))
    return np.ascontiguousarray(inputs.interior.cut(out))


def _on_gpu(inputs: Inputs) -> Array:
    xp, dem, interior, window = inputs.xp, inputs["dem"], inputs.interior, inputs.settings["dissection_index"]
    out = xp.empty(interior.shape, dtype=xp.float32)
    for start, stop in strips(*interior.shape):
        around = surrounded(xp, dem, interior, start, stop, window // 2).astype(xp.float64)
        highest = _box_max(xp, xp.where(xp.isnan(around), -np.inf, around), window)
        lowest = -_box_max(xp, xp.where(xp.isnan(around), -np.inf, -around), window)
        above = xp.where(highest > 0, highest, np.nan)
        index = (highest - xp.maximum(lowest, 0.0)) / above
        out[start:stop] = xp.where(xp.isnan(interior.cut(dem)[start:stop]), np.nan, index)
    return out


def _box_max(xp: ModuleType, padded: Array, window: int) -> Array:
    for axis in (0, 1):
        lines = xp.swapaxes(padded, 0, axis)
        size = lines.shape[0] - window + 1
        highest = lines[:size]
        for shift in range(1, window):
            highest = xp.maximum(highest, lines[shift : shift + size])
        padded = xp.swapaxes(highest, 0, axis)
    return padded


FEATURES = (
    Feature(
        band=Band("dissection_index", "float32", "dissection index", "1", 0, 1, float("nan")),
        definition="relief over highest elevation of a window (Nir 1957)",
        needs=("dem",),
        kernels=Kernels.of_one(_on_cpu, _on_gpu, (dissection_rows,)),
        prepare=window_of("100m"),
        margin=lambda window: window // 2,
        function=calculate_dissection_index,
    ),
)
