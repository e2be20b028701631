"""Earth Engine end to end on this machine, against a stand-in that earthengine-api takes for the real one."""

import dataclasses

import ee
import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import box, mapping, shape

from darts_acquisition import (
    get_aoi_from_gee_s2_sr_scene_ids,
    get_gee_s2_sr_scene_ids_from_geodataframe,
    get_gee_s2_sr_scene_ids_from_tile_ids,
    load_cdse_s2_sr_scene,
    load_gee_s2_sr_scene,
    search_gee_s2_sr,
)
from darts_acquisition.errors import LoginError, SceneNameError, SceneNotFoundError, ServiceError
from darts_acquisition.io.settings import EarthEngineSettings, RequestLimits
from darts_acquisition.scenes.raw import REFLECTANCE_BANDS, quality_from_scl
from darts_acquisition.scenes.store import RawStore
from darts_utils import ParameterError
from support.earthengine_server import connect, serve_earth_engine
from support.s3_server import environment_of, serve_s3
from support.sentinel2 import (
    BUCKET,
    CDSE_NAME,
    GEE_NAME,
    NO_NAPS,
    cdse_settings,
    earth_image,
    expected_reflectance,
    publish,
    random_scene,
)
from support.stac_server import serve_stac

SETTINGS = EarthEngineSettings(limits=RequestLimits(parallel=4, timeout_s=10, retry=NO_NAPS))
FOUR = ("B02", "B03", "B04", "B08")


@pytest.fixture
def images():
    return []


@pytest.fixture
def server(images):
    with serve_earth_engine(images, ("COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S2_SR")) as running:
        connect(running)
        ee.data.setMaxRetries(0)
        running.requests.clear()
        yield running


@pytest.mark.parametrize("stored", [True, False])
def test_a_scene_is_loaded_as_it_was_taken(server, images, tmp_path, monkeypatch, stored):
    monkeypatch.setattr("darts_acquisition.sentinel2.gee._BLOCK_PX", 25)
    scene = random_scene(36, offset=0.0)
    images.append(earth_image(scene))
    tile = load_gee_s2_sr_scene(GEE_NAME, tmp_path if stored else None, "all", settings=SETTINGS)
    for band in REFLECTANCE_BANDS:
        expected = expected_reflectance(scene.raw[band.number], 0.0, band.factor).astype("float32")
        np.testing.assert_array_equal(tile[band.name], expected)
    np.testing.assert_array_equal(tile.s2_scl, np.kron(scene.raw["SCL"], np.ones((2, 2), "uint8")))
    missing = np.any([scene.raw[number] == 0 for number in FOUR], axis=0)
    np.testing.assert_array_equal(tile.quality_data_mask, np.where(missing, 0, quality_from_scl(tile.s2_scl.values)))
    assert missing.any()
    assert tile.attrs == {
        "tile_id": GEE_NAME,
        "time": "2021-08-21T21:00:21.024000Z",
        "azimuth": 178.5,
        "elevation": 33.25,
        "s2_source": "gee",
        "s2_scene_id": GEE_NAME,
        "s2_mgrs_tile": "08WMA",
        "s2_cloud_cover": 3.5,
        "s2_snow_cover": 0.5,
        "s2_platform": "sentinel-2a",
        "s2_processing_baseline": "05.00",
    }


@pytest.mark.slow
def test_both_sources_give_the_same_tile(server, images, tmp_path):
    """The Data Space delivers the offset, the harmonised collection has it taken off: one scene, two encodings."""
    scene = random_scene(60, 4)
    harmonised = dataclasses.replace(scene, raw=dict(scene.raw), offset=0.0)
    for number in scene.raw:
        if number != "SCL":
            scene.raw[number] = np.where(scene.raw[number] == 0, 0, np.maximum(scene.raw[number], 1001)).astype(
                "uint16"
            )
            harmonised.raw[number] = np.where(scene.raw[number] == 0, 0, scene.raw[number] - 1000).astype("uint16")
    images.append(earth_image(harmonised))
    gee = load_gee_s2_sr_scene(GEE_NAME, tmp_path / "gee", "all", settings=SETTINGS)
    with serve_s3() as s3, environment_of(s3):
        s3.bucket(BUCKET)
        with serve_stac([publish(scene, s3, tmp_path)]) as stac:
            settings = cdse_settings(stac.url, s3.url)
            cdse = load_cdse_s2_sr_scene(CDSE_NAME, tmp_path / "cdse", "all", settings=settings)
    assert list(gee.data_vars) == list(cdse.data_vars)
    assert gee.attrs.keys() == cdse.attrs.keys()
    for name in ("time", "azimuth", "elevation", "s2_mgrs_tile", "s2_cloud_cover", "s2_platform"):
        assert gee.attrs[name] == cdse.attrs[name]
    for name in gee.data_vars:
        assert gee[name].dtype == cdse[name].dtype
        assert gee[name].attrs == cdse[name].attrs
        np.testing.assert_allclose(gee[name], cdse[name], atol=1e-7)
    np.testing.assert_array_equal(gee.quality_data_mask, cdse.quality_data_mask)
    assert gee.odc.geobox == cdse.odc.geobox


