"""Slope, aspect, hillshade, curvature and vector ruggedness on the CPU, in blocks that stay in cache.

Every loop over a row is plain enough for the compiler to do several cells at once.
"""

import math

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends.jit import FLOAT, FLOAT32, INT, array_in, array_out, helper, kernel

ROWS, COLS = 64, 1024
"""Size of a block in cells; the convergence of a block stays in cache."""

_DEGREES = 180 / math.pi
_HALF_PI = math.pi / 2


@kernel(
    array_in(FLOAT32, 2), INT, INT, array_in(FLOAT, 3), FLOAT, array_in(FLOAT, 1), INT, INT, INT, INT,
    array_out(FLOAT32, 2), array_out(FLOAT32, 2), array_out(FLOAT32, 2), array_out(FLOAT32, 2),
)  # fmt: skip
def gradient_block(
    dem: NDArray, first_row: int, first_col: int, convergence: NDArray, cell: float, sun: NDArray,
    top: int, left: int, rows: int, cols: int, slope: NDArray, aspect: NDArray, hillshade: NDArray, curvature: NDArray,
) -> None:  # fmt: skip
    """Compute the features for a block.

    Args:
        dem: (y, x) float32.
        first_row: First row of the block in `dem`.
        first_col: First column of the block in `dem`.
        convergence: (2, rows, cols) float64, its cosine and sine; with no cells if that is not needed.
        cell: Side of a cell in metres.
        sun: (3,) float64, unit vector to the sun: true east, true north, up.
        top: First row of the block in the results.
        left: First column of the block in the results.
        rows: Rows of the block.
        cols: Columns of the block.
        slope: (y, x) float32 to write to; with no cells if it is not wanted.
        aspect: Likewise.
        hillshade: Likewise.
        curvature: Likewise.
    """
    scale, bend = 1 / (8 * cell), -200 / (cell * cell)
    above, here, below = np.empty(cols + 2), np.empty(cols + 2), np.empty(cols + 2)
    east, north = np.empty(cols), np.empty(cols)
    for i in range(-2, rows):
        above, here, below = here, below, above
        _load_row(dem, first_row + i + 1, first_col, below)
        if i < 0:
            continue
        row, right = top + i, left + cols
        _horn_row(above, here, below, scale, east, north)
        if slope.size > 0:
            out = slope[row, left:right]
            for j in range(cols):
                out[j] = _slope(east[j], north[j])
        if curvature.size > 0:
            out = curvature[row, left:right]
            for j in range(cols):
                c = here[j + 1]
                out[j] = (
                    ((here[j] - c) + (here[j + 2] - c)) / 2 + ((above[j + 1] - c) + (below[j + 1] - c)) / 2
                ) * bend
        if aspect.size > 0:
            out = aspect[row, left:right]
            for j in range(cols):
                out[j] = _aspect(east[j], north[j], convergence[0, i, j], convergence[1, i, j])
        if hillshade.size > 0:
            out = hillshade[row, left:right]
            for j in range(cols):
                out[j] = _hillshade(east[j], north[j], convergence[0, i, j], convergence[1, i, j], sun)


@kernel(array_in(FLOAT32, 2), INT, INT, FLOAT, array_out(FLOAT, 3))
def normals_block(dem: NDArray, first_row: int, first_col: int, cell: float, normals: NDArray) -> None:
    """Write the unit normals of a block: to the east, to the north, up, and 1; all 0 where there is none.

    Args:
        dem: (y, x) float32.
        first_row: First row of the block in `dem`.
        first_col: First column of the block in `dem`.
        cell: Side of a cell in metres.
        normals: (4, rows, columns) float64, written to.
    """
    rows, cols = normals.shape[1:]
    above, here, below = np.empty(cols + 2), np.empty(cols + 2), np.empty(cols + 2)
    east, north = np.empty(cols), np.empty(cols)
    for i in range(-2, rows):
        above, here, below = here, below, above
        _load_row(dem, first_row + i + 1, first_col, below)
        if i < 0:
            continue
        _horn_row(above, here, below, 1 / (8 * cell), east, north)
        for j in range(cols):
            up = 1 / math.sqrt(1 + east[j] * east[j] + north[j] * north[j])
            valid = up == up
            normals[0, i, j] = -east[j] * up if valid else 0.0
            normals[1, i, j] = -north[j] * up if valid else 0.0
            normals[2, i, j] = up if valid else 0.0
            normals[3, i, j] = 1.0 if valid else 0.0


