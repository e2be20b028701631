"""The Copernicus Data Space end to end on this machine: a STAC API and object storage that hold scenes like its own."""

import copy
import dataclasses
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import MultiPolygon, Point, box, mapping, shape

from darts_acquisition.errors import (
    LoginError,
    SceneError,
    SceneGridError,
    SceneNameError,
    SceneNotFoundError,
    ServiceError,
)
from darts_acquisition.io.retry import FetchCancellation, RetryPolicy, StoppedError, cancellable, nap
from darts_acquisition.io.settings import RequestLimits
from darts_acquisition.scenes.bands import REFLECTANCE_BANDS, SCL, quality_from_scl
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.sentinel2 import (
    CDSESettings,
    ChecksumError,
    RawStoreError,
    Sentinel2Source,
    download_cdse_s2_sr_scene,
    get_aoi_from_cdse_s2_sr_scene_ids,
    get_cdse_s2_sr_scene_ids_from_geodataframe,
    get_cdse_s2_sr_scene_ids_from_tile_ids,
    load_cdse_s2_sr_scene,
    search_cdse_s2_sr,
)
from darts_acquisition.sentinel2.item import asset_of, metadata_of
from darts_utils import ParameterError
from support.local_server import Answer, LocalServer
from support.s3_server import KEYS, environment_of, serve_s3, storage_between
from support.sentinel2 import BUCKET, CDSE_NAME, Scene, cdse_settings, expected_reflectance, publish, random_scene
from support.stac_server import serve_stac

FOUR = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def s3():
    with serve_s3() as server:
        server.bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def scene():
    return random_scene(60)


@pytest.fixture(scope="module")
def published(s3, scene, tmp_path_factory):
    return publish(scene, s3, tmp_path_factory.mktemp("jp2"))


@contextmanager
def catalogue(s3, items, page_size=10):
    with serve_stac(items, page_size) as stac, environment_of(s3):
        yield stac, cdse_settings(stac.url, s3.url)


@pytest.fixture
def service(s3, published):
    with catalogue(s3, [copy.deepcopy(published)]) as (stac, settings):
        yield stac, settings


def check_tile(tile, scene, numbers=FOUR):
    for band in REFLECTANCE_BANDS:
        if band.number in numbers:
            expected = expected_reflectance(scene.raw[band.number], scene.offset, band.factor).astype("float32")
            np.testing.assert_array_equal(tile[band.name], expected)
    np.testing.assert_array_equal(tile.s2_scl, np.kron(scene.raw["SCL"], np.ones((2, 2), "uint8")))
    empty = np.any([scene.raw[number] == 0 for number in set(FOUR) & set(numbers)], axis=0)
    np.testing.assert_array_equal(tile.quality_data_mask, np.where(empty, 0, quality_from_scl(tile.s2_scl.values)))


@pytest.mark.parametrize("stored", [True, False])
def test_a_scene_is_loaded_as_it_was_taken(service, scene, tmp_path, stored):
    _, settings = service
    tile = load_cdse_s2_sr_scene(CDSE_NAME, tmp_path / "raw" if stored else None, "all", settings=settings)
    check_tile(tile, scene, scene.raw)
    assert tile.odc.geobox.crs.epsg == 32608
    assert tuple(tile.odc.geobox.affine)[:6] == tuple(scene.affine(10))[:6]
    assert tile.attrs == {
        "tile_id": CDSE_NAME,
        "time": "2021-08-21T21:00:21.024000Z",
        "azimuth": 178.5,
        "elevation": 33.25,
        "s2_source": "cdse",
        "s2_scene_id": CDSE_NAME,
        "s2_mgrs_tile": "08WMA",
        "s2_cloud_cover": 3.5,
        "s2_snow_cover": 0.5,
        "s2_platform": "sentinel-2a",
        "s2_processing_baseline": "05.00",
    }


def test_what_is_stored_needs_no_service(service, scene, tmp_path):
    stac, settings = service
    online = load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    asked = len(stac.requests)
    assert load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, offline=True, settings=settings).identical(online)
    assert load_cdse_s2_sr_scene(f"{CDSE_NAME}.SAFE", tmp_path, settings=settings).identical(online)
    assert len(stac.requests) == asked
    more = load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, ["red", "swir16"], settings=settings)
    assert list(more.data_vars) == ["red", "swir16", "s2_scl", "quality_data_mask"]
    assert RawStore(tmp_path).bands("cdse", CDSE_NAME) == {*FOUR, "SCL", "B11"}
    assert not list((tmp_path / ".downloads").glob("*/*"))


