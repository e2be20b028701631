"""The kernels of the CPU: compiled by numba, spread over the cores in blocks."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darts_preprocessing.backends.blocks import Block, Scratch, iterate_blocks, run_blocks
from darts_preprocessing.backends.cpu_nodes import interpolate_block
from darts_preprocessing.backends.cpu_warp import COLS, ROWS, count_taps, cubic_block, nearest_block
from darts_preprocessing.backends.interface import Features, Sampling
from darts_preprocessing.backends.jit import Kernel
from darts_preprocessing.nodes import Nodes

if TYPE_CHECKING:
    from darts_preprocessing.feature import Inputs, Kernels


def resampling_kernels(is_cubic: bool) -> tuple[Kernel, ...]:
    """Return the kernels that resample, by cubic convolution or to the nearest cell."""
    return interpolate_block, cubic_block if is_cubic else nearest_block


class CpuBackend:
    """Kernels on numpy arrays. The results do not depend on the number of cores."""

    xp = np

    def active(self) -> AbstractContextManager[object]:
        """Return a context in which new arrays lie where this backend works: a null one."""
        return nullcontext()

    def asarray(self, values: Any, dtype: DTypeLike | None = None) -> NDArray:
        """Return the values as a contiguous, aligned numpy array, copied only where needed."""
        host = values.get() if hasattr(values, "__cuda_array_interface__") else values
        return np.require(host, dtype=dtype, requirements=("C", "A", "E"))

    def to_host(self, array: NDArray) -> NDArray:
        """Return an array of this backend as a numpy array: the array itself."""
        return array

    def run(self, kernels: "Kernels", inputs: "Inputs", names: Sequence[str]) -> Features:
        """See :meth:`Backend.run`."""
        return kernels.cpu(inputs, names)

    def resample(self, source: NDArray, sampling: Sampling) -> NDArray:
        """See :meth:`Backend.resample`."""
        source = self.asarray(source)
        return _cubic(source, sampling) if sampling.cubic else _nearest(source, sampling)


def _cubic(source: NDArray, sampling: Sampling) -> NDArray:
    scratch = Scratch()
    interpolate = interpolator(sampling.nodes, scratch)
    out = np.empty((source.shape[0], *sampling.shape), dtype=source.dtype)
    rounds = source.dtype.kind != "f"
    highest = float(np.iinfo(source.dtype).max) if rounds else math.inf
    rule = sampling.stretch, count_taps(sampling.stretch), rounds, highest, 0.0 if rounds else math.nan
    single = np.asarray(source, dtype=np.float32)

    def work(block: Block) -> None:
        top, left, rows, cols = block
        points = interpolate(block)
        if out.dtype == np.float32:
            cubic_block(single, points, *rule, top, left, out)
        else:
            part = scratch.array("part", (out.shape[0], rows, cols), np.float32)
            cubic_block(single, points, *rule, 0, 0, part)
            out[:, top : top + rows, left : left + cols] = part

    run_blocks(work, iterate_blocks(sampling.shape, ROWS, COLS))
    return out


def _nearest(source: NDArray, sampling: Sampling) -> NDArray:
    interpolate = interpolator(sampling.nodes, Scratch())
    # Each byte of a cell is a band to the kernel.
    size = source.dtype.itemsize
    nodata = np.array([math.nan if source.dtype.kind == "f" else 0], dtype=source.dtype)
    nodata_bytes = np.tile(nodata.view(np.uint8), source.shape[0])
    as_bytes = source.view(np.uint8).reshape(*source.shape, size).transpose(0, 3, 1, 2)
    as_bytes = np.ascontiguousarray(as_bytes.reshape(-1, *source.shape[1:]))
    out = np.empty((as_bytes.shape[0], *sampling.shape), dtype=np.uint8)

    def work(block: Block) -> None:
        nearest_block(as_bytes, interpolate(block), block[0], block[1], nodata_bytes, out)

    run_blocks(work, iterate_blocks(sampling.shape, ROWS, COLS))
    turned = out.reshape(source.shape[0], size, *sampling.shape).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(turned).view(source.dtype)[..., 0]


def interpolator(nodes: Nodes, scratch: Scratch) -> Callable[[Block], NDArray]:
    """Return a function that interpolates for a block, to (2, rows, columns) float64."""
    parts = np.require(nodes.values, np.complex128, ("C", "A")).view(np.float64).reshape(*nodes.values.shape, 2)

    def interpolate(block: Block) -> NDArray:
        top, left, rows, cols = block
        points = scratch.array("points", (2, rows, cols))
        interpolate_block(parts, nodes.step, top, left, points)
        return points

    return interpolate
