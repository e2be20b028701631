"""What an image says of missing data: no-data values, masks and alpha bands, each against the pixels themselves."""

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darts_acquisition import EmptySceneError, SceneReadError, load_planet_masks, load_planet_scene
from support.lanes import cases

NAMES = ("blue", "green", "red", "nir")
SHAPE = (6, 5)


def holes(values, fill):
    """Fill two columns of an image with what stands for no data."""
    values = values.copy()
    values[..., :2] = fill
    return values


def plain(seed=0):
    return np.random.default_rng(seed).integers(300, 3000, (4, *SHAPE)).astype("uint16")


def expect_holes(made, numbers):
    """Two columns are NaN and of quality 0; all else is as it was."""
    scene = load_planet_scene(made.folder)
    for name, band in zip(NAMES, numbers, strict=True):
        values = scene[name].values
        assert np.isnan(values[:, :2]).all()
        np.testing.assert_array_equal(values[:, 2:], (band[:, 2:] / np.float64(10000)).astype("float32"))
    expected = holes(np.full(SHAPE, 2), 0)
    for masks in (load_planet_masks(made.folder, scene), load_planet_masks(made.folder)):
        np.testing.assert_array_equal(masks.quality_data_mask, expected)
        assert masks.attrs == scene.attrs


@pytest.mark.parametrize(("tag", "fill"), [(None, 0), (0, 0), (65535, 65535), (1, 1), (65535, 0), (10_000, 10_000)])
def test_nodata_value_of_the_file_is_no_data(delivery, tag, fill):
    made = delivery().complete()
    made.image(holes(plain(), fill), nodata=tag)
    expect_holes(made, plain())
    assert load_planet_scene(made.folder).attrs.get("planet_nodata") == (tag or None)


def _tag(image, text):
    """Write the no-data value as another program would, whatever the data type of the bands."""
    content = image.read_bytes()
    assert content.count(b"54321\0") == 1
    image.write_bytes(content.replace(b"54321\0", text.ljust(5).encode() + b"\0"))


@pytest.mark.parametrize("text", ["nan", "-9999", "1e+20", "65536", "0.5", "-1"])
def test_nodata_value_that_no_pixel_can_have_says_nothing(delivery, text):
    made = delivery().complete()
    image = made.image(holes(plain(), 0), nodata=54321)
    _tag(image, text[:5])
    with rasterio.open(image) as source:
        assert source.nodata is None or source.nodata != 54321
    expect_holes(made, plain())
    assert "planet_nodata" not in load_planet_scene(made.folder).attrs


def _tag_bands(image, tags):
    """Give bands no-data values of their own, as GDAL keeps them beside the file."""
    bands = "".join(
        f'<PAMRasterBand band="{band}"><NoDataValue>{tag}</NoDataValue></PAMRasterBand>' for band, tag in tags.items()
    )
    image.with_name(image.name + ".aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")


def test_nodata_value_of_some_bands_only_counts_for_these(delivery):
    made = delivery().complete()
    numbers = plain()
    numbers[:, 1, 1] = 65535
    numbers[:, 2, 2] = 500
    _tag_bands(made.image(numbers), {1: 65535, 3: 500})
    scene = load_planet_scene(made.folder)
    assert scene.attrs["planet_nodata"] == [500, 65535]
    expected = (numbers / np.float64(10000)).astype("float32")
    expected[0, 1, 1] = expected[2, 2, 2] = np.nan
    for name, values in zip(NAMES, expected, strict=True):
        np.testing.assert_array_equal(scene[name], values)
    quality = np.full(SHAPE, 2)
    quality[1, 1] = quality[2, 2] = 0
    for masks in (load_planet_masks(made.folder, scene), load_planet_masks(made.folder)):
        np.testing.assert_array_equal(masks.quality_data_mask, quality)


