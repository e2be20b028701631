"""The kernels written with whole-array operations: what runs on the GPU (cupy), and on the CPU where asked (numpy).

Arithmetic is in float64, strip by strip, so that the memory needed besides the results stays small.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from darts_preprocessing.backends.interface import Core, Features, Sampling, Shading, half_widths
from darts_preprocessing.nodes import Nodes

_STRIP_CELLS = 1 << 23


class ArrayBackend:
    """Kernels on the arrays of one module.

    Attributes:
        xp: The module: numpy, or cupy.
    """

    def __init__(self, xp: ModuleType) -> None:
        self.xp = xp

    def active(self) -> AbstractContextManager[Any]:
        """Return a context in which new arrays lie where this backend works."""
        return nullcontext()

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """Return the values as a contiguous array of this backend, copied only where needed."""
        here = values if hasattr(values, "__cuda_array_interface__") else np.asarray(values)
        return self.xp.ascontiguousarray(self.xp.asarray(here, dtype=dtype))

    def to_host(self, array: Any) -> Any:
        """Return an array of this backend as a numpy array."""
        return array

    def ndvi(self, nir: Any, red: Any) -> Any:
        """See :meth:`Backend.ndvi`."""
        xp = self.xp
        nir, red = (xp.clip(band, 0, 1) for band in (nir, red))
        total = nir + red
        ratio = xp.divide(nir - red, xp.where(total == 0, xp.float32(np.nan), total))
        return xp.clip(ratio, -1, 1).astype(xp.float32, copy=False)

    def gradient_features(
        self, dem: Any, core: Core, cell: float, names: Sequence[str], shading: Shading | None, north: Nodes | None
    ) -> Features:
        """See :meth:`Backend.gradient_features`."""
        xp = self.xp
        shape = core.shape
        out = {name: xp.empty(shape, dtype=xp.float32) for name in names}
        for start, stop in _strips(*shape):
            z = self._framed(dem, core, start, stop)
            flat = _Gradient(xp, z, cell)
            if "slope" in out:
                out["slope"][start:stop] = xp.degrees(xp.arctan(flat.steepness))
            if "curvature" in out:
                out["curvature"][start:stop] = _curvature(z, cell)
            if "aspect" in out:
                sine, cosine = self._convergence(north, start, stop, shape[1])
                out["aspect"][start:stop] = flat.aspect(sine, cosine)
            if "hillshade" in out and shading is not None:
                sine, cosine = self._convergence(north, start, stop, shape[1])
                out["hillshade"][start:stop] = flat.hillshade(shading, sine, cosine)
        return out

    def relative_elevation(self, dem: Any, core: Core, outer: int, inner: int) -> Any:
        """See :meth:`Backend.relative_elevation`."""
        xp = self.xp
        rows, cols = core.shape
        out = xp.empty((rows, cols), dtype=xp.float32)
        for start, stop in _strips(rows, cols):
            centre = dem[core.top + start : core.top + stop, core.left : core.left + cols].astype(xp.float64)
            around = self._surrounded(dem, core, start, stop, outer, np.nan).astype(xp.float64)
            valid = ~xp.isnan(around)
            totals = _Runs(xp, xp.where(valid, around, 0.0), outer)
            counts = _Runs(xp, valid.astype(xp.int32), outer)
            total, count = totals.disk(outer), counts.disk(outer)
            if inner > 0:
                total, count = total - totals.disk(inner), count - counts.disk(inner)
            mean = total / xp.where(count == 0, np.nan, count)
            out[start:stop] = centre - mean
        return out

    def ruggedness(self, dem: Any, window: int) -> Any:
        """See :meth:`Backend.ruggedness`."""
        xp = self.xp
        core, half = Core.whole(dem.shape), window // 2
        out = xp.empty(dem.shape, dtype=xp.float32)
        for start, stop in _strips(*dem.shape):
            around = self._surrounded(dem, core, start, stop, half, np.nan).astype(xp.float64)
            rows, cols = stop - start, dem.shape[1]
            centre = around[half : half + rows, half : half + cols]
            total, count = xp.zeros_like(centre), xp.zeros(centre.shape, dtype=xp.int32)
            for row in range(window):
                for col in range(window):
                    squared = (around[row : row + rows, col : col + cols] - centre) ** 2
                    valid = ~xp.isnan(squared)
                    total += xp.where(valid, squared, 0.0)
                    count += valid
            others = xp.where(count > 1, count - 1.0, np.nan)
            out[start:stop] = xp.sqrt(total / others * (window**2 - 1))
        return out

    def vector_ruggedness(self, dem: Any, cell: float, window: int) -> Any:
        """See :meth:`Backend.vector_ruggedness`."""
        xp = self.xp
        whole, half = Core.whole(dem.shape), window // 2
        out = xp.empty(dem.shape, dtype=xp.float32)
        for start, stop in _strips(*dem.shape):
            first, last = max(start - half, 0), min(stop + half, dem.shape[0])
            gradient = _Gradient(xp, self._framed(dem, whole, first, last), cell)
            up = 1 / xp.sqrt(1 + gradient.steepness**2)
            valid = ~xp.isnan(up)
            sums = []
            for values in (gradient.east * up, gradient.north * up, up, valid.astype(xp.float64)):
                block = xp.where(valid, values, 0.0)
                pad = ((half - (start - first), half - (last - stop)), (half, half))
                sums.append(_box_sum(xp, xp.pad(block, pad), window))
            length = xp.sqrt(sums[0] ** 2 + sums[1] ** 2 + sums[2] ** 2)
            centre = valid[start - first : stop - first]
            ratio = length / xp.where(centre, sums[3], np.nan)
            out[start:stop] = xp.clip(1 - ratio, 0, 1)
        return out

    def dissection(self, dem: Any, window: int) -> Any:
        """See :meth:`Backend.dissection`."""
        xp = self.xp
        core, half = Core.whole(dem.shape), window // 2
        out = xp.empty(dem.shape, dtype=xp.float32)
        for start, stop in _strips(*dem.shape):
            around = self._surrounded(dem, core, start, stop, half, np.nan).astype(xp.float64)
            highest = _box_max(xp, xp.where(xp.isnan(around), -np.inf, around), window)
            lowest = -_box_max(xp, xp.where(xp.isnan(around), -np.inf, -around), window)
            above = xp.where(highest > 0, highest, np.nan)
            index = (highest - xp.maximum(lowest, 0.0)) / above
            out[start:stop] = xp.where(xp.isnan(dem[start:stop]), np.nan, index)
        return out

    def resample(self, source: Any, sampling: Sampling) -> Any:
        """See :meth:`Backend.resample`."""
        xp = self.xp
        rows, cols = sampling.shape
        out = xp.empty((source.shape[0], rows, cols), dtype=source.dtype)
        for start, stop in _strips(rows, cols):
            places = _interpolate(xp, sampling.nodes, start, stop, cols)
            for band, cells in enumerate(source):
                if sampling.cubic:
                    values = _cubic(xp, cells, places.real, places.imag, sampling.stretch)
                else:
                    values = _nearest(xp, cells, places.real, places.imag)
                out[band, start:stop] = _as_dtype(xp, values, source.dtype)
        return out

    def _framed(self, dem: Any, core: Core, start: int, stop: int) -> Any:
        """Return rows of the core with one cell more on each side, float64, extrapolated where the raster ends."""
        xp = self.xp
        z = self._surrounded(dem, core, start, stop, 1, np.nan).astype(xp.float64)
        inside = core.top + start - 1 >= 0, core.top + stop < dem.shape[0]
        if not inside[0]:
            z[0] = _beyond(z[1], z[2], dem.shape[0])
        if not inside[1]:
            z[-1] = _beyond(z[-2], z[-3], dem.shape[0])
        if core.left == 0:
            z[:, 0] = _beyond(z[:, 1], z[:, 2], dem.shape[1])
        if core.left + core.shape[1] == dem.shape[1]:
            z[:, -1] = _beyond(z[:, -2], z[:, -3], dem.shape[1])
        return z

    def _surrounded(self, dem: Any, core: Core, start: int, stop: int, halo: int, fill: float) -> Any:
        """Return rows of the core with `halo` cells more on each side, filled where the raster ends."""
        top, bottom = core.top + start - halo, core.top + stop + halo
        left, right = core.left - halo, core.left + core.shape[1] + halo
        rows, cols = dem.shape
        inner = dem[max(top, 0) : min(bottom, rows), max(left, 0) : min(right, cols)]
        pad = ((max(-top, 0), max(bottom - rows, 0)), (max(-left, 0), max(right - cols, 0)))
        return self.xp.pad(inner, pad, constant_values=fill)

    def _convergence(self, north: Nodes | None, start: int, stop: int, cols: int) -> tuple[Any, Any]:
        """Return sine and cosine of the convergence for rows of the core."""
        xp = self.xp
        if north is None:
            return 0.0, 1.0
        values = _interpolate(xp, north, start, stop, cols)
        return values.imag, values.real


class _Gradient:
    """Horn's gradient of framed elevations: how much they rise per metre to the east and to the north of the grid."""

    def __init__(self, xp: ModuleType, z: Any, cell: float) -> None:
        self.xp = xp
        nw, n, ne = z[:-2, :-2], z[:-2, 1:-1], z[:-2, 2:]
        w, e = z[1:-1, :-2], z[1:-1, 2:]
        sw, s, se = z[2:, :-2], z[2:, 1:-1], z[2:, 2:]
        hole = 0.0 * z[1:-1, 1:-1]  # NaN where the cell itself is, which the gradient does not look at
        self.east = ((ne - nw) + 2 * (e - w) + (se - sw)) / (8 * cell) + hole
        self.north = ((nw - sw) + 2 * (n - s) + (ne - se)) / (8 * cell) + hole

    @property
    def steepness(self) -> Any:
        """Metres of rise per metre."""
        return self.xp.sqrt(self.east**2 + self.north**2)

    def downslope(self, sine: Any, cosine: Any) -> tuple[Any, Any]:
        """Return the downslope direction, as long as it is steep, to true east and true north."""
        return -self.east * cosine - self.north * sine, -self.north * cosine + self.east * sine

    def aspect(self, sine: Any, cosine: Any) -> Any:
        xp = self.xp
        to_east, to_north = self.downslope(sine, cosine)
        angle = (xp.degrees(xp.arctan2(to_east, to_north)) % 360.0).astype(xp.float32)
        angle = xp.where(angle >= 360, 0, angle)
        return xp.where((self.east == 0) & (self.north == 0), -1, angle)

    def hillshade(self, shading: Shading, sine: Any, cosine: Any) -> Any:
        xp = self.xp
        to_east, to_north = self.downslope(sine, cosine)
        towards_sun = to_east * shading.east + to_north * shading.north
        return xp.clip((shading.up + towards_sun) / xp.sqrt(1 + self.steepness**2), 0, 1)