@pytest.mark.parametrize(("day", "offset"), [("2022-01-24", 0.0), ("2022-01-25", -0.1)])
def test_without_harmonisation_the_offset_follows_the_day(server, images, tmp_path, day, offset):
    scene = random_scene(12, bands=FOUR, time=f"{day}T21:00:21+00:00")
    images.append(earth_image(scene, "COPERNICUS/S2_SR"))
    tile = load_gee_s2_sr_scene(GEE_NAME, tmp_path, collection="COPERNICUS/S2_SR", settings=SETTINGS)
    np.testing.assert_array_equal(tile.blue, expected_reflectance(scene.raw["B02"], offset).astype("float32"))
    # A scene of the same name in the other collection is another scene.
    assert RawStore(tmp_path).bands("gee", GEE_NAME) == set()
    assert RawStore(tmp_path).bands("gee-S2_SR", GEE_NAME) == {*FOUR, "SCL"}


def test_no_request_is_larger_than_the_service_allows(server, images, monkeypatch):
    """The stand-in refuses what Earth Engine would."""
    monkeypatch.setattr("darts_acquisition.sentinel2.gee._BLOCK_PX", 20)
    monkeypatch.setattr("support.earthengine_server.MOST_BYTES", 20 * 20 * 2)
    images.append(earth_image(random_scene(60, bands=FOUR)))
    load_gee_s2_sr_scene(GEE_NAME, settings=SETTINGS)
    asked = [request.json["grid"]["dimensions"] for request in server.requests if "computePixels" in request.path]
    assert len(asked) == 4 * 9 + 4
    from darts_acquisition.sentinel2 import gee

    monkeypatch.undo()
    assert gee._BLOCK_PX**2 * 2 < 48 * 1024**2


def test_what_is_stored_needs_no_service(server, images, tmp_path):
    images.append(earth_image(random_scene(12, bands=FOUR)))
    online = load_gee_s2_sr_scene(GEE_NAME, tmp_path, settings=SETTINGS)
    server.requests.clear()
    assert load_gee_s2_sr_scene(GEE_NAME, tmp_path, offline=True, settings=SETTINGS).identical(online)
    assert not server.requests


@pytest.fixture
def many(server, images, monkeypatch):
    monkeypatch.setattr("darts_acquisition.sentinel2.gee._PAGE_SIZE", 5)
    for month in range(1, 13):
        tile = "08WMA" if month % 2 else "33UVP"
        place = {} if month % 2 else {"crs": "EPSG:32633", "left": 399_960.0, "top": 5_900_040.0}
        name = f"2021{month:02}21T210021_2021{month:02}21T210020_T{tile}"
        scene = random_scene(
            12, bands=("B02",), gee_name=name, tile=tile, cloud=float(month), snow=12.0 - month, **place
        )
        scene.time = f"2021-{month:02}-21T21:00:21+00:00"
        images.append(earth_image(scene))


def months_of(names):
    return [int(name[4:6]) for name in names]


@pytest.mark.parametrize(
    ("conditions", "months"),
    [
        ({}, [1, 3, 5, 7, 9, 11]),
        ({"max_cloud_cover": 5}, [1, 3, 5]),
        ({"max_cloud_cover": 100, "max_snow_cover": 5}, [7, 9, 11]),
        ({"max_cloud_cover": 0}, []),
        ({"start_date": "2021-03-21", "end_date": "2021-05-21"}, [3, 5]),
        ({"start_date": "2021-03", "end_date": "2021-07"}, [3, 5, 7]),
        ({"months": [3, 7], "years": [2020, 2021]}, [3, 7]),
        ({"start_date": "2021-09-21", "end_date": "9999-12-31"}, [9, 11]),
        ({"start_date": "9999-01"}, []),
        ({"end_date": "2014-12-31"}, []),
    ],
)
def test_scenes_are_found_by_tile_and_time(many, conditions, months):
    assert months_of(get_gee_s2_sr_scene_ids_from_tile_ids(["08WMA"], settings=SETTINGS, **conditions)) == months


def test_all_pages_are_read(many):
    found = search_gee_s2_sr(tile_ids=["08WMA", "33UVP"], settings=SETTINGS)
    assert months_of(sorted(found.index)) == list(range(1, 13))
    assert list(found.columns) == ["time", "tile_id", "cloud_cover", "snow_cover", "download_bytes", "geometry"]
    assert found["download_bytes"].isna().all()
    assert found.crs.to_epsg() == 4326


def test_scenes_are_found_by_area(many, images):
    place = images[1].footprint.buffer(-0.0001)
    aoi = gpd.GeoDataFrame(geometry=[place], crs="EPSG:4326").to_crs("EPSG:25833")
    assert months_of(get_gee_s2_sr_scene_ids_from_geodataframe(aoi, settings=SETTINGS)) == [2, 4, 6, 8, 10, 12]
    beside = gpd.GeoDataFrame(geometry=[box(13.6, 53.3, 13.7, 53.4)], crs="EPSG:4326")
    assert get_gee_s2_sr_scene_ids_from_geodataframe(beside, settings=SETTINGS) == []