def test_before_baseline_4_there_is_no_offset(s3, tmp_path):
    old = random_scene(12, 5, FOUR, offset=0.0, baseline="02.14", name=CDSE_NAME.replace("N0500", "N0214"))
    item = publish(old, s3, tmp_path)
    for silent in (False, True):
        if silent:  # an item that says nothing follows its baseline
            for name in ("B02_10m", "B03_10m", "B04_10m", "B08_10m"):
                del item["assets"][name]["raster:offset"]
        with catalogue(s3, [item]) as (_, settings):
            check_tile(load_cdse_s2_sr_scene(old.name, settings=settings), old)
    for version, offset in (
        ("04.00", -0.1),
        ("05.11", -0.1),
        ("5.0", -0.1),
        ("N0500", -0.1),
        ("03.01", 0),
        ("0214", 0),
    ):
        item["properties"]["processing:version"] = version
        assert asset_of(item, REFLECTANCE_BANDS[1]).grid.offset == offset
    item["properties"]["processing:version"] = "99.99"
    with pytest.raises(SceneError, match=r"version 99\.99, as that is none of ESA's own"):
        asset_of(item, REFLECTANCE_BANDS[1])
    del item["properties"]["processing:version"]
    with pytest.raises(SceneError, match="neither raster:offset nor processing:version"):
        asset_of(item, REFLECTANCE_BANDS[1])


