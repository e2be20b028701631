"""The public functions around the kernels: grids, attributes, kinds of input, mistakes."""

import numpy as np
import pytest
import xarray as xr

from darts_postprocessing import binarize, erode_mask
from darts_utils import GridError, ParameterError, Stopwatch
from support.postprocessing import binarize_plainly, erode_plainly, make_scene


def on_grid(values, dims=("y", "x"), **attrs):
    """Put an image on a projected north-up grid of 3 m."""
    array = xr.DataArray(
        values,
        dims=("y", "x"),
        coords={
            "y": 7_000_000 - 3.0 * np.arange(values.shape[0]) - 1.5,
            "x": 500_000 + 3.0 * np.arange(values.shape[1]) + 1.5,
            "spatial_ref": ((), 32613, {"crs_wkt": "EPSG:32613"}),
        },
        attrs=attrs,
        name="layer",
    ).transpose(*dims)
    array.encoding = {"grid_mapping": "spatial_ref", "dtype": "float32", "_FillValue": -1.0}
    return array


@pytest.fixture(scope="module")
def scene():
    probs, quality = make_scene(150, 40)
    return on_grid(probs, units="1"), on_grid(quality, long_name="quality", note="kept")


@pytest.mark.parametrize("dims", [("y", "x"), ("x", "y")])
@pytest.mark.parametrize("edge_size", [None, 0, 3, 1000])
def test_erode_mask(scene, dims, edge_size):
    mask = scene[1].transpose(*dims)
    before = mask.copy(deep=True)
    eroded = erode_mask(mask, 5, "cpu", edge_size)
    expected = erode_plainly(scene[1].values, 5, 5 if edge_size is None else edge_size)
    assert eroded.dims == dims
    assert eroded.dtype == np.uint8
    np.testing.assert_array_equal(eroded.transpose("y", "x").values, expected)
    assert eroded.attrs == {"long_name": "quality", "note": "kept"}
    assert eroded.name == "layer"
    xr.testing.assert_identical(eroded.coords.to_dataset(), mask.coords.to_dataset())
    assert eroded.encoding == {"grid_mapping": "spatial_ref"}
    xr.testing.assert_identical(mask, before)
    assert mask.values.tobytes() == before.values.tobytes()
    assert mask.encoding["_FillValue"] == -1


@pytest.mark.parametrize("dtype", [bool, "uint8", "int16", "float32", "float64"])
def test_a_mask_is_usable_where_above_0(scene, dtype):
    usable = scene[1].values > 0
    mask = np.where(usable, 1, -1 if dtype in ("int16", "float64") else 0).astype(dtype)
    if dtype == "float32":
        mask[~usable] = np.nan
    np.testing.assert_array_equal(erode_mask(on_grid(mask), 4, "cpu").values, erode_plainly(usable, 4, 4))
    probs = scene[0]
    np.testing.assert_array_equal(
        binarize(probs, 0.5, 12, on_grid(mask), "cpu").values, binarize_plainly(probs.values, 0.5, 12, usable)
    )


@pytest.mark.parametrize("probs_dims", [("y", "x"), ("x", "y")])
@pytest.mark.parametrize("mask_dims", [("y", "x"), ("x", "y")])
def test_binarize(scene, probs_dims, mask_dims):
    probs, mask = scene[0][:, :100].transpose(*probs_dims), scene[1][:, :100].transpose(*mask_dims)
    before = probs.values.tobytes(), mask.values.tobytes()
    objects = binarize(probs, 0.5, 12, mask, "cpu")
    expected = binarize_plainly(scene[0].values[:, :100], 0.5, 12, scene[1].values[:, :100])
    assert 0 < expected.sum() < (scene[0].values > 0.5).sum()
    assert objects.dims == probs_dims
    assert objects.dtype == bool
    np.testing.assert_array_equal(objects.transpose("y", "x").values, expected)
    assert objects.attrs == {"long_name": "thaw slump"}
    xr.testing.assert_identical(objects.coords.to_dataset(), probs.coords.to_dataset())
    assert (probs.values.tobytes(), mask.values.tobytes()) == before
    assert probs.attrs == {"units": "1"}


