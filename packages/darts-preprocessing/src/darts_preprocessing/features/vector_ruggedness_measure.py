"""Sappington's vector ruggedness measure."""

from __future__ import annotations

import math
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends import Interior
from darts_preprocessing.backends.arrays import Gradient, framed, strips
from darts_preprocessing.backends.blocks import Block, Scratch, row_strips, run_blocks
from darts_preprocessing.backends.cpu_gradient import normals_block
from darts_preprocessing.backends.interface import Array
from darts_preprocessing.backends.jit import FLOAT, FLOAT32, INT, array_in, array_out, helper, kernel
from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature, Inputs, Kernels, window_of
from darts_preprocessing.grid import Length
from darts_utils import Band

if TYPE_CHECKING:
    import xarray as xr


def calculate_vector_ruggedness_measure(ds: xr.Dataset, window: Length = "3px") -> xr.Dataset:
    """Add ``vector_ruggedness_measure``: how much the surface normals scatter, 0 where they are parallel, at most 1.

    One minus the length of the mean of the unit normals over a square window (Sappington, Longshore and Thompson 2007,
    doi:10.2193/2005-723). The normals are those of Horn's gradient (see :func:`calculate_slope`); the mean is over the
    cells that have one. NaN where the cell itself has none.

    Args:
        ds: As for :func:`calculate_slope`, with the same errors.
        window: Side of the window: metres (100 or "100m"), rounded up to an odd number of cells, or cells ("3px").

    Returns:
        A new Dataset with ``vector_ruggedness_measure``, (y, x) float32, 0 to 1, besides what `ds` holds.

    Raises:
        ParameterError: If the window is malformed or a single cell.
    """
    return calculate("vector_ruggedness_measure", ds, window=window)


@kernel(array_in(FLOAT, 3), INT, INT, INT, array_out(FLOAT32, 2))
def vector_ruggedness_rows(normals: NDArray, window: int, start_row: int, stop_row: int, out: NDArray) -> None:
    """Write the vector ruggedness for some rows.

    Args:
        normals: (4, rows, x) float64, see :func:`normals_block`, of these rows and those that their windows reach.
        window: Side of the windows in cells, odd.
        start_row: First row.
        stop_row: The one after the last.
        out: (y, x) float32, written to.
    """
    rows, width = normals.shape[1:]
    half = window // 2
    above = min(half, start_row)  # rows of normals before the first one
    columns, sums = np.empty(width), np.empty((4, width))
    for row in range(start_row, stop_row):
        centre = row - start_row + above
        for part in range(4):
            columns[:] = 0
            for i in range(max(centre - half, 0), min(centre + half + 1, rows)):
                line = normals[part, i]
                for j in range(width):
                    columns[j] += line[j]
            _slide(columns, half, sums[part])
        for j in range(width):
            length = math.sqrt(sums[0, j] ** 2 + sums[1, j] ** 2 + sums[2, j] ** 2)
            valid = normals[3, centre, j] > 0
            out[row, j] = min(max(1 - length / sums[3, j], 0.0), 1.0) if valid else np.nan


@helper
def _slide(values: NDArray, half: int, sums: NDArray) -> None:
    """Write the sum over the cells at most `half` away."""
    width = values.shape[0]
    for j in range(width):
        sums[j] = values[j]
    for shift in range(1, half + 1):
        if shift < width:
            inner, before, after = sums[shift:], values[: width - shift], values[shift:]
            for j in range(width - shift):
                inner[j] += before[j]
            for j in range(width - shift):
                sums[j] += after[j]


def _on_cpu(inputs: Inputs) -> NDArray:
    dem, window = inputs["dem"], inputs.settings["vector_ruggedness_measure"]
    out = np.empty(dem.shape, dtype=np.float32)
    height, width = dem.shape
    scratch = Scratch()

    def work(block: Block) -> None:
        start, stop = block[0], block[0] + block[2]
        first, last = max(start - window // 2, 0), min(stop + window // 2, height)
        normals = scratch.array("normals", (4, last - first, width))
        normals_block(dem, first, 0, inputs.cell, normals)
        vector_ruggedness_rows(normals, window, start, stop, out)

    run_blocks(work, row_strips(out.shape))
    return np.ascontiguousarray(inputs.interior.cut(out))


def _on_gpu(inputs: Inputs) -> Array:
    xp, dem, window = inputs.xp, inputs["dem"], inputs.settings["vector_ruggedness_measure"]
    whole, half = Interior.whole(dem.shape), window // 2
    out = xp.empty(dem.shape, dtype=xp.float32)
    for start, stop in strips(*dem.shape):
        first, last = max(start - half, 0), min(stop + half, dem.shape[0])
        gradient = Gradient(xp, framed(xp, dem, whole, first, last), inputs.cell)
        up = 1 / xp.sqrt(1 + gradient.steepness**2)
        valid = ~xp.isnan(up)
        pad = ((half - (start - first), half - (last - stop)), (half, half))
        parts = gradient.east * up, gradient.north * up, up, valid.astype(xp.float64)
        sums = [_box_sum(xp, xp.pad(xp.where(valid, part, 0.0), pad), window) for part in parts]
        length = xp.sqrt(sums[0] ** 2 + sums[1] ** 2 + sums[2] ** 2)
        centre = valid[start - first : stop - first]
        ratio = length / xp.where(centre, sums[3], np.nan)
        out[start:stop] = xp.clip(1 - ratio, 0, 1)
    return xp.ascontiguousarray(inputs.interior.cut(out))


def _box_sum(xp: ModuleType, padded: Array, window: int) -> Array:
    for axis in (0, 1):
        zeros = [(0, 0), (0, 0)]
        zeros[axis] = (1, 0)
        sums = xp.swapaxes(xp.pad(xp.cumsum(padded, axis=axis), zeros), 0, axis)
        padded = xp.swapaxes(sums[window:] - sums[:-window], 0, axis)
    return padded


FEATURES = (
    Feature(
        band=Band("vector_ruggedness_measure", "float32", "vector ruggedness measure", "1", 0, 1, float("nan")),
        definition="one minus the length of the mean unit normal of a window (Sappington and others 2007)",
        needs=("dem",),
        kernels=Kernels.of_one(_on_cpu, _on_gpu, (normals_block, vector_ruggedness_rows)),
        prepare=window_of("3px"),
        margin=lambda window: window // 2 + 1,
        function=calculate_vector_ruggedness_measure,
    ),
)
