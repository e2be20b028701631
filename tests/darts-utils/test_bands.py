"""The band table says what the data model says, and normalisation is the float64 formula."""

import importlib.metadata
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darts_utils import (
    BANDS,
    OPTICAL_BANDS,
    TREND_BANDS,
    Band,
    BandDeclarationWarning,
    UnknownBandError,
    ValueRangeError,
    band_attrs,
    check_units,
    class_of,
    declared_bands,
    get_band,
    normalize_band,
)
from support.lanes import mostly_slow

# The data model, written out a second time: dtype, low, high.
DATA_MODEL = {
    "blue": ("float32", -0.1, 0.5),
    "green": ("float32", -0.1, 0.5),
    "red": ("float32", -0.1, 0.5),
    "nir": ("float32", -0.1, 0.5),
    "quality_data_mask": ("uint8", 0, 2),
    "planet_udm": ("uint8", 0, 255),
    "s2_scl": ("uint8", 0, 11),
    "ndvi": ("float32", -1, 1),
    "tc_brightness": ("uint8", 0, 255),
    "tc_greenness": ("uint8", 0, 255),
    "tc_wetness": ("uint8", 0, 255),
    "dem": ("float32", -100, 3000),
    "arcticdem_data_mask": ("uint8", 0, 1),
    "relative_elevation": ("float32", -50, 50),
    "slope": ("float32", 0, 90),
    "aspect": ("float32", 0, 360),
    "hillshade": ("float32", 0, 1),
    "curvature": ("float32", -1, 1),
    "probabilities": ("float32", 0, 1),
    "extent": ("uint8", 0, 1),
    "binarized_segmentation": ("bool", 0, 1),
}

# Rounding the input, the difference and the product to float32 costs half a unit in the last place each.
ROUNDING = 2e-7


def float64_normalization(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = [(float(value) - low) / (high - low) for value in values.ravel()]
    clipped = [0.0 if math.isnan(value) else min(max(value, 0.0), 1.0) for value in scaled]
    return np.array(clipped, dtype=np.float64).reshape(values.shape)


def test_the_table_is_the_data_model():
    assert {name: (band.dtype, band.low, band.high) for name, band in BANDS.data_model.items()} == DATA_MODEL
    assert list(BANDS)[: len(DATA_MODEL)] == list(DATA_MODEL)
    assert set(OPTICAL_BANDS) | set(TREND_BANDS) <= set(DATA_MODEL)


def test_every_entry_carries_its_own_name_and_a_range():
    for name, band in BANDS.items():
        assert band.name == name
        assert band.low < band.high
        assert band.long_name


def test_only_float_bands_and_the_scene_classification_mark_missing_pixels():
    marked = {name: band.nodata for name, band in BANDS.data_model.items() if band.nodata is not None}
    assert marked.pop("s2_scl") == 0
    assert set(marked) == {name for name, (dtype, *_) in DATA_MODEL.items() if dtype == "float32"}
    assert all(math.isnan(nodata) for nodata in marked.values())


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        BANDS["red"] = BANDS["blue"]
    with pytest.raises(AttributeError):
        BANDS["red"].low = 0


@pytest.mark.parametrize("name", ["probabilities-tcvis", "probabilities-v1-2024", "binarized_segmentation-tcvis"])
def test_members_of_an_ensemble_share_the_entry_of_their_base(name):
    assert get_band(name) is BANDS[name.split("-")[0]]


@pytest.mark.parametrize("name", ["lake", "active-layer-detachment", "stable_slump", "-"])
def test_classes_have_the_entry_of_probabilities_under_their_own_name(name):
    layer = f"probabilities_{name}"
    assert class_of(layer) == name
    expected = replace(BANDS["probabilities"], name=layer, long_name=f"probability of {name}")
    np.testing.assert_equal(asdict(get_band(layer)), asdict(expected))  # A NaN equals no NaN.
    assert layer not in BANDS


@pytest.mark.parametrize("name", ["probabilities", "probabilities-a_b", "probabilities-std", "probabilities_", "slope"])
def test_other_layers_are_those_of_no_class(name):
    assert class_of(name) is None


@pytest.fixture
def declare(monkeypatch):
    """Lets an installed package declare bands."""

    def put(load):
        entry = SimpleNamespace(load=load, value="their.bands:TABLE")
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == "darts.bands" else [])
        declared_bands.cache_clear()

    yield put
    declared_bands.cache_clear()


