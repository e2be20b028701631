"""Elevation relative to the mean over a disk or ring on the CPU, at a cost per cell that grows with the radius.

A disk is the largest square in it and four caps, a stack of horizontal runs of cells above and below it, a row of
vertical runs on both sides. With running sums along rows, along columns and along both, a run is a difference of two
sums and the square one of four. The DEM is worked on in blocks, so that the running sums stay in cache.
"""

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends.blocks import Block, Scratch
from darts_preprocessing.backends.interface import Interior, half_widths
from darts_preprocessing.backends.jit import FLOAT, FLOAT32, INT, array_in, array_out, kernel

ROWS, COLS = 256, 512
"""Size of a block in cells."""

_ROWS_AT_ONCE = 64


class Disk:
    """A disk, or a ring if the inner radius is above 0, as the kernels take it.

    Attributes:
        radius: The outer radius in cells.
        outer: int64, for each row of the disk from its centre on, the cells left (or right) of the centre line.
        inner: Likewise for the disk that is left out; empty if there is none.
        size: Number of cells.
    """

    def __init__(self, outer: int, inner: int) -> None:
        self.radius = outer
        self.outer = np.array(half_widths(outer), dtype=np.int64)
        self.inner = np.array(half_widths(inner) if inner > 0 else (), dtype=np.int64)
        self.size = _count_cells(self.outer) - _count_cells(self.inner)


class DiskSums:
    """Sums of values over disks.

    Args:
        disk: The disk.
        values: (y, x) float32.
        block: The part of it that is summed up.
        scratch: Memory for the running sums.
        name: Which of it.
    """

    def __init__(self, disk: Disk, values: NDArray, block: Block, scratch: Scratch, name: str) -> None:
        top, left, rows, cols = block
        shapes = (rows, cols + 1), (rows + 1, cols), (rows + 1, cols + 1)
        self._disk, self._scratch = disk, scratch
        self._running = [scratch.array(f"{name} {number}", shape) for number, shape in enumerate(shapes)]
        add_up(values, top, left, *self._running)

    def get(self, block: Block) -> NDArray:
        """Return the sums over the disks around the cells of a block.

        Args:
            block: Counted from the first cell that lies at least the radius from the border.

        Returns:
            (y, x) float64; the next call, of any sums, overwrites it.
        """
        top, left, rows, cols = block
        total = self._scratch.array("total", (rows, cols))
        add_disks(*self._running, self._disk.outer, self._disk.inner, top, left, total)
        return total


def relative_elevation_block(
    dem: NDArray, interior: Interior, block: Block, disk: Disk, scratch: Scratch, out: NDArray
) -> None:
    """Compute the relative elevation for a block of the interior.

    Args:
        dem: (y, x) float32, metres, NaN where there is none.
        interior: Where the block is counted from.
        block: The block.
        disk: The cells that count.
        scratch: Memory to use.
        out: (y, x) float32 of the interior's shape, written to.
    """
    top, left, rows, cols = block
    first_row, first_col = interior.top + top, interior.left + left
    halo = disk.radius
    padded = first_row - halo, first_col - halo, rows + 2 * halo, cols + 2 * halo
    values, part, missing = _load(dem, padded, scratch)
    sums = DiskSums(disk, values, part, scratch, "elevation")
    if missing is not None:
        valid = np.logical_not(missing, out=scratch.array("there", missing.shape, np.float32))
        presence = DiskSums(disk, valid, (0, 0, *missing.shape), scratch, "presence")
    counts = np.empty((0, 0))
    for start in range(0, rows, _ROWS_AT_ONCE):
        strip = start, 0, min(_ROWS_AT_ONCE, rows - start), cols
        if missing is not None:
            counts = _count(missing[start : start + strip[2] + 2 * halo], presence, disk, strip, scratch)
        here = dem[first_row + start : first_row + start + strip[2]]
        result = out[top + start : top + start + strip[2]]
        subtract_means(here, first_col, sums.get(strip), counts, disk.size, result, left)


def _load(dem: NDArray, block: Block, scratch: Scratch) -> tuple[NDArray, Block, NDArray | None]:
    """Find what there is of a block that may reach beyond the DEM.

    Returns:
        (y, x) float32, NaN where there is no elevation; the part of it that is the block; and where in the block there
        is no elevation, None for nowhere.
    """
    top, left, rows, cols = block
    first_row, first_col = max(top, 0), max(left, 0)
    inside = dem[first_row : top + rows, first_col : left + cols]
    missing = scratch.array("missing", (rows, cols), np.bool_)
    if inside.shape == missing.shape:
        np.isnan(inside, out=missing)
        return dem, block, missing if missing.any() else None
    values = scratch.array("values", (rows, cols), np.float32)
    values[:] = np.nan
    row, col = first_row - top, first_col - left
    values[row : row + inside.shape[0], col : col + inside.shape[1]] = inside
    return values, (0, 0, rows, cols), np.isnan(values, out=missing)


def _count(missing: NDArray, presence: DiskSums, disk: Disk, strip: Block, scratch: Scratch) -> NDArray:
    """Return the number of valid cells of each disk of a strip, float64; no cells where every disk is complete."""
    cols = np.flatnonzero(missing.any(axis=0))
    if cols.size == 0:
        return np.empty((0, 0))
    top, _, rows, width = strip
    # Only the disks near a missing cell need counting.
    left, right = max(int(cols[0]) - 2 * disk.radius, 0), min(int(cols[-1]) + 1, width)
    counts = scratch.array("counts", (rows, width))
    counts[:] = disk.size
    counts[:, left:right] = presence.get((top, left, rows, right - left))
    return counts


