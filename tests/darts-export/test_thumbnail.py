"""The picture: its size, its stretch, its outlines, its title."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from PIL import Image

from darts_export import export_tile
from darts_export.preview import MAX_SIZE_PX, stretch

RED = np.array([255, 64, 32])
BLUE = np.array([64, 200, 255])


def picture_of(tile, folder: Path) -> np.ndarray:
    export_tile(tile, folder / "tile", ["thumbnail"])
    with Image.open(folder / "tile/thumbnail.jpg") as image:
        assert image.format == "JPEG"
        assert image.mode == "RGB"
        assert max(image.size) <= MAX_SIZE_PX
        return np.asarray(image).astype(int)


def near(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.abs(picture - colour).max(axis=-1) < 60


@pytest.mark.parametrize("shape", [(2100, 1000), (1000, 2100), (1025, 1024), (996, 1024), (40, 30)])
def test_a_picture_is_at_most_1024_pixels_wide_and_high(make_tile, tmp_path: Path, shape: tuple[int, int]) -> None:
    tile = make_tile(mask=np.zeros(shape, np.bool_), probabilities=np.zeros(shape, np.float32))
    picture = picture_of(tile, tmp_path)
    height, width = picture.shape[:2]
    assert max(height, width) >= 400
    assert (height - 28) / width == pytest.approx(shape[0] / shape[1], rel=0.01)


def test_outlines_lie_around_objects_and_extent(make_tile, tmp_path: Path) -> None:
    mask = np.zeros((1200, 1600), np.bool_)
    mask[600:800, 400:700] = True
    mask[200, 1200] = True  # a single pixel stays visible
    tile = make_tile(mask=mask, probabilities=np.zeros(mask.shape, np.float32))
    for name in ("red", "green", "blue"):
        tile[name][:] = 0.1
    tile["extent"][:300, :400] = 0
    picture = picture_of(tile, tmp_path)[28:]
    objects, extent = near(picture, RED), near(picture, BLUE)
    rows, columns = np.nonzero(objects[:, :500])
    assert (rows.min(), rows.max()) == pytest.approx((299, 400), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((199, 350), abs=1)
    assert not objects[310:390, 210:340].any()
    assert objects[96:105, 596:605].any()
    assert extent[150, 10:190].mean() > 0.9  # the border inside the picture
    assert extent[160:590, 0].mean() > 0.9  # and along its edge
    assert not extent[:140, :190].any()


def test_the_stretch_shows_tundra_beside_snow() -> None:
    rng = np.random.default_rng(1)
    colour = rng.normal(0.08, 0.02, (200, 200, 3)).astype(np.float32)
    colour[:2] = 0.9  # snow
    colour[-20:] = np.nan
    before = colour.copy()
    picture = stretch(colour)
    np.testing.assert_array_equal(colour, before)
    tundra = picture[2:-20]
    assert 90 < tundra.mean() < 170
    assert tundra.std() > 45
    assert (picture[-20:] == 24).all()
    assert (picture[:2] == 255).all()


def test_an_even_surface_does_not_become_noise() -> None:
    colour = np.random.default_rng(2).normal(0.1, 1e-4, (50, 50, 3)).astype(np.float32)
    assert stretch(colour).std() < 3


def test_a_tile_without_a_valid_pixel(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    for name in ("red", "green", "blue"):
        tile[name] = tile[name] * np.nan
    tile["extent"][:] = 0
    tile["binarized_segmentation"][:] = False
    picture = picture_of(tile, tmp_path)[40:]
    assert (np.abs(picture - 24) < 6).all()


def test_a_long_or_foreign_title_fits(make_tile, tmp_path: Path) -> None:
    tile = make_tile(shape=(300, 100), tile_id="Ünïcode-Kachel тундра " + "x" * 300)
    picture = picture_of(tile, tmp_path)
    assert picture[:28].min() < 100


def test_the_real_site_is_shown_well_lit(shared_data: Path, tmp_path: Path, make_tile) -> None:
    (path,) = (shared_data / "peel/planet_layout/scenes").glob("*/*_3B_AnalyticMS_SR.tif")
    with rasterio.open(path) as raster:
        bands = raster.read().astype(np.float32) / 10_000
        geobox = GeoBox(raster.shape, Affine(*raster.transform[:6]), raster.crs.to_wkt())
    tile = make_tile(shape=raster.shape)[[]].drop_vars(["x", "y", "spatial_ref"], errors="ignore")
    for name, values in zip(("blue", "green", "red"), bands, strict=False):
        tile[name] = wrap_xr(values, geobox)
    picture = picture_of(tile, tmp_path)[28:]
    assert 70 < picture.mean() < 170
    assert picture.std() > 40
