"""PlanetScope images: values against rasterio, attributes, and deliveries that are damaged."""

import math
import re
import shutil
import warnings

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

from darts_acquisition import (
    EmptySceneError,
    SceneError,
    SceneGridError,
    SceneNameError,
    SceneNotFoundError,
    SceneReadError,
    get_planet_geometry,
    load_planet_masks,
    load_planet_scene,
)
from darts_utils import BANDS, DartsError, GridError, NoDataError

NAMES = ("blue", "green", "red", "nir")
ORTHOTILE = "5790392_4372514_2022-07-16_2459"
PEEL = "peel/planet_layout/scenes/20210821_210019_08_2405"


def test_real_image_equals_what_rasterio_reads(shared_data):
    scene = load_planet_scene(shared_data / PEEL)
    with rasterio.open(next((shared_data / PEEL).glob("*_SR.tif"))) as source:
        numbers, bounds, crs, transform = source.read(), source.bounds, source.crs, source.transform
    assert scene.odc.geobox.shape == numbers.shape[1:]
    assert scene.odc.geobox.crs == crs
    assert scene.odc.geobox.affine == transform
    assert scene.odc.geobox.boundingbox.bbox == tuple(bounds)
    for name, band in zip(NAMES, numbers.astype("float64"), strict=True):
        expected = np.where(band == 0, np.nan, band / 10000)
        assert scene[name].dtype == np.float32
        assert scene[name].dims == ("y", "x")
        np.testing.assert_allclose(scene[name], expected, rtol=2**-24)
        assert scene[name].attrs == {
            "long_name": BANDS[name].long_name,
            "units": "1",
            "data_source": "PlanetScope",
        }


def test_real_metadata_become_attributes(shared_data):
    attrs = load_planet_scene(shared_data / PEEL).attrs
    assert attrs["tile_id"] == attrs["planet_scene_id"] == "20210821_210019_08_2405"
    assert attrs["planet_type"] == "scene"
    assert attrs["time"] == "2021-08-21T21:00:19Z"
    assert (attrs["azimuth"], attrs["elevation"]) == (178.43, 33.76)
    assert "planet_orthotile_id" not in attrs


