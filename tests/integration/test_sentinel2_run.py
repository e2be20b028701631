"""Sentinel-2 from end to end: search by area and by tile, prepare, go offline, run; on this machine only."""

import dataclasses
import json
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from shapely.geometry import shape

from darts.cli import run_command
from darts.demo import demo_model
from darts.errors import ConfigurationError, IgnoredOptionWarning, NoTilesError
from darts.pipelines.configfile import read_config, write_config
from darts.pipelines.options import build, known_keys
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline
from support.cubes import build_cubes
from support.earthengine_server import connect, serve_earth_engine
from support.s3_server import KEYS, environment_of, serve_s3
from support.sentinel2 import BUCKET, Scene, earth_image, publish
from support.stac_server import serve_stac

JULY = "S2A_MSIL2A_20210721T210021_N0500_R100_T08WMA_20230201T010203"
AUGUST = "S2A_MSIL2A_20210821T210021_N0500_R100_T08WMA_20230201T010203"


@pytest.fixture(scope="module")
def scenes(shared_data):
    """The pixels of Peel Plateau as two scenes; the second is cloudier."""
    with rasterio.open(next((shared_data / "peel").glob("S2_*.tif"))) as source:
        pixels, affine = source.read()[:, :240, :240], source.transform
    raw = {number: pixels[index] + 1000 for number, index in (("B02", 0), ("B03", 1), ("B04", 2), ("B08", 6))}
    raw["SCL"] = np.full((120, 120), 4, "uint8")
    raw["SCL"][:20, :30] = 9
    july = Scene(raw, name=JULY, time="2021-07-21T21:00:21.024000Z", left=affine.c, top=affine.f, cloud=1.0)
    july.gee_name = "20210721T210021_20210721T210020_T08WMA"
    return july, dataclasses.replace(july, name=AUGUST, time="2021-08-21T21:00:21.024000Z", cloud=8.0)


@pytest.fixture(scope="module")
def data(scenes, tmp_path_factory):
    """Cubes around the scenes."""
    folder = tmp_path_factory.mktemp("aux")
    july = scenes[0]
    dem, tcvis = build_cubes(folder, GeoBox((240, 240), july.affine(10), july.crs), resolution=10, margin_m=600)
    return {"arcticdem_dir": dem, "tcvis_dir": tcvis}


@pytest.fixture(scope="module")
def s3(scenes, tmp_path_factory):
    with serve_s3() as server:
        server.bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def items(s3, scenes, tmp_path_factory):
    return [publish(scene, s3, tmp_path_factory.mktemp("jp2")) for scene in scenes]


@pytest.fixture
def service(s3, items, monkeypatch):
    with serve_stac(items) as stac, environment_of(s3):
        monkeypatch.setenv("DARTS_CDSE_STAC_URL", stac.url)
        monkeypatch.setenv("DARTS_CDSE_S3_URL", s3.url)
        yield stac


@pytest.fixture
def pipeline(data, tmp_path):
    def make(output="results", **changed):
        values = {
            "model_files": demo_model(),
            "output_data_dir": tmp_path / output,
            "raw_data_store": tmp_path / "raw",
            "patch_size": 128,
            "overlap": 32,
            "device": "cpu",
            "mask_erosion_size": 3,
        }
        return Sentinel2Pipeline(**(values | data | changed))

    return make


def statuses(records):
    return {record.tile_id: record.status for record in records.tiles}


def assert_same_results(one: Path, other: Path) -> None:
    for name in ("probabilities.tif", "binarized.tif"):
        with rasterio.open(one / name) as left, rasterio.open(other / name) as right:
            assert left.transform == right.transform
            np.testing.assert_array_equal(left.read(), right.read())


