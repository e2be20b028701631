"""Variables of a tile as the bands that a raster holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_utils import BANDS, ParameterError, UnknownBandError, get_band, spatial_dims

if TYPE_CHECKING:
    import xarray as xr

PERCENT_NODATA = 255
_CHUNK_PIXELS = 1 << 20
# Rounding in float32 may carry a probability this far beyond 0 or 1, in percent.
_TOLERANCE = 0.01
# Without 64-bit integers, whose no-data value rasterio loses.
_RASTER_DTYPES = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"})


@dataclass(frozen=True)
class Layer:
    """One band of a raster, as it is written.

    Attributes:
        name: Description of the band.
        values: Array (y, x).
        nodata: Value that marks missing pixels, None where there are none.
        unit: Unit of the values, empty where they have none.
        resampling: How GDAL makes the overviews.
    """

    name: str
    values: NDArray[Any]
    nodata: float | None
    unit: str
    resampling: str


def read_layers(tile: "xr.Dataset", names: Sequence[str]) -> list[Layer]:
    """Turn variables of a tile into the layers of one raster.

    Args:
        tile: The tile. Not changed.
        names: Variables. Probabilities become uint8 percent with 255 for NaN, booleans become uint8 0 and 1, others
            keep their dtype, `probabilities-std` among them. A variable with a leading dimension becomes one layer per
            entry.

    Returns:
        The layers, all of one dtype.

    Raises:
        ParameterError: If a variable has a dtype or dimensions that no raster can have, or a probability is not in 0…1.
    """
    layers = [layer for name in names for layer in _variable_layers(tile[name], name)]
    dtype = np.result_type(*(layer.values.dtype for layer in layers))
    return [Layer(**(vars(layer) | {"values": layer.values.astype(dtype, copy=False)})) for layer in layers]


def variable_values(tile: "xr.Dataset", name: str) -> NDArray[Any]:
    """Return the values of a variable as an array with y and x last, without a copy where it is one already.

    Raises:
        ParameterError: If it lacks one of the dimensions.
    """
    return np.asarray(_upright(tile[name], name).data)


def _upright(array: "xr.DataArray", name: str) -> "xr.DataArray":
    dims = spatial_dims(array)
    if not set(dims) <= set(array.dims) or array.ndim > 3:
        raise ParameterError(f"{name} has the dimensions {array.dims}; expected {dims}, or one more before them.")
    return array.transpose(..., *dims)


def _variable_layers(array: "xr.DataArray", name: str) -> list[Layer]:
    array = _upright(array, name)
    values = np.asarray(array.data)
    base = name.split("-", 1)[0]
    # The deviation over an ensemble is no probability and too small for whole percent.
    if base == "probabilities" and name != "probabilities-std" and values.ndim == 2:
        return [Layer(name, to_percent(values, name), PERCENT_NODATA, "percent", "AVERAGE")]
    if values.dtype == np.bool_:
        values = values.view(np.uint8)
    elif values.dtype == np.float16:
        values = values.astype(np.float32)
    if values.dtype.name not in _RASTER_DTYPES:
        raise ParameterError(
            f"{name} has the dtype {values.dtype}, which is not written; convert it to int32 or float64."
        )
    nodata = _nodata(array, values.dtype, name)
    facts = (nodata, str(array.attrs.get("units", "")), _resampling(base, values.dtype))
    if values.ndim == 2:
        return [Layer(name, values, *facts)]
    labels = array[array.dims[0]].to_numpy()
    return [Layer(f"{name} {label}", plane, *facts) for label, plane in zip(labels, values, strict=True)]


def to_percent(values: NDArray[Any], name: str = "probabilities") -> NDArray[np.uint8]:
    """Turn probabilities into whole percent.

    Args:
        values: Probabilities 0…1, float, NaN where unknown. Not changed.
        name: What they are, for the message.

    Returns:
        uint8 of the same shape: 0…100, rounded to the nearest (halves to the even one), 255 for NaN.

    Raises:
        ParameterError: If a value is not in 0…1.

    Examples:
        >>> to_percent(np.array([[0.0, 0.504], [1.0, np.nan]]))
        array([[  0,  50],
               [100, 255]], dtype=uint8)
    """
    result = np.empty(values.shape, np.uint8)
    rows = max(1, _CHUNK_PIXELS // max(values.shape[1], 1))
    for top in range(0, len(values), rows):
        percent = values[top : top + rows] * np.float32(100)
        unknown = np.isnan(percent)
        percent[unknown] = 0
        low, high = float(percent.min()), float(percent.max())
        if low < -_TOLERANCE or high > 100 + _TOLERANCE:
            raise ParameterError(
                f"{name} reach from {low / 100:g} to {high / 100:g}; expected probabilities in 0…1, or NaN."
            )
        np.rint(percent, out=percent)
        result[top : top + rows] = percent
        result[top : top + rows][unknown] = PERCENT_NODATA
    return result


def _nodata(array: "xr.DataArray", dtype: np.dtype[Any], name: str) -> float | None:
    # Not what the encoding says: that is how the values were stored where they came from.
    for key in ("_FillValue", "nodata"):
        if array.attrs.get(key) is not None:
            return float(array.attrs[key])
    if dtype.kind == "f":
        return float("nan")
    try:
        return get_band(name).nodata if array.dtype == get_band(name).dtype else None
    except UnknownBandError:
        return None


def _resampling(base: str, dtype: np.dtype[Any]) -> str:
    if base == "aspect":
        return "NEAREST"  # the mean of 359 and 1 degrees is not 180
    if dtype.kind == "f" or base.startswith("tc_"):
        return "AVERAGE"
    is_class = base in BANDS or dtype.itemsize == 1
    return "MODE" if is_class else "NEAREST"
