"""Relative elevation: the topographic position index."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darts_preprocessing.backends.arrays import strips, surrounded
from darts_preprocessing.backends.blocks import Block, Scratch, iterate_blocks, run_blocks
from darts_preprocessing.backends.cpu_disk import (
    COLS,
    ROWS,
    Disk,
    add_disks,
    add_up,
    relative_elevation_block,
    subtract_means,
)
from darts_preprocessing.backends.interface import Array, half_widths
from darts_preprocessing.compute import calculate
from darts_preprocessing.feature import Feature, Inputs, Kernels, Request
from darts_preprocessing.grid import Length, to_radii
from darts_utils import get_band

if TYPE_CHECKING:
    import xarray as xr


def calculate_topographic_position_index(
    ds: xr.Dataset, outer_radius: Length = 100, inner_radius: Length = 0
) -> xr.Dataset:
    """Add ``relative_elevation``: how far a cell lies above (or below) the mean of the cells around it, in metres.

    The topographic position index (Weiss 2001) over a disk, or over a ring. The mean is that of the valid cells whose
    centres are at most the outer radius away and, where the inner radius is above 0, farther than it; the cell itself
    belongs to the disk. NaN only where the cell itself is NaN, or no other cell counts.

    Args:
        ds: As for :func:`calculate_slope`, with the same errors.
        outer_radius: Metres (100 or "100m"), rounded up to cells, or cells ("10px").
        inner_radius: Likewise; 0 means a disk, more a ring.

    Returns:
        A new Dataset with ``relative_elevation``, (y, x) float32, metres, besides what `ds` holds.

    Raises:
        ParameterError: If a radius is malformed, or the ring holds no cell.
    """
    return calculate("relative_elevation", ds, outer_radius=outer_radius, inner_radius=inner_radius)


def _on_cpu(inputs: Inputs) -> NDArray:
    dem, interior = inputs["dem"], inputs.interior
    out = np.empty(interior.shape, dtype=np.float32)
    disk, scratch = Disk(*inputs.settings["relative_elevation"]), Scratch()

    def work(block: Block) -> None:
        relative_elevation_block(dem, interior, block, disk, scratch, out)

    run_blocks(work, iterate_blocks(interior.shape, ROWS, COLS))
    return out


def _on_gpu(inputs: Inputs) -> Array:
    xp, dem, interior = inputs.xp, inputs["dem"], inputs.interior
    outer, inner = inputs.settings["relative_elevation"]
    out = xp.empty(interior.shape, dtype=xp.float32)
    for start, stop in strips(*interior.shape):
        centre = interior.cut(dem)[start:stop].astype(xp.float64)
        around = surrounded(xp, dem, interior, start, stop, outer).astype(xp.float64)
        valid = ~xp.isnan(around)
        totals = _RowSums(xp, xp.where(valid, around, 0.0), outer)
        counts = _RowSums(xp, valid.astype(xp.int32), outer)
        total, count = totals.disk(outer), counts.disk(outer)
        if inner > 0:
            total, count = total - totals.disk(inner), count - counts.disk(inner)
        mean = total / xp.where(count == 0, np.nan, count)
        out[start:stop] = centre - mean
    return out


class _RowSums:
    """Sums over stretches of rows, from one running sum along each row."""

    def __init__(self, xp: ModuleType, values: Array, halo: int) -> None:
        self.halo = halo
        self.sums = xp.zeros((values.shape[0], values.shape[1] + 1), dtype=values.dtype)
        self.sums[:, 1:] = xp.cumsum(values, axis=1)
        self.rows, self.cols = values.shape[0] - 2 * halo, values.shape[1] - 2 * halo

    def disk(self, radius: int) -> Array:
        """Sum over the cells whose distance is at most the radius."""
        total: Array | float = 0
        widths = half_widths(radius)
        for row in range(-radius, radius + 1):
            lines = self.sums[self.halo + row : self.halo + row + self.rows]
            first, last = self.halo - widths[abs(row)], self.halo + widths[abs(row)] + 1
            total = total + (lines[:, last : last + self.cols] - lines[:, first : first + self.cols])
        return total


def _radii(request: Request) -> tuple[int, int]:
    options = request.options
    return to_radii(options.get("outer_radius", 100), options.get("inner_radius", 0), request.cell)


def _describe(request: Request, radii: tuple[int, int]) -> dict[str, str]:
    """Say over which disk or ring the mean was taken."""
    names = ("outer_radius", "inner_radius")
    return {name: f"{cells * request.cell:g} m ({cells} cells)" for name, cells in zip(names, radii, strict=True)}


FEATURES = (
    Feature(
        band=get_band("relative_elevation"),
        definition="metres above the mean of the cells around",
        needs=("dem",),
        kernels=Kernels.of_one(_on_cpu, _on_gpu, (add_up, add_disks, subtract_means)),
        prepare=_radii,
        margin=lambda radii: radii[0],
        describe=_describe,
        by_default=True,
        function=calculate_topographic_position_index,
    ),
)