def test_by_tile_and_offline_from_the_store(service, pipeline, tmp_path, scenes):
    online = pipeline("online", tile_ids=["08WMA"], years=[2021]).run()
    assert statuses(online) == {JULY: "success", AUGUST: "success"}
    with rasterio.open(tmp_path / "online" / JULY / "probabilities.tif") as source:
        assert source.crs.to_epsg() == 32608
        assert source.transform == scenes[0].affine(10)
    service.requests.clear()
    offline = pipeline("offline", scene_ids=[JULY, AUGUST], offline=True).run()
    assert statuses(offline) == {JULY: "success", AUGUST: "success"}
    assert not service.requests
    for name in (JULY, AUGUST):
        assert_same_results(tmp_path / "online" / name, tmp_path / "offline" / name)
    in_memory = pipeline("memory", scene_ids=[JULY], no_raw_data_store=True, raw_data_store=None).run()
    assert statuses(in_memory) == {JULY: "success"}
    assert_same_results(tmp_path / "online" / JULY, tmp_path / "memory" / JULY)
    again = pipeline("online", scene_ids=[JULY]).run()
    assert statuses(again) == {JULY: "skipped"}


def test_by_area_and_time(service, pipeline, items, tmp_path):
    aoi = tmp_path / "aoi.gpkg"
    place = shape(items[0]["geometry"]).centroid.buffer(0.001)
    gpd.GeoDataFrame(geometry=[place], crs="EPSG:4326").to_crs("EPSG:3413").to_file(aoi)
    for conditions, expected in (
        ({}, [JULY, AUGUST]),
        ({"max_cloud_cover": 2}, [JULY]),
        ({"start_date": "2021-08", "end_date": "2021-08"}, [AUGUST]),
        ({"months": [7]}, [JULY]),
    ):
        jobs = pipeline(aoi_file=aoi, **conditions)._jobs(tmp_path)
        assert [job.tile_id for job in jobs] == expected
        assert [job.output for job in jobs] == [tmp_path / name for name in expected]
    with pytest.raises(NoTilesError, match="no scene fits the selection"):
        pipeline(aoi_file=aoi, years=[2020]).run()


def test_what_is_ignored_is_said(service, pipeline, tmp_path):
    file = tmp_path / "scenes.json"
    file.write_text(json.dumps([AUGUST]))
    with pytest.warns(IgnoredOptionWarning, match="scene_ids says which scenes to process; scene_id_file, tile_ids is"):
        jobs = pipeline(scene_ids=[JULY], scene_id_file=file, tile_ids=["08WMA"])._jobs(tmp_path)
    assert [job.tile_id for job in jobs] == [JULY]
    assert [job.tile_id for job in pipeline(scene_id_file=file)._jobs(tmp_path)] == [AUGUST]
    with pytest.warns(IgnoredOptionWarning, match="months and years are ignored"):
        jobs = pipeline(tile_ids=["08WMA"], start_date="2021-08", months=[7])._jobs(tmp_path)
    assert [job.tile_id for job in jobs] == [AUGUST]


def test_one_scene_that_fails_leaves_the_others(service, pipeline, tmp_path):
    unknown = JULY.replace("R100", "R101")
    records = pipeline(scene_ids=[unknown, JULY]).run()
    assert statuses(records) == {unknown: "failed", JULY: "success"}
    (failed,) = [record for record in records.tiles if record.status == "failed"]
    assert f"has no scene {unknown}" in failed.error
    texts = [file.read_bytes().decode("latin-1") for file in (tmp_path / "results").rglob("*") if file.is_file()]
    assert not [text for text in texts if KEYS["aws_secret_access_key"] in text]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "Nothing says which scenes"),
        ({"scene_ids": ["20210721T210021_20210721T210020_T08WMA"]}, "raw_data_source 'gee'"),
        ({"tile_ids": ["08WMI"]}, "'08WMI' is no MGRS tile"),
        ({"tile_ids": ["08WMA"], "start_date": "2021-09", "end_date": "2021-08"}, "lies after end_date"),
        ({"scene_id_file": "nowhere.json"}, "correct --scene-id-file"),
        ({"aoi_file": "nowhere.gpkg"}, "no such file"),
        ({"tile_ids": ["08WMA"], "offline": True}, "prep-data sentinel2 --optical"),
        ({"aoi_file": "aoi.gpkg", "offline": True}, "--aoi-file needs a search"),
        ({"scene_ids": [JULY], "offline": True, "no_raw_data_store": True}, "--offline needs a store"),
    ],
)
def test_mistakes_cost_seconds(service, pipeline, changed, message):
    with pytest.raises(Exception, match=message) as caught:
        pipeline(**changed).run()
    assert isinstance(caught.value, ValueError)
    assert "/search" not in service.paths()


