"""The kernels on the CPU: numpy on blocks of rows, shared among threads."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from darts_postprocessing.backends.base import Array, in_native_order, usable
from darts_postprocessing.backends.disk import Disk, clear_border
from darts_postprocessing.backends.segments import SegmentFinder, clear_objects
from darts_utils import is_on_gpu, row_blocks, share_rows


class CpuBackend:
    """The kernels on the CPU, see :class:`darts_postprocessing.backends.Backend`.

    Holds no state: any number of threads may use it at once.
    """

    def active(self) -> AbstractContextManager[None]:
        """Do nothing: the CPU is always current."""
        return nullcontext()

    def to_device(self, array: Array) -> Array:
        """Bring an array to the host."""
        return in_native_order(array.get() if is_on_gpu(array) else array)

    def give_back(self, result: Array, source: Array) -> Array:  # noqa: ARG002 - who asks for the CPU gets host memory
        """Return the result as it is, on the host."""
        return result

    def at_least(self, values: Array, level: int) -> Array:
        """Return uint8, 1 where ``values >= level``."""
        return np.greater_equal(values, level).view(np.uint8)

    def erode(self, mask: Array, size: int, edge_size: int) -> Array:
        """Erode by a disk, in blocks that overlap by its radius, and clear the border."""
        if _lies_by_columns(mask):
            return self.erode(mask.T, size, edge_size).T
        rows, columns = mask.shape
        disk = Disk(size, mask.shape)
        out = np.empty(mask.shape, np.uint8)

        def erode_rows(first: int, end: int) -> None:
            # Each block also computes the rows around it; four times the radius keeps their share low.
            for top, bottom in row_blocks(first, end, columns, least=4 * disk.halo):
                above, below = max(top - disk.halo, 0), min(bottom + disk.halo, rows)
                disk.erode(np, mask[above:below], top - above, out[top:bottom])

        share_rows(erode_rows, mask.shape)
        clear_border(out, edge_size)
        return out

    def mask_out(self, values: Array, mask: Array) -> Array:
        """Return a copy of `values` that is NaN where the mask is not usable."""
        if _lies_by_columns(values):
            return self.mask_out(values.T, mask.T).T
        out = np.empty(values.shape, values.dtype)
        nan = values.dtype.type(np.nan)

        def mask_rows(first: int, end: int) -> None:
            for top, bottom in row_blocks(first, end, values.shape[1]):
                out[top:bottom] = values[top:bottom]
                np.copyto(out[top:bottom], nan, where=~usable(mask[top:bottom]))

        share_rows(mask_rows, values.shape)
        return out

    def binarize(self, values: Array, threshold: float, min_object_size: int, mask: Array | None) -> Array:
        """Threshold and note the segments of object pixels in one sweep, then judge the objects by these alone."""
        if _lies_by_columns(values):
            return self.binarize(values.T, threshold, min_object_size, None if mask is None else mask.T).T
        columns = values.shape[1]
        out = np.empty(values.shape, np.bool_)

        def find_in_rows(first: int, end: int) -> SegmentFinder:
            finder = SegmentFinder()
            for top, bottom in row_blocks(first, end, columns):
                objects = np.greater(values[top:bottom], threshold, out=out[top:bottom])
                finder.add(top, objects, None if mask is None else usable(mask[top:bottom]))
            return finder

        clear_objects(out, share_rows(find_in_rows, values.shape), min_object_size)
        return out


def _lies_by_columns(array: Array) -> bool:
    """Tell whether columns are contiguous, not rows; then the kernels, which are symmetric, work on the transpose."""
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)
