"""Values that cannot be what an export takes them for: other numbers in a mask than 0 and 1, integers of imagery."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_export.products import OPTICAL
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

if TYPE_CHECKING:
    import xarray as xr

_MASKS = ("binarized_segmentation", "extent")
_REMEDY = "bring the band into reflectance, 0…1"


def check_values(tile: "xr.Dataset", names: Iterable[str]) -> "xr.Dataset":
    """Refuse values that an export would write as something else.

    Every pixel of a mask counts, for one value is as wrong as another; of reflectance a sample does.

    Args:
        tile: The tile, on the host. Not changed.
        names: The variables of it that the export reads.

    Returns:
        The tile; a value of a mask that its attributes or its encoding declare to be no data is NaN there, unless it
        is 0 or 1.

    Raises:
        ValueRangeError: If a mask (`binarized_segmentation`, `extent`) holds other values than 0, 1 and NaN,
            `quality_data_mask` others than 0, 1 and 2, or reflectance is stored as integers or percent.
        GridError: If one of them has more dimensions than rows and columns.
    """
    changed = {}
    for name in names:
        if name.split("-", 1)[0] in _MASKS:
            array = upright(tile[name], name)
            values = _mask(array, name)
            if values is not array.data:
                changed[name] = array.copy(data=values)
        elif name == "quality_data_mask":
            check_quality(upright(tile[name], name).data)
        elif name in OPTICAL:
            check_units(name, tile[name].attrs, taker="an export")
            band = get_band(name)
            sample = range_sample(upright(tile[name], name).data)
            values = mask_declared(sample, tile[name].attrs, tile[name].encoding)
            check_range(name, values, band.low, band.high, taker="an export", remedy=_REMEDY)
    return tile.assign(changed)


def _mask(array: "xr.DataArray", name: str) -> NDArray[Any]:
    values = array.data
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


def _is_mask(values: NDArray[Any]) -> bool:
    if values.dtype == np.bool_:
        return True
    if values.dtype.kind == "u":
        return not values.size or bool(values.max() <= 1)
    blocks = (values[top:end] for top, end in row_blocks(0, *values.shape))
    return all(bool(((block == 0) | (block == 1) | (block != block)).all()) for block in blocks)