@helper
def _load_row(dem: NDArray, row: int, first_col: int, line: NDArray) -> None:
    """Copy a row of cells with one more on each side; what lies beyond the DEM goes on linearly from its border."""
    rows, cols = dem.shape
    near = min(max(row, 0), rows - 1)
    far = 2 * near - row if rows > 1 else near
    start, stop = max(first_col - 1, 0), min(first_col - 1 + line.shape[0], cols)
    inside, cells, more = line[start - first_col + 1 :], dem[near, start:], dem[far, start:]
    for k in range(stop - start):
        inside[k] = cells[k] if near == far else 2.0 * cells[k] - more[k]
    last = line.shape[0] - 1
    if first_col == 0:
        line[0] = line[1] if cols == 1 else 2 * line[1] - line[2]
    if first_col - 1 + last == cols:
        line[last] = line[last - 1] if cols == 1 else 2 * line[last - 1] - line[last - 2]


@helper
def _horn_row(above: NDArray, here: NDArray, below: NDArray, scale: float, east: NDArray, north: NDArray) -> None:
    """Write Horn's gradient: metres of rise per metre to the grid's east and north, NaN where a cell of 3 × 3 is."""
    for j in range(east.shape[0]):
        nw, n, ne = above[j], above[j + 1], above[j + 2]
        w, c, e = here[j], here[j + 1], here[j + 2]
        sw, s, se = below[j], below[j + 1], below[j + 2]
        hole = 0.0 * c
        east[j] = ((ne - nw) + 2 * (e - w) + (se - sw)) * scale + hole
        north[j] = ((nw - sw) + 2 * (n - s) + (ne - se)) * scale + hole


@helper
def _arctan(q: float) -> float:
    """Arc tangent of 0…1 in radians; relative error below 4e-10 (a minimax polynomial of q², by Remez exchange)."""
    u = q * q
    p = 0.001091116075237017
    p = p * u - 0.007199407978823089
    p = p * u + 0.022274399920524842
    p = p * u - 0.044357539357418573
    p = p * u + 0.067161098868066561
    p = p * u - 0.087987727053498962
    p = p * u + 0.11054501291155412
    p = p * u - 0.14279159633103378
    p = p * u + 0.19999604635901141
    p = p * u - 0.33333323935241837
    p = p * u + 0.99999999962823258
    return p * q


@helper
def _slope(east: float, north: float) -> float:
    rise = math.sqrt(east * east + north * north)
    steep = rise > 1
    angle = _arctan(1 / rise if steep else rise)
    return (_HALF_PI - angle if steep else angle) * _DEGREES


@helper
def _aspect(east: float, north: float, cosine: float, sine: float) -> object:
    to_east = -east * cosine - north * sine
    to_north = -north * cosine + east * sine
    x, y = abs(to_east), abs(to_north)
    angle = _arctan(min(x, y) / max(x, y))
    angle = _HALF_PI - angle if x > y else angle
    degrees = angle * _DEGREES
    degrees = 180 - degrees if to_north < 0 else degrees
    degrees = 360 - degrees if to_east < 0 else degrees
    single = np.float32(degrees)
    single = np.float32(0) if single >= 360 else single
    is_flat = (east == 0) & (north == 0)
    return np.float32(-1) if is_flat else single


@helper
def _hillshade(east: float, north: float, cosine: float, sine: float, sun: NDArray) -> float:
    to_east = -east * cosine - north * sine
    to_north = -north * cosine + east * sine
    lit = sun[2] + to_east * sun[0] + to_north * sun[1]
    lit /= math.sqrt(1 + east * east + north * north)
    lit = 0.0 if lit < 0 else lit
    return 1.0 if lit > 1 else lit
