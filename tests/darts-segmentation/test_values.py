"""Bands that are not what they are taken for: refused in a sentence, and what declares itself missing is missing."""

import re

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from darts_segmentation import EnsembleV1, SMPSegmenter, ValueRangeError
from darts_segmentation.bands import Channel
from darts_segmentation.values import check_values
from darts_utils import BANDS as TABLE
from darts_utils import GridError
from support.segmentation import BANDS, PixelNetwork, card, directly, random_tile, segmenter

WEIGHTS = (3.0, -2.0, 1.5)
RED = Channel("red", -0.1, 0.5)


def _check(values, channel=RED):
    check_values({channel.band: np.asarray(values)}, [[channel]])


@pytest.mark.parametrize(
    ("factor", "dtype", "says"),
    [
        (
            10_000,
            "uint16",
            r"'red' has values from 2000 to 2000 \(median 2000\), but the model takes -0.1 to 0.5; divide.*10000",
        ),
        (10_000, "float32", r"'red' has values from .* \(median 2000\).*divide the band by 10000"),
        (100, "float64", r"median 20\), .*divide the band by 100 first"),
        (1e7, "float64", r"bring the band into the unit of the band table"),
        (-1e5, "float64", r"median -20000.*make them NaN \(rioxarray does so with masked=True\)"),
    ],
)
def test_reflectance_in_another_unit_is_refused(factor, dtype, says):
    tile = random_tile((60, 60))
    values = np.full((60, 60), 0.2) * factor
    tile["red"] = (("y", "x"), values.astype(dtype))
    with pytest.raises(ValueRangeError, match=says):
        segmenter(PixelNetwork(WEIGHTS)).segment_tile(tile, 16, 4)
    ensemble = EnsembleV1.from_segmenters({"a": segmenter(PixelNetwork(WEIGHTS))})
    with pytest.raises(ValueError, match="Band 'red'"):
        ensemble.segment_tile(tile, 16, 4)


def test_percent_is_told_from_fractions():
    with pytest.raises(ValueRangeError, match="divide the band by 100 first"):
        _check(np.full((9, 9), 45.0), Channel("red", 0.2, 0.5))


@pytest.mark.parametrize("name", sorted(name for name, band in TABLE.items() if band.dtype != "bool"))
def test_values_of_the_band_table_pass(name):
    band = TABLE[name]
    rng = np.random.default_rng(0)
    channel = Channel(name, band.low, band.high)
    _check(rng.uniform(band.low, band.high, (70, 90)), channel)
    for end in (band.low, band.high):
        _check(np.full((70, 90), end), channel)


def test_extremes_are_no_reason():
    values = np.full((70, 90), 0.2)
    values[:34] = 1.4  # a cloud over nearly half of the tile
    values[0, 0] = -9999
    values[1, :] = -9000
    _check(values)
    _check(np.full((70, 90), 1.4))  # or all of it
    _check(np.full((70, 90), 4500.0), Channel("dem", -100, 3000))


def test_whole_numbers_around_a_mark_are_none():
    """A band of decibels × 100 that goes on beyond the range; -999 alone in it is a mark."""
    channel = Channel("red", -2500, -1000)
    values = np.random.default_rng(0).integers(-1300, -900, (70, 90)).astype(np.int16)
    assert (values == -999).sum() > 1
    _check(values, channel)
    values[values > -1000] = -999
    with pytest.raises(ValueRangeError, match="'red' is -999 in"):
        _check(values, channel)


@pytest.mark.parametrize(
    "mark", [-9999, -2147483648, -3.40282306e38, -3.4028234663852886e38, 1e20, -1.7976931348623157e308]
)
def test_marks_of_any_writer_are_refused_and_the_advice_takes_them_away(mark):
    band = xr.DataArray(np.full((70, 90), 0.2))
    band[:20] = mark
    with pytest.raises(ValueRangeError, match=r"'red' is .* in 28\.6%") as error:
        _check(band.values)
    advice = re.search(r"`(band\.where.*)`", str(error.value))[1]
    cleaned = eval(advice, {"band": band})
    assert np.isnan(cleaned).sum() == 20 * 90
    _check(cleaned.values)


