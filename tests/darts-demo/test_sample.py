"""The sample area: files that load like a real delivery, with what the landscape holds."""

import json

import numpy as np
import pyproj
import pytest
import rasterio
from scipy import ndimage

from darts_acquisition import get_planet_geometry, load_arcticdem, load_planet_masks, load_planet_scene, load_tcvis
from darts_demo import (
    SampleAreaError,
    arcticdem_dataset,
    find_sample_area,
    make_inputs,
    make_landscape,
    make_sample_area,
    optical_dataset,
    read_truth,
    tcvis_dataset,
    truth_polygons,
)
from darts_demo.landscape import MARGIN_PX

SIZE = 192
SEED = 6


@pytest.fixture(scope="module")
def landscape():
    return make_landscape(SEED, SIZE)


@pytest.fixture(scope="module")
def area(tmp_path_factory):
    return make_sample_area(tmp_path_factory.mktemp("sample") / "area", SEED, SIZE)


def test_image_and_masks_load_as_the_landscape_is(area, landscape):
    scene = load_planet_scene(area.scene_dir)
    masks = load_planet_masks(area.scene_dir, scene)
    expected = optical_dataset(landscape)
    assert scene.odc.geobox == landscape.geobox == expected.odc.geobox
    for band, reflectance in zip(("blue", "green", "red", "nir"), landscape.reflectance, strict=True):
        np.testing.assert_allclose(scene[band], reflectance, atol=0.501e-4)
        np.testing.assert_array_equal(expected[band], reflectance)
    for band in ("quality_data_mask", "planet_udm"):
        np.testing.assert_array_equal(masks[band], expected[band])
        assert masks[band].dtype == expected[band].dtype
    for name, value in expected.attrs.items():
        assert scene.attrs[name] == (pytest.approx(value, abs=0.051) if isinstance(value, float) else value), name


def test_the_layout_is_that_of_a_real_delivery(area, shared_data):
    real = next((shared_data / "peel" / "planet_layout" / "scenes").iterdir())

    def layout(folder):
        endings = {path.name.removeprefix(folder.name) for path in folder.iterdir()}
        kinds = {}
        for path in folder.glob("*.tif"):
            with rasterio.open(path) as file:
                kinds[path.name.removeprefix(folder.name)] = (file.count, file.dtypes, file.nodata, file.crs.to_epsg())
        return endings, kinds

    assert layout(area.scene_dir) == layout(real)
    made, given = (json.loads(next(folder.glob("*_metadata.json")).read_text()) for folder in (area.scene_dir, real))
    assert set(given) <= set(made)
    assert set(given["properties"]) <= set(made["properties"])
    assert made["id"] == area.scene_dir.name


def test_the_metadata_outlines_the_image(area):
    metadata = json.loads(next(area.scene_dir.glob("*_metadata.json")).read_text())
    to_utm = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32608", always_xy=True)
    corners = [to_utm.transform(*point) for point in metadata["geometry"]["coordinates"][0]]
    left, bottom, right, top = get_planet_geometry(area.scene_dir).boundingbox.bbox
    expected = [(left, top), (left, bottom), (right, bottom), (right, top), (left, top)]
    np.testing.assert_allclose(corners, expected, atol=0.2)


def _expected_heights(landscape, dem):
    """Cubic spline through the landscape's heights at the DEM's pixel centres, and where that is far from the edge."""
    x, y = np.meshgrid(dem.x.values, dem.y.values)
    east, north = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:32608", always_xy=True).transform(x, y)
    wide = landscape.wide_geobox.boundingbox
    column, row = (east - wide.left) / 3 - 0.5, (wide.top - north) / 3 - 0.5
    inside = (np.minimum(row, column) > 2) & (np.maximum(row, column) < landscape.height.shape[0] - 3)
    return ndimage.map_coordinates(landscape.height.astype(np.float64), [row, column], order=3), inside


def test_the_elevation_cube_holds_the_ground_around_the_image(area, landscape):
    scene = load_planet_scene(area.scene_dir)
    ds = load_arcticdem(scene.odc.geobox, area.arcticdem_dir, 2, buffer=200, offline=True)
    expected, inside = _expected_heights(landscape, ds.dem)
    assert inside.all()
    assert (ds.arcticdem_data_mask == 1).all()
    error = np.abs(ds.dem.values - expected)
    assert np.median(error) < 0.01
    assert np.quantile(error, 0.999) < 0.5


