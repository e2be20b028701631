"""The GPU: whole-array kernels of cupy, what they are made of, and resampling.

Arithmetic is in float64, strip by strip, so that the memory needed besides the results stays small.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darts_preprocessing.backends.interface import Array, Features, Interior, Sampling, Shading
from darts_preprocessing.nodes import Nodes
from darts_utils import Device, is_on_gpu, working_on_gpu

if TYPE_CHECKING:
    from darts_preprocessing.feature import Inputs, Kernels

_STRIP_CELLS = 1 << 23


class GpuBackend:
    """Kernels on cupy arrays.

    Args:
        xp: cupy.
        index: Number of the GPU as CUDA counts the visible ones.
    """

    def __init__(self, xp: ModuleType, index: int = 0) -> None:
        self.xp = xp
        self.index = index

    @classmethod
    def of(cls, device: Device) -> "GpuBackend":
        """Return the backend for a GPU on which cupy works."""
        import cupy

        return cls(cupy, device.index)

    def active(self) -> AbstractContextManager[object]:
        """Return a context in which this GPU works for this thread, see :func:`darts_utils.working_on_gpu`."""
        return working_on_gpu(self.xp, self.index)

    def asarray(self, values: object, dtype: DTypeLike | None = None) -> Array:
        """Return the values as a contiguous array of this backend, copied only where needed."""
        here = values if is_on_gpu(values) else np.asarray(values)
        return self.xp.ascontiguousarray(self.xp.asarray(here, dtype=dtype))

    def to_host(self, array: Array) -> NDArray:
        """Return a cupy array as a numpy array."""
        return self.xp.asnumpy(array)

    def run(self, kernels: "Kernels", inputs: "Inputs", names: Sequence[str]) -> Features:
        """See :meth:`Backend.run`."""
        return kernels.gpu(inputs, names)

    def resample(self, source: Array, sampling: Sampling) -> Array:
        """See :meth:`Backend.resample`."""
        xp = self.xp
        rows, cols = sampling.shape
        out = xp.empty((source.shape[0], rows, cols), dtype=source.dtype)
        for start, stop in strips(rows, cols):
            points = interpolate(xp, sampling.nodes, start, stop, cols)
            for band, cells in enumerate(source):
                if sampling.cubic:
                    values = _cubic(xp, cells, points.real, points.imag, sampling.stretch)
                else:
                    values = _nearest(xp, cells, points.real, points.imag)
                out[band, start:stop] = _as_dtype(xp, values, source.dtype)
        return out


def framed(xp: ModuleType, dem: Array, interior: Interior, start: int, stop: int) -> Array:
    """Return rows of the interior with one cell more on each side, float64, extrapolated where the raster ends."""
    z = surrounded(xp, dem, interior, start, stop, 1).astype(xp.float64)
    if interior.top + start == 0:
        z[0] = _beyond(z[1], z[2], dem.shape[0])
    if interior.top + stop == dem.shape[0]:
        z[-1] = _beyond(z[-2], z[-3], dem.shape[0])
    if interior.left == 0:
        z[:, 0] = _beyond(z[:, 1], z[:, 2], dem.shape[1])
    if interior.left + interior.shape[1] == dem.shape[1]:
        z[:, -1] = _beyond(z[:, -2], z[:, -3], dem.shape[1])
    return z


def surrounded(xp: ModuleType, dem: Array, interior: Interior, start: int, stop: int, halo: int) -> Array:
    """Return rows of the interior with `halo` cells more on each side, NaN where the raster ends."""
    top, bottom = interior.top + start - halo, interior.top + stop + halo
    left, right = interior.left - halo, interior.left + interior.shape[1] + halo
    rows, cols = dem.shape
    inner = dem[max(top, 0) : min(bottom, rows), max(left, 0) : min(right, cols)]
    pad = ((max(-top, 0), max(bottom - rows, 0)), (max(-left, 0), max(right - cols, 0)))
    return xp.pad(inner, pad, constant_values=np.nan)


class Gradient:
    """Horn's gradient of framed elevations: how much they rise per metre to the east and to the north of the grid."""

    def __init__(self, xp: ModuleType, z: Array, cell: float) -> None:
        self.xp = xp
        nw, n, ne = z[:-2, :-2], z[:-2, 1:-1], z[:-2, 2:]
        w, e = z[1:-1, :-2], z[1:-1, 2:]
        sw, s, se = z[2:, :-2], z[2:, 1:-1], z[2:, 2:]
        hole = 0.0 * z[1:-1, 1:-1]  # NaN where the cell itself is, which the gradient does not look at
        self.east = ((ne - nw) + 2 * (e - w) + (se - sw)) / (8 * cell) + hole
        self.north = ((nw - sw) + 2 * (n - s) + (ne - se)) / (8 * cell) + hole

    @property
    def steepness(self) -> Array:
        """Metres of rise per metre."""
        return self.xp.sqrt(self.east**2 + self.north**2)

    def downslope(self, sine: Array | float, cosine: Array | float) -> tuple[Array, Array]:
        """Return the downslope direction, as long as it is steep, to true east and true north."""
        return -self.east * cosine - self.north * sine, -self.north * cosine + self.east * sine

    def aspect(self, sine: Array | float, cosine: Array | float) -> Array:
        """Degrees clockwise from true north, float32; −1 where it is flat."""
        xp = self.xp
        to_east, to_north = self.downslope(sine, cosine)
        angle = (xp.degrees(xp.arctan2(to_east, to_north)) % 360.0).astype(xp.float32)
        angle = xp.where(angle >= 360, 0, angle)
        return xp.where((self.east == 0) & (self.north == 0), -1, angle)

    def hillshade(self, shading: Shading, sine: Array | float, cosine: Array | float) -> Array:
        """The cosine of the angle to the sun, 0 where that is behind."""
        xp = self.xp
        to_east, to_north = self.downslope(sine, cosine)
        towards_sun = to_east * shading.east + to_north * shading.north
        return xp.clip((shading.up + towards_sun) / xp.sqrt(1 + self.steepness**2), 0, 1)


