"""``prepare_export`` against the same rules, written plainly."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from darts_postprocessing import prepare_export
from darts_utils import MissingBandError, ParameterError, Stopwatch, ValueRangeError
from support.postprocessing import binarize_plainly, erode_plainly, make_scene


def make_tile(size=150, objects=40, seed=0, subsets=("a",)):
    probs, quality = make_scene(size, objects, seed)
    tile = xr.Dataset(
        {
            "quality_data_mask": (("y", "x"), quality, {"long_name": "quality"}),
            "probabilities": (("y", "x"), probs, {"long_name": "probability", "source": "ensemble"}),
            "red": (("y", "x"), probs + 1),
            "planet_udm": (("udm_band", "y", "x"), np.stack([quality] * 8)),
        },
        coords={
            "y": 7_000_000 - 3.0 * np.arange(size) - 1.5,
            "x": 500_000 + 3.0 * np.arange(size) + 1.5,
            "spatial_ref": ((), 32613, {"crs_wkt": "EPSG:32613"}),
        },
        attrs={"tile_id": "t1"},
    )
    for number, subset in enumerate(subsets, 1):
        tile[f"probabilities-{subset}"] = ("y", "x"), np.roll(probs, 7 * number, axis=1), {"source": subset}
    for name in tile.data_vars:
        tile[name].encoding["grid_mapping"] = "spatial_ref"
    return tile


def prepare_plainly(tile, threshold, erosion, size, level, subsets, edge, edge_objects):
    """Return the arrays that prepare_export shall add."""
    mask = tile["quality_data_mask"].values >= level
    if level > 0:
        mask = erode_plainly(mask, erosion, erosion if edge is None else edge) > 0
    out = {"extent": mask.astype(np.uint8)}
    for suffix in ["", *(f"-{subset}" for subset in subsets)]:
        probs = tile[f"probabilities{suffix}"].values
        masked = np.where(mask, probs, np.float32("nan"))
        out[f"probabilities{suffix}"] = masked
        out[f"binarized_segmentation{suffix}"] = binarize_plainly(
            masked if edge_objects == "clip" else probs, threshold, size, mask
        )
    return out


@given(
    seed=st.integers(0, 100),
    threshold=st.sampled_from([0.3, 0.5, 0.9]),
    erosion=st.integers(0, 12),
    size=st.integers(0, 40),
    level=st.sampled_from([(0, 0), ("none", 0), (1, 1), ("low_quality", 1), (2, 2), ("high_quality", 2)]),
    subsets=st.sampled_from([(), ["a"], ("b", "a")]),
    edge=st.sampled_from([None, 0, 3]),
    edge_objects=st.sampled_from(["clip", "remove"]),
)
def test_everything_that_is_added(seed, threshold, erosion, size, level, subsets, edge, edge_objects):
    tile = make_tile(90, 16, seed, subsets)
    before = tile.copy(deep=True)
    result = prepare_export(tile, threshold, erosion, size, level[0], subsets, "cpu", edge, edge_objects)
    expected = prepare_plainly(tile, threshold, erosion, size, level[1], subsets, edge, edge_objects)
    assert set(result.data_vars) == set(tile.data_vars) | set(expected)
    for name, values in expected.items():
        assert result[name].dtype == values.dtype
        np.testing.assert_array_equal(result[name].values, values, err_msg=name)
    for name in set(tile.data_vars) - set(expected):
        xr.testing.assert_identical(result[name], tile[name])
    xr.testing.assert_identical(tile, before)
    for name in tile.variables:
        assert tile[name].values.tobytes() == before[name].values.tobytes()


@pytest.mark.parametrize("edge_objects", ["clip", "remove"])
def test_other_classes_are_masked_and_become_no_objects(edge_objects):
    tile = make_tile(90, 16)
    name = "probabilities_active-layer-detachment"
    tile[name] = 1 - tile["probabilities"]
    result = prepare_export(tile, 0.5, 3, 4, 1, ["a"], "cpu", edge_objects=edge_objects)
    without = prepare_export(tile.drop_vars(name), 0.5, 3, 4, 1, ["a"], "cpu", edge_objects=edge_objects)
    xr.testing.assert_identical(result.drop_vars(name), without)
    inside = result["extent"].values == 1
    assert 0 < inside.sum() < inside.size
    expected = np.where(inside, tile[name].values, np.float32("nan"))
    np.testing.assert_array_equal(result[name].values, expected)
    assert result[name].attrs == tile[name].attrs
    with pytest.raises(ValueRangeError, match=name):
        prepare_export(tile.assign({name: 100 * tile[name]}))


def test_attributes_coordinates_and_crs_are_kept():
    tile = make_tile()
    result = prepare_export(tile, quality_level=1, ensemble_subsets=["a"], device="cpu")
    assert result.attrs == {"tile_id": "t1"}
    xr.testing.assert_identical(result.coords.to_dataset(), tile.coords.to_dataset())
    assert result["extent"].attrs == {"long_name": "reliable results (1) or none (0)"}
    assert result["probabilities"].attrs == {"long_name": "probability", "source": "ensemble"}
    assert result["probabilities-a"].attrs == {"source": "a"}
    assert result["binarized_segmentation"].attrs == {"long_name": "thaw slump"}
    assert result["binarized_segmentation-a"].attrs == {"long_name": "thaw slump"}
    for name in ("extent", "probabilities", "binarized_segmentation-a"):
        assert result[name].dims == ("y", "x")
        assert result[name].encoding["grid_mapping"] == "spatial_ref"


def test_the_grid_is_readable_afterwards():
    odc = pytest.importorskip("odc.geo.xr", reason="odc-geo is not installed")
    from odc.geo.geobox import GeoBox

    geobox = GeoBox.from_bbox((500_000, 7_000_000, 500_090, 7_000_060), crs="EPSG:32613", resolution=3)
    probs = odc.wrap_xr(np.zeros(geobox.shape, np.float32), geobox)
    tile = xr.Dataset({"probabilities": probs, "quality_data_mask": odc.wrap_xr(np.ones(geobox.shape, "u1"), geobox)})
    result = prepare_export(tile, quality_level=1, device="cpu")
    assert result.odc.geobox == geobox
    for name in ("extent", "probabilities", "binarized_segmentation"):
        assert result[name].odc.geobox == geobox


def test_dimensions_in_any_order():
    tile = make_tile()
    turned = tile.copy()
    turned["probabilities"] = tile["probabilities"].transpose("x", "y")
    expected = prepare_export(tile, quality_level=1, device="cpu")
    result = prepare_export(turned, quality_level=1, device="cpu")
    assert result["probabilities"].dims == result["binarized_segmentation"].dims == ("x", "y")
    xr.testing.assert_identical(result.transpose("udm_band", "y", "x"), expected)


def test_dask_backed_tile():
    pytest.importorskip("dask.array", reason="dask is not installed")
    tile = make_tile()
    chunked = tile.chunk({"y": 64, "x": 50})
    result = prepare_export(chunked, quality_level=1, ensemble_subsets=["a"], device="cpu")
    xr.testing.assert_identical(
        result.compute(), prepare_export(tile, quality_level=1, ensemble_subsets=["a"], device="cpu")
    )
    assert result["red"].chunks is not None
    assert chunked["probabilities"].chunks is not None


def edge_tile(quality, probs):
    return xr.Dataset(
        {
            "quality_data_mask": (("y", "x"), np.array([quality], "u1")),
            "probabilities": (("y", "x"), np.array([probs], "f4")),
        }
    )


@pytest.mark.parametrize(
    ("edge_objects", "size", "expected"),
    [
        ("clip", 1, [1, 1, 1, 0, 0, 1, 1, 0, 1]),
        ("clip", 3, [1, 1, 1, 0, 0, 0, 0, 0, 0]),  # the size of what is left counts
        ("remove", 1, [0, 0, 0, 0, 0, 1, 1, 0, 1]),
    ],
)
def test_objects_at_the_border_of_the_extent(edge_objects, size, expected):
    """One object reaches out; one ends just inside, beside the invalid area; one lies at the edge of the raster."""
    tile = edge_tile([2, 2, 2, 0, 0, 2, 2, 2, 2], [0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.1, 0.9])
    result = prepare_export(tile, 0.5, 0, size, 1, device="cpu", edge_objects=edge_objects)
    assert result["binarized_segmentation"].values.astype(int).tolist() == [expected]


def test_a_cut_can_divide_an_object():
    tile = edge_tile([2, 2, 0, 2, 2, 2], [0.9] * 6)
    result = prepare_export(tile, 0.5, 0, 3, 1, device="cpu")
    assert result["binarized_segmentation"].values.astype(int).tolist() == [[0, 0, 0, 1, 1, 1]]


@pytest.mark.parametrize("edge_objects", ["clip", "remove"])
def test_level_0_has_no_outside(edge_objects):
    """Neither invalid pixels nor the edge of the raster cut or remove anything; nothing is eroded."""
    tile = edge_tile([0, 2, 2, 0], [0.9, 0.9, 0.1, 0.9])
    result = prepare_export(tile, 0.5, 10, 1, 0, device="cpu", edge_erosion_size=1, edge_objects=edge_objects)
    assert result["extent"].values.tolist() == [[1, 1, 1, 1]]
    np.testing.assert_array_equal(result["probabilities"].values, tile["probabilities"].values)
    assert result["binarized_segmentation"].values.astype(int).tolist() == [[1, 1, 0, 1]]


def test_defaults():
    tile = make_tile()
    expected = prepare_plainly(tile, 0.5, 10, 32, 0, (), None, "clip")
    result = prepare_export(tile)
    for name, values in expected.items():
        np.testing.assert_array_equal(result[name].values, values)


def test_results_are_new_arrays():
    tile = make_tile()
    result = prepare_export(tile, device="cpu")
    for name in ("extent", "probabilities", "binarized_segmentation"):
        for source in tile.variables:
            assert not np.shares_memory(result[name].values, tile[source].values)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_precision_of_probabilities_is_kept(dtype):
    tile = make_tile()
    tile["probabilities"] = tile["probabilities"].astype(dtype)
    result = prepare_export(tile, quality_level=1, device="cpu")
    assert result["probabilities"].dtype == dtype
    expected = prepare_plainly(tile, 0.5, 10, 32, 1, (), None, "clip")
    np.testing.assert_array_equal(result["binarized_segmentation"].values, expected["binarized_segmentation"])


def test_missing_variables():
    tile = make_tile(subsets=())
    with pytest.raises(MissingBandError, match="no variable 'probabilities-b'; it has quality_data_mask, prob"):
        prepare_export(tile, ensemble_subsets=["b"])
    with pytest.raises(MissingBandError, match="no variable 'quality_data_mask'"):
        prepare_export(tile.drop_vars("quality_data_mask"))
    with pytest.raises(KeyError):
        prepare_export(tile.drop_vars("probabilities"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality_level": 3}, "quality_level is 3; expected one of 0, 1, 2, 'none', 'low_quality', 'high_quality'"),
        ({"quality_level": "high"}, "quality_level is 'high'"),
        ({"quality_level": [1]}, r"quality_level is \[1\]"),
        ({"edge_objects": "cut"}, "edge_objects is 'cut'; expected 'clip' or 'remove'"),
        ({"bin_threshold": 50}, "bin_threshold is 50.0; expected 0 to 1"),
        ({"mask_erosion_size": -1}, "mask_erosion_size is -1"),
        ({"edge_erosion_size": 0.5}, "edge_erosion_size is 0.5"),
        ({"min_object_size": None}, "min_object_size is None"),
        ({"ensemble_subsets": "tcvis"}, "ensemble_subsets is the string 'tcvis'"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_mistakes_are_found_before_any_work(arguments, message):
    with pytest.raises(ParameterError, match=message):
        prepare_export(make_tile(20, 1), **arguments)


def test_probabilities_must_be_float_images():
    tile = make_tile(20, 1)
    with pytest.raises(ParameterError, match="probabilities has dtype bool; expected float"):
        prepare_export(tile.assign(probabilities=tile["quality_data_mask"] > 1))
    with pytest.raises(ParameterError, match=r"probabilities has the dimensions \('model', 'y', 'x'\)"):
        prepare_export(tile.assign(probabilities=tile["probabilities"].expand_dims(model=2)))
    with pytest.raises(ParameterError, match="quality_data_mask has the dimensions"):
        prepare_export(tile.assign(quality_data_mask=tile["planet_udm"]))


def test_steps_are_timed():
    watch = Stopwatch()
    with watch.recording():
        prepare_export(make_tile(), device="cpu")
    assert list(watch.seconds) == ["erode mask", "mask probabilities", "find objects"]
