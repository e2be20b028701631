"""Resampling onto another grid on the CPU, block by block.

Cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = −1/2), stretched where the target is coarser than the
source, so that it averages what it would otherwise skip, as GDAL's warper does.
"""

import math
from typing import Any

import numpy as np

from darts_preprocessing.backends.jit import jit

ROWS, COLS = 64, 256
"""Size of a block in cells: what it needs of the source stays in cache, however the two grids are turned."""


def count_taps(stretch: float) -> tuple[int, ...]:
    """Return a tuple with an entry for each cell that the kernel reaches along one axis.

    Examples:
        >>> len(count_taps(1.0)), len(count_taps(1.5))
        (4, 6)
    """
    return (0,) * (2 * math.ceil(2 * stretch))


@jit
def nearest_block(
    source: Any, nodes: Any, node_step: int, rows: tuple[int, int], cols: tuple[int, int], nodata: Any, out: Any
) -> None:
    """Take the nearest cell for a block of the target.

    Args:
        source: (band, y, x).
        nodes: complex128, column + i·row on the source at nodes over the target.
        node_step: Cells of the target from node to node.
        rows: First row of the block, and the one after the last.
        cols: First column of the block, and the one after the last.
        nodata: Value where the source has nothing.
        out: (band, y, x) of the source's dtype, written to.
    """
    bands, height, width = source.shape
    size = cols[1] - cols[0]
    x, y = np.empty(size), np.empty(size)
    for row in range(rows[0], rows[1]):
        _place_row(nodes, node_step, row, cols[0], x, y)
        for k in range(size):
            i, j = math.floor(y[k]), math.floor(x[k])
            inside = 0 <= i < height and 0 <= j < width
            for band in range(bands):
                out[band, row, cols[0] + k] = source[band, i, j] if inside else nodata


@jit
def cubic_block(
    source: Any, nodes: Any, node_step: int, rows: tuple[int, int], cols: tuple[int, int], stretch: float,
    taps: tuple[int, ...], rounds: bool, highest: float, nodata: Any, out: Any,
) -> None:  # fmt: skip
    """Interpolate for a block of the target.

    Where a cell that counts is missing (NaN, or beyond the rim), linear interpolation between those that are there
    takes the place of the cubic one, and where the nearest one is missing there is no result.

    Args:
        source: (band, y, x).
        nodes: complex128, column + i·row on the source at nodes over the target.
        node_step: Cells of the target from node to node.
        rows: First row of the block, and the one after the last.
        cols: First column of the block, and the one after the last.
        stretch: Width of a target cell in source cells, 1 or more.
        taps: A tuple as long as the kernel is wide, :func:`count_taps`. Being part of its type, that length is known
            when the kernel is compiled, and the innermost loops are unrolled.
        rounds: Whether results are rounded to integers, and kept from 0 to `highest`.
        highest: See `rounds`.
        nodata: Value where there is no result.
        out: (band, y, x) of the source's dtype, written to.
    """
    bands, height, width = source.shape
    size = cols[1] - cols[0]
    x, y = np.empty(size), np.empty(size)
    left, top = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    weights_x, weights_y = np.empty((len(taps), size)), np.empty((len(taps), size))
    total_x, total_y = np.empty(size), np.empty(size)
    for row in range(rows[0], rows[1]):
        _place_row(nodes, node_step, row, cols[0], x, y)
        _weigh(x, stretch, left, weights_x, total_x)
        _weigh(y, stretch, top, weights_y, total_y)
        for band in range(bands):
            cells, results = source[band], out[band, row, cols[0] : cols[1]]
            for k in range(size):
                value = np.nan
                if left[k] >= 0 and top[k] >= 0 and left[k] + len(taps) <= width and top[k] + len(taps) <= height:
                    value = 0.0
                    for i in range(len(taps)):
                        line, along = cells[top[k] + i], 0.0
                        for j in range(len(taps)):
                            along += weights_x[j, k] * line[left[k] + j]
                        value += weights_y[i, k] * along
                    value /= total_x[k] * total_y[k]
                if value != value:
                    value = _linear(cells, y[k], x[k], top[k], left[k], len(taps), stretch)
                if value != value:
                    results[k] = nodata
                elif rounds:
                    results[k] = int(min(max(value, 0.0), highest) + 0.5)
                else:
                    results[k] = value


@jit
def _place_row(nodes: Any, step: int, row: int, first_col: int, x: Any, y: Any) -> None:
    """Write where the cells of a row lie on the source."""
    i, v = row // step, (row % step) / step
    begin, size = 0, x.shape[0]
    while begin < size:  # from node to node
        j, offset = (first_col + begin) // step, (first_col + begin) % step
        end = min(begin + step - offset, size)
        west = nodes[i, j] * (1 - v) + nodes[i + 1, j] * v
        east = nodes[i, j + 1] * (1 - v) + nodes[i + 1, j + 1] * v
        slant = (east - west) / step
        west += slant * (offset - begin)
        for k in range(begin, end):
            x[k] = west.real + slant.real * k
            y[k] = west.imag + slant.imag * k
        begin = end


@jit
def _weigh(places: Any, stretch: float, first: Any, weights: Any, total: Any) -> None:
    """Write for each place the first cell that counts, the weights of that one and the next, and their sum."""
    taps, size = weights.shape[0], places.shape[0]
    inverse = 1 / stretch
    for k in range(size):
        first[k] = math.floor(places[k] - 0.5) - taps // 2 + 1
        total[k] = 0
    for tap in range(taps):
        line = weights[tap]
        for k in range(size):
            t = abs(first[k] + (tap + 0.5) - places[k]) * inverse
            near = (1.5 * t - 2.5) * t * t + 1
            far = ((-0.5 * t + 2.5) * t - 4) * t + 2
            weight = near if t < 1 else (far if t < 2 else 0.0)
            line[k] = weight
            total[k] += weight


@jit
def _linear(source: Any, y: float, x: float, top: int, left: int, taps: int, stretch: float) -> float:
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
