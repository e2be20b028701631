"""Slope, aspect, hillshade and curvature on the CPU: one pass over the DEM, row by row, in buffers that stay in cache.

Every loop over a row is plain enough for the compiler to do several cells at once.
"""

import math
from typing import Any

import numpy as np

from darts_preprocessing.backends.jit import jit

WIDTH = 1024
"""Cells of a row that are worked on at once."""

_DEGREES = 180 / math.pi
_HALF_PI = math.pi / 2


@jit
def gradient_block(
    dem: Any, top: int, left: int, rows: tuple[int, int], cols: tuple[int, int], cell: float, sun: Any, nodes: Any,
    node_step: int, slope: Any, aspect: Any, hillshade: Any, curvature: Any,
) -> None:  # fmt: skip
    """Compute the features for a block of the core, at most WIDTH columns wide.

    Args:
        dem: (y, x) float32.
        top: Row of `dem` where the core begins.
        left: Column of `dem` where the core begins.
        rows: First row of the block in the core, and the one after its last.
        cols: First column of the block in the core, and the one after its last.
        cell: Side of a cell in metres.
        sun: (3,) float64, unit vector to the sun: true east, true north, up.
        nodes: complex128, cos γ + i sin γ at nodes over the core.
        node_step: Cells from node to node.
        slope: (y, x) float32 of the core's shape to write to; with no cells if it is not wanted.
        aspect: Likewise.
        hillshade: Likewise.
        curvature: Likewise.
    """
    width = cols[1] - cols[0]
    above, here, below = np.empty(WIDTH + 2), np.empty(WIDTH + 2), np.empty(WIDTH + 2)
    east, north, cosine, sine = np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH)
    east, north, cosine, sine = east[:width], north[:width], cosine[:width], sine[:width]
    first_col = left + cols[0]
    load_row(dem, top + rows[0] - 1, first_col, width, above)
    load_row(dem, top + rows[0], first_col, width, here)
    for row in range(rows[0], rows[1]):
        load_row(dem, top + row + 1, first_col, width, below)
        horn_row(above, here, below, 1 / (8 * cell), east, north)
        if slope.size > 0:
            _slope_row(east, north, slope[row, cols[0] : cols[1]])
        if curvature.size > 0:
            _curvature_row(above, here, below, -200 / (cell * cell), curvature[row, cols[0] : cols[1]])
        if aspect.size > 0 or hillshade.size > 0:
            _convergence_row(nodes, node_step, row, cols[0], cosine, sine)
        if aspect.size > 0:
            _aspect_row(east, north, cosine, sine, aspect[row, cols[0] : cols[1]])
        if hillshade.size > 0:
            _hillshade_row(east, north, cosine, sine, sun, hillshade[row, cols[0] : cols[1]])
        above, here, below = here, below, above


@jit
def load_row(dem: Any, row: int, first_col: int, width: int, line: Any) -> None:
    """Copy a row of cells with one more on each side; what lies beyond the raster goes on linearly from its rim."""
    rows = dem.shape[0]
    if 0 <= row < rows:
        _load_cells(dem[row], dem[row], 1.0, 0.0, first_col, width, line)
    elif rows == 1:
        _load_cells(dem[0], dem[0], 1.0, 0.0, first_col, width, line)
    elif row < 0:
        _load_cells(dem[0], dem[1], 2.0, -1.0, first_col, width, line)
    else:
        _load_cells(dem[rows - 1], dem[rows - 2], 2.0, -1.0, first_col, width, line)


@jit
def _load_cells(a: Any, b: Any, weight_a: float, weight_b: float, first_col: int, width: int, line: Any) -> None:
    """Write the weighted sum of two rows, with one cell more on each side."""
    cols = a.shape[0]
    start, stop = max(first_col - 1, 0), min(first_col + width + 1, cols)
    inside = line[start - first_col + 1 : stop - first_col + 1]
    a, b = a[start:stop], b[start:stop]
    if weight_b == 0:
        for i in range(inside.shape[0]):
            inside[i] = a[i]
    else:
        for i in range(inside.shape[0]):
            inside[i] = weight_a * a[i] + weight_b * b[i]
    if first_col == 0:
        line[0] = line[1] if cols == 1 else 2 * line[1] - line[2]
    if first_col + width == cols:
        line[width + 1] = line[width] if cols == 1 else 2 * line[width] - line[width - 1]


