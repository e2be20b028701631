"""From probabilities to objects."""

from typing import TYPE_CHECKING

from darts_postprocessing import kernels
from darts_postprocessing.checks import check_probabilities, check_threshold
from darts_postprocessing.grids import in_memory, known, like, on_grid_of
from darts_utils import DeviceLike, band_attrs, check_units, step

if TYPE_CHECKING:
    import xarray as xr


def binarize(
    probs: "xr.DataArray", threshold: float, min_object_size: int, mask: "xr.DataArray", device: DeviceLike = None
) -> "xr.DataArray":
    """Keep the objects that are large enough and lie wholly inside a mask.

    An object is a set of pixels with a probability above the threshold that are joined at sides or corners (8
    neighbours). It goes as a whole if one of its pixels lies outside the mask, or if it has fewer than
    `min_object_size` pixels. Pixels just inside the mask's border do not harm it, nor does the edge of the raster.

    Args:
        probs: Probabilities 0…1 with two dimensions in any order, for example (y, x); float, NaN counts as 0, and so
            does what `probs` declares to be no data; any CRS or none. Lazy (dask) values are computed. Not changed.
        threshold: Probability above which a pixel belongs to an object, 0…1. A pixel of exactly this value does not.
        min_object_size: Fewest pixels of an object; one of exactly this size stays.
        mask: Mask on the same grid, dimensions in any order; bool, integer or float, usable where above 0 and not
            what it declares to be no data. Not changed.
        device: As for :func:`erode_mask`.

    Returns:
        bool, True in objects; dimensions, coordinates and name of `probs`, attributes of ``binarized_segmentation``. On
        the GPU if `probs` is there and a GPU did the work.

    Raises:
        GridError: If `probs` and `mask` differ in dimensions, sizes or coordinates.
        ParameterError: If a number is out of its range, an array does not have two dimensions, or `device` names no
            device.
        ValueRangeError: If `probs` are percent, or anything else than probabilities: one above 1 is enough.
        InputTypeError: If an array is none of xarray.

    Examples:
        >>> import numpy as np, xarray as xr
        >>> probs = xr.DataArray(np.float32([[0.9, 0.0, 0.0], [0.0, 0.8, 0.0], [np.nan, 0.0, 0.0]]), dims=("y", "x"))
        >>> mask = xr.ones_like(probs, dtype=bool)
        >>> int(binarize(probs, 0.5, 2, mask, device="cpu").sum())
        2
        >>> mask[1, 1] = False
        >>> int(binarize(probs, 0.5, 2, mask, device="cpu").sum())
        0
    """
    threshold = check_threshold("threshold", threshold, highest=1)
    probs = known(in_memory(probs))
    mask = on_grid_of(known(in_memory(mask)), probs)
    check_units("probabilities", probs.attrs, taker="postprocessing")
    check_probabilities("probs", probs.data)
    with step("find objects"):
        objects = kernels.binarize(probs.data, threshold, min_object_size, mask.data, device)
    return like(probs, objects, band_attrs("binarized_segmentation"))