def test_installed_packages_declare_bands(declare):
    wetness = Band("topographic_wetness", "float32", "topographic wetness index", "1", 0, 20, math.nan)
    mine = Band("slope", "float32", "slope in percent", "%", 0, 100, math.nan)
    declare(lambda: {"topographic_wetness": wetness, "slope": mine, "snow": SimpleNamespace(band=wetness)})
    assert get_band("topographic_wetness") is get_band("snow") is wetness
    assert "topographic_wetness" in BANDS
    assert list(BANDS) == [*DATA_MODEL, "topographic_wetness", "snow"]
    assert len(BANDS) == len(DATA_MODEL) + 2
    assert get_band("slope").units == "degree"  # what the data model says goes first
    np.testing.assert_array_equal(normalize_band([0, 5, 20], "topographic_wetness"), np.float32([0, 0.25, 1]))


def test_a_feature_is_missed_where_no_package_declares_any(declare, monkeypatch):
    declare(dict)
    with pytest.raises(UnknownBandError, match="'northnes' is not in the band table") as caught:
        get_band("northnes")
    assert "darts-preprocessing" not in str(caught.value)
    declared_bands.cache_clear()
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    with pytest.raises(UnknownBandError, match="features of darts-preprocessing are known where that is installed"):
        get_band("northnes")


@pytest.mark.parametrize("load", [lambda: [1], lambda: {}["absent"]])
def test_bands_that_cannot_be_read_are_left_out_with_a_warning(declare, load):
    declare(load)
    with pytest.warns(BandDeclarationWarning, match="The bands that 'their.bands:TABLE' declares cannot be read"):
        assert list(BANDS) == list(DATA_MODEL)
    assert get_band("red").high == 0.5


def test_a_misspelt_band_is_an_error_that_suggests_the_right_one():
    with pytest.raises(UnknownBandError, match=r"'relative_elevaton' is not .*did you mean 'relative_elevation'\?"):
        get_band("relative_elevaton")


def test_a_strange_band_is_an_error_that_lists_the_known_ones():
    with pytest.raises(KeyError) as caught:
        get_band("xyz")
    assert all(name in str(caught.value) for name in BANDS)


def test_only_layers_of_the_segmentation_come_per_model():
    with pytest.raises(UnknownBandError):
        get_band("dem-tcvis")


def test_attributes_have_a_unit_only_where_the_values_have_one():
    assert band_attrs("slope") == {"long_name": "slope", "units": "degree"}
    assert band_attrs("extent") == {"long_name": "reliable results (1) or none (0)"}
    assert band_attrs("red", data_source="planet", units="percent")["units"] == "percent"


def test_attributes_are_new_each_time():
    band_attrs("slope")["units"] = "rad"
    assert band_attrs("slope")["units"] == "degree"


def test_attributes_of_an_unknown_band_are_an_error():
    with pytest.raises(UnknownBandError):
        band_attrs("sloppe")


FIRST_OF_A_RANGE = set({parts: name for name, parts in reversed(DATA_MODEL.items())}.values())


@pytest.mark.parametrize("name", mostly_slow(DATA_MODEL, FIRST_OF_A_RANGE.__contains__))
@given(data=st.data())
def test_normalization_is_the_float64_formula(name, data):
    dtype, low, high = DATA_MODEL[name]
    if dtype == "float32":
        span = high - low
        ends = (float(np.float32(end)) for end in (low - span, high + span))
        elements = st.floats(*ends, width=32) | st.sampled_from([math.nan, math.inf, -math.inf])
    else:
        elements = hnp.from_dtype(np.dtype(dtype))
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
    values = data.draw(hnp.arrays(dtype, shapes, elements=elements))
    before = values.copy()

    scaled = normalize_band(values, name)

    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, float64_normalization(values, low, high), rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(values, before)
    assert not np.shares_memory(scaled, values)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int16", "uint16"])
