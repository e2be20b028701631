"""Vegetation index, ruggedness and dissection on the CPU, row by row."""

import math
from typing import Any

import numpy as np

from darts_preprocessing.backends.cpu_gradient import horn_row, load_row
from darts_preprocessing.backends.jit import jit


@jit
def ndvi_rows(nir: Any, red: Any, out: Any) -> None:
    """Write the index for rows of float32 reflectance; see :meth:`Backend.ndvi`."""
    zero, one = np.float32(0), np.float32(1)
    for row in range(out.shape[0]):
        n_row, r_row, out_row = nir[row], red[row], out[row]
        for i in range(out_row.shape[0]):
            n, r = n_row[i], r_row[i]
            n = zero if n < zero else (one if n > one else n)
            r = zero if r < zero else (one if r > one else r)
            out_row[i] = (n - r) / (n + r)


@jit
def ruggedness_rows(dem: Any, window: int, rows: tuple[int, int], out: Any) -> None:
    """Write Riley's ruggedness for some rows; see :meth:`Backend.ruggedness`."""
    height, width = dem.shape
    half = window // 2
    total = np.empty(width)
    count = np.empty(width, dtype=np.int32)
    for row in range(rows[0], rows[1]):
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


@jit
def normals_rows(dem: Any, cell: float, rows: tuple[int, int], normals: Any) -> None:
    """Write the unit normals of some rows: to the east, to the north, up, and 1; all 0 where there is none.

    Args:
        dem: (y, x) float32.
        cell: Side of a cell in metres.
        rows: First row, and the one after the last.
        normals: (4, rows, x) float64, written to.
    """
    width = dem.shape[1]
    above, here, below = np.empty(width + 2), np.empty(width + 2), np.empty(width + 2)
    east, north = np.empty(width), np.empty(width)
    load_row(dem, rows[0] - 1, 0, width, above)
    load_row(dem, rows[0], 0, width, here)
    for row in range(rows[0], rows[1]):
        load_row(dem, row + 1, 0, width, below)
        horn_row(above, here, below, 1 / (8 * cell), east, north)
        k = row - rows[0]
        to_east, to_north, upwards, exists = normals[0, k], normals[1, k], normals[2, k], normals[3, k]
        for i in range(width):
            up = 1 / math.sqrt(1 + east[i] * east[i] + north[i] * north[i])
            valid = up == up
            to_east[i] = -east[i] * up if valid else 0.0
            to_north[i] = -north[i] * up if valid else 0.0
            upwards[i] = up if valid else 0.0
            exists[i] = 1.0 if valid else 0.0
        above, here, below = here, below, above


@jit
def vector_ruggedness_rows(dem: Any, cell: float, window: int, rows: tuple[int, int], out: Any) -> None:
    """Write the vector ruggedness for some rows; see :meth:`Backend.vector_ruggedness`."""
    height, width = dem.shape
    half = window // 2
    first, last = max(rows[0] - half, 0), min(rows[1] + half, height)
    normals = np.empty((4, last - first, width))
    normals_rows(dem, cell, (first, last), normals)
    columns, sums = np.empty(width), np.empty((4, width))
    for row in range(rows[0], rows[1]):
        for part in range(4):
            columns[:] = 0
            for i in range(max(row - half, first), min(row + half + 1, last)):
                line = normals[part, i - first]
                for j in range(width):
                    columns[j] += line[j]
            _slide(columns, half, sums[part])
        for j in range(width):
            length = math.sqrt(sums[0, j] ** 2 + sums[1, j] ** 2 + sums[2, j] ** 2)
            valid = normals[3, row - first, j] > 0
            out[row, j] = min(max(1 - length / sums[3, j], 0.0), 1.0) if valid else np.nan


@jit
def _slide(values: Any, half: int, sums: Any) -> None:
    """Write the sum over the cells at most `half` away."""
    width = values.shape[0]
    sums[:] = values
    for shift in range(1, half + 1):
        if shift < width:
            inner, before, after = sums[shift:], values[: width - shift], values[shift:]
            for j in range(width - shift):
                inner[j] += before[j]
            for j in range(width - shift):
                sums[j] += after[j]


@jit
def dissection_rows(dem: Any, window: int, rows: tuple[int, int], out: Any) -> None:
    """Write the dissection index for some rows; see :meth:`Backend.dissection`."""
    height, width = dem.shape
    half = window // 2
    # Framed by what never counts, so that each cell sees a whole window.
    high, low = np.empty(width + 2 * half), np.empty(width + 2 * half)
    for row in range(rows[0], rows[1]):
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
