"""One rule for the names of dimensions, odc.geo's, and one sentence for what is no object of xarray."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from darts_utils import (
    GridError,
    InputTypeError,
    ParameterError,
    check_data_array,
    check_dataset,
    check_even,
    check_north_up,
    spatial_dims,
    time_of,
    to_utc,
    upright,
)
from darts_utils.labelled import SPATIAL_DIMS

xr = pytest.importorskip("xarray")


def test_the_names_are_those_of_odc_geo():
    pytest.importorskip("odc.geo")
    from odc.geo.xr import spatial_dims as theirs

    known = [pair for pair in SPATIAL_DIMS if theirs(xr.Dataset(coords={dim: [0.0, 1.0] for dim in pair})) == pair]
    assert known == list(SPATIAL_DIMS)
    every = xr.Dataset(coords={dim: [0.0, 1.0] for pair in SPATIAL_DIMS[::-1] for dim in pair})
    while every.sizes:
        assert spatial_dims(every) == theirs(every)
        every = every.drop_vars(spatial_dims(every)).drop_dims(spatial_dims(every), errors="ignore")


@pytest.mark.parametrize("dims", SPATIAL_DIMS)
def test_rows_come_first(dims):
    values = np.arange(6).reshape(2, 3)
    array = xr.DataArray(values, dims=dims)
    for given in (array, array.transpose()):
        np.testing.assert_array_equal(upright(given, "the band"), values)
    with pytest.raises(GridError, match=r"; take one of 'time' first, as `isel\(time=0\)` does"):
        upright(array.expand_dims("time"), "the band")
    for wrong in (array.expand_dims("time"), array.rename({dims[0]: "row"}), array[0]):
        with pytest.raises(GridError, match=r"the band has the dimensions \(.*\); expected \('"):
            upright(wrong, "the band")


@pytest.mark.parametrize("dims", SPATIAL_DIMS)
def test_rows_run_from_north_to_south(dims):
    y, x = dims
    tile = xr.Dataset({"red": (dims, np.zeros((3, 4)))}, {y: [9.0, 6.0, 3.0], x: [0.0, 3.0, 6.0, 9.0]})
    for fine in (tile, tile.drop_vars(dims), tile.isel({y: [0], x: [0]}), tile.red.transpose()):
        check_north_up(fine, "The tile")
    for dim in dims:
        turned = tile.isel({dim: slice(None, None, -1)})
        with pytest.raises(GridError, match="The tile is not north-up") as error:
            check_north_up(turned, "The tile")
        advice = str(error.value).split("`")[1]
        assert eval(advice, {"ds": turned}).identical(tile)


@pytest.mark.parametrize("dims", SPATIAL_DIMS)
def test_rows_and_columns_are_evenly_spaced(dims):
    """A grid is read from the first two; what is not where they put it would be mapped elsewhere."""
    y, x = dims
    tile = xr.Dataset(
        {"red": (dims, np.ones((90, 80)))}, {y: 7.6e6 - 3.125 * np.arange(90), x: 5e5 + 3 * np.arange(80)}
    )
    text = tile.isel({y: [0, 1, 2]}).assign_coords({y: ["c", "b", "a"]})
    for fine in (tile, tile[{y: slice(None, None, -2)}], tile.drop_vars(dims), tile[{y: [5], x: [3, 9]}], text):
        check_even(fine, "The tile")
    check_even(tile.assign_coords({x: tile[x].astype("float32")}), "The tile")
    seen = tile.red.copy(data=np.ones(tile.red.shape, bool))
    seen[40:44], seen[:, 7] = False, False
    dropped = tile.where(seen, drop=True)
    with pytest.raises(GridError, match=rf"{y} \(steps from 3.125 to 15.625\).* between 7599878.1\S* and 7599862.5,"):
        check_even(dropped, "The tile")
    with pytest.raises(GridError, match=rf"{x} \(steps from 3 to 6\)"):
        check_north_up(dropped.isel({y: slice(9)}), "The tile")
    check_even(dropped.reindex_like(tile), "The tile")
    rounded = tile.assign_coords({y: tile[y].astype("float32")})
    with pytest.raises(GridError, match=rf"{y} \(steps from 3 to 3.5\).* they were rounded") as error:
        check_even(rounded, "The tile")
    mended = eval(str(error.value).split("`")[1], {"ds": rounded, "np": np})
    check_even(mended, "The tile")
    np.testing.assert_allclose(mended[y], tile[y], atol=0.5)


@pytest.mark.parametrize("dim", ["y", "x"])
def test_rows_that_all_lie_in_one_place_are_not_north_up(dim):
    tile = xr.Dataset({"red": (("y", "x"), np.ones((4, 4)))}, {"y": [9.0, 6, 3, 0], "x": [0.0, 3, 6, 9]})
    check_north_up(tile, "The tile")
    for places in (slice(None), slice(2)):
        part = tile[{dim: places}]
        with pytest.raises(GridError, match=f"The tile is not north-up .{dim} from 5.0 to 5.0"):
            check_north_up(part.assign_coords({dim: part[dim] * 0 + 5}), "The tile")


def test_the_time_of_a_tile_is_its_attribute_or_its_scalar_coordinate():
    tile = xr.Dataset()
    assert time_of(tile) is None
    for time, text in ((np.datetime64("2021-08-21T21:00:19", "ns"), "2021-08-21T21:00:19.000000"), ("2021", "2021")):
        assert time_of(tile.assign_coords(time=time)) == text
    assert time_of(tile.assign_coords(time=np.datetime64("NaT", "ns"))) is None
    assert time_of(tile.assign_coords(time=[1, 2])) is None
    assert time_of(tile.assign_coords(time="2021").assign_attrs(time="2022")) == "2022"


def test_what_is_no_dataset_is_named():
    array = xr.DataArray(np.zeros((2, 3)), name="red")
    check_dataset(array.to_dataset())
    check_data_array(array, "kernels")
    for given, name in ((array, "DataArray"), (array.values, "ndarray"), ({"red": array}, "dict"), (None, "NoneType")):
        with pytest.raises(InputTypeError, match=rf"Expected an xarray.Dataset .* got a {name}; `array.to_dataset"):
            check_dataset(given)
    for given, name in ((array.to_dataset(), "Dataset"), (array.values, "ndarray"), ([[1]], "list")):
        with pytest.raises(TypeError, match=rf"Expected an xarray.DataArray, but got a {name}; `dataset\[name\]`"):
            check_data_array(given, "kernels")


def test_a_time_is_a_moment_in_utc():
    """Of each kind of time, over the turn of a year; what names no zone is in UTC."""
    pd = pytest.importorskip("pandas")
    expected = datetime(2020, 1, 1, 5, 0, 0, 250_000, tzinfo=UTC)
    texts = ("2019-12-31T20:00:00.25-09:00", "2020-01-01T05:00:00.25Z", "2020-01-01 05:00:00.25", "20200101T050000.25Z")
    zone = timezone(timedelta(hours=-9))
    times = (
        np.datetime64("2020-01-01T05:00:00.25", "ns"),
        pd.Timestamp("2019-12-31T20:00:00.25", tz="America/Anchorage"),
    )
    for time in (*texts, *times, expected, expected.replace(tzinfo=None), expected.astimezone(zone)):
        found = to_utc(time)
        assert (found, found.utcoffset()) == (expected, timedelta(0))
    assert [to_utc(none) for none in (None, "", np.datetime64("NaT", "ns"), pd.NaT)] == [None] * 4
    for wrong in ("yesterday", 2020, "2020-13-01", "0001-01-01T00:00:00+05:00"):
        with pytest.raises(ParameterError, match=r"The time of the tile is .*; expected ISO 8601"):
            to_utc(wrong)
