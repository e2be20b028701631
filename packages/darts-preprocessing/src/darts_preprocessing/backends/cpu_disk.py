"""Elevation relative to the mean over a disk or ring on the CPU, at a cost per cell that grows with the radius.

A disk is a stack of horizontal runs of cells. With running sums along each row, a run is a difference of two of them.
The DEM is worked on in blocks, so that the running sums stay in cache.
"""

from typing import Any

import numpy as np

from darts_preprocessing.backends.jit import jit

ROWS, COLS = 256, 512
"""Size of a block in cells."""


@jit
def relative_elevation_block(
    dem: Any, core: tuple[int, int], rows: tuple[int, int], cols: tuple[int, int], outer: Any, inner: Any, out: Any
) -> None:
    """Compute the relative elevation for a block of the core.

    Args:
        dem: (y, x) float32, metres, NaN where there is none.
        core: Row and column of `dem` where the core begins.
        rows: First row of the block in the core, and the one after its last.
        cols: First column of the block in the core, and the one after its last.
        outer: int64, for each row of the disk from its centre on, the cells left (or right) of the centre line.
        inner: Likewise for the disk that is left out; empty if there is none.
        out: (y, x) float32 of the core's shape, written to.
    """
    height, width = rows[1] - rows[0], cols[1] - cols[0]
    top, left = core[0] + rows[0], core[1] + cols[0]
    halo = outer.shape[0] - 1
    sums = np.empty((height + 2 * halo, width + 2 * halo + 1))
    holes = _add_up_rows(dem, top - halo, left - halo, sums)
    counts = np.empty(sums.shape if holes else (1, 1), dtype=np.int32)
    if holes:
        _count_rows(dem, top - halo, left - halo, counts)
    total, count = np.empty(width), np.empty(width, dtype=np.int32)
    count[:] = _disk_size(outer) - _disk_size(inner)
    for row in range(height):
        total[:] = 0
        _add_disk(sums, row + halo, halo, outer, 1, total)
        _add_disk(sums, row + halo, halo, inner, -1, total)
        if holes:
            count[:] = 0
            _add_disk(counts, row + halo, halo, outer, 1, count)
            _add_disk(counts, row + halo, halo, inner, -1, count)
        here, result = dem[top + row, left : left + width], out[rows[0] + row, cols[0] : cols[1]]
        for col in range(width):
            mean = total[col] / count[col]
            result[col] = here[col] - mean if count[col] > 0 else np.nan


@jit
def _add_up_rows(dem: Any, top: int, left: int, sums: Any) -> bool:
    """Write the running sum along each row, from 0 on; missing cells add nothing. Tell whether there are any."""
    rows, cols = dem.shape
    height, width = sums.shape
    holes = top < 0 or left < 0 or top + height > rows or left + width - 1 > cols
    for i in range(height):
        row, line = top + i, sums[i]
        if row < 0 or row >= rows:
            line[:] = 0
            continue
        start, stop = max(left, 0), min(left + width - 1, cols)
        cells, inside = dem[row, start:stop], line[start - left + 1 : stop - left + 1]
        line[: start - left + 1] = 0
        total = 0.0
        for j in range(cells.shape[0]):
            value = np.float64(cells[j])
            missing = value != value
            holes |= missing
            total += 0.0 if missing else value
            inside[j] = total
        line[stop - left + 1 :] = total
    return holes


@jit
def _count_rows(dem: Any, top: int, left: int, counts: Any) -> None:
    """Write the running number of valid cells along each row, from 0 on."""
    rows, cols = dem.shape
    height, width = counts.shape
    for i in range(height):
        row, line = top + i, counts[i]
        if row < 0 or row >= rows:
            line[:] = 0
            continue
        start, stop = max(left, 0), min(left + width - 1, cols)
        cells, inside = dem[row, start:stop], line[start - left + 1 : stop - left + 1]
        line[: start - left + 1] = 0
        total = np.int32(0)
        for j in range(cells.shape[0]):
            total += np.int32(cells[j] == cells[j])
            inside[j] = total
        line[stop - left + 1 :] = total


@jit
def _add_disk(sums: Any, row: int, halo: int, half_widths: Any, sign: int, total: Any) -> None:
    """Add (or subtract) to `total` the sum over the disk around each cell of a row."""
    cols = total.shape[0]
    for distance in range(half_widths.shape[0]):
        half = half_widths[distance]
        first, last = halo - half, halo + half + 1
        above, below = sums[row - distance], sums[row + distance]
        above_first, above_last = above[first : first + cols], above[last : last + cols]
        below_first, below_last = below[first : first + cols], below[last : last + cols]
        if distance == 0:
            for i in range(cols):
                total[i] += sign * (above_last[i] - above_first[i])
        else:
            for i in range(cols):
                total[i] += sign * ((above_last[i] - above_first[i]) + (below_last[i] - below_first[i]))


@jit
def _disk_size(half_widths: Any) -> int:
    cells = 0
    for distance in range(half_widths.shape[0]):
        cells += (2 * half_widths[distance] + 1) * (1 if distance == 0 else 2)
    return cells