def test_the_datasets_in_memory_are_what_the_cubes_hold(area, landscape):
    scene = load_planet_scene(area.scene_dir)
    dem = load_arcticdem(scene.odc.geobox, area.arcticdem_dir, 2, buffer=150, offline=True)
    wide = arcticdem_dataset(landscape).sel(x=dem.x, y=dem.y)
    np.testing.assert_array_equal(wide.dem, dem.dem)
    np.testing.assert_array_equal(wide.arcticdem_data_mask, dem.arcticdem_data_mask)
    trends = load_tcvis(scene.odc.geobox, area.tcvis_dir, offline=True)
    made = tcvis_dataset(landscape)
    rows, columns = (np.abs(made[d].values[:, None] - trends[d].values).argmin(axis=0) for d in ("y", "x"))
    for name in ("tc_brightness", "tc_greenness", "tc_wetness"):
        np.testing.assert_array_equal(made[name].values[np.ix_(rows, columns)], trends[name].values)
        assert (trends[name] > 0).all()


def test_trends_keep_their_mean(landscape):
    inner = slice(MARGIN_PX // 2, -MARGIN_PX // 2)
    made = tcvis_dataset(landscape)
    for trend, name in zip(landscape.trends, ("tc_brightness", "tc_greenness", "tc_wetness"), strict=True):
        values = made[name].values
        assert values[values > 0].mean() == pytest.approx(trend[inner, inner].mean(), abs=2)


def test_the_truth_file_holds_the_truth(area, landscape):
    import geopandas as gpd

    np.testing.assert_array_equal(read_truth(area), landscape.label)
    truth = gpd.read_file(area.truth_file)
    expected = truth_polygons(landscape)
    assert truth.crs == expected.crs
    assert list(truth.columns) == list(expected.columns)
    assert truth["area_m2"].sum() == 9 * (landscape.label > 0).sum()


def test_a_sample_area_is_found_again(area, tmp_path):
    assert find_sample_area(area.folder) == area
    assert find_sample_area(tmp_path) is None
    for record in ("{", "[]", '{"layout": -1}'):
        (tmp_path / "sample.json").write_text(record)
        assert find_sample_area(tmp_path) is None


def test_nothing_is_overwritten(area, tmp_path):
    with pytest.raises(SampleAreaError, match="is there and not empty"):
        make_sample_area(area.folder, SEED, SIZE)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is there and not empty"):
        make_sample_area(tmp_path / "file", SEED, SIZE)


@pytest.mark.slow
def test_a_broken_attempt_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("darts_demo.sample.write_planet_scene", fail)
    with pytest.raises(OSError, match="disk full"):
        make_sample_area(tmp_path / "area", SEED, 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files(area, tmp_path):
    (tmp_path / "again").mkdir()
    again = make_sample_area(tmp_path / "again", SEED, SIZE)
    names = {path.name for path in area.scene_dir.iterdir()}
    assert names == {path.name for path in again.scene_dir.iterdir()}
    for name in names:
        assert (area.scene_dir / name).read_bytes() == (again.scene_dir / name).read_bytes(), name


@pytest.mark.slow
def test_an_area_without_slumps(tmp_path):
    seed = next(seed for seed in range(10, 30) if not make_landscape(seed, 64).slumps)
    area = make_sample_area(tmp_path / "area", seed, 64)
    assert not read_truth(area).any()


@pytest.mark.slow
def test_inputs_of_any_size_repeat_the_landscape_mirrored(monkeypatch):
    monkeypatch.setattr("darts_demo.sample._LARGEST_PX", 100)
    optical, dem, trends = make_inputs(240, SEED)
    small, _, _ = make_inputs(100, SEED)
    red = small.red.values
    row = np.concatenate([red, red[:, ::-1], red[:, :40]], axis=1)
    np.testing.assert_array_equal(optical.red, np.concatenate([row, row[::-1], row[:40]], axis=0))
    assert optical.odc.geobox.shape == (240, 240)
    assert optical.odc.geobox.affine == small.odc.geobox.affine
    height = make_landscape(SEED, 100).height[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    # The mirrored neighbour of the first column is the first column itself.
    x, y = pyproj.Transformer.from_crs("EPSG:32608", "EPSG:3413", always_xy=True).transform(
        optical.x.values[99:101], optical.y.values[[50, 50]]
    )
    near = [float(dem.dem.sel(x=a, y=b, method="nearest")) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(near, height[50, 99], atol=2)
    assert (trends.tc_wetness.values[2:-2, 2:-2] > 0).all()