def test_the_real_item(shared_data):
    file = next((shared_data / "cdse_stac").glob("*.json"))
    item = json.loads(file.read_text())
    metadata = metadata_of(item)
    assert metadata.attrs["azimuth"] == pytest.approx(171.648044763495)
    assert metadata.attrs["elevation"] == pytest.approx(15.295893422957406)
    assert metadata.attrs["s2_mgrs_tile"] == "13VEK"
    for band in (*REFLECTANCE_BANDS, SCL):
        asset = asset_of(item, band)
        assert asset.grid.crs == "EPSG:32613"
        assert asset.grid.transform == (band.resolution, 0, 499_980, 0, -band.resolution, 7_000_020)
        assert asset.grid.shape == (109_800 // band.resolution,) * 2
        assert (asset.grid.scale, asset.grid.offset) == ((1, 0) if band is SCL else (1e-4, -0.1))
        assert asset.checksum.startswith("1620")
        assert asset.href.startswith("s3://eodata/")
    assert asset_of(item, REFLECTANCE_BANDS[1]).size == 134_936_576


def test_the_real_item_leads_to_its_files(s3, shared_data, tmp_path):
    """The real item as it is, but for files that are smaller: found by tile, time, cloud and snow, and loaded."""
    item = json.loads(next((shared_data / "cdse_stac").glob("*.json")).read_text())
    place = {"crs": "EPSG:32613", "left": 499_980.0, "top": 7_000_020.0, "tile": "13VEK"}
    scene = random_scene(12, 8, FOUR, name=item["id"], **place)
    made = publish(scene, s3, tmp_path)
    for name, asset in made["assets"].items():
        assert asset.keys() <= item["assets"][name].keys()
        changed = ("href", "file:size", "file:checksum", "proj:shape", "proj:transform")
        item["assets"][name] |= {key: asset[key] for key in changed}
    assert made["properties"].keys() <= item["properties"].keys()
    with catalogue(s3, [item]) as (_, settings):
        conditions = {"start_date": "2022-02-17", "end_date": "2022-02-17", "max_snow_cover": 100}
        cloud = item["properties"]["eo:cloud_cover"]
        names = get_cdse_s2_sr_scene_ids_from_tile_ids(
            ["13VEK"], settings=settings, max_cloud_cover=min(100, cloud + 1), **conditions
        )
        assert names == [item["id"]]
        tile = load_cdse_s2_sr_scene(names[0], tmp_path / "raw", settings=settings)
    check_tile(tile, scene)
    assert tile.attrs["s2_processing_baseline"] == "05.10"
    assert tile.attrs["elevation"] == pytest.approx(15.295893422957406)


def test_the_peel_scene(s3, shared_data, tmp_path):
    with rasterio.open(next((shared_data / "peel").glob("S2_*.tif"))) as source:
        pixels, affine = source.read()[:, :246, :246], source.transform
    raw = {number: pixels[index] for number, index in zip(FOUR, (0, 1, 2, 6), strict=True)}
    raw["SCL"] = np.full((123, 123), 4, "uint8")
    name = CDSE_NAME.replace("R100", "R057")
    peel = Scene(raw, name=name, left=affine.c, top=affine.f)
    with catalogue(s3, [publish(peel, s3, tmp_path)]) as (_, settings):
        tile = load_cdse_s2_sr_scene(name, tmp_path / "raw", settings=settings)
    check_tile(tile, peel)
    assert tile.odc.geobox.affine == affine


# Search


@pytest.fixture
def many(s3, published):
    """Twelve scenes of two tiles, one per month of 2021, in pages of five."""
    items = []
    for month in range(1, 13):
        item = copy.deepcopy(published)
        tile = "08WMA" if month % 2 else "33UVP"
        item["id"] = f"S2A_MSIL2A_2021{month:02}21T210021_N0500_R100_T{tile}_20230201T010203"
        item["properties"] |= {"datetime": f"2021-{month:02}-21T21:00:21.024000Z", "grid:code": f"MGRS-{tile}"}
        item["properties"] |= {"eo:cloud_cover": month * 1.0, "eo:snow_cover": 12.0 - month}
        if tile == "33UVP":
            item["geometry"] = json.loads(json.dumps(box(13.0, 52.0, 14.5, 53.0).__geo_interface__))
        items.append(item)
    with catalogue(s3, items, 5) as (stac, settings):
        stac.respond.__self__.page_size = 5
        yield stac, settings


def months_of(names):
    return [int(name[15:17]) for name in names]


@pytest.mark.parametrize(
    ("conditions", "months"),
    [
        ({}, [1, 3, 5, 7, 9, 11]),
        ({"max_cloud_cover": 5}, [1, 3, 5]),
        ({"max_cloud_cover": 100, "max_snow_cover": 5}, [7, 9, 11]),
        ({"max_cloud_cover": 0}, []),
        ({"start_date": "2021-03-21", "end_date": "2021-05-21"}, [3, 5]),
        ({"start_date": "2021-03-22", "end_date": "2021-05-20"}, []),
        ({"start_date": "2021-03", "end_date": "2021-07"}, [3, 5, 7]),
        ({"start_date": "2021-08"}, [9, 11]),
        ({"months": [1, 2, 3]}, [1, 3]),
        ({"months": [3, 7], "years": [2020, 2021]}, [3, 7]),
        ({"years": [2020]}, []),
    ],
)
def test_scenes_are_found_by_tile_and_time(many, conditions, months):
    _, settings = many
    names = get_cdse_s2_sr_scene_ids_from_tile_ids(["08WMA"], settings=settings, **conditions)
    assert months_of(names) == months


def test_months_and_years_are_one_query_each(many):
    stac, settings = many
    search_cdse_s2_sr(tile_ids=["08WMA"], months=[6, 7], years=[2020, 2021], settings=settings)
    spans = [request.json["datetime"] for request in stac.requests if request.path == "/search"]
    assert spans == [
        f"{year}-{month}-01T00:00:00.000Z/{year}-{month}-{last}T23:59:59.999Z"
        for year in (2020, 2021)
        for month, last in (("06", 30), ("07", 31))
    ]


def test_all_pages_are_read(many):
    stac, settings = many
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts_acquisition.scenes.search._PAGE_SIZE", 5)
        found = search_cdse_s2_sr(tile_ids=["8wma", "T33UVP"], settings=settings)
    assert months_of(found.index) == list(range(1, 13))
    assert stac.paths().count("/search") == 3
    assert list(found.columns) == ["time", "tile_id", "cloud_cover", "snow_cover", "download_bytes", "geometry"]
    assert found.crs.to_epsg() == 4326


def test_a_search_says_how_much_a_download_is(s3, published, tmp_path):
    """What is fetched into the store for the default bands, file by file; unknown where a size is not said."""
    silent = copy.deepcopy(published) | {"id": CDSE_NAME.replace("R100", "R101")}
    del silent["assets"]["B03_10m"]["file:size"]
    with catalogue(s3, [published, silent]) as (stac, settings), storage_between(s3) as storage:
        found = search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)["download_bytes"]
        here = cdse_settings(stac.url, storage.url)
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=here)
    fetched = {path.rpartition("/")[2] for path in storage.paths()}
    assets = published["assets"].values()
    assert len(fetched) == 5
    assert found[CDSE_NAME] == sum(each["file:size"] for each in assets if each["href"].rpartition("/")[2] in fetched)
    assert np.isnan(found[silent["id"]])