def _beyond(border: Array, inside: Array, size: int) -> Array:
    """Extrapolate linearly beyond the border, as ``gdaldem -compute_edges`` does; a raster of one cell goes on flat."""
    return 2 * border - inside if size > 1 else border


def strips(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    """Cut a raster into strips of rows, so that what is needed besides the results stays small."""
    height = max(1, _STRIP_CELLS // max(cols, 1))
    for start in range(0, rows, height):
        yield start, min(start + height, rows)


def interpolate(xp: ModuleType, nodes: Nodes, start: int, stop: int, cols: int) -> Array:
    """Return the quantity for some rows, (rows, cols) complex128."""
    i, v = xp.divmod(xp.arange(start, stop), nodes.step)
    j, u = xp.divmod(xp.arange(cols), nodes.step)
    v, u = (v / nodes.step)[:, None], u / nodes.step
    values = xp.asarray(nodes.values)
    along = values[i] * (1 - v) + values[i + 1] * v
    return along[:, j] * (1 - u) + along[:, j + 1] * u


def _as_dtype(xp: ModuleType, values: Array, dtype: np.dtype) -> Array:
    if dtype.kind == "f":
        return values.astype(dtype)
    whole = xp.clip(xp.floor(values + 0.5), 0, np.iinfo(dtype).max)
    return xp.where(xp.isnan(values), 0, whole).astype(dtype)


def _take(xp: ModuleType, cells: Array, row: Array, col: Array) -> Array:
    """Return cells as float64, NaN beyond the border."""
    height, width = cells.shape
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    taken = cells[xp.clip(row, 0, height - 1), xp.clip(col, 0, width - 1)]
    return xp.where(inside, taken, np.nan).astype(xp.float64)


def _nearest(xp: ModuleType, cells: Array, x: Array, y: Array) -> Array:
    return _take(xp, cells, xp.floor(y).astype(xp.int64), xp.floor(x).astype(xp.int64))


def _cubic(xp: ModuleType, cells: Array, x: Array, y: Array, stretch: float) -> Array:
    taps = range(2 * math.ceil(2 * stretch))
    left, top = (xp.floor(coordinate - 0.5).astype(xp.int64) - len(taps) // 2 + 1 for coordinate in (x, y))
    weights = [[_keys(xp, xp.abs(first + k + 0.5 - at) / stretch) for k in taps] for first, at in ((left, x), (top, y))]
    value: Any = 0.0
    for i in taps:
        along: Array | float = 0.0
        for j in taps:
            along = along + weights[0][j] * _take(xp, cells, top + i, left + j)
        value = value + weights[1][i] * along
    value = value / (sum(weights[0]) * sum(weights[1]))
    gaps = xp.nonzero(xp.isnan(value))
    value[gaps] = _linear(xp, cells, x[gaps], y[gaps], left[gaps], top[gaps], stretch)
    return value


def _keys(xp: ModuleType, t: Array) -> Array:
    """Return the kernel of cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = −1/2)."""
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return xp.where(t < 1, near, xp.where(t < 2, far, 0.0))


def _linear(xp: ModuleType, cells: Array, x: Array, y: Array, left: Array, top: Array, stretch: float) -> Array:
    """Interpolate linearly between the cells that are there; NaN where the nearest one is not."""
    value, total = xp.zeros_like(x), xp.zeros_like(x)
    for i in range(2 * math.ceil(2 * stretch)):
        weight_y = xp.maximum(0, 1 - xp.abs(top + i + 0.5 - y) / stretch)
        for j in range(2 * math.ceil(2 * stretch)):
            weight = weight_y * xp.maximum(0, 1 - xp.abs(left + j + 0.5 - x) / stretch)
            cell = _take(xp, cells, top + i, left + j)
            valid = ~xp.isnan(cell)
            value += xp.where(valid, weight * cell, 0.0)
            total += xp.where(valid, weight, 0.0)
    found = ~xp.isnan(_nearest(xp, cells, x, y))
    return xp.where(found, value, np.nan) / xp.where(found, total, 1.0)