def test_missing_pixels_and_zeros_say_nothing():
    values = np.full((70, 90), np.nan)
    _check(values)
    _check(np.zeros((70, 90), np.uint16))
    values[10:30, 10:50] = 3000  # a scene that fills a corner of the tile
    with pytest.raises(ValueRangeError):
        _check(values)
    with pytest.raises(ValueRangeError):
        _check(np.nan_to_num(values).astype(np.uint16))


@pytest.mark.parametrize("dim", ["y", "x"])
def test_a_tile_that_is_not_north_up_is_refused(dim):
    tile = random_tile((40, 40)).isel({dim: slice(None, None, -1)})
    with pytest.raises(GridError, match=rf"The tile is not north-up .*sortby\('{dim}'"):
        segmenter(PixelNetwork(WEIGHTS)).segment_tile(tile, 16, 4)


def test_another_unit_is_refused():
    tile = random_tile((40, 40))
    tile["red"].attrs["units"] = "percent"
    with pytest.raises(
        ValueRangeError, match=r"Band 'red' is in 'percent' .* the model takes '1'; multiply it by 0\.01"
    ):
        segmenter(PixelNetwork(WEIGHTS)).segment_tile(tile, 16, 4)


def test_the_range_is_that_of_the_model():
    tile = random_tile((40, 40))
    tile["red"] = tile["red"] * 10_000
    model = segmenter(PixelNetwork(WEIGHTS), normalization={"red": (-1000.0, 5000.0)})
    assert np.isfinite(model.segment_tile(tile, 16, 4)["probabilities"].values).all()
    with pytest.raises(ValueRangeError, match=r"takes -0\.1 to 0\.5"):
        check_values({"red": tile["red"].values}, [[Channel("red", -1000, 5000)], [RED]])


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["numpy", "tensor"]))
def test_arrays_of_any_shape_are_sampled(rows, columns, kind):
    values = np.full((rows, columns), 5000.0, np.float32)
    good = np.full((rows, columns), 0.3, np.float32)
    wrap = torch.from_numpy if kind == "tensor" else np.asarray
    check_values({"red": wrap(good)}, [[RED]])
    with pytest.raises(ValueRangeError, match="median 5000"):
        check_values({"red": wrap(values)}, [[RED]])


def test_the_sample_is_small(monkeypatch):
    """What the check costs does not grow with the tile."""
    sizes = []
    partition = np.partition
    monkeypatch.setattr(np, "partition", lambda sample, at: sizes.append(len(sample)) or partition(sample, at))
    for shape in ((5000, 7000), (48, 48), (10, 9000), (95, 95)):
        _check(np.full(shape, 0.3, np.float32))
    assert max(sizes) <= 96 * 96
    assert sizes[1] == 48 * 48


# What declares itself missing


def _declared(tile, name, mark, dtype="float32", **attrs):
    values = np.where(np.isnan(tile[name].values), mark, tile[name].values).astype(dtype)
    return tile.assign({name: (("y", "x"), values, attrs)})


@pytest.mark.parametrize("attribute", ["_FillValue", "nodata", "missing_value"])
@pytest.mark.parametrize(
    ("mark", "dtype"), [(-9999, "float32"), (-9999, "int16"), (255, "uint8"), (-3.4e38, "float32")]
)
def test_pixels_that_declare_themselves_missing_are_missing(attribute, mark, dtype):
    tile = random_tile((60, 60), missing=0.3)
    whole = tile.assign(slope=np.floor(tile["slope"].clip(0, 90)))  # what integers hold
    expected = segmenter(PixelNetwork(WEIGHTS)).segment_tile(whole, 16, 4)["probabilities"].values
    declared = _declared(whole, "slope", mark, dtype, **{attribute: mark})
    before = declared.copy(deep=True)
    found = segmenter(PixelNetwork(WEIGHTS)).segment_tile(declared, 16, 4)["probabilities"].values
    np.testing.assert_array_equal(found, expected)
    xr.testing.assert_identical(declared, before)


def test_pixels_are_missing_in_all_bands_where_each_declares_it():
    tile = random_tile((60, 60))
    hole = np.zeros((60, 60), bool)
    hole[10:20, 5:50] = True
    tile = tile.where(~hole)
    declared = tile
    for name, mark in (("red", -1.0), ("ndvi", -9999), ("slope", np.float32(-32767))):
        declared = _declared(declared, name, mark, nodata=mark)
    found = segmenter(PixelNetwork(WEIGHTS)).segment_tile(declared, 16, 4)["probabilities"].values
    np.testing.assert_array_equal(np.isnan(found), hole)
    np.testing.assert_allclose(found, directly(PixelNetwork(WEIGHTS), tile), atol=1e-6)


