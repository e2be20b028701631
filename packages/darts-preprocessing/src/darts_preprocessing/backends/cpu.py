"""The kernels of the CPU: compiled by numba, spread over the cores in blocks."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_preprocessing.backends.blocks import Block, Scratch, iterate_blocks, run_blocks
from darts_preprocessing.backends.interface import Core, Features, Sampling, Shading
from darts_preprocessing.nodes import Nodes

if TYPE_CHECKING:
    from darts_preprocessing.backends.jit import Kernel

_ROWS = 64


def kernels_of(features: Collection[str]) -> "list[Kernel]":
    """List the kernels that some features need, in the order in which they are needed; imports numba."""
    from darts_preprocessing.backends import cpu_disk, cpu_gradient, cpu_nodes, cpu_warp, cpu_window

    cubic = (cpu_nodes.interpolate_block, cpu_warp.cubic_block)
    gradient = (*cubic, cpu_gradient.gradient_block)
    needed = {
        "ndvi": (cpu_window.ndvi_rows,),
        **dict.fromkeys(("tc_brightness", "tc_greenness", "tc_wetness", "dem"), cubic),
        "arcticdem_data_mask": (cpu_nodes.interpolate_block, cpu_warp.nearest_block),
        **dict.fromkeys(("slope", "aspect", "hillshade", "curvature"), gradient),
        "relative_elevation": (*cubic, cpu_disk.add_up, cpu_disk.add_disks, cpu_disk.subtract_means),
        "terrain_ruggedness_index": (cpu_window.ruggedness_rows,),
        "vector_ruggedness_measure": (cpu_gradient.normals_block, cpu_window.vector_ruggedness_rows),
        "dissection_index": (cpu_window.dissection_rows,),
    }
    return list(dict.fromkeys(kernel for name in needed if name in features for kernel in needed[name]))


class CpuBackend:
    """Kernels on numpy arrays. The results do not depend on the number of cores."""

    def active(self) -> AbstractContextManager[Any]:
        """Return a context in which new arrays lie where this backend works: a null one."""
        return nullcontext()

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """Return the values as a contiguous, aligned numpy array, copied only where needed."""
        host = values.get() if hasattr(values, "__cuda_array_interface__") else values
        return np.require(host, dtype=dtype, requirements=("C", "A", "E"))

    def to_host(self, array: Any) -> Any:
        """Return an array of this backend as a numpy array: the array itself."""
        return array

    def ndvi(self, nir: Any, red: Any) -> Any:
        """See :meth:`Backend.ndvi`."""
        from darts_preprocessing.backends.cpu_window import ndvi_rows

        nir, red = self.asarray(nir), self.asarray(red)
        out = np.empty(nir.shape, dtype=np.float32)

        def work(block: Block) -> None:
            rows = slice(block[0], block[0] + block[2])
            ndvi_rows(nir[rows], red[rows], out[rows])

        run_blocks(work, _strips(out))
        return out

    def gradient_features(
        self, dem: Any, core: Core, cell: float, names: Sequence[str], shading: Shading | None, north: Nodes | None
    ) -> Features:
        """See :meth:`Backend.gradient_features`."""
        from darts_preprocessing.backends.cpu_gradient import COLS, ROWS, gradient_block

        dem = self.asarray(dem)
        out = {name: np.empty(core.shape, dtype=np.float32) for name in names}
        unwanted = np.empty((0, 0), dtype=np.float32)
        arrays = [out.get(name, unwanted) for name in ("slope", "aspect", "hillshade", "curvature")]
        sun = np.zeros(3) if shading is None else np.array([shading.east, shading.north, shading.up])
        # Without a convergence, one pair of nodes around everything says that grid north is true north.
        nodes = Nodes(np.ones((2, 2), dtype=np.complex128), max(core.shape) + 1) if north is None else north
        needs_north = not {"aspect", "hillshade"}.isdisjoint(names)
        interpolate = _interpolator(nodes, Scratch())
        nowhere = np.empty((2, 0, 0))

        def work(block: Block) -> None:
            convergence = interpolate(block) if needs_north else nowhere
            gradient_block(dem, core.top + block[0], core.left + block[1], convergence, cell, sun, *block, *arrays)

        run_blocks(work, iterate_blocks(core.shape, ROWS, COLS))
        return out

    def relative_elevation(self, dem: Any, core: Core, outer: int, inner: int) -> Any:
        """See :meth:`Backend.relative_elevation`."""
        from darts_preprocessing.backends.cpu_disk import COLS, ROWS, Disk, relative_elevation_block

        dem = self.asarray(dem)
        out = np.empty(core.shape, dtype=np.float32)
        disk, scratch = Disk(outer, inner), Scratch()

        def work(block: Block) -> None:
            relative_elevation_block(dem, core, block, disk, scratch, out)

        run_blocks(work, iterate_blocks(core.shape, ROWS, COLS))
        return out

    def ruggedness(self, dem: Any, window: int) -> Any:
        """See :meth:`Backend.ruggedness`."""
        from darts_preprocessing.backends.cpu_window import ruggedness_rows

        dem = self.asarray(dem)
        out = np.empty(dem.shape, dtype=np.float32)
        run_blocks(lambda block: ruggedness_rows(dem, window, block[0], block[0] + block[2], out), _strips(out))
        return out

    def vector_ruggedness(self, dem: Any, cell: float, window: int) -> Any:
        """See :meth:`Backend.vector_ruggedness`."""
        from darts_preprocessing.backends.cpu_gradient import normals_block
        from darts_preprocessing.backends.cpu_window import vector_ruggedness_rows

        dem = self.asarray(dem)
        out = np.empty(dem.shape, dtype=np.float32)
        height, width = dem.shape
        scratch = Scratch()

        def work(block: Block) -> None:
            start, stop = block[0], block[0] + block[2]
            first, last = max(start - window // 2, 0), min(stop + window // 2, height)
            normals = scratch.array("normals", (4, last - first, width))
            normals_block(dem, first, 0, cell, normals)
            vector_ruggedness_rows(normals, window, start, stop, out)

        run_blocks(work, _strips(out))
        return out

    def dissection(self, dem: Any, window: int) -> Any:
        """See :meth:`Backend.dissection`."""
        from darts_preprocessing.backends.cpu_window import dissection_rows

        dem = self.asarray(dem)
        out = np.empty(dem.shape, dtype=np.float32)
        run_blocks(lambda block: dissection_rows(dem, window, block[0], block[0] + block[2], out), _strips(out))
        return out

    def resample(self, source: Any, sampling: Sampling) -> Any:
        """See :meth:`Backend.resample`."""
        source = self.asarray(source)
        return _cubic(source, sampling) if sampling.cubic else _nearest(source, sampling)


def _cubic(source: Any, sampling: Sampling) -> Any:
    from darts_preprocessing.backends.cpu_warp import COLS, ROWS, count_taps, cubic_block

    scratch = Scratch()
    interpolate = _interpolator(sampling.nodes, scratch)
    out = np.empty((source.shape[0], *sampling.shape), dtype=source.dtype)
    rounds = source.dtype.kind != "f"
    highest = float(np.iinfo(source.dtype).max) if rounds else math.inf
    rule = sampling.stretch, count_taps(sampling.stretch), rounds, highest, 0.0 if rounds else math.nan
    single = np.asarray(source, dtype=np.float32)

    def work(block: Block) -> None:
        top, left, rows, cols = block
        places = interpolate(block)
        if out.dtype == np.float32:
            cubic_block(single, places, *rule, top, left, out)
        else:
            part = scratch.array("part", (out.shape[0], rows, cols), np.float32)
            cubic_block(single, places, *rule, 0, 0, part)
            out[:, top : top + rows, left : left + cols] = part

    run_blocks(work, iterate_blocks(sampling.shape, ROWS, COLS))
    return out


def _nearest(source: Any, sampling: Sampling) -> Any:
    from darts_preprocessing.backends.cpu_warp import COLS, ROWS, nearest_block

    interpolate = _interpolator(sampling.nodes, Scratch())
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


def _interpolator(nodes: Nodes, scratch: Scratch) -> Callable[[Block], Any]:
    """Return a function that interpolates for a block, to (2, rows, columns) float64."""
    from darts_preprocessing.backends.cpu_nodes import interpolate_block

    parts = np.require(nodes.values, np.complex128, ("C", "A")).view(np.float64).reshape(*nodes.values.shape, 2)

    def interpolate(block: Block) -> Any:
        top, left, rows, cols = block
        places = scratch.array("places", (2, rows, cols))
        interpolate_block(parts, nodes.step, top, left, places)
        return places

    return interpolate


def _strips(array: Any) -> Iterator[Block]:
    return iterate_blocks(array.shape, _ROWS, max(array.shape[1], 1))