def test_scenes_are_found_by_area(many):
    _, settings = many
    berlin = gpd.GeoDataFrame(geometry=[box(13.3, 52.4, 13.5, 52.6)], crs="EPSG:4326").to_crs("EPSG:25833")
    names = get_cdse_s2_sr_scene_ids_from_geodataframe(berlin, settings=settings, max_cloud_cover=6)
    assert months_of(names) == [2, 4, 6]
    near = gpd.GeoDataFrame(geometry=[Point(14.505, 52.5)], crs="EPSG:4326")  # 300 m beside the footprint
    assert get_cdse_s2_sr_scene_ids_from_geodataframe(near, settings=settings) == []


def test_scenes_are_found_across_the_antimeridian(s3, published):
    """Footprints are cut at the antimeridian, as catalogues have them; one side of the area lies behind it."""
    places = {
        "across": MultiPolygon([box(179.2, 70, 180, 71), box(-180, 70, -179.5, 71)]),
        "west": box(177.0, 70, 178.4, 71),
        "east": box(-179.4, 70, -178.2, 71),
        "behind": box(-176.9, 70, -175, 71),
        "greenwich": box(-1, 70, 1, 71),
    }
    items, names = [], {}
    for number, (place, footprint) in enumerate(places.items()):
        names[place] = CDSE_NAME.replace("R100", f"R{number:03}")
        items.append(published | {"id": names[place], "geometry": json.loads(json.dumps(mapping(footprint)))})
    with catalogue(s3, items) as (_, settings):
        crossing = gpd.GeoDataFrame(geometry=[box(178.3, 70.2, 183, 70.8)], crs="EPSG:4326")
        found = get_cdse_s2_sr_scene_ids_from_geodataframe(crossing, settings=settings)
        assert found == sorted(names[place] for place in ("across", "west", "east"))
        pole = gpd.GeoDataFrame(geometry=[Point(0, 0).buffer(2.3e6)], crs="EPSG:3413")  # all that lies north of 69°
        assert get_cdse_s2_sr_scene_ids_from_geodataframe(pole, settings=settings) == sorted(names.values())


def test_a_service_that_ignores_conditions_is_checked(many, published):
    stac, settings = many
    api = stac.respond.__self__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("support.stac_server._matches", lambda item, search: True)
        names = get_cdse_s2_sr_scene_ids_from_tile_ids(
            ["08WMA"], settings=settings, max_cloud_cover=5, start_date="2021-02", end_date="2021-12"
        )
    assert months_of(names) == [3, 5]
    assert len(api.items) == 12


def test_the_area_of_scenes(many, published):
    _, settings = many
    name = CDSE_NAME.replace("20210821", "20210721")
    found = get_aoi_from_cdse_s2_sr_scene_ids([name], settings=settings)
    assert found.geometry.iloc[0].equals(shape(published["geometry"]))
    with pytest.raises(SceneNotFoundError, match="1 of 2 scenes"):
        get_aoi_from_cdse_s2_sr_scene_ids([name, CDSE_NAME.replace("R100", "R101")], settings=settings)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"start_date": "2021-09-01", "end_date": "2021-08-01"}, "lies after end_date"),
        ({"start_date": "2021-02-30"}, "start_date is '2021-02-30'"),
        ({"end_date": ""}, "end_date is ''"),
        ({"months": [13]}, "months holds 13"),
        ({"months": []}, "is empty"),
        ({"years": [1999]}, "years holds 1999"),
        ({"max_cloud_cover": -1}, "max_cloud_cover is -1"),
        ({"tile_ids": ["33UVI"]}, "'33UVI' is no MGRS tile"),
        ({"tile_ids": ["61UVP"]}, "'61UVP' is no MGRS tile"),
        ({"tile_ids": None}, "Nothing says which scenes"),
    ],
)
def test_mistakes_are_found_before_anything_is_asked(service, conditions, message):
    stac, settings = service
    with pytest.raises(ParameterError, match=message):
        search_cdse_s2_sr(**({"tile_ids": ["08WMA"]} | conditions), settings=settings)
    assert not stac.requests


