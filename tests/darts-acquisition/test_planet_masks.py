"""The usable data mask: quality against a slow oracle that reads the specification pixel by pixel."""

import math

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darts_acquisition import (
    SceneError,
    SceneGridError,
    SceneNotFoundError,
    SceneReadError,
    check_planet_scene,
    load_planet_masks,
    load_planet_scene,
)
from darts_utils import GridError, MissingBandError
from support.lanes import cases

SCENE = "20210821_210019_08_2405"


def quality_of(udm, numbers=None):
    """Return the quality of each pixel as the specification words it, one bit after the other."""
    _, height, width = udm.shape
    quality = np.empty((height, width), "uint8")
    for row in range(height):
        for col in range(width):
            bands = [int(value) for value in udm[:, row, col]]
            bits = [bands[7] >> bit & 1 for bit in range(8)]
            empty = numbers is not None and all(int(value) == 0 for value in numbers[:, row, col])
            if bits[0] or any(bits[2:]) or empty:
                quality[row, col] = 0
            elif any(bands[1:6]) or bits[1]:
                quality[row, col] = 1
            else:
                quality[row, col] = 2
    return quality


def test_real_mask_with_haze_and_outside(shared_data):
    masks = load_planet_masks(shared_data / "planet_udm2")
    udm, quality = masks.planet_udm.values, masks.quality_data_mask.values
    assert udm.shape == (8, 1352, 1578)
    assert udm.dtype == quality.dtype == np.uint8
    assert (masks.attrs["azimuth"], masks.attrs["elevation"]) == (132.8, 39.4)
    assert masks.attrs["time"] == "2015-11-19T02:57:40.314191Z"
    assert masks.attrs["planet_item_id"] == "20151119_025740_0c74"
    assert masks.attrs["tile_id"] == "planet_udm2"
    outside, haze = udm[7] == 1, udm[3] == 1
    assert (outside.sum(), haze.sum()) == (37381, 11930)
    assert set(np.unique(quality[outside])) == {0}
    assert set(np.unique(quality[haze])) == {1}
    assert set(np.unique(quality[~outside & ~haze])) == {2}
    assert masks.odc.geobox.crs.epsg == 32646
    assert masks.odc.geobox.resolution.x == 3
    np.testing.assert_array_equal(masks.udm_band, np.arange(1, 9))
    corner = (slice(0, 200), slice(0, 200))
    np.testing.assert_array_equal(quality[corner], quality_of(udm[:, *corner]))


def test_real_scene_and_mask_share_one_grid(shared_data):
    folder = shared_data / "peel/planet_layout/scenes" / SCENE
    scene = load_planet_scene(folder)
    masks = load_planet_masks(folder, scene)
    assert masks.identical(load_planet_masks(folder))
    tile = scene.assign(masks.data_vars)
    assert tile.odc.geobox == scene.odc.geobox == masks.odc.geobox
    assert tile.identical(xr.merge([scene, masks], join="exact", compat="identical"))
    empty = np.stack([np.isnan(scene[name]) for name in ("blue", "green", "red", "nir")]).all(axis=0)
    np.testing.assert_array_equal(tile.quality_data_mask, np.where(empty, 0, 2))


def test_every_combination_of_bands_and_bits(delivery):
    made = delivery(shape=(64, 256))
    rows, flags = np.mgrid[:64, :256]
    udm = np.stack([rows % 2, *(rows >> bit & 1 for bit in range(1, 6)), rows, flags]).astype("uint8")
    made.mask(udm)
    np.testing.assert_array_equal(load_planet_masks(made.folder).quality_data_mask, quality_of(udm))


SHAPE = (4, 3)


@settings(max_examples=cases(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    udm=hnp.arrays("uint8", (8, *SHAPE), elements=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 128, 255])),
    numbers=hnp.arrays("uint16", (4, *SHAPE), elements=st.sampled_from([0, 0, 1, 700])).filter(np.any),
)
def test_quality_equals_the_specification(delivery_of, udm, numbers):
    made = delivery_of
    made.mask(udm)
    made.image(numbers)
    made.metadata()
    expected = quality_of(udm, numbers)
    masks = load_planet_masks(made.folder)
    np.testing.assert_array_equal(masks.quality_data_mask, expected)
    np.testing.assert_array_equal(masks.planet_udm, udm)
    assert masks.identical(load_planet_masks(made.folder, load_planet_scene(made.folder)))


@pytest.fixture
def delivery_of(delivery):
    return delivery(shape=SHAPE)


