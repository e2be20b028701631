"""Reflectance, quality and grids of Sentinel-2 tiles, against values computed by hand and against real cut-outs."""

from dataclasses import replace

import numpy as np
import odc.geo.xr  # noqa: F401 - brings .odc
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darts_acquisition.errors import EmptySceneError, SceneError, SceneGridError
from darts_acquisition.scenes.download import build_tile
from darts_acquisition.scenes.quality import Scaling
from darts_acquisition.scenes.raw import (
    REFLECTANCE_BANDS,
    SCL,
    RawBand,
    RawGrid,
    SceneMetadata,
    quality_from_scl,
    select_bands,
)
from darts_utils import NoDataError, ParameterError
from support.sentinel2 import LEFT, TOP, expected_reflectance, random_scene

METADATA = SceneMetadata("cdse", "a-scene", {"time": "2021-08-21T21:00:21Z", "azimuth": 178.5, "elevation": 33.25})


def in_memory(scene, numbers, offset=-0.1):
    bands = []
    for band in (*REFLECTANCE_BANDS, SCL):
        if band.number in numbers:
            values = scene.raw[band.number]
            r = float(band.resolution)
            scaling = (1.0, 0.0) if band is SCL else (1e-4, offset)
            grid = RawGrid("EPSG:32608", (r, 0, LEFT, 0, -r, TOP), values.shape, *scaling)
            bands.append(RawBand(band, grid, values))
    return bands


def test_every_class_has_the_quality_of_the_contract():
    classes = np.arange(256, dtype="uint8")
    expected = [0, 0, 2, 1, 2, 2, 2, 2, 1, 1, 2, 1] + [0] * 244
    np.testing.assert_array_equal(quality_from_scl(classes), expected)
    assert quality_from_scl(classes).dtype == np.uint8


@pytest.mark.parametrize(
    ("scale", "offset", "as_a_line"),
    [
        (1e-4, -0.1, True),
        (1e-4, 0.0, True),
        (2e-4, 0.05, True),
        (1.0, 0.0, True),
        (1.23e-4, -0.1, False),
        (3.0, 1.0, False),
    ],
)
def test_every_raw_value_becomes_what_the_table_says(scale, offset, as_a_line):
    """Bit by bit, whether it is computed or looked up, also where some rows hold pixels without data."""
    table = (np.arange(65_536) * np.float64(scale) + offset).astype("float32")
    table[0] = np.nan
    assert (Scaling(scale, offset)._line is not None) == as_a_line
    values = np.random.default_rng(0).permutation(np.arange(65_536, dtype="uint16")).reshape(256, 256)
    for band, factor in (("blue", 1), ("nir08", 2), ("coastal", 6)):
        r = 10.0 * factor
        grid = RawGrid("EPSG:32608", (r, 0, LEFT, 0, -r, TOP), values.shape, scale, offset)
        classes = np.full((128 * factor, 128 * factor), 4, "uint8")
        classes_grid = RawGrid("EPSG:32608", (20.0, 0, LEFT, 0, -20.0, TOP), classes.shape)
        bands = [RawBand(select_bands(band)[0], grid, values), RawBand(SCL, classes_grid, classes)]
        tile = build_tile(METADATA, bands, "here", 2)
        expected = np.kron(table[values], np.ones((factor, factor), "float32"))
        np.testing.assert_array_equal(tile[band].values.view("uint32"), expected.view("uint32"))
        np.testing.assert_array_equal(tile.quality_data_mask, np.where(values == 0, 0, 2) if factor == 1 else 2)


@given(hnp.arrays("uint16", (12, 6)), hnp.arrays("uint8", (6, 3), elements=st.integers(0, 11)), st.integers(1, 3))
def test_a_tile_equals_the_slow_way(raw, scl, workers):
    scene = random_scene(6)
    scene.raw = {"B02": raw, "B8A": raw[:6, :3].copy(), "SCL": scl}
    if not raw.any():
        with pytest.raises(EmptySceneError):
            build_tile(METADATA, in_memory(scene, ("B02", "B8A", "SCL")), "here", workers)
        return
    tile = build_tile(METADATA, in_memory(scene, ("B02", "B8A", "SCL")), "here", workers)
    np.testing.assert_array_equal(tile.blue, expected_reflectance(raw, -0.1).astype("float32"))
    np.testing.assert_array_equal(tile.nir08, expected_reflectance(raw[:6, :3], -0.1, 2).astype("float32"))
    wide = np.kron(scl, np.ones((2, 2), "uint8"))
    np.testing.assert_array_equal(tile.s2_scl, wide)
    # blue counts, nir08 does not: quality does not depend on which further bands are loaded
    np.testing.assert_array_equal(tile.quality_data_mask, np.where(raw == 0, 0, quality_from_scl(wide)))


@pytest.mark.parametrize("band", ["B02", "B8A", "B01"])
def test_a_scene_without_data_is_empty_and_one_pixel_is_data(band):
    scene = random_scene(60)
    for values in scene.raw.values():
        values[:] = 0
    scene.raw["SCL"][:] = 4
    with pytest.raises(EmptySceneError, match=r"a-scene holds no data: all pixels of coastal, .*swir22 are 0") as error:
        build_tile(METADATA, in_memory(scene, scene.raw), "here")
    assert isinstance(error.value, SceneError)
    assert isinstance(error.value, NoDataError)
    scene.raw[band][-1, -1] = 1
    tile = build_tile(METADATA, in_memory(scene, scene.raw), "here")
    size = {"B02": 1, "B8A": 2, "B01": 6}[band]
    assert sum(int(tile[each.name].notnull().sum()) for each in REFLECTANCE_BANDS) == size**2