# What goes wrong


def test_a_name_of_the_other_source_says_so(service, tmp_path):
    stac, settings = service
    with pytest.raises(SceneNameError, match=r"Earth Engine .*raw_data_source 'gee'"):
        load_cdse_s2_sr_scene("20210821T210021_20210821T210020_T08WMA", tmp_path, settings=settings)
    with pytest.raises(SceneNameError, match="no name of a Sentinel-2 L2A scene"):
        download_cdse_s2_sr_scene(CDSE_NAME.replace("MSIL2A", "MSIL1C"), tmp_path, settings=settings)
    assert not stac.requests


def test_a_scene_that_does_not_exist(service, tmp_path):
    stac, settings = service
    with pytest.raises(SceneNotFoundError, match="has no scene S2B_"):
        download_cdse_s2_sr_scene(CDSE_NAME.replace("S2A", "S2B"), tmp_path, settings=settings)
    assert stac.paths().count("/search") == 1


def test_a_storm_of_429_ends_and_says_so(service, tmp_path):
    stac, settings = service
    stac.inject(status=429, times=99, retry_after="1")
    with pytest.raises(ServiceError, match="429, Too Many Requests, after 3 attempts"):
        search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)
    assert len(stac.requests) == 3
    stac.faults.clear()
    stac.inject(status=429, times=2, retry_after="1")
    assert len(search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)) == 1


def test_the_rate_of_requests_is_limited(many, monkeypatch):
    stac, settings = many
    naps = []
    policy = dataclasses.replace(settings.limits.retry, sleep=naps.append)
    slow = dataclasses.replace(settings, limits=RequestLimits(per_second=0.5, retry=policy))
    search_cdse_s2_sr(tile_ids=["08WMA"], months=[6, 7, 8], years=[2021], settings=slow)
    assert stac.paths().count("/search") == 3
    assert [round(nap) for nap in naps] == [2, 4]
    search_cdse_s2_sr(tile_ids=["08WMA"], settings=slow)  # the next search is of the same process
    assert [round(nap) for nap in naps] == [2, 4, 6]


def test_the_environment_says_where_and_how_fast(monkeypatch):
    for name in ("STAC_URL", "S3_URL", "PROFILE", "REQUESTS_PER_SECOND"):
        monkeypatch.delenv(f"DARTS_CDSE_{name}", raising=False)
    assert CDSESettings.from_environment() == CDSESettings()
    monkeypatch.setenv("DARTS_CDSE_STAC_URL", "http://127.0.0.1:1/stac")
    monkeypatch.setenv("DARTS_CDSE_S3_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("DARTS_CDSE_PROFILE", "copernicus")
    monkeypatch.setenv("DARTS_CDSE_REQUESTS_PER_SECOND", "2.5")
    found = CDSESettings.from_environment()
    assert (found.stac_url, found.s3.endpoint, found.s3.profile) == (
        "http://127.0.0.1:1/stac",
        "http://127.0.0.1:2",
        "copernicus",
    )
    assert (found.limits.per_second, found.limits.parallel) == (2.5, 4)
    for wrong in ("fast", "0", "-1", "nan"):
        monkeypatch.setenv("DARTS_CDSE_REQUESTS_PER_SECOND", wrong)
        with pytest.raises(ParameterError, match="REQUESTS_PER_SECOND is"):
            CDSESettings.from_environment()


def test_what_cannot_succeed_is_not_tried_again(service):
    stac, settings = service
    stac.inject(path="/search", status=400, times=9)
    with pytest.raises(ServiceError, match="400"):
        search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)
    assert stac.paths().count("/search") == 1


def test_pages_without_end(service):
    stac, settings = service
    page = {"features": [], "links": [{"rel": "next", "href": f"{stac.url}/search", "method": "POST", "body": {}}]}
    stac.inject(path="/search", body=json.dumps(page).encode(), times=99)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts_acquisition.io.stac._MOST_PAGES", 5)
        with pytest.raises(ServiceError, match="no end"):
            search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)