def _count_cells(widths: NDArray) -> int:
    return int(2 * (2 * widths + 1).sum() - (2 * widths[0] + 1)) if widths.size else 0


@kernel(array_in(FLOAT32, 2), INT, INT, array_out(FLOAT, 2), array_out(FLOAT, 2), array_out(FLOAT, 2))
def add_up(values: NDArray, top: int, left: int, along: NDArray, down: NDArray, both: NDArray) -> None:
    """Write the running sums of a block along its rows, down its columns, and along both; NaN adds nothing.

    Args:
        values: (y, x) float32.
        top: First row of the block.
        left: First column of the block.
        along: (rows, columns + 1) float64, written to.
        down: (rows + 1, columns) float64, written to.
        both: (rows + 1, columns + 1) float64, written to.
    """
    rows, cols = along.shape[0], along.shape[1] - 1
    for j in range(cols):
        down[0, j] = 0
    for j in range(cols + 1):
        both[0, j] = 0
    for i in range(0, rows, 2):  # two rows at once, since each sum along a row waits for the one before
        k = min(i + 1, rows - 1)
        line, next_line = values[top + i, left:], values[top + k, left:]
        total, next_total = 0.0, 0.0
        along[i, 0] = 0
        along[k, 0] = 0
        for j in range(cols):
            value, next_value = line[j], next_line[j]
            total += value if value == value else 0.0
            next_total += next_value if next_value == next_value else 0.0
            along[i, j + 1] = total
            along[k, j + 1] = next_total
        for row in range(i, k + 1):
            line = values[top + row, left:]
            for j in range(cols):
                value = line[j]
                down[row + 1, j] = down[row, j] + (value if value == value else 0.0)
            for j in range(cols + 1):
                both[row + 1, j] = both[row, j] + along[row, j]


@kernel(
    array_in(FLOAT, 2), array_in(FLOAT, 2), array_in(FLOAT, 2), array_in(INT, 1), array_in(INT, 1), INT,
    INT, array_out(FLOAT, 2),
)  # fmt: skip
def add_disks(
    along: NDArray, down: NDArray, both: NDArray, outer: NDArray, inner: NDArray, top: int, left: int, total: NDArray
) -> None:
    """Write the sums over the disk or ring around each cell of a block.

    Args:
        along: The first of the running sums, with a border as wide as the outer radius; see :func:`add_up`.
        down: The second.
        both: The third.
        outer: See :class:`Disk`.
        inner: See :class:`Disk`.
        top: First row of the block, counted without the border.
        left: First column of the block, likewise.
        total: (y, x) float64, written to.
    """
    rows, cols = total.shape
    halo = outer.shape[0] - 1
    middle = left + halo
    for part in range(2):
        disk, sign = (outer, 1.0) if part == 0 else (inner, -1.0)
        square = 0  # half the side of the largest square in the disk
        while square + 1 < disk.shape[0] and disk[square + 1] > square:
            square += 1
        for row in range(rows if disk.shape[0] > 0 else 0):
            line, centre = total[row], top + row + halo
            first, last = middle - square, middle + square + 1
            upper, lower = both[centre - square], both[centre + square + 1]
            upper_first, upper_last, lower_first, lower_last = upper[first:], upper[last:], lower[first:], lower[last:]
            for i in range(cols):
                cells = (lower_last[i] - lower_first[i]) - (upper_last[i] - upper_first[i])
                line[i] = cells if part == 0 else line[i] - cells
            for far in range(square + 1, disk.shape[0]):
                first, last = middle - disk[far], middle + disk[far] + 1
                upper, lower = along[centre - far], along[centre + far]
                upper_first, upper_last, lower_first, lower_last = (
                    upper[first:],
                    upper[last:],
                    lower[first:],
                    lower[last:],
                )
                upper, lower = down[centre - disk[far]], down[centre + disk[far] + 1]
                left_first, left_last = upper[middle - far :], lower[middle - far :]
                right_first, right_last = upper[middle + far :], lower[middle + far :]
                for i in range(cols):
                    across = (upper_last[i] - upper_first[i]) + (lower_last[i] - lower_first[i])
                    upright = (left_last[i] - left_first[i]) + (right_last[i] - right_first[i])
                    line[i] += sign * (across + upright)


@kernel(array_in(FLOAT32, 2), INT, array_in(FLOAT, 2), array_in(FLOAT, 2), FLOAT, array_out(FLOAT32, 2), INT)
def subtract_means(
    dem: NDArray, first_col: int, total: NDArray, counts: NDArray, size: float, out: NDArray, left: int
) -> None:
    """Write how far elevations lie above the mean around them; NaN where nothing is around them.

    Args:
        dem: (rows, x) float32.
        first_col: First column of the block in `dem`.
        total: (rows, columns) float64, sum of the elevations around each cell of the block.
        counts: (rows, columns) float64, number of the cells around it; no cells where there are always `size`.
        size: See `counts`.
        out: (rows, x) float32, written to.
        left: First column of the block in `out`.
    """
    for i in range(total.shape[0]):
        here, result = dem[i, first_col:], out[i, left:]
        for j in range(total.shape[1]):
            count = counts[i, j] if counts.size > 0 else size
            result[j] = here[j] - total[i, j] / count if count > 0 else np.nan
