"""Scenes of the Copernicus Data Space as tiles, from a STAC API and object storage on this machine."""

import copy
import json

import numpy as np
import pytest
import rasterio

from darts_acquisition import (
    RawStoreError,
    Sentinel2Source,
    download_cdse_s2_sr_scene,
    get_cdse_s2_sr_scene_ids_from_tile_ids,
    load_cdse_s2_sr_scene,
)
from darts_acquisition.errors import SceneError
from darts_acquisition.scenes.raw import REFLECTANCE_BANDS, SCL
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.sentinel2.cdse import asset_of, metadata_of
from support.cdse import FOUR, catalogue, check_tile
from support.sentinel2 import CDSE_NAME, Scene, publish, random_scene


@pytest.mark.parametrize(
    ("place", "name", "value", "message"),
    [
        ("asset", "proj:transform", ["a", 0, 0, 0, 0, 0], "asset B02_10m: the item lacks proj:code, proj:transform"),
        ("asset", "proj:transform", [10, 0], "asset B02_10m: the item lacks proj:code, proj:transform"),
        ("asset", "proj:shape", 5, "asset B02_10m: the item lacks proj:code, proj:transform or proj:shape"),
        ("item", "view:sun_azimuth", True, "view:sun_azimuth is True; expected degrees, 0 to 360"),
        ("item", "view:sun_elevation", float("nan"), "view:sun_elevation is nan; expected degrees, -90 to 90"),
        ("item", "view:sun_elevation", "33", "view:sun_elevation is '33'; expected degrees"),
    ],
)
def test_numbers_of_an_item_that_are_none(place, name, value, message, published):
    item = json.loads(json.dumps(published))
    (item["properties"] if place == "item" else item["assets"]["B02_10m"])[name] = value
    with pytest.raises(SceneError, match=f"^Scene {CDSE_NAME}.*{message}"):
        _ = asset_of(item, REFLECTANCE_BANDS[1]), metadata_of(item)


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


@pytest.mark.parametrize(
    "told",
    [
        {"raster:scale": 0.0002, "raster:offset": 0.0},
        {"bands": [{"name": "B02", "raster:scale": 0.0002, "raster:offset": 0}]},
        {"raster:bands": [{"scale": 0.0002, "offset": 0}]},
        {"raster:scale": 0.0002, "bands": [{"name": "B02"}], "raster:bands": [{"scale": 0.0002, "offset": 0.0}]},
    ],
)
def test_scale_and_offset_are_read_wherever_stac_has_them(told, published):
    """Without a look at them, an offset of -0.1 followed from the baseline 05.00."""
    item = copy.deepcopy(published)
    asset = item["assets"]["B02_10m"]
    del asset["raster:scale"], asset["raster:offset"]
    asset |= told
    grid = asset_of(item, REFLECTANCE_BANDS[1]).grid
    assert (grid.scale, grid.offset) == (0.0002, 0.0)


def test_an_item_that_says_two_offsets_is_refused(published):
    item = copy.deepcopy(published)
    item["assets"]["B02_10m"]["bands"] = [{"name": "B02", "raster:offset": 0}]
    with pytest.raises(SceneError, match=r"asset B02_10m: the item says of offset -0\.1 and 0; expected one number"):
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


@pytest.mark.parametrize("told", [True, False])
def test_files_whose_addresses_end_alike_are_told_apart(s3, scene, published, tmp_path, told):
    """Some services give each file a folder; the catalogue may say neither size nor checksum."""
    item = copy.deepcopy(published)
    for name, asset in item["assets"].items():
        bucket, _, key = asset["href"].removeprefix("s3://").partition("/")
        alike = f"alike/{name}/image.jp2"
        s3.client().copy_object(Bucket=bucket, Key=alike, CopySource={"Bucket": bucket, "Key": key})
        asset["href"] = f"s3://{bucket}/{alike}"
        if not told:
            del asset["file:size"], asset["file:checksum"]
    with catalogue(s3, [item]) as (_, settings):
        for store in (tmp_path, None):
            check_tile(load_cdse_s2_sr_scene(CDSE_NAME, store, settings=settings), scene)