@pytest.mark.parametrize(
    "change",
    [
        {"geometry": None},
        {"geometry": {"type": "Polygon"}},
        {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}},
        {"properties": None},
        {"properties": {"datetime": "2021-08-21T21:00:21Z", "eo:cloud_cover": "few"}},
        {"assets": []},
    ],
)
def test_item_that_is_none_is_a_fault_of_the_service(service, published, change):
    stac, settings = service
    item = published | change
    stac.inject(path="/search", body=json.dumps({"features": [item]}).encode(), times=9)
    with pytest.raises(ServiceError, match=r"is no page of items|is no item"):
        search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError])
def test_error_of_the_own_filter_is_no_fault_of_the_service(service, monkeypatch, error):
    def fail(*_):
        raise error("own")

    _, settings = service
    monkeypatch.setattr("darts_acquisition.scenes.area.Area.touches", fail)
    with pytest.raises(error, match="own"):
        search_cdse_s2_sr(aoi=gpd.GeoDataFrame(geometry=[box(-180, -80, 180, 83)], crs="EPSG:4326"), settings=settings)


@pytest.mark.parametrize("body", ["[]", '"page"', "null", '{"type": "FeatureCollection"}', '{"features": null}'])
def test_an_answer_that_is_no_page_is_an_error_and_not_an_empty_page(service, body):
    stac, settings = service
    stac.inject(path="/search", body=body.encode(), times=9)
    with pytest.raises(ServiceError, match="no page of items"):
        search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)
    assert stac.paths().count("/search") == 1


def test_an_answer_that_is_no_json_is_taken_for_a_broken_one(service):
    stac, settings = service
    stac.inject(path="/search", body=b'{"features": [', times=1)
    assert len(search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)) == 1
    stac.inject(path="/search", body=b'{"features": [', times=99)
    with pytest.raises(ServiceError, match=r"no whole JSON.*after 3 attempts"):
        search_cdse_s2_sr(tile_ids=["08WMA"], settings=settings)


@pytest.fixture
def between(s3, published, monkeypatch):
    with storage_between(s3) as storage, serve_stac([copy.deepcopy(published)]) as stac, environment_of(s3):
        yield storage, cdse_settings(stac.url, storage.url), stac.respond.__self__.items[0]


@pytest.mark.parametrize(
    "fault",
    [
        {"reset_after": 500},
        {"truncate_to": 700},
        {"status": 503},
        {"status": 429, "retry_after": "1"},
        {"cut_to": 300},
        {"body": b"not an image"},
    ],
)
def test_a_fault_on_the_way_changes_nothing(between, scene, tmp_path, fault):
    storage, settings, _ = between
    storage.inject(path="*B03_10m*", **fault)
    check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings), scene)
    asked = [path for path in storage.paths() if "B03" in path]
    assert len(asked) == 2


def test_a_part_is_continued_where_it_ended(between, scene, tmp_path, published, monkeypatch):
    storage, settings, _ = between
    monkeypatch.setattr("darts_acquisition.io.http._PART", 512)
    storage.inject(path="*B03_10m*", reset_after=1500, times=99)
    with pytest.raises(ServiceError, match="B03_10m"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    part = next((tmp_path / ".downloads").rglob("*B03*.part"))
    assert 0 < part.stat().st_size < published["assets"]["B03_10m"]["file:size"]
    storage.faults.clear()
    storage.requests.clear()
    check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings), scene)
    spans = [request.headers["Range"] for request in storage.requests if "B03" in request.path]
    assert len(spans) == 1
    assert spans[0].startswith("bytes=")
    # the other files were there already, whole and verified
    assert len(storage.requests) == 1


def test_a_download_that_is_stopped_ends_soon(between, tmp_path):
    """Also where the storage asks for minutes; what is on its way ends with its next piece."""
    storage, settings, _ = between
    waiting = threading.Event()
    policy = RetryPolicy(sleep=lambda seconds: (waiting.set(), nap(seconds)))
    settings = dataclasses.replace(settings, limits=RequestLimits(parallel=2, retry=policy))
    storage.inject(path="*B03_10m*", status=503, retry_after="300", times=99)
    ended, token = [], FetchCancellation()

    def download():
        try:
            with cancellable(token):
                download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
        except StoppedError as error:
            ended.append(error)

    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    assert waiting.wait(30)
    token.requested = True
    thread.join(10)
    assert not thread.is_alive()
    assert len(ended) == 1
    made = len(storage.requests)
    # Another limiter, since that one keeps the pause that the storage has asked for.
    settings = dataclasses.replace(settings, limits=RequestLimits())
    download_cdse_s2_sr_scene(CDSE_NAME, tmp_path / "other", ["blue"], settings=settings)
    assert len(storage.requests) > made


