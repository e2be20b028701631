"""The picture: lines where the outlines are, colours as the eye sees them, never too large a file."""

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from scipy import ndimage

from darts.demo import draw_map, draw_result, make_sample_area, read_truth
from darts.demo.drawing import FOUND_COLOUR, TRUE_COLOUR
from darts_utils import GridError, MissingBandError, ParameterError


@pytest.fixture
def tile():
    rng = np.random.default_rng(0)
    bands = {
        name: (("y", "x"), rng.uniform(0.02, 0.12, (240, 300)).astype(np.float32)) for name in ("red", "green", "blue")
    }
    return xr.Dataset(bands)


def masks():
    found, truth = np.zeros((240, 300), bool), np.zeros((240, 300), np.int32)
    found[40:80, 40:90] = True
    truth[150:200, 180:260] = 3
    return found, truth


def open_rgb(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_outlines_lie_just_outside_the_masks(tile, tmp_path):
    found, truth = masks()
    pixels = open_rgb(draw_map(tmp_path / "map.png", tile, found, truth))[:240]
    assert pixels.shape == (240, 300, 3)
    for mask, colour, width in ((found, FOUND_COLOUR, 2), (truth > 0, TRUE_COLOUR, 4)):
        distance = ndimage.distance_transform_cdt(~mask, "taxicab")
        np.testing.assert_array_equal((pixels == colour).all(axis=-1), (distance >= 1) & (distance <= width))


def test_colours_follow_reflectance(tmp_path):
    values = {"red": 0.17, "green": 0.08, "blue": 0.0}
    tile = xr.Dataset({name: (("y", "x"), np.full((200, 200), value, np.float32)) for name, value in values.items()})
    tile["red"][:50] = np.nan
    nothing = np.zeros((200, 200), bool)
    pixels = open_rgb(draw_map(tmp_path / "map.png", tile, nothing, nothing))
    np.testing.assert_allclose(pixels[120, 100], [255, 255 * 0.5**0.75, 0], atol=2)
    assert pixels[10, 10, 0] == 0


@pytest.mark.slow
def test_the_file_fits(tile, tmp_path):
    found, truth = masks()
    large = draw_map(tmp_path / "large.png", tile, found, truth)
    limit = large.stat().st_size // 3
    small = draw_map(tmp_path / "small.png", tile, found, truth, max_bytes=limit)
    assert small.stat().st_size <= limit
    assert np.ptp(open_rgb(small)) > 100
    with pytest.raises(ParameterError, match="max_bytes is 100; even the smallest picture takes"):
        draw_map(tmp_path / "none.png", tile, found, truth, max_bytes=100)
    assert not (tmp_path / "none.png").exists()


def test_wide_tiles_are_made_smaller(tile, tmp_path):
    found, truth = masks()
    assert open_rgb(draw_map(tmp_path / "map.png", tile, found, truth, width_px=200)).shape == (160 + 30, 200, 3)


def test_mistakes_are_named(tile, tmp_path):
    found, truth = masks()
    with pytest.raises(MissingBandError, match="lacks green"):
        draw_map(tmp_path / "map.png", tile.drop_vars("green"), found, truth)
    with pytest.raises(GridError, match=r"\(240, 300\).*\(239, 300\)"):
        draw_map(tmp_path / "map.png", tile, found[1:], truth)
    with pytest.raises(ParameterError, match="width_px is 100"):
        draw_map(tmp_path / "map.png", tile, found, truth, width_px=100)


@pytest.mark.slow
def test_a_result_is_drawn_from_its_files(tmp_path):
    import rasterio

    area = make_sample_area(tmp_path / "area", 6, 192)
    found = read_truth(area) > 0
    with rasterio.open(next(area.scene_dir.glob("*_SR.tif"))) as scene:
        profile = scene.profile | {"count": 1, "dtype": "uint8", "nodata": None, "predictor": 1}
    with rasterio.open(tmp_path / "binarized.tif", "w", **profile) as file:
        file.write(found.astype(np.uint8), 1)
    pixels = open_rgb(draw_result(area, tmp_path, tmp_path / "demo.png"))
    assert pixels.shape == (192 + 30, 192, 3)
    # Where both are the same, the outline of the truth frames that of what was found.
    assert (pixels[:192] == FOUND_COLOUR).all(axis=-1).any()
    assert (pixels[:192] == TRUE_COLOUR).all(axis=-1).any()
