"""Values that cannot be what an export takes them for, and values that are declared to be none."""

from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from darts_export.products import MEANS, OPTICAL, is_percent
from darts_utils import (
    ValueRangeError,
    check_quality,
    check_range,
    check_units,
    get_band,
    mask_declared,
    range_sample,
    row_blocks,
    upright,
)
from darts_utils.values import NO_DATA_MARKS

_MASKS = ("binarized_segmentation", "extent")
_FARTHEST = 9000.0
"""No degrees, metres or indices of `MEANS` lie farther from 0; -9999 and other marks of missing pixels do."""
_REMEDY = "bring the band into {}"


def check_values(tile: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """Refuse values that an export would write as something else.

    Every pixel of a mask counts, for one value is as wrong as another, and of what means are made of; of reflectance a
    sample does.

    Args:
        tile: The tile, on the host. Not changed.
        names: The variables of it that the export reads.

    Returns:
        The tile; what a mask, reflectance, probabilities or one of `MEANS` declare to be no data in their attributes or
        their encoding is NaN there, unless it is 0 or 1 of a mask.

    Raises:
        ValueRangeError: If a mask (`binarized_segmentation`, `extent`) holds other values than 0, 1 and NaN,
            `quality_data_mask` others than 0, 1 and 2, or if reflectance or a feature cannot be in the unit of the band
            table, or declares another unit.
        GridError: If one of them has more dimensions than rows and columns.
    """
    changed = {}
    for name in names:
        base, array = name.split("-", 1)[0], tile[name]
        if base in (*_MASKS, "quality_data_mask") or name in OPTICAL:
            array = upright(array, name)
        if base in _MASKS:
            values = _mask(array, name)
        elif name == "quality_data_mask":
            values = check_quality(array.data, array.attrs, array.encoding)
        elif is_percent(name) or name in ("probabilities-std", *OPTICAL, *MEANS):
            values = _quantity(array, name)
        else:
            continue
        if values is not array.data:
            changed[name] = array.copy(data=values)
            changed[name].attrs = {key: value for key, value in array.attrs.items() if key not in NO_DATA_MARKS}
    return tile.assign(changed)


def _quantity(array: xr.DataArray, name: str) -> NDArray:
    check_units(name, array.attrs, taker="an export")
    values: NDArray = mask_declared(array.data, array.attrs, array.encoding)
    if name in (*OPTICAL, *MEANS):  # of probabilities every pixel is looked at when it is written
        band = get_band(name)
        remedy = _REMEDY.format("reflectance, 0…1" if name in OPTICAL else "the unit of the band table")
        check_range(name, range_sample(values), band.low, band.high, taker="an export", remedy=remedy)
    if name in MEANS and values.size:
        low, high = (float(each.reduce(values, axis=None)) for each in (np.fmin, np.fmax))  # numbers also amid NaN
        if low < -_FARTHEST or high > _FARTHEST:
            raise ValueRangeError(
                f"{name} reaches from {low:g} to {high:g}, and a mean over an object takes in each pixel; if this "
                f"marks missing ones, make them NaN (`band.where(abs(band) <= {_FARTHEST:.0f})`)."
            )
    return values


def _mask(array: xr.DataArray, name: str) -> NDArray:
    values = array.data
    if values.dtype == object:  # what xarray makes of a mask of True and False where some of it is unknown
        with suppress(TypeError, ValueError):
            values = values.astype(np.float32)
    if values.dtype.kind not in "buif":
        raise ValueRangeError(f"{name} has the type {values.dtype}; expected 0 and 1, or True and False, and NaN.")
    if _is_mask(values):
        return values
    known = mask_declared(values, array.attrs, array.encoding)
    if not _is_mask(known):
        found = np.unique(known[~np.isnan(known)])
        yes = found[np.abs(found).argmax()]
        shown = ", ".join(f"{value:g}" for value in found[:4]) + (", …" if len(found) > 4 else "")
        raise ValueRangeError(
            f"{name} holds the values {shown} (type {array.dtype}); expected 0 and 1, or True and False, and NaN where "
            f"nothing was seen. `tile[{name!r}] == {yes:g}` makes one of a mask in which {yes:g} stands for yes; "
            "classes of several kinds are exported under a name of their own."
        )
    return known


def _is_mask(values: NDArray) -> bool:
    if values.dtype == np.bool_:
        return True
    if values.dtype.kind == "u":
        return not values.size or bool(values.max() <= 1)
    blocks = (values[top:end] for top, end in row_blocks(0, *values.shape))
    return all(bool(((block == 0) | (block == 1) | (block != block)).all()) for block in blocks)
