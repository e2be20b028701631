"""Checks of arguments, done before any work."""

from math import isfinite
from operator import index

import numpy as np

from darts_postprocessing.backends import Array
from darts_utils import (
    GridError,
    ParameterError,
    ValueRangeError,
    check_range,
    is_on_gpu,
    share_rows,
    to_host,
)

# Rounding in float32 may carry a probability this far beyond 1.
_HIGHEST = 1 + 1e-4


def check_pixels(name: str, value: int) -> int:
    """Return a number of pixels as an int.

    Raises:
        ParameterError: If `value` is no whole number, or below 0.
    """
    try:
        number = index(value)
    except TypeError as error:
        raise ParameterError(f"{name} is {value!r}; expected a whole number of pixels.") from error
    if number < 0:
        raise ParameterError(f"{name} is {number}; expected 0 pixels or more.")
    return number


def check_threshold(name: str, value: float, highest: float = float("inf")) -> float:
    """Return a threshold as a float.

    Raises:
        ParameterError: If `value` is not a finite number from 0 to `highest`.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} is {value!r}; expected a number.") from error
    # NaN counts as 0, so that a threshold below 0 would turn missing pixels into objects.
    if not isfinite(number) or not 0 <= number <= highest:
        upper = "or more" if highest == float("inf") else f"to {highest:g}"
        raise ParameterError(f"{name} is {number}; expected 0 {upper}.")
    return number


def above_one(values: Array) -> Array:
    """Say whether a value is above 1, without waiting for the GPU that it may lie on.

    Args:
        values: numpy or cupy array of two dimensions, of any real dtype. NaN is not above 1.

    Returns:
        bool (1, 1), where `values` lies.
    """
    if is_on_gpu(values):
        return (values > _HIGHEST).any(keepdims=True)
    rows = values.T if values.flags.f_contiguous else values

    def look_at_rows(first: int, end: int) -> bool:
        return bool(np.fmax.reduce(rows[first:end], axis=None, initial=0) > _HIGHEST)

    return np.array([[any(share_rows(look_at_rows, rows.shape))]])


def check_probabilities(name: str, values: Array, above: Array | None = None) -> None:
    """Pass an array whose values can be probabilities.

    Most pixels of a map are near 0, in percent too, so that a typical value does not tell; the highest one does.

    Args:
        name: What they are, for the message.
        values: numpy or cupy array; or what :func:`darts_utils.range_sample` gives for one, on the host.
        above: What :func:`above_one` gives for the array where `values` is a sample of it.

    Raises:
        ValueRangeError: If they are whole numbers, as percent are stored, or one is above 1.
    """
    if np.issubdtype(values.dtype, np.integer):
        raise ValueRangeError(
            f"{name} holds whole numbers (type {values.dtype}); expected probabilities from 0 to 1, float, with NaN. A "
            "raster of percent is read with masked=True and divided by 100 first."
        )
    if np.issubdtype(values.dtype, np.floating):
        check_range(name, values, 0, 1, taker="postprocessing", remedy="scale it to 0…1 first")
        above = to_host({"above": above_one(values)})["above"] if above is None else above
        if above.any():
            raise ValueRangeError(
                f"{name} has values above 1; expected probabilities from 0 to 1, NaN where unknown. Percent are "
                "divided by 100 first (`/ 100`)."
            )


def check_image(name: str, array: Array) -> None:
    """Pass an array that is an image.

    Raises:
        ParameterError: If the array is not 2-D, or its dtype has no order (complex, text, objects, times).
    """
    if array.ndim != 2:
        raise ParameterError(f"{name} has {array.ndim} dimensions; expected 2, rows and columns.")
    if array.dtype != np.bool_ and not (
        np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    ):
        raise ParameterError(f"{name} has dtype {array.dtype}; expected bool, integer or float.")


def check_same_shape(name: str, array: Array, other_name: str, other: Array) -> None:
    """Pass two arrays of the same shape.

    Raises:
        GridError: If the shapes differ.
    """
    if array.shape != other.shape:
        raise GridError(f"{name} has shape {array.shape}, {other_name} {other.shape}; expected the same grid.")
