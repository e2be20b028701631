"""Values that are declared missing, and values that cannot be in the unit they are taken for."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_utils.errors import ValueRangeError
from darts_utils.gpu import is_on_gpu, to_host
from darts_utils.rows import row_blocks, share_rows

NO_DATA_MARKS = ("_FillValue", "nodata", "missing_value")
"""Attributes that declare a value to be no data."""
_SAMPLES = 48
_SPANS = 2
_SCALES = (100, 255, 10_000)
_FILLS = (-999.0, -9999.0, -99999.0, -32767.0, -32768.0, -2147483648.0)
"""What files write where they have no data, beside NaN and 0."""
_HUGE = 1e15
"""Beyond any quantity in any unit: the lowest or highest float of GDAL and of ESRI, the fill values of NetCDF."""
_NEAR_MARK = 0.01
_DEEPEST_M, _HIGHEST_M, _NO_ELEVATION = -11_000.0, 9000.0, -9999.0


def declared_marks(about: Mapping[str, object]) -> list[float]:
    """Return the numbers that the attributes or the encoding of a variable declare to be no data."""
    given: list[Any] = [about[key] for key in NO_DATA_MARKS if key in about]
    marks = [
        mark.item() if getattr(mark, "size", 0) == 1 else mark for mark in given
    ]  # arrays of one, as HDF5 has them
    return [float(mark) for mark in marks if isinstance(mark, int | float)]


def mask_declared(
    values: Any, attrs: Mapping[str, object], encoding: Mapping[str, object] = MappingProxyType({})
) -> Any:
    """Return values with NaN where they have a value that is declared to be none.

    Args:
        values: numpy or cupy array, or torch tensor, of any shape and real dtype. Not changed.
        attrs: Attributes of the variable; ``_FillValue``, ``nodata`` and ``missing_value`` count.
        encoding: How the variable was stored, where xarray and rioxarray keep the same names. It is not asked where
            values were stored with a scale or an offset, since its marks are in the stored unit then.

    Returns:
        `values` itself where nothing is missing, else a new floating-point array; real numbers on a GPU are a new array
        wherever a value is declared, for asking whether one is there would be to wait for the device.
    """
    stored = {} if {"scale_factor", "add_offset"} & set(encoding) else encoding
    marks = [mark for about in (attrs, stored) for mark in declared_marks(about)]
    for mark in {mark for mark in marks if not np.isnan(mark)}:
        with np.errstate(over="ignore"):  # the lowest double is -inf where it was cast to float32
            hit = values == mark
        if _is_real(values) or bool(hit.any()):
            if hasattr(values, "masked_fill"):
                values = values.float().masked_fill(hit, float("nan"))
            else:
                values = np.where(hit, np.nan, values.astype(np.result_type(values.dtype, np.float32), copy=False))
    return values


def _is_real(values: Any) -> bool:
    return not isinstance(values, np.ndarray) and "float" in str(values.dtype)


def range_sample(values: Any) -> Any:
    """Choose the pixels that tell a band's typical value, see :func:`check_range`.

    Args:
        values: numpy or cupy array, or torch tensor, of shape (y, x).

    Returns:
        At most 96 × 96 of them, evenly spaced: a view, which lies where they do. The sample of a sample is itself.
    """
    return values[tuple(slice(None, None, max(1, size // _SAMPLES)) for size in values.shape)]


def check_range(name: str, values: Any, low: float, high: float, *, taker: str, remedy: str) -> None:
    """Raise an error if a band's typical value lies far outside a range, or if it holds a usual mark of missing pixels.

    Looks at up to 96 × 96 pixels that are neither missing nor exactly 0. Their median is far outside from twice the
    width of the range on: a few clouds, and mountains above the range of the elevation, are no reason. Two pixels of a
    mark outside the range, -9999 or its like, are one; but not where other values lie around it, as where whole numbers
    go on beyond the range.

    Args:
        name: Name of the band, for the message.
        values: numpy or cupy array, or torch tensor, of shape (y, x) and real dtype; or what :func:`range_sample` gave
            for it, on the host.
        low: Lower end of the range.
        high: Upper end of the range.
        taker: Who takes values in the range, for the message.
        remedy: What to do where no usual scale explains the values.

    Raises:
        ValueRangeError: If the median is far outside, or there is a mark. The message names the band, what was found
            and what to do.
    """
    sample = range_sample(values)
    for way in ("cpu", "get"):  # of torch and of cupy
        sample = getattr(sample, way, lambda here=sample: here)()
    sample = np.asarray(sample).astype(np.float64, copy=False)
    sample = sample[(sample != 0) & ~np.isnan(sample)]
    if not sample.size:
        return
    _check_fills(name, sample, low, high, taker)
    middle = [(sample.size - 1) // 2, sample.size // 2]  # two values where their number is even: one may be enough
    lower, upper = np.partition(sample, middle)[middle]
    median, margin = float(lower + upper) / 2, _SPANS * (high - low)
    if upper >= low - margin and lower <= high + margin:
        return
    scales = [scale for scale in _SCALES if low <= median / scale <= high]
    if median < low:
        remedy = "if this marks missing pixels, make them NaN (rioxarray does so with masked=True)"
    elif scales:
        remedy = f"divide the band by {scales[0]} first (`/ {scales[0]}`), if it is stored so"
    raise ValueRangeError(
        f"Band {name!r} has values from {sample.min():g} to {sample.max():g} (median {median:g}), but {taker} takes "
        f"{low:g} to {high:g}; {remedy}."
    )


def _check_fills(name: str, sample: np.ndarray, low: float, high: float, taker: str) -> None:
    if low <= sample.min() and sample.max() <= high:
        return
    huge = sample[np.isfinite(sample) & (np.abs(sample) > _HUGE)]
    for fill in (*_FILLS, *huge[:1].tolist()):
        reach = _NEAR_MARK * abs(fill)
        count = 0 if low <= fill <= high else int(np.count_nonzero(sample == fill))
        if count > 1 and 2 * count >= np.count_nonzero((fill - reach <= sample) & (sample <= fill + reach)):
            kept = f"abs(band) < {_HUGE:g}" if abs(fill) > _HUGE else f"band != {fill:.0f}"
            raise ValueRangeError(
                f"Band {name!r} is {fill:g} in {count / sample.size:.1%} of the pixels that were looked at, but "
                f"{taker} takes values from {low:g} to {high:g}; if this marks missing pixels, make them NaN "
                f"(rioxarray does so with masked=True where the file declares it, else `band.where({kept})`)."
            )


def no_elevation(values: Any) -> Any:
    """Say which elevations are none: below any sea, above any mountain, or -9999, the usual mark of missing ones.

    Args:
        values: numpy or cupy array, or DataArray, of metres, any real dtype. NaN is no fault; it is unknown.

    Returns:
        bool of the same kind and shape, True where a value is no elevation.
    """
    return (values < _DEEPEST_M) | (values > _HIGHEST_M) | (values == _NO_ELEVATION)


def elevation_fault(values: Any) -> Any:
    """Say whether an array has what is no elevation, without waiting for the GPU that it may lie on.

    Args:
        values: numpy or cupy array (y, x) of metres, any real dtype.

    Returns:
        bool (1, 1), where `values` lies: True if :func:`no_elevation` finds one.
    """
    if is_on_gpu(values):
        return no_elevation(values).any(keepdims=True)

    def look_at_rows(first: int, end: int) -> bool:
        for top, bottom in row_blocks(first, end, values.shape[1]):
            block = values[top:bottom]
            low, high = (each.reduce(block, axis=None) for each in (np.fmin, np.fmax))  # numbers also amid NaN
            if (low <= _NO_ELEVATION or high > _HIGHEST_M) and no_elevation(block).any():
                return True
        return False

    return np.array([[values.size > 0 and any(share_rows(look_at_rows, values.shape))]])


def quality_fault(values: Any) -> Any:
    """Say whether a quality mask has a value that it cannot have, without waiting for the GPU that it may lie on.

    Args:
        values: numpy or cupy array (y, x) of `quality_data_mask`, any real dtype. NaN passes; it is never usable.

    Returns:
        bool (1, 1), where `values` lies: True if a value is not from 0 to 2.
    """
    if is_on_gpu(values):
        return ((values < 0) | (values > 2)).any(keepdims=True)
    low, high = (each.reduce(values, axis=None, initial=1) for each in (np.fmin, np.fmax))  # numbers also amid NaN
    return np.array([[low < 0 or high > 2]])


def check_quality(
    values: Any,
    attrs: Mapping[str, object] = MappingProxyType({}),
    encoding: Mapping[str, object] = MappingProxyType({}),
    fault: NDArray | None = None,
) -> Any:
    """Pass a quality mask, of which every pixel is looked at: a single mark of missing pixels would count as usable.

    Args:
        values: As in :func:`quality_fault`. Not changed.
        attrs: Attributes of the variable, as in :func:`mask_declared`.
        encoding: Likewise.
        fault: What :func:`quality_fault` returned, where it is on the host already.

    Returns:
        `values` itself, or a new array with NaN where it has a value beyond 0…2 that is declared to be no data.

    Raises:
        ValueRangeError: If a value is not from 0 to 2.
    """
    if fault is None:
        fault = to_host({"fault": quality_fault(values)})["fault"]
    if not fault.any():
        return values
    values = mask_declared(values, attrs, encoding)
    known = to_host({"quality": values})["quality"]
    if quality_fault(known).any():
        raise ValueRangeError(
            f"quality_data_mask has values from {np.nanmin(known):g} to {np.nanmax(known):g}; expected 0 (invalid), 1 "
            "(low quality) and 2 (high quality). What marks missing pixels is made 0 first "
            "(`quality.where(quality <= 2, 0)`)."
        )
    return values
