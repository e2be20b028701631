"""What a backend does, whatever device it works on."""

from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A numpy or a cupy array: the two share no type."""


def in_native_order(array: Array) -> Array:
    """Return a numpy array with the bytes of its numbers in this machine's order, without a copy where they are."""
    host = np.asarray(array)
    return host.astype(host.dtype.newbyteorder("="), copy=False)


def usable(mask: Array) -> Array:
    """Return bool, True where a mask is above 0, without a copy of a bool mask."""
    return mask if mask.dtype == np.bool_ else mask > 0


class Backend(Protocol):
    """The kernels on one device, with the same result on every device to the last pixel.

    Arrays are 2-D. The kernels take arrays that :meth:`to_device` returned or that another kernel made, never change
    them, and return new ones. A mask is usable where it is above 0.
    """

    def active(self) -> AbstractContextManager[None]:
        """Make the device current; all other methods are called within."""
        ...

    def to_device(self, array: Array) -> Array:
        """Bring a numpy or cupy array to the device, in its byte order, without a copy where it is there already."""
        ...

    def give_back(self, result: Array, source: Array) -> Array:
        """Bring a result to where `source`, an array of the caller, lies: to the host, or leave it on the GPU."""
        ...

    def at_least(self, values: Array, level: int) -> Array:
        """Return uint8, 1 where ``values >= level``."""
        ...

    def erode(self, mask: Array, size: int, edge_size: int) -> Array:
        """Return uint8, 1 where every pixel within `size` is usable and the raster's edge is `edge_size` away."""
        ...

    def mask_out(self, values: Array, mask: Array) -> Array:
        """Return a copy of float `values` that is NaN where the mask is not usable."""
        ...

    def binarize(self, values: Array, threshold: float, min_object_size: int, mask: Array | None) -> Array:
        """Return bool, True in objects above the threshold that are large enough and wholly inside the mask."""
        ...
