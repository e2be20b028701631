"""The kernels on bare arrays, for code without xarray.

Both take numpy arrays, or cupy arrays, which stay on their GPU.

Examples:
    >>> import numpy as np
    >>> from darts_postprocessing import kernels
    >>> mask = np.ones((5, 5), np.uint8)
    >>> mask[2, 4] = 0
    >>> inside = kernels.erode(mask, size=1, edge_size=0, device="cpu")
    >>> probs = np.float32([[0.9, 0.9, 0, 0, 0], [0, 0, 0.9, 0, 0], [0, 0, 0, 0.6, 0], [0.7, 0, 0, 0, 0], [0] * 5])
    >>> kernels.binarize(probs, 0.5, min_object_size=2, device="cpu").astype(int)
    array([[1, 1, 0, 0, 0],
           [0, 0, 1, 0, 0],
           [0, 0, 0, 1, 0],
           [0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0]])
    >>> kernels.binarize(probs, 0.5, min_object_size=1, mask=inside, device="cpu").astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0],
           [1, 0, 0, 0, 0],
           [0, 0, 0, 0, 0]])
"""

import numpy as np

from darts_postprocessing.backends import Array, Backend, compute_on, is_on_gpu
from darts_postprocessing.checks import check_image, check_pixels, check_same_shape, check_threshold
from darts_utils import DeviceLike

__all__ = ["binarize", "erode"]


def erode(mask: Array, size: int, edge_size: int | None = None, device: DeviceLike = None) -> Array:
    """Erode a mask by a disk and clear the border of the image.

    A pixel stays if every pixel of the image with ``dx² + dy² <= size²`` is usable; what lies outside the image counts
    as usable. Then the outermost `edge_size` pixels on all four sides become 0.

    Args:
        mask: numpy or cupy array of shape (rows, columns), bool, integer or float; usable where above 0, not where
            masked. Not changed.
        size: Radius of the disk in pixels; 0 erodes nothing.
        edge_size: Width of the border in pixels; None means `size`, 0 means no border.
        device: See :func:`darts_postprocessing.erode_mask`.

    Returns:
        uint8 of the same shape, 1 where usable; a cupy array if `mask` is one and a GPU did the work.

    Raises:
        ParameterError: If a size is not a whole number of 0 or more, `mask` is no image, or `device` names no device.
    """
    size = check_pixels("size", size)
    edge_size = size if edge_size is None else check_pixels("edge_size", edge_size)
    mask = _array(mask)
    check_image("mask", mask)

    def compute(backend: Backend) -> Array:
        return backend.give_back(backend.erode(backend.to_device(mask), size, edge_size), mask)

    return compute_on(device, compute, mask)


def binarize(
    values: Array, threshold: float, min_object_size: int, mask: Array | None = None, device: DeviceLike = None
) -> Array:
    """Keep the objects of an image that are large enough and lie wholly inside a mask.

    An object is a set of pixels above the threshold that are joined at sides or corners. It goes as a whole if one of
    its pixels is not usable, or if it has fewer than `min_object_size` pixels. The edge of the image is no obstacle.

    Args:
        values: numpy or cupy array of shape (rows, columns), bool, integer or float. NaN counts as 0, and so do masked
            pixels. Not changed.
        threshold: Value above which a pixel belongs to an object; 0 or more. For a bool image, 0.
        min_object_size: Fewest pixels of an object; one of exactly this size stays.
        mask: Array of the same shape, usable where above 0. None if every pixel is usable. Not changed.
        device: See :func:`darts_postprocessing.erode_mask`.

    Returns:
        bool of the same shape, True in objects; a cupy array if `values` is one and a GPU did the work.

    Raises:
        GridError: If the shapes differ.
        ParameterError: If a number is out of its range, an array is no image, or `device` names no device.
    """
    threshold = check_threshold("threshold", threshold)
    min_object_size = check_pixels("min_object_size", min_object_size)
    values = _array(values)
    check_image("values", values)
    arrays = [values]
    if mask is not None:
        mask = _array(mask)
        check_image("mask", mask)
        check_same_shape("mask", mask, "values", values)
        arrays.append(mask)

    def compute(backend: Backend) -> Array:
        inside = None if mask is None else backend.to_device(mask)
        objects = backend.binarize(backend.to_device(values), threshold, min_object_size, inside)
        return backend.give_back(objects, values)

    return compute_on(device, compute, *arrays)


def _array(array: Array) -> Array:
    """Return a numpy or cupy array; what is masked in a masked array is 0, which is neither usable nor an object."""
    if isinstance(array, np.ma.MaskedArray):
        return array.filled(0)
    return array if is_on_gpu(array) else np.asarray(array)
