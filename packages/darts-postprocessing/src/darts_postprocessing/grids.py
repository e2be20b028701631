"""Between labelled arrays and bare ones."""

from typing import TYPE_CHECKING

import numpy as np

from darts_postprocessing.backends import Array
from darts_utils import GridError, ParameterError, check_data_array, mask_declared, spatial_dims

if TYPE_CHECKING:
    import xarray as xr


def in_memory(array: "xr.DataArray") -> "xr.DataArray":
    """Return the array with its values in memory: lazy ones are computed, those on a GPU stay there.

    Raises:
        InputTypeError: If it is an array of another kind, or a Dataset.
        ParameterError: If the array is not 2-D.
    """
    check_data_array(array, "darts_postprocessing.kernels")
    if array.ndim != 2:
        name = "The array" if array.name is None else array.name
        raise ParameterError(f"{name} {dims_fault(array)}")
    return array.compute()


def known(array: "xr.DataArray") -> "xr.DataArray":
    """Return the array with NaN where it has a value that it declares to be no data, as 255 in a mask of 0 and 1."""
    values = mask_declared(array.data, array.attrs, array.encoding)
    return array if values is array.data else array.copy(data=values)


def dims_fault(array: "xr.DataArray") -> str:
    """Say what is wrong with the dimensions of an array that are not two."""
    fault = f"has the dimensions {array.dims}; expected two, as ('y', 'x')"
    more = [dim for dim in array.dims if dim not in spatial_dims(array)]
    return f"{fault}; take one of {more[0]!r} first, as `isel({more[0]}=0)` does." if more else f"{fault}."


def like(array: "xr.DataArray", values: Array, attrs: dict[str, object] | None = None) -> "xr.DataArray":
    """Return new values on the grid of an array.

    Args:
        array: Gives dimensions, coordinates, name, attributes, and the variable that holds the CRS.
        values: Array of the same shape.
        attrs: Attributes to have instead.

    Returns:
        A new DataArray. It does not inherit how the array was stored, which need not suit other values.
    """
    result = array.copy(data=values)
    if attrs is not None:
        result.attrs = attrs | {key: array.attrs[key] for key in ("grid_mapping",) if key in array.attrs}
    result.encoding = {key: array.encoding[key] for key in ("grid_mapping",) if key in array.encoding}
    return result


def on_grid_of(mask: "xr.DataArray", probs: "xr.DataArray") -> "xr.DataArray":
    """Return the mask with its dimensions in the order of the probabilities'.

    Raises:
        GridError: If the two have different dimensions, sizes or coordinates.
    """
    if set(mask.dims) != set(probs.dims) or mask.sizes != probs.sizes:
        raise GridError(f"mask has {dict(mask.sizes)}, probs {dict(probs.sizes)}; expected the same grid.")
    for dim in probs.dims:
        if dim in mask.coords and dim in probs.coords and not _same_places(mask[dim].values, probs[dim].values):
            raise GridError(
                f"mask and probs differ in their coordinate {dim!r}, which starts at {mask[dim].values[0]} and at "
                f"{probs[dim].values[0]}; expected the same grid. Bring the mask to the grid of probs first."
            )
    return mask.transpose(*probs.dims)


def _same_places(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether two coordinates agree to a hundredth of a pixel: the same grid, computed twice, may be rounded."""
    if np.array_equal(first, second):
        return True
    if first.size < 2 or not np.issubdtype(first.dtype, np.number) or not np.issubdtype(second.dtype, np.number):
        return False
    return bool(np.abs(first - second).max() < 0.01 * abs(float(first[1]) - float(first[0])))
