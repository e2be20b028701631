"""Variables of a tile as the bands that a raster holds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from darts_export.products import COLOURS, is_percent
from darts_utils import BANDS, ParameterError, UnknownBandError, get_band, spatial_dims
from darts_utils.values import declared_marks

PERCENT_NODATA = 255
NOT_SEEN = 255
_STEPS = 10_000
"""Steps of reflectance 1 in which imagery is delivered."""
_STEP_TOLERANCE = 2.0**-21
"""What rounding to float32, once as reflectance and once in steps, may change, relative to the number of steps."""
_CHUNK_PIXELS = 1 << 20
# Rounding in float32 may carry a probability this far beyond 0 or 1.
_TOLERANCE = 1e-4
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
        scale: What a stored value is multiplied by, before `offset` is added.
        offset: See `scale`.
        colour: "red", "green" or "blue" where the band is to be shown as such, empty elsewhere.
    """

    name: str
    values: NDArray
    nodata: float | None
    unit: str
    resampling: str
    scale: float = 1.0
    offset: float = 0.0
    colour: str = ""


def read_layers(tile: xr.Dataset, names: Sequence[str]) -> list[Layer]:
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


def read_classes(tile: xr.Dataset, name: str, optional: Sequence[str]) -> list[Layer]:
    """Turn what is slump and what is not into a layer that also says what was not seen.

    Args:
        tile: The tile. Not changed.
        name: Variable of the classes: bool, or numbers 0, 1 and NaN.
        optional: Names of `extent` and of the probabilities, which are used where the tile has them.

    Returns:
        One layer, uint8: 1 for slump, 0 for none, 255 outside the extent and where the class or the probability is NaN.

    Raises:
        ParameterError: As :func:`read_layers`.
    """
    (layer,) = read_layers(tile, [name])
    values = np.equal(layer.values, 1).view(np.uint8)
    seen_by = _seen_by(tile, optional) | {name: layer.values}
    for part in _parts(values.shape):
        values[part][~_seen(seen_by, part)] = NOT_SEEN
    return [replace(layer, values=values, nodata=NOT_SEEN)]


def read_seen(tile: xr.Dataset, extent: str, probabilities: str) -> NDArray[np.bool_]:
    """Return where a tile was seen: in the extent, and where the probability is known; (y, x).

    Args:
        tile: The tile, with at least one of the two. Not changed.
        extent: Name of the extent.
        probabilities: Name of the probabilities.
    """
    seen_by = _seen_by(tile, (extent, probabilities))
    seen = np.empty(next(iter(seen_by.values())).shape, np.bool_)
    for part in _parts(seen.shape):
        seen[part] = _seen(seen_by, part)
    return seen


def _seen_by(tile: xr.Dataset, names: Sequence[str]) -> dict[str, NDArray]:
    return {name: variable_values(tile, name) for name in names if name in tile}