def test_a_storage_that_gives_whole_files_only_is_not_appended_to(between, scene, s3, tmp_path):
    """And a catalogue without sizes and checksums, which would tell."""
    _, settings, item = between
    for asset in item["assets"].values():
        asset.pop("file:size")
        asset.pop("file:checksum")

    def whole(request):
        bucket, _, key = request.path.lstrip("/").partition("/")
        return Answer(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())

    with LocalServer(whole).running() as storage:
        storage.inject(path="*B03_10m*", truncate_to=700)
        settings = dataclasses.replace(settings, s3=dataclasses.replace(settings.s3, endpoint_url=storage.url))
        check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings), scene)
        spans = [request.headers.get("Range") for request in storage.requests if "B03" in request.path]
        assert spans == [None, None]  # what is there may be of another version, which nothing would tell


def test_a_file_that_does_not_verify_is_never_decoded(between, tmp_path, monkeypatch):
    storage, settings, item = between
    item["assets"]["B03_10m"]["file:checksum"] = "1620" + hashlib.sha3_256(b"another").hexdigest()
    decoded = []
    monkeypatch.setattr("darts_acquisition.sentinel2.cdse.decode", lambda file, asset: decoded.append(file))
    with pytest.raises(ChecksumError, match=r"B03_10m\.jp2 has another size or checksum"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    assert decoded == []
    assert RawStore(tmp_path).bands("cdse", CDSE_NAME) == set()
    assert sum("B03" in path for path in storage.paths()) == 3


@pytest.mark.parametrize("checksum", ["zz", "16", "1620ab", "77201234", ""])
def test_a_checksum_that_cannot_be_understood(between, tmp_path, checksum):
    _, settings, item = between
    item["assets"]["B03_10m"]["file:checksum"] = checksum
    with pytest.raises(SceneError, match="file:checksum is"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)


@pytest.mark.parametrize(("name", "code"), [("md5", "d50110"), ("sha256", "1220"), ("sha512", "1340")])
def test_other_checksums(between, scene, s3, tmp_path, name, code):
    _, settings, item = between
    asset = item["assets"]["B03_10m"]
    content = s3.client().get_object(Bucket=BUCKET, Key=asset["href"].removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    asset["file:checksum"] = code + hashlib.new(name, content).hexdigest()
    check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings), scene)


def test_an_item_at_odds_with_its_file(between, tmp_path):
    _, settings, item = between
    asset = item["assets"]["B03_10m"]
    for change, message in (
        ({"proj:transform": [10, 0, 400_030, 0, -10, 7_600_020]}, "the catalogue says"),
        ({"proj:shape": [30, 60]}, "pixels; the catalogue says"),
        ({"proj:code": "EPSG:32609"}, "the catalogue says EPSG:32609"),
    ):
        item["assets"]["B03_10m"] = asset | change
        with pytest.raises(SceneGridError, match=message):
            load_cdse_s2_sr_scene(CDSE_NAME, settings=settings)
    del item["assets"]["B03_10m"]
    with pytest.raises(SceneError, match="no asset B03_10m"):
        load_cdse_s2_sr_scene(CDSE_NAME, settings=settings)


def test_a_file_that_the_storage_lacks(between, tmp_path):
    storage, settings, item = between
    item["assets"]["B03_10m"]["href"] = f"s3://{BUCKET}/nowhere/B03_10m.jp2"
    with pytest.raises(SceneNotFoundError, match="does not exist although"):
        load_cdse_s2_sr_scene(CDSE_NAME, settings=settings)
    assert sum("B03" in path for path in storage.paths()) == 1