@settings(max_examples=cases(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=hnp.arrays("uint16", (4, *SHAPE), elements=st.sampled_from([0, 0, 700, 900, 65535])),
    tag=st.sampled_from([None, 0, 900, 65535]),
)
def test_nodata_in_any_pattern(delivery_of, numbers, tag):
    made = delivery_of
    made.image(numbers, nodata=tag)
    missing = (numbers == 0) | (False if tag is None else numbers == tag)
    if missing.all():
        with pytest.raises(EmptySceneError, match="all its pixels are 0 or no data"):
            load_planet_scene(made.folder)
        return
    scene = load_planet_scene(made.folder)
    np.testing.assert_array_equal(np.stack([np.isnan(scene[name]) for name in NAMES]), missing)
    invalid = missing.any(axis=0) if tag else missing.all(axis=0)
    for masks in (load_planet_masks(made.folder, scene), load_planet_masks(made.folder)):
        np.testing.assert_array_equal(masks.quality_data_mask, np.where(invalid, 0, 2))


@pytest.fixture
def delivery_of(delivery):
    return delivery().complete()


@pytest.mark.parametrize("inside", [True, False], ids=["in the file", "beside it"])
def test_mask_of_gdal_is_no_data(delivery, inside):
    made = delivery().complete()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
        image = made.image(plain(), valid=holes(np.full(SHAPE, 255, "uint8"), 0))
    assert image.with_name(image.name + ".msk").exists() != inside
    expect_holes(made, plain())


@pytest.mark.parametrize("names", [None, (*NAMES, None)], ids=["without names", "with names"])
@pytest.mark.parametrize("tag", [None, 0])
def test_alpha_band_is_no_data(delivery, names, tag):
    made = delivery().complete()
    alpha = holes(np.full((1, *SHAPE), 65535, "uint16"), 0)
    colours = ("gray", *["undefined"] * 3, "alpha")
    made.image(np.concatenate([plain(), alpha]), names=names, nodata=tag, colours=colours)
    with rasterio.open(made.file("_3B_AnalyticMS_SR.tif")) as source:
        assert source.colorinterp[4].name == "alpha"
    expect_holes(made, plain())


def test_near_infrared_that_a_tool_took_for_alpha_stays_what_it_is_called(delivery):
    made = delivery().complete()
    made.image(holes(plain(), 0), names=NAMES, colours=("red", "green", "blue", "alpha"))
    expect_holes(made, plain())


def test_mask_beside_an_image_that_is_no_tiff_is_an_error(delivery):
    """GDAL would open it with any driver, and a VRT leads to other files or into the network."""
    made = delivery().complete()
    beside = made.file("_3B_AnalyticMS_SR.tif.msk")
    beside.write_text('<VRTDataset rasterXSize="5" rasterYSize="6"></VRTDataset>')
    with pytest.raises(SceneReadError, match=r"_SR\.tif\.msk is no GeoTIFF"):
        load_planet_scene(made.folder)


def test_nodata_value_of_the_mask_is_invalid_where_all_bands_have_it(delivery):
    made = delivery().complete()
    udm = np.zeros((8, *SHAPE), "uint8")
    udm[0] = 1
    udm[6] = 200
    udm[1:7, 3, 3] = 200  # the same number in some bands
    for tag in (0, 200, 3):
        made.mask(holes(udm, tag), nodata=tag)
        quality = holes(np.full(SHAPE, 2), 0)
        quality[3, 3] = 1
        np.testing.assert_array_equal(load_planet_masks(made.folder).quality_data_mask, quality)


def test_mask_of_the_mask_is_invalid(delivery):
    made = delivery().complete()
    made.mask(valid=holes(np.full(SHAPE, 255, "uint8"), 0))
    np.testing.assert_array_equal(load_planet_masks(made.folder).quality_data_mask, holes(np.full(SHAPE, 2), 0))
    alpha = holes(np.full((1, *SHAPE), 255, "uint8"), 0)
    udm = np.zeros((8, *SHAPE), "uint8")
    made.file("_3B_udm2.tif.msk").unlink(missing_ok=True)
    colours = ("gray", *["undefined"] * 7, "alpha")
    made.mask(np.concatenate([udm, alpha]), photometric="minisblack", colours=colours)
    np.testing.assert_array_equal(load_planet_masks(made.folder).quality_data_mask, holes(np.full(SHAPE, 2), 0))
    assert load_planet_masks(made.folder).sizes["udm_band"] == 8


def test_an_image_that_its_mask_hides_is_empty(delivery):
    made = delivery().complete()
    made.image(plain(), valid=np.zeros(SHAPE, "uint8"))
    with pytest.raises(EmptySceneError, match="all its pixels are 0 or no data"):
        load_planet_scene(made.folder)