def test_a_scene_without_a_usable_pixel_is_not_empty():
    scene = random_scene(12)
    scene.raw["SCL"][:] = 0
    tile = build_tile(METADATA, in_memory(scene, scene.raw), "here")
    assert not tile.quality_data_mask.any()


def test_all_bands_lie_on_one_grid_and_say_what_they_are():
    scene = random_scene(60)
    tile = build_tile(METADATA, in_memory(scene, scene.raw), "Sentinel-2 L2A")
    assert list(tile.data_vars) == [*(band.name for band in REFLECTANCE_BANDS), "s2_scl", "quality_data_mask"]
    geobox = tile.odc.geobox
    assert geobox.crs.epsg == 32608
    assert tuple(geobox.affine)[:6] == (10, 0, LEFT, 0, -10, TOP)
    assert tile.attrs["tile_id"] == "a-scene"
    assert (tile.attrs["azimuth"], tile.attrs["elevation"]) == (178.5, 33.25)
    for band in REFLECTANCE_BANDS:
        expected = expected_reflectance(scene.raw[band.number], -0.1, band.factor)
        np.testing.assert_array_equal(tile[band.name], expected.astype("float32"))
        assert tile[band.name].dtype == np.float32
        assert tile[band.name].attrs["data_source"] == "Sentinel-2 L2A"
        assert tile[band.name].attrs["units"] == "1"
    assert tile.s2_scl.dtype == tile.quality_data_mask.dtype == np.uint8
    assert tile.blue.attrs["long_name"] == "blue surface reflectance"


def test_angles_that_are_unknown_are_nan():
    tile = build_tile(SceneMetadata("gee", "x", {"time": "2021"}), in_memory(random_scene(6), ("B02", "SCL")), "here")
    assert np.isnan(tile.attrs["azimuth"])
    assert np.isnan(tile.attrs["elevation"])


@pytest.mark.parametrize(
    "change",
    [
        {"crs": "EPSG:32609"},
        {"transform": (20.0, 0, LEFT + 10, 0, -20.0, TOP)},
        {"transform": (10.0, 0, LEFT, 0, -10.0, TOP)},
        {"shape": (5, 3)},
    ],
)
def test_bands_on_different_grids_are_an_error(change):
    bands = in_memory(random_scene(6), ("B02", "SCL"))
    grid = bands[1].grid
    bands[1] = replace(bands[1], grid=replace(grid, **change))
    with pytest.raises(SceneGridError, match="a-scene"):
        build_tile(METADATA, bands, "here")


def test_bands_are_selected_by_either_name_in_one_order():
    assert [band.number for band in select_bands(["nir", "B02", "blue"])] == ["B02", "B08"]
    assert [band.name for band in select_bands()] == ["blue", "green", "red", "nir"]
    assert len(select_bands("all")) == 12
    for wrong in (["bleu"], [], ["s2_scl"], "B10"):
        with pytest.raises(ParameterError, match="bands is"):
            select_bands(wrong)


@pytest.mark.parametrize("day", ["20170703", "20190723"])
def test_real_cut_outs(shared_data, day):
    """The cut-outs hold DN of before baseline 04.00, and the classes at 20 m."""
    folder = shared_data / "s2_l2a_barbellino"
    with rasterio.open(folder / f"S2A2A_{day}_022_Barbellino_BOA_10.tif") as boa:
        raw, affine, crs = boa.read(), boa.transform, f"EPSG:{boa.crs.to_epsg()}"
    with rasterio.open(folder / f"S2A2A_{day}_022_Barbellino_SCL_10.tif") as source:
        scl, coarse = source.read(1), source.transform
    # Bands of the cut-out: B01 B02 B03 B04 B05 B06 B07 B08 B8A B11 B12
    optical = {"blue": raw[1], "green": raw[2], "red": raw[3], "nir": raw[7]}
    bands = []
    for name, values in optical.items():
        grid = RawGrid(crs, tuple(affine)[:6], values.shape, 1e-4, 0.0)
        bands.append(RawBand(select_bands(name)[0], grid, values))
    bands.append(RawBand(SCL, RawGrid(crs, tuple(coarse)[:6], scl.shape), scl))
    tile = build_tile(METADATA, bands, "here")
    for name, values in optical.items():
        expected = np.where(values == 0, np.nan, values / 10_000)
        np.testing.assert_allclose(tile[name], expected, rtol=1e-6)
    # No shift: each pixel has the class of the 20 m pixel that its centre lies in, by coordinates.
    cols, rows = ~coarse * (tile.x.values[None, :], tile.y.values[:, None])
    by_centre = scl[np.floor(rows).astype(int), np.floor(cols).astype(int)]
    np.testing.assert_array_equal(tile.s2_scl, by_centre)
    low, invalid = np.isin(by_centre, [3, 8, 9, 11]), np.isin(by_centre, [0, 1]) | (raw[[1, 2, 3, 7]] == 0).any(axis=0)
    np.testing.assert_array_equal(tile.quality_data_mask, np.where(invalid, 0, np.where(low, 1, 2)))
    assert len(np.unique(tile.s2_scl)) > 1