def test_given_scene_is_not_read_again(delivery):
    made = delivery().complete()
    numbers = np.ones((4, 6, 5), "uint16")
    numbers[:, 2, 3] = 0
    numbers[:3, 1, 1] = 0  # one band is there: not empty
    made.image(numbers)
    scene = load_planet_scene(made.folder)
    before = scene.copy(deep=True)
    made.file("_3B_AnalyticMS_SR.tif").unlink()
    made.file("_metadata.json").unlink()
    masks = load_planet_masks(made.folder, scene)
    assert masks.attrs == scene.attrs
    assert scene.identical(before)
    expected = np.full((6, 5), 2)
    expected[2, 3] = 0
    np.testing.assert_array_equal(masks.quality_data_mask, expected)


def test_mask_alone_loads_under_any_name(delivery):
    made = delivery("some_folder")
    made.mask(ending="_3B_udm2_clip.tif")
    masks = load_planet_masks(made.folder)
    assert masks.attrs["tile_id"] == "some_folder"
    assert math.isnan(masks.attrs["azimuth"])
    assert math.isnan(masks.attrs["elevation"])
    assert (masks.quality_data_mask == 2).all()
    assert masks.quality_data_mask.attrs["data_source"] == "PlanetScope"


def test_mask_of_a_scene_has_its_attributes(delivery):
    made = delivery().complete()
    assert load_planet_masks(made.folder).attrs == load_planet_scene(made.folder).attrs


def test_last_digits_of_the_grids_do_not_matter(delivery):
    made = delivery().complete()
    made.mask(transform=Affine(3, 0, 500_001 + 1e-7, 0, -3, 7_600_002))
    scene = load_planet_scene(made.folder)
    for masks in (load_planet_masks(made.folder), load_planet_masks(made.folder, scene)):
        np.testing.assert_array_equal(masks.x, scene.x)
        assert scene.assign(masks.data_vars).sizes["x"] == 5


OTHER_GRIDS = {
    "shifted": {"transform": Affine(3, 0, 500_004, 0, -3, 7_600_002)},
    "shifted by a tenth of a pixel": {"transform": Affine(3, 0, 500_001.3, 0, -3, 7_600_002)},
    "larger pixels": {"transform": Affine(3.01, 0, 500_001, 0, -3.01, 7_600_002)},
    "another zone": {"crs": "EPSG:32609"},
    "another shape": {"values": np.zeros((8, 6, 6), "uint8")},
}


@pytest.mark.parametrize("other", OTHER_GRIDS)
@pytest.mark.parametrize("given_scene", [True, False])
def test_mask_on_another_grid_is_an_error(delivery, other, given_scene):
    made = delivery().complete()
    made.mask(**OTHER_GRIDS[other])
    scene = load_planet_scene(made.folder) if given_scene else None
    with pytest.raises(SceneGridError, match="does not fit") as caught:
        load_planet_masks(made.folder, scene)
    with pytest.raises(SceneGridError, match="does not fit"):
        check_planet_scene(made.folder)
    assert isinstance(caught.value, GridError)
    assert str(made.file("_3B_udm2.tif")) in str(caught.value)
    assert "6 × 5 pixels of 3.0 m" in str(caught.value)


DAMAGE = {
    "none": (lambda made: made.file("_3B_udm2.tif").unlink(), SceneNotFoundError, r"\*_udm2\.tif or \*_udm2_clip\.tif"),
    "two": (lambda made: made.mask(ending="_udm2.tif"), SceneError, "2 files where one usable data mask"),
    "one band": (
        lambda made: made.mask(np.zeros((1, 6, 5), "uint8")),
        SceneError,
        "expected 8 bands of uint8, found 1 of uint8",
    ),
    "sixteen bits": (
        lambda made: made.mask(np.zeros((8, 6, 5), "uint16")),
        SceneError,
        "expected 8 bands of uint8, found 8 of uint16",
    ),
    "text": (lambda made: made.file("_3B_udm2.tif").write_text("?"), SceneReadError, "_udm2.tif cannot be read"),
    "no CRS": (lambda made: made.mask(crs=None), SceneGridError, "_udm2.tif: it has no CRS"),
    "two images": (lambda made: made.image(ending="_SR.tif"), SceneError, "2 files where one surface reflectance"),
    "image of text": (
        lambda made: made.file("_3B_AnalyticMS_SR.tif").write_text("?"),
        SceneReadError,
        "_SR.tif cannot be read",
    ),
    "no JSON": (lambda made: made.metadata("{"), SceneReadError, "is no JSON"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_deliveries_are_named(delivery, damage):
    made = delivery().complete()
    harm, error, message = DAMAGE[damage]
    harm(made)
    for load in (load_planet_masks, check_planet_scene):
        with pytest.raises(error, match=message) as caught:
            load(made.folder)
        assert str(made.folder) in str(caught.value)


def test_scene_without_a_band_is_an_error(delivery):
    made = delivery().complete()
    with pytest.raises(MissingBandError, match="lacks nir"):
        load_planet_masks(made.folder, load_planet_scene(made.folder).drop_vars("nir"))
