"""Riley's terrain ruggedness index."""

from __future__ import annotations

import math
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


def calculate_terrain_ruggedness_index(ds: xr.Dataset, window: Length = "3px") -> xr.Dataset:
    """Add ``terrain_ruggedness_index``: how much the elevation differs from that of the cells around, in metres.

    The root of the sum of the squared differences from the cells of a square window (Riley, DeGloria and Elliot 1999,
    Intermountain Journal of Sciences 5). Where cells are missing, the sum over the others stands for all of them. NaN
    only where the cell itself is NaN, or every other one.

    Args:
        ds: As for :func:`calculate_slope`, with the same errors.
        window: Side of the window: metres (100 or "100m"), rounded up to an odd number of cells, or cells ("3px").

    Returns:
        A new Dataset with ``terrain_ruggedness_index``, (y, x) float32, metres, besides what `ds` holds.

    Raises:
        ParameterError: If the window is malformed or a single cell.
    """
    return calculate("terrain_ruggedness_index", ds, window=window)


@kernel(array_in(FLOAT32, 2), INT, INT, INT, array_out(FLOAT32, 2))
def ruggedness_rows(dem: NDArray, window: int, start_row: int, stop_row: int, out: NDArray) -> None:
    """Write Riley's ruggedness for some rows."""
    height, width = dem.shape
    half = window // 2
    total = np.empty(width)
    count = np.empty(width, dtype=np.int32)
    for row in range(start_row, stop_row):
        total[:] = 0
        count[:] = 0
        for i in range(max(row - half, 0), min(row + half + 1, height)):
            for shift in range(-half, half + 1):
                start, stop = min(max(0, -shift), width), max(0, width - max(0, shift))
                here, neighbours = dem[row, start:stop], dem[i, max(start + shift, 0) : max(stop + shift, 0)]
                subtotal, subcount = total[start:stop], count[start:stop]
                for j in range(here.shape[0]):
                    difference = np.float64(neighbours[j]) - np.float64(here[j])
                    valid = difference == difference
                    subtotal[j] += difference * difference if valid else 0.0
                    subcount[j] += 1 if valid else 0
        for j in range(width):
            others = count[j] - 1
            out[row, j] = math.sqrt(total[j] / others * (window * window - 1)) if others > 0 else np.nan


def _on_cpu(inputs: Inputs) -> NDArray:
    dem, window = inputs["dem"], inputs.settings["terrain_ruggedness_index"]
    out = np.empty(dem.shape, dtype=np.float32)
    run_blocks(lambda block: ruggedness_rows(dem, window, block[0], block[0] + block[2], out), row_strips(out.shape))
    return np.ascontiguousarray(inputs.interior.cut(out))


def _on_gpu(inputs: Inputs) -> Array:
    xp, dem, interior, window = inputs.xp, inputs["dem"], inputs.interior, inputs.settings["terrain_ruggedness_index"]
    half, out = window // 2, inputs.xp.empty(inputs.interior.shape, dtype=inputs.xp.float32)
    for start, stop in strips(*interior.shape):
        around = surrounded(xp, dem, interior, start, stop, half).astype(xp.float64)
        rows, cols = stop - start, interior.shape[1]
        centre = around[half : half + rows, half : half + cols]
        total, count = xp.zeros_like(centre), xp.zeros(centre.shape, dtype=xp.int32)
        for row in range(window):
            for col in range(window):
                squared = (around[row : row + rows, col : col + cols] - centre) ** 2
                valid = ~xp.isnan(squared)
                total += xp.where(valid, squared, 0.0)
                count += valid
        others = xp.where(count > 1, count - 1.0, np.nan)
        out[start:stop] = xp.sqrt(total / others * (window**2 - 1))
    return out


FEATURES = (
    Feature(
        band=Band("terrain_ruggedness_index", "float32", "terrain ruggedness index", "m", 0, 50, float("nan")),
        definition="root of the sum of squared differences from the cells of a window (Riley and others 1999)",
        needs=("dem",),
        kernels=Kernels.of_one(_on_cpu, _on_gpu, (ruggedness_rows,)),
        prepare=window_of("3px"),
        margin=lambda window: window // 2,
        function=calculate_terrain_ruggedness_index,
    ),
)