def _seen(layers: Mapping[str, NDArray], part: slice) -> NDArray[np.bool_]:
    """Return where rows were seen, by layers of which the extent says so, and others are NaN where they were not."""
    seen = np.ones(next(iter(layers.values()))[part].shape, np.bool_)
    for name, values in layers.items():
        if name == "extent":
            seen &= values[part] > 0
        elif values.dtype.kind == "f":
            seen &= ~np.isnan(values[part])
    return seen


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield blocks of rows of a million pixels, or of one row."""
    rows = max(1, _CHUNK_PIXELS // max(shape[1], 1))
    return (slice(top, top + rows) for top in range(0, shape[0], rows))


def read_optical(tile: xr.Dataset, names: Sequence[str]) -> list[Layer]:
    """Turn reflectances into layers; into the integers that they were made of, where they were.

    Reflectance is delivered as integers in steps of 1/10000, of which 0 is no data, with an offset of -0.1 where it
    may be negative (Sentinel-2 since processing baseline 04.00). These take half the space of floats and compress well.

    Args:
        tile: The tile. Not changed.
        names: Variables of reflectance; those called red, green and blue are to be shown as such.

    Returns:
        Layers of uint16 with scale and offset, or of float where some value is no multiple of 1/10000.

    Raises:
        ParameterError: As :func:`read_layers`.
    """
    layers = [replace(layer, colour=layer.name if layer.name in COLOURS else "") for layer in read_layers(tile, names)]
    ends = [_integer_range(layer.values) for layer in layers]
    if None in ends:
        return layers
    low, high = min(end[0] for end in ends if end), max(end[1] for end in ends if end)
    shift = 0 if low > 0 else 1000
    if low + shift <= 0 or high + shift > np.iinfo(np.uint16).max:
        return layers
    return [
        replace(
            layer,
            values=_integers(layer.values, shift),
            nodata=0,
            unit="",
            scale=1 / _STEPS,
            offset=0.0 - shift / _STEPS,
        )
        for layer in layers
    ]


def _integer_range(values: NDArray) -> tuple[int, int] | None:
    """Return the lowest and highest reflectance in steps; None where one is no whole number of steps."""
    low, high = math.inf, -math.inf
    for part in _strips(values):
        steps = part * np.float32(_STEPS)
        whole = np.rint(steps)
        with np.errstate(invalid="ignore"):  # infinite values, which are no steps either
            off = np.abs(steps - whole)
        # Where a value is missing, no comparison is true.
        if (off > _STEP_TOLERANCE * np.maximum(1, np.abs(whole))).any():
            return None
        low = min(low, float(np.fmin.reduce(whole, axis=None, initial=math.inf)))
        high = max(high, float(np.fmax.reduce(whole, axis=None, initial=-math.inf)))
    if low > high:
        return 1, 1
    return (int(low), int(high)) if math.isfinite(low) and math.isfinite(high) else None


def _integers(values: NDArray, shift: int) -> NDArray[np.uint16]:
    result = np.zeros(values.shape, np.uint16)
    for part, target in zip(_strips(values), _strips(result), strict=True):
        steps = np.rint(part * np.float32(_STEPS)) + np.float32(shift)
        np.copyto(target, steps, where=~np.isnan(part), casting="unsafe")
    return result


def _strips(values: NDArray) -> Iterator[NDArray]:
    return (values[part] for part in _parts(values.shape))


def variable_values(tile: xr.Dataset, name: str) -> NDArray:
    """Return the values of a variable as an array with y and x last, without a copy where it is one already.

    Raises:
        ParameterError: If it lacks one of the dimensions.
    """
    return np.asarray(_upright(tile[name], name).data)


def _upright(array: xr.DataArray, name: str) -> xr.DataArray:
    dims = spatial_dims(array)
    if not set(dims) <= set(array.dims) or array.ndim > 3:
        raise ParameterError(f"{name} has the dimensions {array.dims}; expected {dims}, or one more before them.")
    return array.transpose(..., *dims)


def _variable_layers(array: xr.DataArray, name: str) -> list[Layer]:
    array = _upright(array, name)
    values = np.asarray(array.data)
    base = name.split("-", 1)[0]
    if is_percent(name) and values.ndim == 2:
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
    metadata = (nodata, str(array.attrs.get("units", "")), _resampling(base, values.dtype))
    if values.ndim == 2:
        return [Layer(name, values, *metadata)]
    labels = array[array.dims[0]].to_numpy()
    return [Layer(f"{name} {label}", plane, *metadata) for label, plane in zip(labels, values, strict=True)]


def to_percent(values: NDArray, name: str = "probabilities") -> NDArray[np.uint8]:
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
        check_shares(float(percent.min()) / 100, float(percent.max()) / 100, name)
        np.rint(percent, out=percent)
        result[top : top + rows] = percent
        result[top : top + rows][unknown] = PERCENT_NODATA
    return result


def check_shares(low: float, high: float, name: str) -> None:
    """Pass probabilities, between what rounding in float32 may do to 0 and to 1.

    Raises:
        ParameterError: If one is not in 0…1.
    """
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise ParameterError(f"{name} reach from {low:g} to {high:g}; expected probabilities in 0…1, or NaN.")


def _nodata(array: xr.DataArray, dtype: np.dtype, name: str) -> float | None:
    # Not what the encoding says: that is how the values were stored where they came from.
    for mark in declared_marks(array.attrs):
        if dtype.kind == "f" or (mark.is_integer() and np.iinfo(dtype).min <= mark <= np.iinfo(dtype).max):
            return mark  # What the type cannot hold marks nothing.
    if dtype.kind == "f":
        return float("nan")
    try:
        return get_band(name).nodata if array.dtype == get_band(name).dtype else None
    except UnknownBandError:
        return None


def _resampling(base: str, dtype: np.dtype) -> str:
    if base == "aspect":
        return "NEAREST"  # the mean of 359 and 1 degrees is not 180
    if dtype.kind == "f" or base.startswith("tc_"):
        return "AVERAGE"
    is_class = base in BANDS or dtype.itemsize == 1
    return "MODE" if is_class else "NEAREST"
