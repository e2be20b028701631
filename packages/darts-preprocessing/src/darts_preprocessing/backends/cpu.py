"""The kernels of the CPU: compiled by numba, spread over the cores in blocks."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np

from darts_preprocessing.backends import cpu_disk, cpu_gradient, cpu_warp, cpu_window
from darts_preprocessing.backends.interface import Core, Features, Sampling, Shading, half_widths
from darts_preprocessing.backends.jit import run_blocks
from darts_preprocessing.nodes import Nodes

_ROWS = 64

Block: TypeAlias = "tuple[tuple[int, int], tuple[int, int]]"


class CpuBackend:
    """Kernels on numpy arrays. The results do not depend on the number of cores."""

    def active(self) -> AbstractContextManager[Any]:
        """Return a context in which new arrays lie where this backend works: a null one."""
        return nullcontext()

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """Return the values as a contiguous numpy array, copied only where needed."""
        host = values.get() if hasattr(values, "__cuda_array_interface__") else values
        return np.ascontiguousarray(host, dtype=dtype)

    def to_host(self, array: Any) -> Any:
        """Return an array of this backend as a numpy array: the array itself."""
        return array

    def ndvi(self, nir: Any, red: Any) -> Any:
        """See :meth:`Backend.ndvi`."""
        out = np.empty(nir.shape, dtype=np.float32)
        run_blocks(
            lambda rows: cpu_window.ndvi_rows(nir[slice(*rows)], red[slice(*rows)], out[slice(*rows)]), _strips(out)
        )
        return out

    def gradient_features(
        self, dem: Any, core: Core, cell: float, names: Sequence[str], shading: Shading | None, north: Nodes | None
    ) -> Features:
        """See :meth:`Backend.gradient_features`."""
        out = {name: np.empty(core.shape, dtype=np.float32) for name in names}
        unwanted = np.empty((0, 0), dtype=np.float32)
        arrays = [out.get(name, unwanted) for name in ("slope", "aspect", "hillshade", "curvature")]
        sun = np.zeros(3) if shading is None else np.array([shading.east, shading.north, shading.up])
        # Without a convergence, one pair of nodes around everything says that grid north is true north.
        nodes = Nodes(np.ones((2, 2), dtype=np.complex128), max(core.shape) + 1) if north is None else north

        def work(block: Block) -> None:
            cpu_gradient.gradient_block(
                dem, core.top, core.left, *block, cell, sun, nodes.values, nodes.step, *arrays
            )  # fmt: skip

        run_blocks(work, _blocks(core.shape, 4 * _ROWS, cpu_gradient.WIDTH))
        return out

    def relative_elevation(self, dem: Any, core: Core, outer: int, inner: int) -> Any:
        """See :meth:`Backend.relative_elevation`."""
        out = np.empty(core.shape, dtype=np.float32)
        widths = np.array(half_widths(outer)), np.array(half_widths(inner) if inner > 0 else (), dtype=np.int64)

        def work(block: Block) -> None:
            cpu_disk.relative_elevation_block(dem, (core.top, core.left), *block, *widths, out)

        run_blocks(work, _blocks(core.shape, cpu_disk.ROWS, cpu_disk.COLS))
        return out

    def ruggedness(self, dem: Any, window: int) -> Any:
        """See :meth:`Backend.ruggedness`."""
        out = np.empty(dem.shape, dtype=np.float32)
        run_blocks(lambda rows: cpu_window.ruggedness_rows(dem, window, rows, out), _strips(out))
        return out

    def vector_ruggedness(self, dem: Any, cell: float, window: int) -> Any:
        """See :meth:`Backend.vector_ruggedness`."""
        out = np.empty(dem.shape, dtype=np.float32)
        run_blocks(lambda rows: cpu_window.vector_ruggedness_rows(dem, cell, window, rows, out), _strips(out))
        return out

    def dissection(self, dem: Any, window: int) -> Any:
        """See :meth:`Backend.dissection`."""
        out = np.empty(dem.shape, dtype=np.float32)
        run_blocks(lambda rows: cpu_window.dissection_rows(dem, window, rows, out), _strips(out))
        return out

    def resample(self, source: Any, sampling: Sampling) -> Any:
        """See :meth:`Backend.resample`."""
        nodes, step = sampling.nodes.values, sampling.nodes.step
        out = np.empty((source.shape[0], *sampling.shape), dtype=source.dtype)
        taps = cpu_warp.count_taps(sampling.stretch)
        rounds = source.dtype.kind != "f"
        nodata = source.dtype.type(0 if rounds else math.nan)
        highest = float(np.iinfo(source.dtype).max) if rounds else math.inf

        def work(block: Block) -> None:
            if sampling.cubic:
                cpu_warp.cubic_block(source, nodes, step, *block, sampling.stretch, taps, rounds, highest, nodata, out)
            else:
                cpu_warp.nearest_block(source, nodes, step, *block, nodata, out)

        run_blocks(work, _blocks(sampling.shape, cpu_warp.ROWS, cpu_warp.COLS))
        return out


def _strips(array: Any) -> Iterator[tuple[int, int]]:
    for start in range(0, array.shape[0], _ROWS):
        yield start, min(start + _ROWS, array.shape[0])


def _blocks(shape: tuple[int, int], rows: int, cols: int) -> Iterator[Block]:
    for top in range(0, shape[0], rows):
        for left in range(0, shape[1], cols):
            yield (top, min(top + rows, shape[0])), (left, min(left + cols, shape[1]))
