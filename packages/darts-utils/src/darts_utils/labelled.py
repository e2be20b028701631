"""What every stage asks of an object of xarray: that it is one, and which of its dimensions are rows and columns."""

import importlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from darts_utils.errors import GridError, InputTypeError, ParameterError

if TYPE_CHECKING:
    import xarray as xr

SPATIAL_DIMS = (("y", "x"), ("yc", "xc"), ("latitude", "longitude"), ("lat", "lon"))
"""Names of the dimensions of rows and columns, as odc.geo knows them; the first pair that is there counts."""

_BESIDE = 0.25


def spatial_dims(data: "xr.Dataset | xr.DataArray") -> tuple[str, str]:
    """Return the names of the dimensions of rows and columns.

    Args:
        data: A Dataset or a DataArray.

    Returns:
        The first pair of :data:`SPATIAL_DIMS` that `data` has; ("y", "x") where it has none.
    """
    return next((pair for pair in SPATIAL_DIMS if set(pair) <= set(data.dims)), SPATIAL_DIMS[0])


def upright(array: "xr.DataArray", name: str) -> "xr.DataArray":
    """Return an array with rows first, then columns.

    Args:
        array: A DataArray.
        name: What it is, for the message.

    Returns:
        The array, transposed where need be, without a copy.

    Raises:
        GridError: If it has other dimensions than those of rows and columns.
    """
    dims = spatial_dims(array)
    if set(array.dims) != set(dims):
        more = [dim for dim in array.dims if dim not in dims] if set(dims) < set(array.dims) else []
        advice = f"; take one of {more[0]!r} first, as `isel({more[0]}=0)` does" if more else ""
        raise GridError(f"{name} has the dimensions {array.dims}; expected {dims}{advice}.")
    return array.transpose(*dims)


def check_even(data: "xr.Dataset | xr.DataArray", what: str) -> None:
    """Pass what has rows and columns of one height and width each, as a grid that is read from the first ones has.

    Args:
        data: A Dataset or a DataArray. Without coordinates it says nothing, and passes.
        what: What it is, for the message.

    Raises:
        GridError: If a coordinate is more than a quarter of a step beside where the first two put it: rows or columns
            are missing, or their places were rounded to float32. The message says what to do.
    """
    for dim in spatial_dims(data):
        coordinates = np.asarray(data.indexes.get(dim, ()))
        if len(coordinates) < 3 or coordinates.dtype.kind not in "iuf":
            continue
        coordinates = coordinates.astype(np.float64)
        steps = np.diff(coordinates)
        beside = np.abs(coordinates - coordinates[0] - np.arange(len(coordinates)) * steps[0])
        if not beside.max() <= _BESIDE * abs(steps[0]):
            mean = (coordinates[-1] - coordinates[0]) / (len(coordinates) - 1)
            gap = int(np.abs(steps - mean).argmax())
            advice = (
                f"some are missing between {coordinates[gap]} and {coordinates[gap + 1]}, as "
                "`where(..., drop=True)` leaves them "
                "out; keep all, with NaN where nothing is known"
                if abs(steps[gap] - mean) > abs(mean) / 2
                else "they were rounded, as to float32, and are even again after "
                f"`ds.assign_coords({dim}=np.linspace(*ds[{dim!r}].values[[0, -1]].astype(float), ds.sizes[{dim!r}]))`"
            )
            raise GridError(
                f"{what} has unevenly spaced coordinates {dim} (steps from {np.abs(steps).min():g} to "
                f"{np.abs(steps).max():g}), so that its pixels would be put in wrong places: {advice}."
            )


def check_north_up(data: "xr.Dataset | xr.DataArray", what: str) -> None:
    """Pass what has evenly spaced rows from north to south and columns from west to east.

    Args:
        data: A Dataset or a DataArray. Without coordinates it says nothing, and passes.
        what: What it is, for the message.

    Raises:
        GridError: If its coordinates run the other way, and the message says how to turn it round; or as
            :func:`check_even` says.
    """
    check_even(data, what)
    for dim, ascending in zip(spatial_dims(data), (False, True), strict=True):
        coordinates = data.indexes.get(dim, ())
        if len(coordinates) > 1 and not (
            coordinates[0] < coordinates[-1] if ascending else coordinates[0] > coordinates[-1]
        ):
            order = f"{dim} from {coordinates[0]} to {coordinates[-1]}"
            raise GridError(
                f"{what} is not north-up ({order}); expected rows from north to south and columns from west to east. "
                f"`ds.sortby({dim!r}, ascending={ascending})` turns it round."
            )


def time_of(tile: "xr.Dataset") -> object:
    """Return when a tile was taken.

    Args:
        tile: A Dataset.

    Returns:
        Its attribute `time` as it is, else its scalar coordinate `time`, as ISO 8601 where it is a time of numpy; None
        where neither says.
    """
    given = tile.attrs.get("time") or None
    if given is not None or "time" not in tile.coords or tile.coords["time"].ndim:
        return given
    time: object = tile.coords["time"].to_numpy()[()]
    if not isinstance(time, np.datetime64):
        return time
    return None if np.isnat(time) else str(np.datetime_as_string(time, unit="us"))


def to_utc(time: object) -> datetime | None:
    """Return the moment that a time of a tile says.

    Args:
        time: Text of ISO 8601, or a time of Python, numpy or pandas; UTC unless it says otherwise.

    Returns:
        The moment in UTC; None for None, an empty text, and a time that is declared to be none (NaT).

    Raises:
        ParameterError: If it is anything else, or a moment that no calendar has in UTC.

    Examples:
        >>> to_utc("2019-12-31T20:00:00-09:00")
        datetime.datetime(2020, 1, 1, 5, 0, tzinfo=datetime.timezone.utc)
    """
    if isinstance(time, np.datetime64):
        time = None if np.isnat(time) else str(np.datetime_as_string(time, unit="us"))
    if time is None or str(time) in ("", "NaT"):
        return None
    try:
        timestamp = time if isinstance(time, datetime) else datetime.fromisoformat(str(time))
        return timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ParameterError(
            f"The time of the tile is {time!r}; expected ISO 8601, for example '2021-08-21T21:00:19Z'."
        ) from error


def check_dataset(value: object) -> None:
    """Pass a Dataset.

    Args:
        value: What a caller gives for a tile.

    Raises:
        InputTypeError: If it is anything else. The message says what to do with an array.
    """
    xr = importlib.import_module("xarray")  # no dependency of this package: whoever has a tile has it

    if not isinstance(value, xr.Dataset):
        raise InputTypeError(
            f"Expected an xarray.Dataset with one variable per band, but got a {type(value).__name__}; "
            "`array.to_dataset(name=...)` makes one of a DataArray."
        )


def check_data_array(value: object, kernels: str) -> None:
    """Pass a DataArray.

    Args:
        value: What a caller gives for a layer of a tile.
        kernels: What takes arrays of numpy and cupy, for the message.

    Raises:
        InputTypeError: If it is anything else. The message says what to do with an array or a Dataset.
    """
    xr = importlib.import_module("xarray")

    if not isinstance(value, xr.DataArray):
        raise InputTypeError(
            f"Expected an xarray.DataArray, but got a {type(value).__name__}; `dataset[name]` is one of a Dataset's, "
            f"and `{kernels}` takes arrays of numpy and cupy."
        )