def test_a_declaration_that_marks_no_pixel_changes_nothing():
    tile = random_tile((40, 40), missing=0.1)
    network = PixelNetwork(WEIGHTS)
    expected = segmenter(network).segment_tile(tile, 16, 4)["probabilities"].values
    for attrs in ({"_FillValue": np.nan}, {"nodata": -9999}, {"nodata": None}, {"nodata": [1, 2]}, {"_FillValue": "x"}):
        given_tile = tile.assign(slope=tile["slope"].assign_attrs(attrs))
        found = segmenter(network).segment_tile(given_tile, 16, 4)["probabilities"].values
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("scale", "missing"), [({}, True), ({"scale_factor": 1e-4}, False)])
def test_marks_that_rioxarray_keeps_in_the_encoding_count_unless_they_are_in_another_unit(scale, missing):
    tile = random_tile((40, 40), missing=0.1)
    tile["red"].encoding |= {"_FillValue": 0.0, **scale}
    tile["red"][5, 5] = 0.0
    expected = tile.assign(red=tile["red"].where(tile["red"] != 0)) if missing else tile
    found = segmenter(PixelNetwork(WEIGHTS)).segment_tile(tile, 16, 4)["probabilities"].values
    np.testing.assert_allclose(found, directly(PixelNetwork(WEIGHTS), expected), atol=1e-6)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_infinite_values_are_missing(engine, request):
    """The oracle is the same tile with NaN there."""
    tile, rng = random_tile((40, 40), missing=0.2), np.random.default_rng(4)
    broken = tile.copy(deep=True)
    for name in BANDS:
        values = broken[name].values
        values[np.isnan(values)] = rng.choice([np.nan, np.inf, -np.inf], np.isnan(values).sum()).astype(np.float32)
    assert np.isinf(broken["red"].values).any()
    if engine == "openvino":
        model = SMPSegmenter(request.getfixturevalue("converted"), "cpu", engine="openvino")
        options = (32, 8)
    else:
        model, options = segmenter(PixelNetwork(WEIGHTS)), (16, 4)
    expected = model.segment_tile(tile, *options)["probabilities"].values
    assert np.isnan(expected).any()
    found = model.segment_tile(broken, *options)["probabilities"].values
    np.testing.assert_array_equal(found, expected)
    if engine == "torch":
        np.testing.assert_allclose(found, directly(PixelNetwork(WEIGHTS), tile), atol=1e-6)


def test_the_demand_of_a_card_is_that_of_its_bands():
    assert card().normalization["red"] == (RED.low, RED.high)
    assert set(BANDS) <= set(TABLE)


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_where_a_tile_is_valid_does_not_hang_on_how_numbers_are_stored(dtype):
    """Trends of other programs are real numbers, and so is a scene classification, in which 0 is none."""
    tile = random_tile((20, 24), seed=5, missing=0.4)
    rng = np.random.default_rng(8)
    for name, high in (("tc_wetness", 256), ("s2_scl", 12)):
        tile[name] = (("y", "x"), rng.integers(0, high, (20, 24)).astype("uint8"))
    other = tile.assign(tc_wetness=tile["tc_wetness"].astype(dtype), s2_scl=tile["s2_scl"].astype(dtype))
    known = np.isfinite(tile["red"].to_numpy())
    seen = tile["s2_scl"].to_numpy() != 0
    for names, valid in (
        (("red", "tc_wetness"), known),
        (("tc_wetness", "s2_scl"), seen),
        (("red", "s2_scl"), known | seen),
    ):
        of_bytes, of_others = (
            segmenter(PixelNetwork(WEIGHTS[:2]), names).segment_tile(each, 16, 4)["probabilities"].to_numpy()
            for each in (tile, other)
        )
        np.testing.assert_array_equal(np.isfinite(of_bytes), valid)
        np.testing.assert_array_equal(of_others, of_bytes)
    # Where no other band says what is missing, NaN does.
    holes = tile.assign(tc_wetness=tile["tc_wetness"].where(known))
    found = segmenter(PixelNetwork(WEIGHTS[:1]), ("tc_wetness",)).segment_tile(holes, 16, 4)["probabilities"]
    np.testing.assert_array_equal(np.isfinite(found), known)