def test_the_threshold_itself_is_no_object(scene):
    """In the precision of the probabilities, as people who write 0.7 mean it."""
    probs = on_grid(np.full((3, 3), 0.7, np.float32))
    probs[1, 1] = np.nextafter(np.float32(0.7), np.float32(1))
    everywhere = xr.ones_like(probs)
    assert binarize(probs, 0.7, 1, everywhere, "cpu").sum() == 1
    assert binarize(probs, np.float64(0.7), 1, everywhere, "cpu").sum() == 1


def test_dask_backed_input(scene):
    pytest.importorskip("dask.array", reason="dask is not installed")
    probs, mask = (array.chunk({"y": 40, "x": 70}) for array in scene)
    eroded, objects = erode_mask(mask, 5, "cpu"), binarize(probs, 0.5, 12, mask, "cpu")
    np.testing.assert_array_equal(eroded.values, erode_plainly(scene[1].values, 5, 5))
    np.testing.assert_array_equal(objects.values, binarize_plainly(scene[0].values, 0.5, 12, scene[1].values))
    assert isinstance(eroded.data, np.ndarray)
    assert isinstance(objects.data, np.ndarray)
    assert probs.chunks is not None
    assert mask.chunks is not None


def test_arrays_without_coordinates_or_crs():
    mask = xr.DataArray(np.ones((4, 5), bool), dims=("row", "col"))
    xr.testing.assert_identical(erode_mask(mask, 1, "cpu", 0), mask.astype("uint8"))


def test_a_grid_that_was_computed_twice_may_be_rounded(scene):
    probs, mask = scene
    shifted = mask.assign_coords(x=mask.x + 1e-6)
    xr.testing.assert_identical(binarize(probs, 0.5, 12, shifted, "cpu"), binarize(probs, 0.5, 12, mask, "cpu"))


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask[:-1],
        lambda mask: mask.rename(y="northing"),
        lambda mask: mask.assign_coords(x=mask.x + 3),
        lambda mask: mask[::-1],
    ],
    ids=["size", "names", "shifted by a pixel", "upside down"],
)
def test_another_grid_is_an_error(scene, change):
    with pytest.raises(GridError, match="expected the same grid"):
        binarize(scene[0], 0.5, 12, change(scene[1]), "cpu")


def test_one_pixel_elsewhere_is_another_grid(scene):
    probs, mask = scene[0][:1, :1], scene[1][5:6, :1]
    with pytest.raises(GridError, match="coordinate 'y'"):
        binarize(probs, 0.5, 1, mask, "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": -1}, "size is -1; expected 0 pixels or more"),
        ({"size": 2.5}, "size is 2.5; expected a whole number of pixels"),
        ({"size": 1, "edge_size": -2}, "edge_size is -2; expected 0 pixels or more"),
        ({"size": 1, "device": "gpu"}, "device is 'gpu'"),
    ],
)
def test_mistakes_in_erode_mask(scene, arguments, message):
    with pytest.raises(ParameterError, match=message):
        erode_mask(scene[1], **arguments)


@pytest.mark.parametrize(
    ("threshold", "size", "message"),
    [
        (-0.1, 1, "threshold is -0.1; expected 0 to 1"),
        (50, 1, "threshold is 50.0; expected 0 to 1"),
        (float("nan"), 1, "threshold is nan"),
        ("high", 1, "threshold is 'high'; expected a number"),
        (0.5, -3, "min_object_size is -3"),
    ],
)
def test_mistakes_in_binarize(scene, threshold, size, message):
    with pytest.raises(ParameterError, match=message):
        binarize(scene[0], threshold, size, scene[1], "cpu")


def test_layers_and_text_are_no_images(scene):
    probs, mask = scene
    with pytest.raises(
        ParameterError,
        match=r"layer has the dimensions \('band', 'y', 'x'\); expected two, .*; take one of 'band' first",
    ):
        erode_mask(mask.expand_dims(band=2), 1, "cpu")
    with pytest.raises(ParameterError, match="expected two"):
        binarize(probs, 0.5, 1, mask.expand_dims(band=2), "cpu")
    with pytest.raises(ParameterError, match="expected bool, integer or float"):
        erode_mask(mask.astype(str), 1, "cpu")
    with pytest.raises(ParameterError, match="expected bool, integer or float"):
        binarize(probs.astype(complex), 0.5, 1, mask, "cpu")


def test_steps_are_timed(scene):
    watch = Stopwatch()
    with watch.recording():
        binarize(scene[0], 0.5, 1, erode_mask(scene[1], 1, "cpu"), "cpu")
    assert list(watch.seconds) == ["erode mask", "find objects"]