@jit
def horn_row(above: Any, here: Any, below: Any, scale: float, east: Any, north: Any) -> None:
    """Write Horn's gradient: metres of rise per metre to the grid's east and north, NaN where a cell of 3 × 3 is."""
    width = east.shape[0]
    nw, n, ne = above[:width], above[1 : width + 1], above[2 : width + 2]
    w, c, e = here[:width], here[1 : width + 1], here[2 : width + 2]
    sw, s, se = below[:width], below[1 : width + 1], below[2 : width + 2]
    for i in range(width):
        hole = 0.0 * c[i]
        east[i] = ((ne[i] - nw[i]) + 2 * (e[i] - w[i]) + (se[i] - sw[i])) * scale + hole
        north[i] = ((nw[i] - sw[i]) + 2 * (n[i] - s[i]) + (ne[i] - se[i])) * scale + hole


@jit
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


@jit
def _slope_row(east: Any, north: Any, out: Any) -> None:
    for i in range(out.shape[0]):
        rise = math.sqrt(east[i] * east[i] + north[i] * north[i])
        steep = rise > 1
        angle = _arctan(1 / rise if steep else rise)
        out[i] = (_HALF_PI - angle if steep else angle) * _DEGREES


@jit
def _curvature_row(above: Any, here: Any, below: Any, scale: float, out: Any) -> None:
    width = out.shape[0]
    n, s = above[1 : width + 1], below[1 : width + 1]
    w, c, e = here[:width], here[1 : width + 1], here[2 : width + 2]
    for i in range(width):
        out[i] = (((w[i] - c[i]) + (e[i] - c[i])) / 2 + ((n[i] - c[i]) + (s[i] - c[i])) / 2) * scale


@jit
def _convergence_row(nodes: Any, step: int, row: int, first_col: int, cosine: Any, sine: Any) -> None:
    i, v = row // step, (row % step) / step
    width = cosine.shape[0]
    begin = 0
    while begin < width:  # from node to node
        j, offset = (first_col + begin) // step, (first_col + begin) % step
        end = min(begin + step - offset, width)
        west = nodes[i, j] * (1 - v) + nodes[i + 1, j] * v
        east = nodes[i, j + 1] * (1 - v) + nodes[i + 1, j + 1] * v
        slant = (east - west) / step
        west += slant * (offset - begin)
        for k in range(begin, end):
            cosine[k] = west.real + slant.real * k
            sine[k] = west.imag + slant.imag * k
        begin = end


@jit
def _aspect_row(east: Any, north: Any, cosine: Any, sine: Any, out: Any) -> None:
    for i in range(out.shape[0]):
        to_east = -east[i] * cosine[i] - north[i] * sine[i]
        to_north = -north[i] * cosine[i] + east[i] * sine[i]
        x, y = abs(to_east), abs(to_north)
        longer, shorter = max(x, y), min(x, y)
        angle = _arctan(shorter / longer)
        angle = _HALF_PI - angle if x > y else angle
        degrees = angle * _DEGREES
        degrees = 180 - degrees if to_north < 0 else degrees
        degrees = 360 - degrees if to_east < 0 else degrees
        single = np.float32(degrees)
        single = np.float32(0) if single >= 360 else single
        is_flat = (east[i] == 0) & (north[i] == 0)
        out[i] = np.float32(-1) if is_flat else single


@jit
def _hillshade_row(east: Any, north: Any, cosine: Any, sine: Any, sun: Any, out: Any) -> None:
    sun_east, sun_north, sun_up = sun[0], sun[1], sun[2]
    for i in range(out.shape[0]):
        to_east = -east[i] * cosine[i] - north[i] * sine[i]
        to_north = -north[i] * cosine[i] + east[i] * sine[i]
        lit = sun_up + to_east * sun_east + to_north * sun_north
        lit /= math.sqrt(1 + east[i] * east[i] + north[i] * north[i])
        lit = 0.0 if lit < 0 else lit
        out[i] = 1.0 if lit > 1 else lit
