"""Probabilities of a tile, against networks whose results are known and against the plain way to get them."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from darts_segmentation import EnsembleV1, OutputError
from darts_segmentation.grid import plan_axis
from darts_utils import GridError, InputTypeError, MissingBandError, ParameterError, normalize_band
from support.segmentation import BANDS, BlurNetwork, PixelNetwork, directly, plainly, random_tile, segmenter

WEIGHTS = (3.0, -2.0, 1.5)


@st.composite
def cases(draw):
    """Draw the shape of a tile, and options, so that there are at most some eighty patches."""
    patch_size = draw(st.integers(1, 48))
    edges = st.integers(1, 4 * patch_size)
    options = {
        "patch_size": patch_size,
        "overlap": draw(st.integers(0, patch_size // 2)),
        "batch_size": draw(st.integers(1, 5)),
        "reflection": draw(st.integers(0, 10)),
    }
    return (draw(edges), draw(edges)), options


seeds = st.integers(0, 2**32 - 1)


@given(cases(), seeds, st.sampled_from([0.0, 0.3, 0.9]))
def test_a_network_that_sees_single_pixels_gives_the_direct_result(case, seed, missing):
    shape, options = case
    network = PixelNetwork(WEIGHTS)
    tile = random_tile(shape, seed=seed, missing=missing)
    result = segmenter(network).segment_tile(tile, **options)["probabilities"]
    assert result.dims == ("y", "x")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.values, directly(network, tile), rtol=0, atol=1e-6)


@given(cases(), seeds, st.integers(1, 5))
def test_streaming_gives_what_the_plain_way_gives(case, seed, radius):
    shape, options = case
    network = BlurNetwork(3, radius)
    tile = random_tile(shape, seed=seed, missing=0.2)
    result = segmenter(network).segment_tile(tile, **options)["probabilities"].values
    expected = plainly(network, tile, options["patch_size"], options["overlap"], options["reflection"])
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("overlap", [0, 1, 2, 13, 32])
def test_a_network_with_surroundings_gives_the_direct_result_but_for_the_weight_of_cut_off_patches(overlap):
    radius, patch_size = 3, 64
    network = BlurNetwork(3, radius)
    tile = random_tile((150, 131), seed=1)
    result = segmenter(network).segment_tile(tile, patch_size, overlap, reflection=radius)["probabilities"].values
    padded = tile.pad(y=radius + 1, x=radius + 1, mode="reflect")
    expected = directly(network, padded)[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
    whole = np.outer(*(_weight_of_whole(size, patch_size, overlap, radius, radius) for size in result.shape))
    assert np.mean(whole == 1) > 0.2
    assert np.all(abs(result - expected) <= 1 - whole + 1e-6)


def test_a_shifted_grid_changes_nothing_but_for_the_weight_of_cut_off_patches():
    radius, patch_size, overlap, shift = 2, 48, 8, 11
    tile = random_tile((120, 140), seed=2)
    model = segmenter(BlurNetwork(3, radius))
    first = model.segment_tile(tile, patch_size, overlap)["probabilities"].values[shift:, shift:]
    part = tile.isel(y=slice(shift, None), x=slice(shift, None))
    second = model.segment_tile(part, patch_size, overlap)["probabilities"].values
    whole_in_first = np.outer(*(_weight_of_whole(size, patch_size, overlap, radius)[shift:] for size in (120, 140)))
    whole_in_second = np.outer(*(_weight_of_whole(size - shift, patch_size, overlap, radius) for size in (120, 140)))
    inner = np.s_[radius:-radius, radius:-radius]  # the mirrored border differs
    allowed = (1 - whole_in_first) + (1 - whole_in_second) + 1e-6
    assert np.mean(allowed[inner] < 1e-5) > 0.3
    assert np.all((abs(first - second) <= allowed)[inner])


def _weight_of_whole(size, patch_size, overlap, radius, reflection=0):
    """The weight along an axis of those patches that show all that the network wants to see around a pixel."""
    axis = plan_axis(size, patch_size, overlap, reflection)
    weight = np.zeros(size)
    for index, weights in enumerate(axis.weights):
        tile, patch = axis.inside(index)
        position = np.arange(patch_size)[patch]
        whole = (position >= radius) & (position < patch_size - radius)
        weight[tile] += np.where(whole, weights[patch], 0)
    return np.where(weight > 1 - 1e-6, 1, weight)


@given(
    st.fixed_dictionaries(
        {
            "patch_size": st.integers(16, 48),
            "overlap": st.integers(0, 8),
            "batch_size": st.integers(1, 5),
            "reflection": st.integers(0, 3),
        }
    ),
    seeds,
    st.integers(0, 59),
    st.integers(0, 69),
)
def test_a_missing_pixel_changes_only_what_the_network_sees_there(options, seed, row, column):
    radius = 2
    network = BlurNetwork(3, radius)
    tile = random_tile((60, 70), seed=seed)
    holed = tile.copy(deep=True)
    for name in BANDS:
        holed[name][row, column] = np.nan
    model = segmenter(network)
    before = model.segment_tile(tile, **options)["probabilities"].values
    after = model.segment_tile(holed, **options)["probabilities"].values
    assert np.isnan(after[row, column])
    # The network sees a pixel near the edge of the tile once more in the mirrored border.
    near = np.outer(
        _sees(60, row, radius, 1 + options["reflection"]), _sees(70, column, radius, 1 + options["reflection"])
    )
    np.testing.assert_array_equal(after[~near], before[~near])
    assert np.count_nonzero(np.isnan(after)) == 1


def _sees(size, position, radius, border):
    """Which pixels of an axis have a pixel, or a mirror image of it, within a radius."""
    shown = np.pad(np.arange(size), border, mode="reflect") == position
    images = np.flatnonzero(shown) - border
    return np.any(abs(np.arange(size)[:, None] - images) <= radius, axis=1)


def test_nan_is_seen_as_the_low_end_of_a_band():
    network = PixelNetwork((5.0, 0.0, 0.0), bias=0)
    tile = random_tile((5, 5))
    tile["red"][:] = np.nan
    result = segmenter(network).segment_tile(tile, 8, 0)["probabilities"].values
    np.testing.assert_array_equal(result, np.float32(0.5))


def test_bands_are_scaled_as_the_data_model_says_bit_by_bit():
    tile = random_tile((40, 50), bands=("red", "tc_wetness", "dem"), missing=0.2)

    class First(torch.nn.Module):
        def forward(self, patches):
            seen.append(patches.numpy().copy())
            return patches[:, :1]

    seen = []
    segmenter(First(), ("red", "tc_wetness", "dem")).segment_tile(tile, 64, 0)
    shown = seen[0][0][:, 12:52, 7:57]
    for layer, name in zip(shown, ("red", "tc_wetness", "dem"), strict=True):
        np.testing.assert_array_equal(layer, normalize_band(tile[name].values, name))


def test_a_card_may_name_another_range():
    network = PixelNetwork((4.0,), bias=0)
    tile = random_tile((6, 6), bands=("red",))
    model = segmenter(network, ("red",), normalization={"red": (0.0, 0.25)})
    scaled = np.clip(tile["red"].values.astype(float) / 0.25, 0, 1)
    result = model.segment_tile(tile, 8, 0)["probabilities"].values
    np.testing.assert_allclose(result, 1 / (1 + np.exp(-4 * scaled)), atol=1e-6)


def test_patches_without_a_valid_pixel_are_not_sent():
    network = PixelNetwork(WEIGHTS)
    tile = random_tile((126, 126))
    for name in BANDS:
        tile[name][:, 70:] = np.nan
    result = segmenter(network).segment_tile(tile, 32, 0, batch_size=3)["probabilities"].values
    # Patches begin at -1, 31, 63 and 95; the last column lies where nothing is valid.
    assert [shape[0] for shape in network.batches] == [3, 3, 3, 3]
    assert np.isnan(result[:, 70:]).all()
    assert not np.isnan(result[:, :70]).any()


def test_an_empty_tile_is_empty():
    network = PixelNetwork(WEIGHTS)
    tile = random_tile((40, 40), missing=1.0)
    result = segmenter(network).segment_tile(tile, 32, 0)["probabilities"].values
    assert np.isnan(result).all()
    assert network.batches == []


def test_bands_that_cannot_be_missing_do_not_make_a_pixel_valid():
    bands = ("red", "tc_wetness")
    tile = random_tile((20, 20), bands=bands)
    tile["red"][:5] = np.nan
    result = segmenter(PixelNetwork((1.0, 1.0)), bands).segment_tile(tile, 16, 0)["probabilities"].values
    np.testing.assert_array_equal(np.isnan(result), np.isnan(tile["red"].values))


def test_nothing_else_in_the_tile_changes():
    tile = random_tile((30, 40), bands=(*BANDS, "tc_wetness"), missing=0.1)
    tile = tile.assign(extra=(("udm_band", "y", "x"), np.ones((2, 30, 40), np.uint8)), spatial_ref=0)
    tile = tile.set_coords("spatial_ref")
    tile["red"].attrs["data_source"] = "somewhere"
    before = tile.copy(deep=True)
    result = segmenter(PixelNetwork(WEIGHTS)).segment_tile(tile, 16, 4)
    xr.testing.assert_identical(tile, before)
    xr.testing.assert_identical(result.drop_vars("probabilities"), before)
    assert result["probabilities"].attrs == {"long_name": "probability of a thaw slump", "units": "1"}
    assert result["probabilities"].encoding == {"grid_mapping": "spatial_ref"}
    assert all(result[name].values is tile[name].values for name in BANDS)


def test_types_orders_and_strides_of_bands_do_not_matter():
    tile = random_tile((33, 47), missing=0.1)
    odd = tile.copy()
    odd["red"] = tile["red"].astype(">f4").transpose("x", "y")
    odd["ndvi"] = tile["ndvi"].astype(np.float64)
    odd["slope"] = (("y", "x"), np.asfortranarray(tile["slope"].values[::-1])[::-1])
    model = segmenter(BlurNetwork(3, 2))
    np.testing.assert_array_equal(
        model.segment_tile(odd, 32, 8)["probabilities"].values, model.segment_tile(tile, 32, 8)["probabilities"].values
    )


def test_full_precision_is_the_same_each_time_and_for_every_batch_size():
    model = segmenter(BlurNetwork(3, 3))
    tile = random_tile((100, 90), missing=0.1)
    first = model.segment_tile(tile, 32, 8)["probabilities"].values
    for _ in range(2):
        np.testing.assert_array_equal(model.segment_tile(tile, 32, 8)["probabilities"].values, first)
    np.testing.assert_allclose(model.segment_tile(tile, 32, 8, batch_size=1)["probabilities"].values, first, atol=1e-6)


def test_the_mean_over_symmetries_is_the_mean_over_turned_tiles():
    network = BlurNetwork(3, 2)
    tile = random_tile((48, 48), missing=0.2)
    model = segmenter(network)
    result = model.segment_tile(tile, 64, 0, tta="d4")["probabilities"].values
    total = np.zeros((48, 48))
    for turns in range(4):
        for flip in (1, -1):
            turned = tile.copy()
            for name in BANDS:
                turned[name] = (("y", "x"), np.rot90(tile[name].values, turns)[:, ::flip].copy())
            layer = model.segment_tile(turned, 64, 0)["probabilities"].values
            total += np.rot90(layer[:, ::flip], -turns)
    np.testing.assert_allclose(result, total / 8, rtol=0, atol=1e-6)


def test_symmetries_change_nothing_for_a_network_that_sees_single_pixels():
    network = PixelNetwork(WEIGHTS)
    tile = random_tile((70, 50), missing=0.2)
    result = segmenter(network).segment_tile(tile, 32, 10, tta="d4")["probabilities"].values
    np.testing.assert_allclose(result, directly(network, tile), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.02), ("auto", 0.02)])
def test_reduced_precision_is_near_full_precision(precision, tolerance):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 1, 1))
    model = segmenter(network)
    tile = random_tile((64, 64))
    full = model.segment_tile(tile, 64, 0)["probabilities"].values
    reduced = model.segment_tile(tile, 64, 0, precision=precision)["probabilities"]
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced.values, full, rtol=0, atol=tolerance)


def test_members_average_to_the_mean_and_their_spread_is_the_standard_deviation():
    tile = random_tile((60, 50), bands=(*BANDS, "dem"), missing=0.2)
    parts = {
        "a": (PixelNetwork((1.0, 2.0)), ("red", "dem")),
        "b": (PixelNetwork((-1.0, 2.0, 0.5)), BANDS),
        "c": (PixelNetwork((3.0, -4.0)), ("slope", "red")),
    }
    ensemble = EnsembleV1.from_segmenters({name: segmenter(net, bands) for name, (net, bands) in parts.items()})
    assert ensemble.model_names == ["a", "b", "c"]
    assert ensemble.required_bands == ["red", "dem", "ndvi", "slope"]
    result = ensemble.segment_tile(tile, 16, 5, keep_inputs=True)
    expected = {name: directly(net, tile, bands) for name, (net, bands) in parts.items()}
    mean = np.mean(list(expected.values()), axis=0)  # NaN where one of them is
    np.testing.assert_allclose(result["probabilities"].values, mean, rtol=0, atol=1e-6)
    for name, layer in expected.items():
        kept = np.where(np.isnan(mean), np.nan, layer)
        np.testing.assert_allclose(result[f"probabilities-{name}"].values, kept, rtol=0, atol=1e-6)
    spread = np.std(list(expected.values()), axis=0)
    np.testing.assert_allclose(result["probabilities-std"].values, spread, rtol=0, atol=1e-6)
    assert result["probabilities-std"].attrs["units"] == "1"
    alone = ensemble.segment_tile(tile, 16, 5)
    assert set(alone.data_vars) == set(tile.data_vars) | {"probabilities"}
    np.testing.assert_array_equal(alone["probabilities"].values, result["probabilities"].values)


def test_members_may_scale_a_band_differently():
    tile = random_tile((20, 20), bands=("red",))
    narrow = segmenter(PixelNetwork((4.0,), bias=0), ("red",), normalization={"red": (0.0, 0.25)})
    wide = segmenter(PixelNetwork((4.0,), bias=0), ("red",))
    both = EnsembleV1.from_segmenters({"narrow": narrow, "wide": wide}).segment_tile(tile, 16, 2, keep_inputs=True)
    for name, alone in (("narrow", narrow), ("wide", wide)):
        expected = alone.segment_tile(tile, 16, 2)["probabilities"].values
        np.testing.assert_array_equal(both[f"probabilities-{name}"].values, expected)


def test_an_ensemble_of_one_is_that_one():
    tile = random_tile((40, 30), missing=0.1)
    model = segmenter(BlurNetwork(3, 2))
    ensemble = EnsembleV1.from_segmenters({"only": model})
    expected = model.segment_tile(tile, 32, 8)["probabilities"].values
    np.testing.assert_array_equal(ensemble.segment_tile(tile, 32, 8)["probabilities"].values, expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 64.0}, "patch_size is 64.0"),
        ({"patch_size": 64, "overlap": 33}, "at most 32"),
        ({"overlap": -1}, "overlap is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"reflection": -1}, "reflection is -1"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"tta": "d8"}, "tta is 'd8'"),
    ],
)
def test_options_that_cannot_work_are_refused(options, says):
    with pytest.raises(ParameterError, match=says):
        segmenter(PixelNetwork(WEIGHTS)).segment_tile(random_tile((8, 8)), **options)


def test_a_missing_band_is_named():
    with pytest.raises(MissingBandError, match=r"lacks slope.*it has red, ndvi"):
        segmenter(PixelNetwork(WEIGHTS)).segment_tile(random_tile((8, 8)).drop_vars("slope"))


def test_a_band_on_other_dimensions_is_refused():
    tile = random_tile((8, 8))
    tile["slope"] = (("time", "y", "x"), np.zeros((1, 8, 8)))
    with pytest.raises(GridError, match="'slope' has the dimensions"):
        segmenter(PixelNetwork(WEIGHTS)).segment_tile(tile)


def test_a_tile_without_pixels_is_refused():
    with pytest.raises(GridError, match="at least one pixel"):
        segmenter(PixelNetwork(WEIGHTS)).segment_tile(random_tile((8, 8)).isel(y=slice(0)))


def test_a_network_that_returns_nan_is_an_error():
    with pytest.raises(OutputError, match="returned NaN for 4 pixels"):
        segmenter(PixelNetwork(WEIGHTS, bias=float("nan"))).segment_tile(random_tile((2, 2)), 8, 0)


def test_a_network_that_returns_another_shape_is_an_error():
    network = torch.nn.Conv2d(3, 2, 1)
    with pytest.raises(OutputError, match=r"shape \(1, 2, 8, 8\); expected \(1, 1, 8, 8\)"):
        segmenter(network).segment_tile(random_tile((2, 2)), 8, 0)


def test_probabilities_do_not_exceed_one():
    result = segmenter(PixelNetwork((0.0, 0.0, 0.0), bias=50.0)).segment_tile(random_tile((100, 97)), 24, 11)
    assert result["probabilities"].values.max() == 1


def test_what_is_no_ensemble_is_named():
    for wrong in ("model.safetensors", ["model.safetensors"], None):
        for make in (EnsembleV1, EnsembleV1.from_segmenters):
            with pytest.raises(InputTypeError, match=f"Expected models by name, .* the {type(wrong).__name__} "):
                make(wrong)
    with pytest.raises(InputTypeError, match="Expected the path of a model, but got the int 5"):
        EnsembleV1({"v1": 5}, device="cpu")


def test_members_need_names_that_can_be_told_apart():
    model = segmenter(PixelNetwork(WEIGHTS))
    with pytest.raises(ParameterError, match="at least one model"):
        EnsembleV1.from_segmenters({})
    for name in ("", " \t", "std"):
        with pytest.raises(ParameterError, match=f"named {name!r}".replace("\\", "\\\\")):
            EnsembleV1.from_segmenters({name: model})
