"""The made-up landscape: the same for the same seed, with slumps that are cut into the ground and known."""

from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
import pyproj
import pytest
from scipy import ndimage

from darts_demo import make_landscape, truth_polygons
from darts_demo.landscape import MARGIN_PX
from darts_demo.sky import sun_angles
from darts_utils import ParameterError

SIZE = 320


@pytest.fixture(scope="module")
def landscape():
    return make_landscape(3, SIZE, slumps_per_km2=4)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(landscape):
    again = make_landscape(3, SIZE, slumps_per_km2=4)
    for field in fields(landscape):
        one, other = getattr(landscape, field.name), getattr(again, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes(), field.name
        else:
            assert one == other, field.name


@pytest.mark.slow
def test_another_seed_gives_another_landscape(landscape):
    other = make_landscape(4, SIZE, slumps_per_km2=4)
    assert np.abs(landscape.height - other.height).mean() > 1
    assert (landscape.label != other.label).any()
    assert landscape.time != other.time


@pytest.mark.parametrize(("seed", "size"), [(-1, 256), (0, 63)])
def test_impossible_landscapes_are_refused(seed, size):
    with pytest.raises(ParameterError, match=f"seed is {seed} and size {size}"):
        make_landscape(seed, size)


def test_grids(landscape):
    assert landscape.geobox.shape == landscape.label.shape == (SIZE, SIZE)
    assert landscape.wide_geobox.shape == landscape.height.shape == (SIZE + 2 * MARGIN_PX,) * 2
    assert str(landscape.geobox.crs) == "EPSG:32608"
    assert landscape.geobox.affine.a == -landscape.geobox.affine.e == 3
    assert (landscape.geobox.affine.c % 3, landscape.geobox.affine.f % 3) == (0, 0)
    inner = slice(MARGIN_PX, MARGIN_PX + SIZE)
    assert landscape.wide_geobox[inner, inner] == landscape.geobox
    to_degrees = pyproj.Transformer.from_crs("EPSG:32608", "EPSG:4326", always_xy=True)
    box = landscape.geobox.boundingbox
    assert to_degrees.transform(box.left, box.top) == pytest.approx((-135.7, 68.05), abs=0.1)


def test_the_sun_stands_where_planet_says(landscape):
    # Angles delivered for a real place and time on the Peel Plateau.
    azimuth, elevation = sun_angles(datetime(2021, 8, 21, 21, 0, 19, tzinfo=UTC), -135.67, 68.05)
    assert azimuth == pytest.approx(178.43, abs=2)
    assert elevation == pytest.approx(33.76, abs=1)
    assert (landscape.azimuth, landscape.elevation) == sun_angles(landscape.time, -135.7, 68.05)


def test_pixels_without_data_are_those_that_the_mask_calls_blackfill(landscape):
    missing = np.isnan(landscape.reflectance)
    assert (missing == missing[0]).all()
    np.testing.assert_array_equal(missing[0], landscape.udm[7] == 1)
    assert 0.03 < missing.mean() < 0.12
    assert landscape.reflectance.dtype == np.float32
    assert np.nanmin(landscape.reflectance) > 0
    classes = landscape.udm[:6].sum(axis=0)
    np.testing.assert_array_equal(classes, ~missing[0])
    assert ((landscape.udm[6] > 0) == ~missing[0]).all()


def test_truth_polygons_have_the_area_and_place_of_the_truth(landscape):
    from rasterio.features import rasterize

    truth = truth_polygons(landscape)
    assert truth.geometry.is_valid.all()
    np.testing.assert_allclose(truth.area, truth["area_m2"])
    np.testing.assert_array_equal(truth["area_m2"], truth["npixel"] * 9)
    numbers, pixels = np.unique(landscape.label[landscape.label > 0], return_counts=True)
    np.testing.assert_array_equal(truth["slump_id"], numbers)
    np.testing.assert_array_equal(truth["npixel"], pixels)
    shapes = zip(truth.geometry, truth["slump_id"], strict=True)
    burned = rasterize(shapes, (SIZE, SIZE), transform=landscape.geobox.affine, dtype="int32")
    np.testing.assert_array_equal(burned, landscape.label)


def test_slumps_keep_apart(landscape):
    assert len(landscape.slumps) >= 3
    for slump in landscape.slumps:
        around = ndimage.binary_dilation(landscape.label == slump.number, np.ones((3, 3)), iterations=5)
        assert set(np.unique(landscape.label[around])) <= {0, slump.number}


def _whole(landscape):
    """Slumps with their surroundings inside the image."""
    for slump in landscape.slumps:
        reach = slump.length
        if all(reach / 3 < place < SIZE - reach / 3 for place in slump.center):
            yield slump


def test_headwalls_drop(landscape):
    height = landscape.height[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    steepness = np.degrees(np.arctan(np.hypot(*np.gradient(height, 3.0))))
    slumps = list(_whole(landscape))
    assert slumps
    for slump in slumps:
        inside = landscape.label == slump.number
        assert slump.headwall >= 2.5
        rows, columns = np.nonzero(inside)
        down = ((rows - slump.center[0]) * slump.down[0] + (columns - slump.center[1]) * slump.down[1]) * 3
        head = np.zeros_like(inside)
        head[rows, columns] = down < -0.15 * slump.length
        border = ndimage.binary_dilation(head, iterations=2) & ~inside
        floor = ndimage.binary_erosion(inside, iterations=3) & head
        assert np.degrees(np.arctan(slump.headwall / 25)) < steepness[head].max() < 80
        if floor.any():
            drop = np.median(height[border]) - np.median(height[floor])
            assert drop > 0.3 * slump.headwall, slump


def test_slumps_look_like_mud(landscape):
    clear = landscape.udm[0] == 1
    slump = clear & (landscape.label > 0)
    ground = clear & (landscape.label == 0)
    red, nir = landscape.reflectance[2], landscape.reflectance[3]
    ndvi = (nir - red) / (nir + red)
    assert np.median(red[slump]) > 1.3 * np.median(red[ground])
    assert np.median(ndvi[slump]) < np.median(ndvi[ground]) - 0.2


def test_trends_show_slumps(landscape):
    trends = landscape.trends[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    inside = landscape.label > 0
    change = [float(np.median(band[inside])) - float(np.median(band[~inside])) for band in trends]
    assert change[0] > 15 > -15 > max(change[1:])