def test_a_scene_survives_a_file(shared_data, tmp_path):
    scene = load_planet_scene(shared_data / PEEL)
    scene.to_netcdf(tmp_path / "scene.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "scene.nc", engine="scipy", decode_coords="all") as again:
        assert again.odc.geobox == scene.odc.geobox
        xr.testing.assert_equal(again, scene)


def test_every_possible_number_becomes_its_reflectance(delivery):
    made = delivery(shape=(256, 256))
    numbers = np.arange(2**16, dtype="uint16").reshape(256, 256)
    made.image(np.stack([numbers, numbers[::-1], numbers.T, numbers[:, ::-1]]))
    made.metadata()
    scene = load_planet_scene(made.folder)
    for name, band in zip(NAMES, (numbers, numbers[::-1], numbers.T, numbers[:, ::-1]), strict=True):
        values = scene[name].values
        np.testing.assert_array_equal(np.isnan(values), band == 0)
        np.testing.assert_allclose(values[band > 0], band[band > 0].astype("float64") / 10000, rtol=2**-24)


def test_clipped_image_is_taken_where_there_is_no_other(delivery):
    made = delivery()
    values = np.full((4, 6, 5), 700, "uint16")
    made.image(values, ending="_3B_AnalyticMS_SR_clip.tif")
    made.metadata()
    assert load_planet_scene(made.folder).blue.values[0, 0] == np.float32(0.07)
    made.image(values + 100)
    assert load_planet_scene(made.folder).blue.values[0, 0] == np.float32(0.08)


def test_files_that_are_no_part_of_the_delivery_do_not_matter(delivery):
    made = delivery().complete()
    for name in (f"._{made.prefix}_3B_AnalyticMS_SR.tif", "manifest.json", f"{made.prefix}_3B_AnalyticMS_metadata.xml"):
        (made.folder / name).write_bytes(b"\0")
    (made.folder / "old_SR.tif").mkdir()
    assert load_planet_scene(made.folder).sizes == {"y": 6, "x": 5}


def test_orthotile_knows_its_tile(delivery):
    made = delivery(f"4372514/{ORTHOTILE}")
    made.image(ending="_BGRN_SR.tif")
    made.metadata({"id": ORTHOTILE, "properties": {"acquired": "2022-07-16T20:01:02.5+02:00", "strip_id": "5790392"}})
    attrs = load_planet_scene(made.folder).attrs
    assert attrs["planet_type"] == "orthotile"
    assert attrs["tile_id"] == attrs["planet_scene_id"] == attrs["planet_item_id"] == ORTHOTILE
    assert attrs["planet_orthotile_id"] == "4372514"
    assert attrs["planet_strip_id"] == "5790392"
    assert attrs["time"] == "2022-07-16T18:01:02.500000Z"
    assert math.isnan(attrs["azimuth"])
    assert math.isnan(attrs["elevation"])


def test_older_metadata_without_properties(delivery):
    made = delivery().complete()
    made.metadata({"sun_azimuth": 12, "sun_elevation": 3.5})
    attrs = load_planet_scene(made.folder).attrs
    assert (attrs["azimuth"], attrs["elevation"]) == (12.0, 3.5)
    assert attrs["time"] == "2021-08-21T21:00:19.08Z"  # from the folder's name
    made.metadata({"properties": None, "acquired": "2021-08-21T21:00:20", "sun_azimuth": None})
    attrs = load_planet_scene(made.folder).attrs
    assert attrs["time"] == "2021-08-21T21:00:20Z"
    assert math.isnan(attrs["azimuth"])


def test_path_may_be_a_string_and_the_folder_is_left_as_it_was(delivery):
    made = delivery().complete()
    before = {file.name: file.read_bytes() for file in made.folder.iterdir()}
    assert load_planet_scene(str(made.folder)).identical(load_planet_scene(made.folder))
    assert {file.name: file.read_bytes() for file in made.folder.iterdir()} == before


def _remove_folder(made):
    shutil.rmtree(made.folder)


def _folder_is_a_file(made):
    shutil.rmtree(made.folder)
    made.folder.write_text("")


def _truncate(made):
    made.image(np.random.default_rng(0).integers(0, 9000, (4, 300, 300)).astype("uint16"), compress="deflate")
    data = made.file("_3B_AnalyticMS_SR.tif").read_bytes()
    made.file("_3B_AnalyticMS_SR.tif").write_bytes(data[: len(data) // 2])


def _remove_grid(made):
    with warnings.catch_warnings(action="ignore"):
        made.image(crs=None, transform=None)


DAMAGE = {
    "no folder": (_remove_folder, SceneNotFoundError, FileNotFoundError, "does not exist"),
    "file": (_folder_is_a_file, SceneNotFoundError, FileNotFoundError, "is a file"),
    "no image": (
        lambda made: made.file("_3B_AnalyticMS_SR.tif").unlink(),
        SceneNotFoundError,
        FileNotFoundError,
        r"\*_SR\.tif or \*_SR_clip\.tif, found .*_udm2\.tif",
    ),
    "two images": (
        lambda made: made.image(ending="_SR.tif"),
        SceneError,
        ValueError,
        r"2 files where one .*\(\*_SR\.tif\).*_3B_AnalyticMS_SR\.tif",
    ),
    "truncated image": (_truncate, SceneReadError, OSError, "_SR.tif cannot be read"),
    "text as image": (
        lambda made: made.file("_3B_AnalyticMS_SR.tif").write_text("<html>quota exceeded</html>"),
        SceneReadError,
        OSError,
        "_SR.tif cannot be read",
    ),
    "empty image": (
        lambda made: made.file("_3B_AnalyticMS_SR.tif").write_bytes(b""),
        SceneReadError,
        OSError,
        "_SR.tif cannot be read",
    ),
    "eight bands": (
        lambda made: made.image(np.ones((8, 6, 5), "uint16")),
        SceneError,
        ValueError,
        "expected 4 bands of uint16, found 8 of uint16",
    ),
    "floats": (
        lambda made: made.image(np.ones((4, 6, 5), "float32")),
        SceneError,
        ValueError,
        "expected 4 bands of uint16, found 4 of float32",
    ),
    "no CRS": (lambda made: made.image(crs=None), SceneGridError, GridError, "it has no CRS"),
    "no grid": (_remove_grid, SceneGridError, GridError, "not georeferenced"),
    "geographic CRS": (
        lambda made: made.image(crs="EPSG:4326", transform=Affine(1e-4, 0, -135, 0, -1e-4, 68)),
        SceneGridError,
        GridError,
        "is in WGS 84; expected a projected CRS in metres",
    ),
    "feet": (lambda made: made.image(crs="EPSG:2225"), SceneGridError, GridError, "foot"),
    "rotated": (
        lambda made: made.image(transform=Affine(3, 0.1, 500_001, -0.1, -3, 7_600_002)),
        SceneGridError,
        GridError,
        "rotated",
    ),
    "upside down": (
        lambda made: made.image(transform=Affine(3, 0, 500_001, 0, 3, 7_600_002)),
        SceneGridError,
        GridError,
        "mirrored",
    ),
    "oblong pixels": (
        lambda made: made.image(transform=Affine(3, 0, 500_001, 0, -4, 7_600_002)),
        SceneGridError,
        GridError,
        r"3\.0 m × 4\.0 m",
    ),
    "no metadata": (
        lambda made: made.file("_metadata.json").unlink(),
        SceneNotFoundError,
        FileNotFoundError,
        r"metadata file: expected \*_metadata\.json, found .*_SR\.tif",
    ),
    "two metadata files": (
        lambda made: made.metadata(ending="_copy_metadata.json"),
        SceneError,
        ValueError,
        "2 files where one metadata file",
    ),
    "no JSON": (lambda made: made.metadata("{"), SceneReadError, OSError, "_metadata.json is no JSON"),
    "no text": (
        lambda made: made.file("_metadata.json").write_bytes(b"\xff\xfe\x00"),
        SceneReadError,
        OSError,
        "_metadata.json is no JSON",
    ),
    "lists without end": (
        lambda made: made.file("_metadata.json").write_text("[" * 100_000),
        SceneReadError,
        OSError,
        "_metadata.json is no JSON",
    ),
    "JSON of something else": (lambda made: made.metadata([1, 2]), SceneError, ValueError, "no metadata of Planet"),
    "odd properties": (
        lambda made: made.metadata({"properties": "none"}),
        SceneError,
        ValueError,
        "no metadata of Planet",
    ),
    "angle as text": (
        lambda made: made.metadata({"properties": {"sun_azimuth": "132.8"}}),
        SceneError,
        ValueError,
        "sun_azimuth is '132.8'",
    ),
    "angle that cannot be": (
        lambda made: made.metadata({"properties": {"sun_elevation": 133}}),
        SceneError,
        ValueError,
        "sun_elevation is 133; expected degrees, -90 to 90",
    ),
    "NaN as angle": (
        lambda made: made.metadata('{"properties": {"sun_azimuth": NaN}}'),
        SceneError,
        ValueError,
        "sun_azimuth is nan",
    ),
    "time that cannot be": (
        lambda made: made.metadata({"properties": {"acquired": "yesterday"}}),
        SceneError,
        ValueError,
        "acquired is 'yesterday'",
    ),
    "time as number": (
        lambda made: made.metadata({"properties": {"acquired": 20210821}}),
        SceneError,
        ValueError,
        "acquired is 20210821",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_deliveries_are_named(delivery, damage):
    made = delivery().complete()
    harm, error, standard, message = DAMAGE[damage]
    harm(made)
    with pytest.raises(error, match=message) as caught:
        load_planet_scene(made.folder)
    assert isinstance(caught.value, DartsError)
    assert isinstance(caught.value, standard)
    assert str(made.folder) in str(caught.value)


@pytest.mark.filterwarnings("default::rasterio.errors.NotGeoreferencedWarning")
def test_image_without_grid_is_an_error_where_warnings_are_none(delivery):
    made = delivery().complete()
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        made.image(crs=None, transform=None)
    with pytest.raises(SceneGridError, match="no CRS"), pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        load_planet_scene(made.folder)


def test_folder_with_another_name_is_an_error(delivery):
    made = delivery("my_scene").complete()
    with pytest.raises(SceneNameError, match="my_scene"):
        load_planet_scene(made.folder)


def test_footprint_is_the_outline_of_the_image(shared_data):
    with rasterio.open(next((shared_data / PEEL).glob("*_SR.tif"))) as source:
        bounds, crs = source.bounds, source.crs
    geometry = get_planet_geometry(shared_data / PEEL)
    assert geometry.crs == crs
    assert geometry.boundingbox.bbox == tuple(bounds)
    assert geometry.area == (bounds.right - bounds.left) * (bounds.top - bounds.bottom)


def test_footprint_needs_no_pixels_but_an_image(delivery):
    made = delivery()
    made.image(np.zeros((4, 4000, 4000), "uint16"), sparse_ok=True, compress="deflate", tiled=True)
    assert get_planet_geometry(made.folder).area == 12_000**2
    made.file("_3B_AnalyticMS_SR.tif").write_text("no image")
    with pytest.raises(SceneReadError, match="cannot be read"):
        get_planet_geometry(made.folder)
    made.file("_3B_AnalyticMS_SR.tif").unlink()
    with pytest.raises(SceneNotFoundError, match="found nothing"):
        get_planet_geometry(made.folder)
    made.image(crs=None)
    with pytest.raises(SceneGridError, match="no CRS"):
        get_planet_geometry(made.folder)


def test_an_image_without_a_valid_pixel_is_empty(delivery):
    made = delivery().complete()
    made.image(np.zeros((4, 6, 5), "uint16"))
    with pytest.raises(EmptySceneError, match="holds no data: all its pixels are 0") as error:
        load_planet_scene(made.folder)
    assert isinstance(error.value, SceneError)
    assert isinstance(error.value, NoDataError)


def test_a_single_number_in_a_single_band_is_data(delivery):
    made = delivery().complete()
    numbers = np.zeros((4, 6, 5), "uint16")
    numbers[3, 5, 4] = 1
    made.image(numbers)
    assert load_planet_scene(made.folder).nir.count() == 1


def test_a_mask_that_leaves_nothing_usable_makes_no_scene_empty(delivery):
    made = delivery().complete()
    udm = np.zeros((8, 6, 5), "uint8")
    udm[7] = 1
    made.mask(udm)
    scene = load_planet_scene(made.folder)
    assert not load_planet_masks(made.folder, scene).quality_data_mask.any()


def test_the_path_of_an_image_is_no_scene_but_names_one(delivery):
    made = delivery()
    made.metadata()
    image = made.image(ending="_3B_AnalyticMS_SR_clip.tif")
    with pytest.raises(
        SceneNotFoundError, match=r"\.tif is a file; expected a folder with .* is named by (\S+)\. find"
    ) as error:
        load_planet_scene(image or made.file("_3B_AnalyticMS_SR_clip.tif"))
    named = re.search(r"named by (\S+)\. find", str(error.value))[1]
    assert load_planet_scene(named).equals(load_planet_scene(made.folder))
