"""Searches of the Copernicus Data Space: what is found, and what a service gets wrong."""

import copy
import dataclasses
import json

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import MultiPolygon, Point, box, mapping, shape

from darts_acquisition import (
    CDSESettings,
    download_cdse_s2_sr_scene,
    get_aoi_from_cdse_s2_sr_scene_ids,
    get_cdse_s2_sr_scene_ids_from_geodataframe,
    get_cdse_s2_sr_scene_ids_from_tile_ids,
    load_cdse_s2_sr_scene,
    search_cdse_s2_sr,
)
from darts_acquisition.errors import SceneNameError, SceneNotFoundError, ServiceError
from darts_acquisition.io.settings import RequestLimits
from darts_utils import ParameterError
from support.cdse import catalogue
from support.s3_server import storage_between
from support.sentinel2 import CDSE_NAME, cdse_settings

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
        ({"start_date": "2021-08-21", "end_date": "9999-12-31"}, [9, 11]),
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
        get_aoi_from_cdse_s2_sr_scene_ids(iter([name, CDSE_NAME.replace("R100", "R101")]), settings=settings)


def test_conditions_may_be_numbers_of_numpy(many):
    _, settings = many
    found = [
        get_cdse_s2_sr_scene_ids_from_tile_ids(
            ["08WMA"], months=months, years=years, max_cloud_cover=cover, settings=settings
        )
        for months, years, cover in (
            ([5, 7], [2021], 99),
            (np.array([7, 5]), np.array([2021]), np.int64(99)),
            (iter([5, 7]), {2021}, np.float32(99)),
        )
    ]
    assert found[0]
    assert found == [found[0]] * 3


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"start_date": "2021-09-01", "end_date": "2021-08-01"}, "lies after end_date"),
        ({"start_date": "2021-02-30"}, "start_date is '2021-02-30'"),
        ({"end_date": ""}, "end_date is ''"),
        ({"end_date": 2021}, "end_date is 2021"),
        ({"months": 6}, "months is 6; expected a list"),
        ({"years": ["2021"]}, r"years is \['2021'\]; expected a list of whole numbers"),
        ({"max_cloud_cover": "20"}, "max_cloud_cover is '20'"),
        ({"months": [13]}, "months holds 13"),
        ({"months": []}, "is empty"),
        ({"months": [True]}, r"months is \[True\]; expected a list of whole numbers"),
        ({"max_snow_cover": np.array([20, 30])}, "max_snow_cover is array"),
        ({"tile_ids": "08WMA"}, r"tile_ids is '08WMA'; expected a list, such as \['08WMA'\]"),
        ({"tile_ids": [8]}, "8 is no MGRS tile"),
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
    waits = []
    policy = dataclasses.replace(settings.limits.retry, sleep=waits.append)
    slow = dataclasses.replace(settings, limits=RequestLimits(per_second=0.5, retry=policy))
    search_cdse_s2_sr(tile_ids=["08WMA"], months=[6, 7, 8], years=[2021], settings=slow)
    assert stac.paths().count("/search") == 3
    assert [round(wait) for wait in waits] == [2, 4]
    search_cdse_s2_sr(tile_ids=["08WMA"], settings=slow)  # the next search is of the same process
    assert [round(wait) for wait in waits] == [2, 4, 6]


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
    monkeypatch.setattr("darts_acquisition.scenes.geometry.Area.touches", fail)
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
