"""Erosion of quality masks."""

from typing import TYPE_CHECKING

from darts_postprocessing import kernels
from darts_postprocessing.grids import in_memory, known, like
from darts_utils import DeviceLike, step

if TYPE_CHECKING:
    import xarray as xr


def erode_mask(
    mask: "xr.DataArray", size: int, device: DeviceLike = None, edge_size: int | None = None
) -> "xr.DataArray":
    """Erode a mask by a disk, then clear the border of the raster.

    A pixel stays if every pixel of the raster with ``dx² + dy² <= size²`` is usable; what lies outside the raster
    counts as usable. Then the outermost `edge_size` pixels on all four sides become 0.

    Args:
        mask: Mask with two dimensions in any order, for example (y, x); bool, integer or float, usable where above 0
            and not what its attributes or its encoding declare to be no data; any CRS or none. Lazy (dask) values are
            computed. Not changed.
        size: Radius of the disk in pixels; 0 erodes nothing.
        device: Where to work: "cpu", "cuda", "cuda:1", a GPU index, or "auto" (a GPU with less than half of its memory
            in use, else the CPU). None takes the GPU on which the mask lies, else the first GPU where one works, else
            the CPU. A GPU that was asked for and does not work is a DeviceFallbackWarning, and the CPU does the work.
        edge_size: Width of the border in pixels; None means `size`, 0 means no border.

    Returns:
        uint8, 1 where usable, 0 elsewhere; dimensions, coordinates, name and attributes of `mask`. On the GPU if `mask`
        is there and a GPU did the work.

    Raises:
        InputTypeError: If `mask` is no DataArray.
        ParameterError: If a size is not a whole number of 0 or more, `mask` does not have two dimensions, or `device`
            names no device.

    Examples:
        >>> import numpy as np, xarray as xr
        >>> mask = xr.DataArray(np.ones((5, 7), bool), dims=("y", "x"))
        >>> mask[2, 6] = False
        >>> erode_mask(mask, size=1, device="cpu", edge_size=0).values
        array([[1, 1, 1, 1, 1, 1, 1],
               [1, 1, 1, 1, 1, 1, 0],
               [1, 1, 1, 1, 1, 0, 0],
               [1, 1, 1, 1, 1, 1, 0],
               [1, 1, 1, 1, 1, 1, 1]], dtype=uint8)
    """
    mask = in_memory(mask)
    usable = known(mask).data
    with step("erode mask"):
        return like(mask, kernels.erode(usable, size, edge_size, device))