class _Runs:
    """Sums over horizontal runs of cells, from one running sum along each row."""

    def __init__(self, xp: ModuleType, values: Any, halo: int) -> None:
        self.halo = halo
        self.sums = xp.zeros((values.shape[0], values.shape[1] + 1), dtype=values.dtype)
        self.sums[:, 1:] = xp.cumsum(values, axis=1)
        self.rows, self.cols = values.shape[0] - 2 * halo, values.shape[1] - 2 * halo

    def disk(self, radius: int) -> Any:
        """Sum over the cells whose distance is at most the radius."""
        total: Any = 0
        widths = half_widths(radius)
        for row in range(-radius, radius + 1):
            lines = self.sums[self.halo + row : self.halo + row + self.rows]
            first, last = self.halo - widths[abs(row)], self.halo + widths[abs(row)] + 1
            total = total + (lines[:, last : last + self.cols] - lines[:, first : first + self.cols])
        return total


def _beyond(rim: Any, inside: Any, size: int) -> Any:
    """Extrapolate linearly beyond the rim, as ``gdaldem -compute_edges`` does; a raster of one cell goes on flat."""
    return 2 * rim - inside if size > 1 else rim


def _curvature(z: Any, cell: float) -> Any:
    """ESRI's curvature, as ``xrspatial.curvature`` defines it: −2 (D + E) · 100 with Zevenbergen and Thorne's D, E."""
    centre = z[1:-1, 1:-1]
    d = ((z[1:-1, :-2] + z[1:-1, 2:]) / 2 - centre) / cell**2
    e = ((z[:-2, 1:-1] + z[2:, 1:-1]) / 2 - centre) / cell**2
    return -200 * (d + e)