def test_offline_reads_the_prepared_list_first(service, pipeline, tmp_path):
    prepared = tmp_path / "prepared.json"
    prepared.write_text(json.dumps([AUGUST]))
    jobs = pipeline(tile_ids=["08WMA"], prep_data_scene_id_file=prepared, offline=True)._jobs(tmp_path)
    assert [job.tile_id for job in jobs] == [AUGUST]
    prepared.write_text('{"scenes": 1}')
    with pytest.raises(ConfigurationError, match="is no list of scenes"):
        pipeline(prep_data_scene_id_file=prepared, offline=True)._jobs(tmp_path)


def test_prepare_go_offline_and_run(service, pipeline, scenes, tmp_path):
    selection = {"tile_ids": ["08WMA"], "years": [2021], "prep_data_scene_id_file": tmp_path / "list" / "prepared.json"}
    preparing = pipeline(**selection)
    assert preparing._prepare_optical() == []
    assert json.loads((tmp_path / "list" / "prepared.json").read_text()) == [JULY, AUGUST]
    service.requests.clear()
    offline = pipeline("offline", offline=True, **selection)
    assert set(offline._tile_areas([])) == {JULY, AUGUST}
    assert statuses(offline.run()) == {JULY: "success", AUGUST: "success"}
    assert not service.requests
    assert statuses(pipeline("online", **selection).run()) == {JULY: "success", AUGUST: "success"}
    for name in (JULY, AUGUST):
        assert_same_results(tmp_path / "online" / name, tmp_path / "offline" / name)


def test_what_cannot_be_prepared_is_named_and_the_rest_goes_on(service, pipeline, tmp_path, caplog):
    unknown, prepared = JULY.replace("R100", "R101"), tmp_path / "prepared.json"
    preparing = pipeline(scene_ids=[unknown, JULY], prep_data_scene_id_file=prepared)
    assert preparing._prepare_optical() == [unknown]
    assert json.loads(prepared.read_text()) == [JULY]
    with pytest.raises(ConfigurationError, match="needs a store"):
        pipeline(scene_ids=[JULY], no_raw_data_store=True)._prepare_optical()


def test_the_grid_of_a_tile_is_known_before_its_pixels(service, pipeline, scenes):
    (geobox,) = pipeline(scene_ids=[JULY])._tile_areas([]).values()
    assert geobox == GeoBox((240, 240), scenes[0].affine(10), "EPSG:32608")


@pytest.mark.parametrize("limit", [None, 100, 0, 12.5])
def test_a_configuration_reads_back_as_it_was(pipeline, tmp_path, limit):
    made = pipeline(scene_ids=[JULY], max_cloud_cover=limit, months=[7, 8])
    write_config(made, tmp_path / "config.toml")
    keys = known_keys(PlanetPipeline, Sentinel2Pipeline)
    values = read_config(tmp_path / "config.toml", ("inference", "sentinel2-sequential"), keys)
    assert build(Sentinel2Pipeline, values) == made
    with pytest.raises(ValueError, match="0 to 100 percent"):
        pipeline(max_cloud_cover=101)