def test_the_area_of_scenes(many, images):
    name = images[0].asset.rpartition("/")[2]
    found = get_aoi_from_gee_s2_sr_scene_ids([name], settings=SETTINGS)
    assert found.geometry.iloc[0].equals_exact(shape(images[0].footprint), 1e-9)
    with pytest.raises(SceneNotFoundError, match="1 of 2 scenes"):
        get_aoi_from_gee_s2_sr_scene_ids([name, GEE_NAME], settings=SETTINGS)


def test_footprints_are_cut_at_the_antimeridian(server, images):
    """The oracle is the scene's square in its own projection, at random places on both sides."""
    to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True)
    middle, _ = to_utm.transform(180, 68.5)
    scene = random_scene(600, bands=("B02",), crs="EPSG:32601", left=round(middle, -1) - 2_000, top=7_600_020.0)
    images.append(earth_image(scene))
    (outline,) = get_aoi_from_gee_s2_sr_scene_ids([GEE_NAME], settings=SETTINGS).geometry
    assert outline.is_valid
    assert outline.geom_type == "MultiPolygon"
    assert outline.bounds[0] == -180
    assert outline.bounds[2] == 180
    (left, top), (right, bottom) = scene.affine(10) * (0, 0), scene.affine(10) * (600, 600)
    random = np.random.default_rng(0)
    lon, lat = random.uniform(179.9, 180.2, 5_000), random.uniform(68.3, 68.6, 5_000)
    lon = np.where(lon > 180, lon - 360, lon)
    x, y = to_utm.transform(lon, lat)
    inside = np.minimum.reduce([x - left, right - x, y - bottom, top - y])
    clear = np.abs(inside) > 10
    np.testing.assert_array_equal(shapely.intersects_xy(outline, lon, lat)[clear], inside[clear] > 0)
    assert set(np.sign(lon[inside > 0])) == {-1, 1}


def test_mistakes(server, images, tmp_path):
    with pytest.raises(SceneNameError, match="a scene of the Copernicus Data Space"):
        load_gee_s2_sr_scene(CDSE_NAME, tmp_path, settings=SETTINGS)
    with pytest.raises(ParameterError, match="collection is"):
        load_gee_s2_sr_scene(GEE_NAME, tmp_path, collection="COPERNICUS/S2", settings=SETTINGS)
    with pytest.raises(ParameterError, match="Nothing says which scenes"):
        search_gee_s2_sr(settings=SETTINGS)
    assert not server.requests
    with pytest.raises(SceneNotFoundError, match="HARMONIZED has no scene"):
        load_gee_s2_sr_scene(GEE_NAME, tmp_path, settings=SETTINGS)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"properties": None},
        {"properties": {"system:time_start": None}},
        {"properties": {"CLOUDY_PIXEL_PERCENTAGE": "few"}},
        {"geometry": None},
        {"geometry": {"type": "Polygon"}},
        {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}},
    ],
)
def test_answer_that_is_no_list_of_scenes_is_a_fault_of_the_service(monkeypatch, change):
    properties = {"system:index": GEE_NAME, "system:time_start": 1_629_579_621_000, "MGRS_TILE": "08WMA"}
    feature = {"properties": properties, "geometry": mapping(box(-135, 68, -134, 69))}
    answer = [feature]
    monkeypatch.setattr("darts_acquisition.sentinel2.gee.EarthEngineClient.ask", lambda *_: answer)
    assert list(search_gee_s2_sr(tile_ids=["08WMA"]).index) == [GEE_NAME]
    if change.get("properties"):
        change = {"properties": properties | change["properties"]}
    answer[0] = feature | change
    with pytest.raises(ServiceError, match="the answer is no list of scenes"):
        search_gee_s2_sr(tile_ids=["08WMA"])


def test_faults(server, images, tmp_path):
    scene = random_scene(12, bands=FOUR)
    images.append(earth_image(scene))
    server.inject(path="*computePixels", status=429, retry_after="1", times=2)
    server.inject(path="*value:compute", status=503, times=1)
    tile = load_gee_s2_sr_scene(GEE_NAME, tmp_path / "one", settings=SETTINGS)
    np.testing.assert_array_equal(tile.nir, expected_reflectance(scene.raw["B08"], 0.0).astype("float32"))
    server.inject(path="*computePixels", status=429, times=99)
    with pytest.raises(ServiceError, match=r"Fetching B2 of .*429.*after 3 attempts"):
        load_gee_s2_sr_scene(GEE_NAME, tmp_path / "two", settings=SETTINGS)
    server.faults.clear()
    server.inject(path="*value:compute", status=403, times=1)
    with pytest.raises(LoginError, match="refuses the login"):
        load_gee_s2_sr_scene(GEE_NAME, tmp_path / "three", settings=SETTINGS)
