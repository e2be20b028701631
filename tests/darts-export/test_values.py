"""Values that an export would write as something else are refused; what means the same gives the same files."""

import re
import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from darts_export import export_tile
from darts_utils import GridError, ParameterError, ValueRangeError

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


DECLARED = {"red": -9999, "slope": -9999, "ndvi": -32768, "probabilities": -1, "quality_data_mask": 255}


@pytest.mark.parametrize("kept_in", ["attrs", "encoding"])
@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_to_be_no_data_counts_nowhere(plain, tmp_path, name, kept_in):
    tile = plain[0].assign(ndvi=plain[0].red * 2, quality_data_mask=plain[0].extent * 2)
    tile = tile.assign({name: tile[name].where(np.random.default_rng(2).random(tile.red.shape) < 0.7)})
    stored = tile.assign({name: tile[name].fillna(DECLARED[name])})
    getattr(stored[name], kept_in)["_FillValue"] = DECLARED[name]
    bands = ["probabilities", *CLASSES, "thumbnail", "optical", "dem", "ndvi"]
    files = [export_tile(each, tmp_path / "tile", bands=bands)["files"] for each in (tile, stored)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("slope", lambda band: band.where(band < 45, -9999), "-9999 in .* of the pixels"),
        ("slope", lambda band: band.assign_attrs(units="radians"), "multiply it by 57.29577951"),
        ("slope", lambda band: band * 100, "divide the band by 100 first"),
        ("slope", lambda band: band.assign_attrs(scale_factor=0.1), r"as they are stored.* \* 0\.1 "),
        ("red", lambda band: band.assign_attrs(add_offset=-0.1), r"as they are stored.* \+ -0\.1\)"),
        ("probabilities", lambda band: (band / 100).assign_attrs(units="%"), "is in '%'.*multiply it by 0.01"),
    ],
)
def test_what_a_figure_would_be_wrong_of_is_refused(plain, tmp_path, name, change, says):
    tile = plain[0].assign({name: change(plain[0][name])})
    with pytest.raises(ValueRangeError, match=f"Band '{name}' .*{says}"):
        export_tile(tile, tmp_path / "tile", bands=[*CLASSES, "optical"])


@pytest.mark.parametrize("name", ["slope", "relative_elevation", "ndvi"])
@pytest.mark.parametrize("value", [-9999, -32768, np.inf, 3.4e38])
def test_a_single_mark_in_what_means_are_made_of_is_refused(plain, tmp_path, name, value):
    tile = plain[0].assign(ndvi=plain[0].red * 2).copy(deep=True)
    tile[name][5, 5] = np.nan
    tile[name][31, 17] = value
    with pytest.raises(ValueRangeError, match=f"{name} reaches from .*; if this marks missing ones") as error:
        export_tile(tile, tmp_path / "tile", bands=CLASSES)
    known = eval(str(error.value).split("`")[1], {"band": tile[name]})
    export_tile(tile.assign({name: known}), tmp_path / "tile", bands=CLASSES)


def test_a_mask_that_xarray_made_objects_of_is_a_mask(plain, tmp_path):
    tile, (classes, *_) = plain
    seen = tile.red > 0.1
    objects = tile.binarized_segmentation.astype(object).where(seen)
    export_tile(tile.assign(binarized_segmentation=objects), tmp_path / "tile", bands=CLASSES)
    np.testing.assert_array_equal(written(tmp_path / "tile")[0], np.where(seen, classes, 255))
    with pytest.raises(ValueRangeError, match=r"has the type .*; expected 0 and 1, or True and False"):
        export_tile(tile.assign(extent=tile.extent.astype(str)), tmp_path / "tile", bands=CLASSES)


def test_a_grid_with_gaps_is_refused(plain, tmp_path):
    gaps = plain[0].isel(x=[*range(9), *range(12, 70)])
    with pytest.raises(GridError, match="The tile has unevenly spaced coordinates x"):
        export_tile(gaps, tmp_path / "tile", bands=CLASSES)


@pytest.mark.parametrize(
    ("attrs", "nodata"),
    [
        ({"missing_value": -9999}, -9999),
        ({"nodata": np.array([-9999], np.int16)}, -9999),
        ({"_FillValue": 1e20, "missing_value": -9999}, -9999),
        ({"_FillValue": float("nan"), "nodata": "none"}, None),
    ],
)
def test_what_a_variable_declares_to_be_none_is_none_of_the_raster(make_tile, tmp_path, attrs, nodata):
    """However it is written down; what the type cannot hold marks nothing."""
    tile = make_tile()
    values = np.random.default_rng(5).integers(0, 100, tile["red"].shape).astype("int16")
    values[:4] = -9999
    tile["mine"] = tile["red"].copy(data=values).assign_attrs(attrs)
    export_tile(tile, tmp_path / "tile", ["mine"])
    with rasterio.open(tmp_path / "tile/mine.tif") as raster:
        assert raster.nodata == nodata
        if nodata is not None:
            assert raster.read(1, masked=True).mean() == pytest.approx(values[4:].mean())
            assert float(raster.tags(1)["STATISTICS_MINIMUM"]) >= 0
