"""Elevation relative to the mean over a disk or ring on the CPU, at a cost per cell that grows with the radius.

A disk is the largest square in it and four caps, a stack of horizontal runs of cells above and below it, a row of
vertical runs on both sides. With running sums along rows, along columns and along both, a run is a difference of two
sums and the square one of four. The DEM is worked on in blocks, so that the running sums stay in cache.
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
    high, wide = height + 2 * halo, width + 2 * halo
    sums = np.empty((high, wide + 1)), np.empty((high + 1, wide)), np.empty((high + 1, wide + 1))
    holes = _sum_values(dem, top - halo, left - halo, np.empty(wide), sums)
    some = (high, wide) if holes else (0, 0)
    counts = (
        np.empty((some[0], some[1] + 1), dtype=np.int32),
        np.empty((some[0] + 1, some[1]), dtype=np.int32),
        np.empty((some[0] + 1, some[1] + 1), dtype=np.int32),
    )
    if holes:
        _sum_presence(dem, top - halo, left - halo, np.empty(wide, dtype=np.int32), counts)
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
def _sum_values(dem: Any, top: int, left: int, line: Any, sums: Any) -> bool:
    """Write the running sums of the elevations, where missing cells add nothing, and tell whether there are any."""
    rows, cols = dem.shape
    start, stop = max(left, 0), min(left + line.shape[0], cols)
    holes = top < 0 or left < 0 or top + sums[0].shape[0] > rows or left + line.shape[0] > cols
    inside = line[start - left : stop - left]
    line[:] = 0
    _begin(sums)
    for i in range(sums[0].shape[0]):
        row = top + i
        if 0 <= row < rows:
            cells = dem[row, start:stop]
            for j in range(cells.shape[0]):
                missing = cells[j] != cells[j]
                holes |= missing
                inside[j] = 0.0 if missing else cells[j]
        else:
            line[:] = 0
        _add_line(line, i, sums)
    return holes


@jit
def _sum_presence(dem: Any, top: int, left: int, line: Any, counts: Any) -> None:
    """Write the running numbers of valid cells."""
    rows, cols = dem.shape
    start, stop = max(left, 0), min(left + line.shape[0], cols)
    inside = line[start - left : stop - left]
    line[:] = 0
    _begin(counts)
    for i in range(counts[0].shape[0]):
        row = top + i
        if 0 <= row < rows:
            cells = dem[row, start:stop]
            for j in range(cells.shape[0]):
                inside[j] = 1 if cells[j] == cells[j] else 0
        else:
            line[:] = 0
        _add_line(line, i, counts)


@jit
def _begin(sums: Any) -> None:
    along, down, both = sums
    along[:, 0] = 0
    down[0] = 0
    both[0] = 0
    both[:, 0] = 0


@jit
def _add_line(line: Any, row: int, sums: Any) -> None:
    """Continue the running sums along the row, down the columns, and along both, by one row."""
    along, down, both = sums[0][row], sums[1], sums[2]
    for j in range(line.shape[0]):
        along[j + 1] = along[j] + line[j]
    before, after = down[row], down[row + 1]
    for j in range(line.shape[0]):
        after[j] = before[j] + line[j]
    before, after = both[row], both[row + 1]
    for j in range(along.shape[0]):
        after[j] = before[j] + along[j]


@jit
def _add_disk(sums: Any, row: int, halo: int, half_widths: Any, sign: int, total: Any) -> None:
    """Add to `total` (or subtract, if `sign` is −1) the sum over the disk around each cell of a row."""
    if half_widths.shape[0] == 0:
        return
    along, down, both = sums
    cols = total.shape[0]
    square = 0  # half the side of the largest square in the disk
    while half_widths[square + 1] > square:
        square += 1
    first, last = halo - square, halo + square + 1
    upper, lower = both[row - square], both[row + square + 1]
    upper_first, upper_last = upper[first : first + cols], upper[last : last + cols]
    lower_first, lower_last = lower[first : first + cols], lower[last : last + cols]
    for i in range(cols):
        total[i] += sign * ((lower_last[i] - lower_first[i]) - (upper_last[i] - upper_first[i]))
    for far in range(square + 1, half_widths.shape[0]):
        first, last = halo - half_widths[far], halo + half_widths[far] + 1
        upper, lower = along[row - far], along[row + far]
        upper_first, upper_last = upper[first : first + cols], upper[last : last + cols]
        lower_first, lower_last = lower[first : first + cols], lower[last : last + cols]
        upper, lower = down[row - half_widths[far]], down[row + half_widths[far] + 1]
        left_first, left_last = upper[halo - far : halo - far + cols], lower[halo - far : halo - far + cols]
        right_first, right_last = upper[halo + far : halo + far + cols], lower[halo + far : halo + far + cols]
        for i in range(cols):
            rows = (upper_last[i] - upper_first[i]) + (lower_last[i] - lower_first[i])
            columns = (left_last[i] - left_first[i]) + (right_last[i] - right_first[i])
            total[i] += sign * (rows + columns)


@jit
def _disk_size(half_widths: Any) -> int:
    cells = 0
    for distance in range(half_widths.shape[0]):
        cells += (2 * half_widths[distance] + 1) * (1 if distance == 0 else 2)
    return cells