def test_a_login_that_is_refused_is_tried_once(between, tmp_path):
    storage, settings, _ = between
    body = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
    storage.inject(status=403, times=99, body=body)
    with pytest.raises(LoginError, match="login was refused"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    assert len(storage.requests) <= 5  # one per file


def test_without_keys_nothing_is_asked(service, tmp_path, monkeypatch):
    _, settings = service
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(LoginError, match=r"no keys for http.*AWS_PROFILE"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(LoginError, match="profile"):
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)


def test_the_secret_shows_nowhere(between, tmp_path, caplog):
    storage, settings, _ = between
    before = dict(os.environ)
    storage.inject(path="*B03_10m*", status=403, body=b"<Error><Code>AccessDenied</Code></Error>")
    storage.inject(path="*B02_10m*", reset_after=100)
    with caplog.at_level(logging.DEBUG, logger="darts_acquisition"):
        with pytest.raises(LoginError) as caught:
            download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
        download_cdse_s2_sr_scene(CDSE_NAME, tmp_path, settings=settings)
    secret = KEYS["aws_secret_access_key"]
    texts = [caplog.text, repr(settings)]
    error = caught.value
    while error is not None:
        texts += [repr(error), str(error), repr(vars(error))]
        error = error.__cause__
    texts += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    assert not [text for text in texts if secret in text]
    assert dict(os.environ) == before


DOWNLOAD = """
import sys
from darts_acquisition.sentinel2 import download_cdse_s2_sr_scene
print("ready", flush=True)
download_cdse_s2_sr_scene(sys.argv[1], sys.argv[2], "all")
"""


@pytest.mark.parametrize("count", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_a_killed_download_never_counts_as_present(s3, scene, published, tmp_path, count):
    """What is left over is completed by two processes at once, of which one fetches and the other waits for it."""
    rng = np.random.default_rng(count)
    with storage_between(s3) as storage, catalogue(s3, [published]) as (stac, settings):
        environment = os.environ | {"DARTS_CDSE_STAC_URL": stac.url, "DARTS_CDSE_S3_URL": storage.url}
        command = [sys.executable, "-c", DOWNLOAD, CDSE_NAME, str(tmp_path)]

        def start():
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
            process.stdout.readline()
            return process

        killed = 0
        for moment in sorted(rng.uniform(0, 1.2, count)):
            storage.inject(path="*jp2", delay_s=0.05, times=13)
            with start() as process:
                time.sleep(moment)
                process.kill()
            killed += process.returncode == -signal.SIGKILL
            check_stored(RawStore(tmp_path), scene)
        assert killed
        storage.faults.clear()
        present = RawStore(tmp_path).bands("cdse", CDSE_NAME)
        storage.requests.clear()
        with start() as one, start() as other:
            assert (one.wait(), other.wait()) == (0, 0)
        assert len(storage.paths()) <= len(scene.raw) - len(present)
        assert check_stored(RawStore(tmp_path), scene) == set(scene.raw)
        assert not list((tmp_path / ".downloads").glob("*/*"))
        assert not list(tmp_path.glob(".*.partial"))
        check_tile(load_cdse_s2_sr_scene(CDSE_NAME, tmp_path, "all", offline=True, settings=settings), scene, scene.raw)


def check_stored(store, scene):
    """Check that every band that counts as present holds what was published."""
    present = store.bands("cdse", CDSE_NAME)
    for band in (*REFLECTANCE_BANDS, SCL):
        if band.number in present:
            np.testing.assert_array_equal(store.open("cdse", CDSE_NAME, band).read(), scene.raw[band.number])
    return present


def test_raw_bands_are_written_as_they_were_delivered(service, scene, tmp_path):
    _, settings = service
    store, source = tmp_path / "raw", Sentinel2Source("cdse")
    assert not source.is_stored(CDSE_NAME, store)
    download_cdse_s2_sr_scene(CDSE_NAME, store, ["blue", "B11"], settings=settings)
    assert source.is_stored(CDSE_NAME, store, ["blue"])
    assert not source.is_stored(CDSE_NAME, store)
    files = source.write_raw(CDSE_NAME, store, tmp_path / "files", ["blue", "B11"])
    assert [file.name for file in files] == ["B02.tif", "B11.tif", "SCL.tif"]
    for file, resolution in zip(files, (10, 20, 20), strict=True):
        with rasterio.open(file) as written:
            np.testing.assert_array_equal(written.read(1), scene.raw[file.stem])
            assert written.transform == scene.affine(resolution)
            assert written.crs.to_epsg() == 32608
            assert written.nodata == 0
            scaling = (1, 0) if file.stem == "SCL" else (1e-4, -0.1)
            assert (written.scales[0], written.offsets[0]) == scaling
    with pytest.raises(RawStoreError):
        source.write_raw(CDSE_NAME, store, tmp_path / "files")