def test_the_command(service, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # One file for both commands: the key of the other pipeline is none of this one's business.
    Path("config.toml").write_text(
        '[darts]\nscenes_dir = "x"\npatch_size = 128\noverlap = 32\nraw-data-store = "raw"\n'
    )
    arguments = ["--model-files", demo_model(), "--tile-ids", "08WMA", "--device", "cpu", "--output-data-dir", "out"]
    arguments += ["--max-cloud-cover", "none", "--months", "7", "--years", "2021"]
    for name, path in data.items():
        arguments += [f"--{name.replace('_', '-')}", path]
    monkeypatch.setattr(sys, "argv", ["darts", "inference", "sentinel2-sequential", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run_command()
    assert not ended.value.code
    assert (tmp_path / "out" / JULY / "manifest.json").exists()
    assert not (tmp_path / "out" / AUGUST).exists()


def test_a_key_of_the_other_pipeline_is_wrong_in_the_own_table(tmp_path):
    file, words = tmp_path / "config.toml", ("inference", "sentinel2-sequential")
    known, own = known_keys(PlanetPipeline, Sentinel2Pipeline), known_keys(Sentinel2Pipeline)
    file.write_text('[darts]\nimage_ids = ["a"]\noverlap = 5\n[darts.inference.sentinel2-sequential]\nmonths = [7]\n')
    assert read_config(file, words, known, own) == {"overlap": 5, "months": [7]}
    file.write_text('[darts.inference.sentinel2-sequential]\nimage_ids = ["a"]\n')
    with pytest.raises(ConfigurationError, match="unknown key 'image_ids'"):
        read_config(file, words, known, own)


def test_the_same_from_earth_engine(pipeline, scenes, tmp_path, service):
    """The harmonised collection has the offset taken off; the results are those of the Data Space."""
    july = scenes[0]
    raw = {number: values if number == "SCL" else values - 1000 for number, values in july.raw.items()}
    image = earth_image(dataclasses.replace(july, raw=raw))
    with serve_earth_engine([image]) as engine:
        connect(engine)
        values = {"raw_data_source": "gee", "tile_ids": ["08WMA"], "years": [2021]}
        assert statuses(pipeline("gee", **values).run()) == {july.gee_name: "success"}
        engine.requests.clear()
        offline = pipeline("gee-offline", raw_data_source="gee", scene_ids=[july.gee_name], offline=True).run()
        assert statuses(offline) == {july.gee_name: "success"}
        assert not engine.requests
    assert statuses(pipeline("cdse", scene_ids=[JULY]).run()) == {JULY: "success"}
    assert_same_results(tmp_path / "gee" / july.gee_name, tmp_path / "gee-offline" / july.gee_name)
    assert_same_results(tmp_path / "gee" / july.gee_name, tmp_path / "cdse" / JULY)


@pytest.mark.slow
def test_a_scene_of_full_size(s3, data, tmp_path, monkeypatch):
    """Pixels of the demonstration landscape, repeated to 10980 × 10980; four bands and the classes at 20 m."""
    from darts.demo import make_sample_area
    from darts_acquisition import load_cdse_s2_sr_scene
    from darts_acquisition.sentinel2.store import RawStore

    area = make_sample_area(tmp_path / "sample", seed=5, size=366)
    with rasterio.open(next(area.scenes_dir.glob("*/*_SR.tif"))) as source:
        pixels = source.read()[:, :366, :366]
    raw = {number: np.tile(pixels[index] + 1000, (30, 30)) for index, number in enumerate(("B02", "B03", "B04", "B08"))}
    raw["SCL"] = np.resize(np.arange(12, dtype="uint8"), (5490, 5490))
    scene = Scene(raw, name=JULY.replace("R100", "R099"), left=399_960.0, top=7_600_020.0)
    with serve_stac([publish(scene, s3, tmp_path)]) as stac, environment_of(s3):
        monkeypatch.setenv("DARTS_CDSE_STAC_URL", stac.url)
        monkeypatch.setenv("DARTS_CDSE_S3_URL", s3.url)
        tile = load_cdse_s2_sr_scene(scene.name, tmp_path / "raw")
    assert tile.sizes == {"y": 10_980, "x": 10_980}
    for name, number in (("blue", "B02"), ("green", "B03"), ("red", "B04"), ("nir", "B08")):
        expected = (raw[number] * 1e-4 - 0.1).astype("float32")
        np.testing.assert_array_equal(tile[name].values, expected)
    np.testing.assert_array_equal(tile.s2_scl.values[::2, ::2], raw["SCL"])
    np.testing.assert_array_equal(tile.s2_scl.values[1::2, 1::2], raw["SCL"])
    assert RawStore(tmp_path / "raw").bands("cdse", scene.name) == set(raw)
