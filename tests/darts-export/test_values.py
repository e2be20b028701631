"""Values that an export would write as something else are refused; what means the same gives the same files."""

import re
import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from darts_export import export_tile
from darts_utils import ParameterError, ValueRangeError

CLASSES = ["binarized", "polygonized"]


def written(folder):
    with rasterio.open(folder / "binarized.tif") as raster:
        return raster.read(1), gpd.read_parquet(folder / "prediction_segments.parquet").npixel.to_numpy()


@pytest.fixture(scope="module")
def plain(make_tile, tmp_path_factory):
    """The tile, and what an export writes of it."""
    tile = make_tile((60, 70), models=("a",))
    folder = tmp_path_factory.mktemp("values") / "tile"
    summary = export_tile(tile, folder, bands=CLASSES)["summary"]
    return tile, (*written(folder), summary)


@pytest.mark.parametrize("name", ["binarized_segmentation", "binarized_segmentation-a", "extent"])
@pytest.mark.parametrize(("factor", "dtype"), [(255, "uint8"), (2, "uint8"), (-1, "int16"), (0.5, "float32")])
def test_a_mask_of_other_numbers_than_0_and_1_is_refused(plain, tmp_path, name, factor, dtype):
    tile = plain[0].assign({name: (plain[0][name].astype("float32") * factor).astype(dtype)})
    with pytest.raises(ValueRangeError, match=rf"^{name} holds the values .*{factor:g}\b.*{dtype}.*; expected 0 and 1"):
        export_tile(tile, tmp_path / "tile", bands=CLASSES, ensemble_subsets=["a"])
    assert not (tmp_path / "tile").exists()


def test_a_single_wrong_pixel_counts(plain, tmp_path):
    tile = plain[0].copy(deep=True)
    tile["binarized_segmentation"] = tile["binarized_segmentation"].astype("uint8")
    tile["binarized_segmentation"][17, 31] = 3
    with pytest.raises(ValueRangeError, match="0, 1, 3"):
        export_tile(tile, tmp_path / "tile", bands=CLASSES)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_a_mask_of_0_and_1_gives_the_same_in_every_type(plain, tmp_path, dtype):
    tile, (classes, pixels, summary) = plain
    names = ("binarized_segmentation", "extent")
    given = tile.assign({name: tile[name].astype(dtype).assign_attrs(_FillValue=0) for name in names})
    assert export_tile(given, tmp_path / "tile", bands=CLASSES)["summary"] == summary
    for ours, expected in zip(written(tmp_path / "tile"), (classes, pixels), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("declared", [False, True])
def test_what_a_mask_does_not_know_was_not_seen(plain, tmp_path, declared):
    tile, (classes, pixels, summary) = plain
    given = tile.copy(deep=True)
    objects = given["binarized_segmentation"]
    unknown = (np.random.default_rng(1).random(objects.shape) < 0.3) & ~objects.values
    if declared:  # as binarized.tif is read without masked=True
        objects = objects.astype("uint8").where(~unknown, np.uint8(255)).assign_attrs(_FillValue=255)
    else:
        objects = objects.astype("float32").where(~unknown)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        shares = export_tile(given.assign(binarized_segmentation=objects), tmp_path / "tile", bands=CLASSES)["summary"]
    ours, sizes = written(tmp_path / "tile")
    np.testing.assert_array_equal(ours, np.where(unknown, 255, classes))
    np.testing.assert_array_equal(sizes, pixels)
    assert shares == summary


@pytest.mark.parametrize(("factor", "advice"), [(10_000, "`/ 10000`"), (100, "`/ 100`")])
@pytest.mark.parametrize("name", ["red", "nir"])
def test_reflectance_in_another_unit_is_refused(make_tile, tmp_path, name, factor, advice):
    tile = make_tile((20, 30))
    with pytest.raises(ValueRangeError, match=rf"{name!r} .*{re.escape(advice)}"):
        export_tile(tile.assign({name: tile[name] * factor}), tmp_path / "tile", bands=["optical"])


def test_a_quality_that_is_none_is_refused(plain, tmp_path):
    quality = plain[0]["extent"].copy(data=np.full(plain[0].extent.shape, 255, np.uint8))
    with pytest.raises(ValueRangeError, match="quality_data_mask has values from 255 to 255"):
        export_tile(plain[0].assign(quality_data_mask=quality), tmp_path / "tile", bands=CLASSES)


def test_percent_are_no_probabilities_of_objects(plain, tmp_path):
    with pytest.raises(ParameterError, match="expected probabilities in 0…1"):
        export_tile(plain[0].assign(probabilities=plain[0].probabilities * 100), tmp_path / "tile", ["polygonized"])
