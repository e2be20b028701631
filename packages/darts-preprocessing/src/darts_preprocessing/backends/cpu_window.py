"""Vegetation index, ruggedness and dissection on the CPU, row by row."""

import math
from typing import Any

import numpy as np

from darts_preprocessing.backends.jit import FLOAT, FLOAT32, INT, array_in, array_out, helper, kernel


@kernel(array_in(FLOAT32, 2), array_in(FLOAT32, 2), array_out(FLOAT32, 2))
def ndvi_rows(nir: Any, red: Any, out: Any) -> None:
    """Write the index for rows of float32 reflectance; see :meth:`Backend.ndvi`."""
    zero, one = np.float32(0), np.float32(1)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            n, r = nir[i, j], red[i, j]
            n = zero if n < zero else (one if n > one else n)
            r = zero if r < zero else (one if r > one else r)
            out[i, j] = (n - r) / (n + r)


@kernel(array_in(FLOAT32, 2), INT, INT, INT, array_out(FLOAT32, 2))
def ruggedness_rows(dem: Any, window: int, start_row: int, stop_row: int, out: Any) -> None:
    """Write Riley's ruggedness for some rows; see :meth:`Backend.ruggedness`."""
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
                here, there = dem[row, start:stop], dem[i, max(start + shift, 0) : max(stop + shift, 0)]
                subtotal, subcount = total[start:stop], count[start:stop]
                for j in range(here.shape[0]):
                    difference = np.float64(there[j]) - np.float64(here[j])
                    valid = difference == difference
                    subtotal[j] += difference * difference if valid else 0.0
                    subcount[j] += 1 if valid else 0
        for j in range(width):
            others = count[j] - 1
            out[row, j] = math.sqrt(total[j] / others * (window * window - 1)) if others > 0 else np.nan


@kernel(array_in(FLOAT, 3), INT, INT, INT, array_out(FLOAT32, 2))
def vector_ruggedness_rows(normals: Any, window: int, start_row: int, stop_row: int, out: Any) -> None:
    """Write the vector ruggedness for some rows; see :meth:`Backend.vector_ruggedness`.

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
def _slide(values: Any, half: int, sums: Any) -> None:
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


@kernel(array_in(FLOAT32, 2), INT, INT, INT, array_out(FLOAT32, 2))
def dissection_rows(dem: Any, window: int, start_row: int, stop_row: int, out: Any) -> None:
    """Write the dissection index for some rows; see :meth:`Backend.dissection`."""
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