def _strips(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    height = max(1, _STRIP_CELLS // max(cols, 1))
    for start in range(0, rows, height):
        yield start, min(start + height, rows)


def _box_sum(xp: ModuleType, padded: Any, window: int) -> Any:
    for axis in (0, 1):
        zeros = [(0, 0), (0, 0)]
        zeros[axis] = (1, 0)
        sums = xp.swapaxes(xp.pad(xp.cumsum(padded, axis=axis), zeros), 0, axis)
        padded = xp.swapaxes(sums[window:] - sums[:-window], 0, axis)
    return padded


def _box_max(xp: ModuleType, padded: Any, window: int) -> Any:
    for axis in (0, 1):
        lines = xp.swapaxes(padded, 0, axis)
        size = lines.shape[0] - window + 1
        highest = lines[:size]
        for shift in range(1, window):
            highest = xp.maximum(highest, lines[shift : shift + size])
        padded = xp.swapaxes(highest, 0, axis)
    return padded


def _interpolate(xp: ModuleType, nodes: Nodes, start: int, stop: int, cols: int) -> Any:
    """Return the quantity for some rows, (rows, cols) complex128."""
    i, v = xp.divmod(xp.arange(start, stop), nodes.step)
    j, u = xp.divmod(xp.arange(cols), nodes.step)
    v, u = (v / nodes.step)[:, None], u / nodes.step
    values = xp.asarray(nodes.values)
    along = values[i] * (1 - v) + values[i + 1] * v
    return along[:, j] * (1 - u) + along[:, j + 1] * u


def _as_dtype(xp: ModuleType, values: Any, dtype: Any) -> Any:
    if dtype.kind == "f":
        return values.astype(dtype)
    whole = xp.clip(xp.floor(values + 0.5), 0, np.iinfo(dtype).max)
    return xp.where(xp.isnan(values), 0, whole).astype(dtype)


def _take(xp: ModuleType, cells: Any, row: Any, col: Any) -> Any:
    """Return cells as float64, NaN beyond the rim."""
    height, width = cells.shape
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    taken = cells[xp.clip(row, 0, height - 1), xp.clip(col, 0, width - 1)]
    return xp.where(inside, taken, np.nan).astype(xp.float64)


def _nearest(xp: ModuleType, cells: Any, x: Any, y: Any) -> Any:
    return _take(xp, cells, xp.floor(y).astype(xp.int64), xp.floor(x).astype(xp.int64))


def _cubic(xp: ModuleType, cells: Any, x: Any, y: Any, stretch: float) -> Any:
    taps = range(2 * math.ceil(2 * stretch))
    left, top = (xp.floor(place - 0.5).astype(xp.int64) - len(taps) // 2 + 1 for place in (x, y))
    weights = [[_keys(xp, xp.abs(first + k + 0.5 - at) / stretch) for k in taps] for first, at in ((left, x), (top, y))]
    value = 0.0
    for i in taps:
        along = 0.0
        for j in taps:
            along = along + weights[0][j] * _take(xp, cells, top + i, left + j)
        value = value + weights[1][i] * along
    value = value / (sum(weights[0]) * sum(weights[1]))
    gaps = xp.nonzero(xp.isnan(value))
    value[gaps] = _linear(xp, cells, x[gaps], y[gaps], left[gaps], top[gaps], stretch)
    return value


def _keys(xp: ModuleType, t: Any) -> Any:
    """Return the kernel of cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = −1/2)."""
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return xp.where(t < 1, near, xp.where(t < 2, far, 0.0))


def _linear(xp: ModuleType, cells: Any, x: Any, y: Any, left: Any, top: Any, stretch: float) -> Any:
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
