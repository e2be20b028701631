"""Resampling onto another grid on the CPU, block by block.

Cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = −1/2), stretched where the target is coarser than the
source, so that it averages what it would otherwise skip, as GDAL's warper does.
"""

import math

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends.jit import (
    BOOL,
    FLOAT,
    FLOAT32,
    INT,
    UINT8,
    array_in,
    array_out,
    helper,
    helper_to_inline,
    kernel,
)

ROWS, COLS = 64, 256
"""Size of a block in cells: what it needs of the source stays in cache, however the two grids are turned."""


def count_taps(stretch: float) -> int:
    """Count the cells that cubic convolution reaches along one axis.

    Examples:
        >>> count_taps(1.0), count_taps(1.5)
        (4, 6)
    """
    return 2 * math.ceil(2 * stretch)


@kernel(array_in(UINT8, 3), array_in(FLOAT, 3), INT, INT, array_in(UINT8, 1), array_out(UINT8, 3))
def nearest_block(source: NDArray, points: NDArray, top: int, left: int, nodata: NDArray, out: NDArray) -> None:
    """Take the nearest cell for a block of the target.

    Args:
        source: (band, y, x) uint8.
        points: (2, rows, columns) float64, column and row on the source of each cell of the block.
        top: First row of the block.
        left: First column of the block.
        nodata: (band,) uint8, the value where the source has nothing.
        out: (band, y, x) uint8, written to.
    """
    bands, height, width = source.shape
    for row in range(points.shape[1]):
        for col in range(points.shape[2]):
            i, j = math.floor(points[1, row, col]), math.floor(points[0, row, col])
            inside = 0 <= i < height and 0 <= j < width
            for band in range(bands):
                out[band, top + row, left + col] = source[band, i, j] if inside else nodata[band]


@kernel(
    array_in(FLOAT32, 3), array_in(FLOAT, 3), FLOAT, INT, BOOL, FLOAT, FLOAT32, INT, INT, array_out(FLOAT32, 3)
)  # fmt: skip
def cubic_block(
    source: NDArray, points: NDArray, stretch: float, taps: int, rounds: bool, highest: float, nodata: float, top: int,
    left: int, out: NDArray,
) -> None:  # fmt: skip
    """Interpolate for a block of the target.

    Where a cell that counts is missing (NaN, or beyond the border), linear interpolation between those that are there
    takes the place of the cubic one, and where the nearest one is missing there is no result.

    Args:
        source: (band, y, x) float32.
        points: (2, rows, columns) float64, column and row on the source of each cell of the block.
        stretch: Width of a target cell in source cells, 1 or more.
        taps: :func:`count_taps` of that.
        rounds: Whether results are rounded to integers, and kept from 0 to `highest`.
        highest: See `rounds`.
        nodata: Value where there is no result.
        top: First row of the block in `out`.
        left: First column of the block in `out`.
        out: (band, y, x) float32, written to.
    """
    bands, height, width = source.shape
    rows, cols = points.shape[1:]
    first_x, first_y = np.empty(cols, dtype=np.int64), np.empty(cols, dtype=np.int64)
    weights_x, weights_y = np.empty((taps, cols)), np.empty((taps, cols))
    total_x, total_y, values = np.empty(cols), np.empty(cols), np.empty(cols)
    for row in range(rows):
        x, y = points[0, row], points[1, row]
        _weigh(x, stretch, first_x, weights_x, total_x)
        _weigh(y, stretch, first_y, weights_y, total_y)
        for band in range(bands):
            cells = source[band]
            # With the number of taps written out, which are those of most grids, the compiler unrolls the sums.
            if taps == 4:
                _convolve_row(cells, first_y, first_x, weights_y, weights_x, 4, values)
            else:
                for k in range(cols):
                    i, j, value = first_y[k], first_x[k], np.nan
                    if i >= 0 and j >= 0 and i + taps <= height and j + taps <= width:
                        if taps == 6:
                            value = _convolve(cells, i, j, weights_y, weights_x, k, taps, 6)
                        elif taps == 8:
                            value = _convolve(cells, i, j, weights_y, weights_x, k, taps, 8)
                        elif taps == 10:
                            value = _convolve(cells, i, j, weights_y, weights_x, k, taps, 10)
                        elif taps == 20:
                            value = _convolve(cells, i, j, weights_y, weights_x, k, taps, 20)
                        else:
                            value = _convolve(cells, i, j, weights_y, weights_x, k, taps, taps)
                    values[k] = value
            results = out[band, top + row, left : left + cols]
            for k in range(cols):
                value = values[k] / (total_x[k] * total_y[k])
                if value != value:
                    value = _linear(cells, y[k], x[k], first_y[k], first_x[k], taps, stretch)
                if rounds and value == value:
                    value = float(int(min(max(value, 0.0), highest) + 0.5))
                results[k] = value if value == value else nodata


@helper
def _weigh(points: NDArray, stretch: float, first: NDArray, weights: NDArray, total: NDArray) -> None:
    """Write for each place the first cell that counts, the weights of that one and the next, and their sum."""
    taps, size = weights.shape[0], points.shape[0]
    inverse = 1 / stretch
    for k in range(size):
        first[k] = math.floor(points[k] - 0.5) - taps // 2 + 1
        total[k] = 0
    for tap in range(taps):
        line = weights[tap]
        for k in range(size):
            t = abs(first[k] + (tap + 0.5) - points[k]) * inverse
            near = (1.5 * t - 2.5) * t * t + 1
            far = ((-0.5 * t + 2.5) * t - 4) * t + 2
            weight = near if t < 1 else (far if t < 2 else 0.0)
            line[k] = weight
            total[k] += weight


@helper_to_inline
def _convolve_row(
    cells: NDArray, first_y: NDArray, first_x: NDArray, weights_y: NDArray, weights_x: NDArray, taps: int,
    values: NDArray,
) -> None:  # fmt: skip
    height, width = cells.shape
    for k in range(values.shape[0]):
        i, j, value = first_y[k], first_x[k], np.nan
        if i >= 0 and j >= 0 and i + taps <= height and j + taps <= width:
            value = _convolve(cells, i, j, weights_y, weights_x, k, taps, taps)
        values[k] = value


@helper_to_inline
def _convolve(
    cells: NDArray, top: int, left: int, weights_y: NDArray, weights_x: NDArray, k: int, taps_y: int, taps_x: int
) -> float:  # fmt: skip
    value = 0.0
    for i in range(taps_y):
        line, along = cells[top + i], 0.0
        for j in range(taps_x):
            along += weights_x[j, k] * line[left + j]
        value += weights_y[i, k] * along
    return value


@helper
def _linear(source: NDArray, y: float, x: float, top: int, left: int, taps: int, stretch: float) -> float:
    """Interpolate linearly between the cells that are there; NaN where the nearest one is not."""
    height, width = source.shape
    row, col = math.floor(y), math.floor(x)
    if row < 0 or row >= height or col < 0 or col >= width or source[row, col] != source[row, col]:
        return np.nan
    value, total = 0.0, 0.0
    for i in range(max(top, 0), min(top + taps, height)):
        weight_y = max(0.0, 1 - abs(i + 0.5 - y) / stretch)
        for j in range(max(left, 0), min(left + taps, width)):
            weight = weight_y * max(0.0, 1 - abs(j + 0.5 - x) / stretch)
            cell = source[i, j]
            if weight > 0 and cell == cell:
                value += weight * cell
                total += weight
    return value / total