def test_normalization_takes_every_numeric_dtype(dtype):
    values = np.array([[0, 1, 45], [89, 90, 91]], dtype=dtype)
    expected = float64_normalization(values, 0, 90)
    np.testing.assert_allclose(normalize_band(values, "slope"), expected, rtol=0, atol=ROUNDING)


def test_what_float32_cannot_hold_is_clipped_without_a_warning():
    np.testing.assert_array_equal(normalize_band(np.array([1e300, -1e300]), "dem"), [1, 0])


@pytest.mark.parametrize(("values", "advice"), [(np.array([2000], "uint16"), "/ 10000"), ([20.0, 30.0], "/ 100")])
def test_normalization_of_another_unit_is_an_error(values, advice):
    with pytest.raises(ValueRangeError, match=rf"Band 'red' has values from .*, but normalize_band takes .*`{advice}`"):
        normalize_band(values, "red")


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("dem", "ft", r"'ft' .* 'm'; multiply it by 0\.3048 "),
        ("dem", "Feet", r"0\.3048 "),
        ("dem", "US survey feet", r"0\.3048006096 "),
        ("dem", "km", "1000 "),
        ("dem", "Kilometers", "1000 "),
        ("dem", "dm", r"0\.1 "),
        ("dem", "centimetres", r"0\.01 "),
        ("red", "%", r"0\.01 .*units='1'"),
        ("probabilities-tcvis", "percent", r"0\.01 "),
        ("slope", "radians", r"57\.29577951 "),
    ],
)
def test_another_unit_is_refused_with_the_factor(name, given, says):
    with pytest.raises(ValueRangeError, match=f"{name}.*multiply it by.*{says}" if "multiply" not in says else says):
        check_units(name, {"units": given}, taker="this test")


@pytest.mark.parametrize(("name", "given"), [("slope", "percent"), ("slope", "%"), ("red", "km"), ("dem", "radians")])
def test_a_unit_of_another_quantity_is_refused(name, given):
    """A slope of 100 % is one of 45 degrees, and no factor makes one of the other."""
    with pytest.raises(ValueRangeError, match=rf"'{name}' is in '{given}'.* takes '\w+', another quantity; bring it"):
        check_units(name, {"units": given}, taker="this test")
    check_units("extent", {"units": given}, taker="this test")


@pytest.mark.parametrize("units", [None, "", "m", "M", "metre", "metres", "Meters", "1", "degree", "degrees", "?", 7])
def test_units_that_are_not_clearly_others_pass(units):
    check_units("my_own", {"units": "ft"}, taker="this test")
    for name in DATA_MODEL:
        for attrs in ({}, band_attrs(name), {"units": units}):
            check_units(name, attrs, taker="this test")


@pytest.mark.parametrize("name", ["dem", "my_own"])
def test_values_as_they_are_stored_are_refused(name):
    says = rf"{name}.* as they are stored.*`\(band \* \S+ \+ \S+\)\.assign_attrs"
    for attrs in ({"scale_factor": 0.1}, {"add_offset": np.float32(2)}, {"scale_factor": 0.1, "add_offset": 0.0}):
        with pytest.raises(ValueRangeError, match=says):
            check_units(name, attrs, taker="this test")
    for attrs in ({"scale_factor": 1.0, "add_offset": 0.0}, {"scale_factor": np.int16(1)}, {"scale_factor": "0.1"}):
        check_units(name, attrs, taker="this test")


def test_the_layout_of_the_array_does_not_matter():
    values = np.linspace(-100, 100, 60, dtype=np.float32).reshape(6, 10)
    straight = normalize_band(values, "relative_elevation")
    np.testing.assert_array_equal(normalize_band(values.T, "relative_elevation"), straight.T)
    np.testing.assert_array_equal(normalize_band(values[::2, ::-3], "relative_elevation"), straight[::2, ::-3])


def test_normalization_of_an_unknown_band_is_an_error():
    with pytest.raises(UnknownBandError, match=r"'nirr'.*'nir'"):
        normalize_band([0.1], "nirr")
