"""The kernels on a CUDA GPU, with cupy; importing this module needs neither cupy nor a GPU."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from math import floor
from types import ModuleType
from typing import TypeAlias

import numpy as np

from darts_postprocessing.backends.base import Array, in_native_order, usable
from darts_postprocessing.backends.disk import Disk, clear_border
from darts_utils import Device, is_on_gpu, working_on_gpu

CUCIM_AVAILABLE = find_spec("cucim") is not None
"""Whether cucim is installed, which then labels; the extras bring it."""

Label: TypeAlias = "Callable[[Array], tuple[Array, int]]"
"""Numbers the 8-connected objects of a bool array from 1, 0 elsewhere; returns the numbers and how many there are."""


class CudaBackend:
    """The kernels on a CUDA GPU, see :class:`darts_postprocessing.backends.Backend`.

    Works on whole images, and needs about four times the memory of the probabilities.
    """

    def __init__(self, xp: ModuleType, label: Label, index: int) -> None:
        """Take what the kernels are made of.

        Args:
            xp: cupy.
            label: Labels objects on the GPU.
            index: Number of the GPU.
        """
        self._xp = xp
        self._label = label
        self._index = index

    @classmethod
    def of(cls, device: Device) -> "CudaBackend":
        """Return the backend for a GPU on which cupy works."""
        import cupy

        return cls(cupy, find_label(), device.index)

    def active(self) -> AbstractContextManager[None]:
        """Let the GPU work for this thread, see :func:`darts_utils.working_on_gpu`."""
        return working_on_gpu(self._xp, self._index)

    def to_device(self, array: Array) -> Array:
        """Bring an array to this GPU."""
        if not is_on_gpu(array):
            return self._xp.asarray(in_native_order(array))
        return array if array.device.id == self._index else array.copy()  # a copy lies on the current GPU

    def give_back(self, result: Array, source: Array) -> Array:
        """Bring a result to the host, unless `source` lies on a GPU."""
        return result if is_on_gpu(source) else self._xp.asnumpy(result)

    def at_least(self, values: Array, level: int) -> Array:
        """Return uint8, 1 where ``values >= level``."""
        return self._xp.greater_equal(values, level).view(np.uint8)

    def erode(self, mask: Array, size: int, edge_size: int) -> Array:
        """Erode by a disk and clear the border."""
        out = self._xp.empty(mask.shape, np.uint8)
        Disk(size, mask.shape).erode(self._xp, mask, 0, out)
        clear_border(out, edge_size)
        return out

    def mask_out(self, values: Array, mask: Array) -> Array:
        """Return a copy of `values` that is NaN where the mask is not usable."""
        return self._xp.where(usable(mask), values, values.dtype.type(np.nan))

    def binarize(self, values: Array, threshold: float, min_object_size: int, mask: Array | None) -> Array:
        """Threshold, label with 8 neighbours, and judge each label by its pixel count and its pixels outside."""
        xp = self._xp
        objects = xp.greater(values, _comparable(threshold, values.dtype))
        labels, count = self._label(objects)
        stays = self._count(labels, count) >= min_object_size
        stays[0] = False
        if mask is not None:
            outside = self._count(xp.where(usable(mask), 0, labels), count)
            stays = xp.logical_and(stays, outside == 0)
        return stays[labels]

    def _count(self, labels: Array, count: int) -> Array:
        """Return the pixels of each label, 0 first; ``bincount`` would have the host wait for the largest label."""
        found = self._xp.zeros(int(count) + 1, np.uint64)
        self._xp.add.at(found, labels.ravel(), 1)
        return found


def find_label() -> Label:
    """Return cucim's labelling, or that of cupy where cucim is not installed."""
    if CUCIM_AVAILABLE:
        from cucim.skimage.measure import label

        return partial(label, connectivity=2, return_num=True)
    from cupyx.scipy import ndimage

    return partial(ndimage.label, structure=np.ones((3, 3), np.bool_))


def _comparable(threshold: float, dtype: np.dtype) -> float:
    """Return a threshold that parts whole numbers as this one does: cupy compares fractions in half precision."""
    if dtype == np.bool_:
        return min(floor(threshold), 1)
    return min(floor(threshold), int(np.iinfo(dtype).max)) if dtype.kind in "iu" else threshold
