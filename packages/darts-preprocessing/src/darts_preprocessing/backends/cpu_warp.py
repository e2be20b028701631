"""Resampling onto another grid on the CPU, row by row.

Cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = −1/2), stretched where the target is coarser than the
source, so that it averages what it would otherwise skip, as GDAL's warper does.
"""

import math
from typing import Any

import numpy as np

from darts_preprocessing.backends.jit import jit


@jit
def nearest_rows(source: Any, nodes: Any, node_step: int, rows: tuple[int, int], nodata: Any, out: Any) -> None:
    """Take the nearest cell for some rows of the target.

    Args:
        source: (band, y, x).
        nodes: complex128, column + i·row on the source at nodes over the target.
        node_step: Cells of the target from node to node.
        rows: First row, and the one after the last.
        nodata: Value where the source has nothing.
        out: (band, y, x) of the source's dtype, written to.
    """
    bands, height, width = source.shape
    x, y = np.empty(out.shape[2]), np.empty(out.shape[2])
    for row in range(rows[0], rows[1]):
        _place_row(nodes, node_step, row, x, y)
        for col in range(out.shape[2]):
            i, j = int(math.floor(y[col])), int(math.floor(x[col]))
            inside = 0 <= i < height and 0 <= j < width
            for band in range(bands):
                out[band, row, col] = source[band, i, j] if inside else nodata


@jit
def cubic_rows(
    source: Any, nodes: Any, node_step: int, rows: tuple[int, int], stretch: float, rounds: bool, highest: float,
    nodata: Any, out: Any,
) -> None:  # fmt: skip
    """Interpolate for some rows of the target.

    Where a cell that counts is missing (NaN, or beyond the rim), linear interpolation between those that are there
    takes the place of the cubic one, and where the nearest one is missing there is no result.

    Args:
        source: (band, y, x).
        nodes: complex128, column + i·row on the source at nodes over the target.
        node_step: Cells of the target from node to node.
        rows: First row, and the one after the last.
        stretch: Width of a target cell in source cells, 1 or more.
        rounds: Whether results are rounded to integers, and kept from 0 to `highest`.
        highest: See `rounds`.
        nodata: Value where there is no result.
        out: (band, y, x) of the source's dtype, written to.
    """
    bands, height, width = source.shape
    half = int(math.ceil(2 * stretch))
    taps = 2 * half
    weight_x, weight_y = np.empty(taps), np.empty(taps)
    x, y = np.empty(out.shape[2]), np.empty(out.shape[2])
    for row in range(rows[0], rows[1]):
        _place_row(nodes, node_step, row, x, y)
        for col in range(out.shape[2]):
            left, top = int(math.floor(x[col] - 0.5)) - half + 1, int(math.floor(y[col] - 0.5)) - half + 1
            complete = left >= 0 and top >= 0 and left + taps <= width and top + taps <= height
            if complete:
                _cubic_weights(left + 0.5 - x[col], stretch, weight_x)
                _cubic_weights(top + 0.5 - y[col], stretch, weight_y)
            for band in range(bands):
                value = np.nan
                if complete:
                    value = _weighted_sum(source[band], top, left, weight_y, weight_x)
                if value != value:
                    value = _linear(source[band], y[col], x[col], top, left, taps, stretch)
                if value != value:
                    out[band, row, col] = nodata
                elif rounds:
                    out[band, row, col] = min(max(math.floor(value + 0.5), 0.0), highest)
                else:
                    out[band, row, col] = value


@jit
def _place_row(nodes: Any, step: int, row: int, x: Any, y: Any) -> None:
    """Write where the cells of a row lie on the source."""
    i, v = row // step, (row % step) / step
    for begin in range(0, x.shape[0], step):
        j = begin // step
        west = nodes[i, j] * (1 - v) + nodes[i + 1, j] * v
        east = nodes[i, j + 1] * (1 - v) + nodes[i + 1, j + 1] * v
        slant = (east - west) / step
        for k in range(begin, min(begin + step, x.shape[0])):
            x[k] = west.real + slant.real * (k - begin)
            y[k] = west.imag + slant.imag * (k - begin)


@jit
def _cubic_weights(offset: float, stretch: float, weights: Any) -> None:
    """Write the weights of cells, the first of them `offset` cells from the centre; they sum to 1."""
    total = 0.0
    for k in range(weights.shape[0]):
        t = abs(offset + k) / stretch
        near = (1.5 * t - 2.5) * t * t + 1
        far = ((-0.5 * t + 2.5) * t - 4) * t + 2
        weight = near if t < 1 else (far if t < 2 else 0.0)
        weights[k] = weight
        total += weight
    for k in range(weights.shape[0]):
        weights[k] /= total


@jit
def _weighted_sum(source: Any, top: int, left: int, weight_y: Any, weight_x: Any) -> float:
    taps = weight_x.shape[0]
    value = 0.0
    for i in range(taps):
        line = source[top + i, left : left + taps]
        along = 0.0
        for j in range(taps):
            along += weight_x[j] * line[j]
        value += weight_y[i] * along
    return value


@jit
def _linear(source: Any, y: float, x: float, top: int, left: int, taps: int, stretch: float) -> float:
    """Interpolate linearly between the cells that are there; NaN where the nearest one is not."""
    height, width = source.shape
    row, col = int(math.floor(y)), int(math.floor(x))
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
