"""Sentinel-2 from end to end on this machine: which scenes a run takes, what it says of mistakes and failures."""

import copy
import dataclasses
import json
import re
import shutil

import geopandas as gpd
import pytest
import rasterio
from shapely.geometry import shape

from darts.demo import demo_model
from darts.errors import ConfigurationError, IgnoredOptionWarning, NoTilesError
from darts.pipelines.configfile import read_config, write_config
from darts.pipelines.options import build, known_keys
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline
from darts.run.planning import list_tasks
from darts_acquisition import Sentinel2Source
from support.commands import run_darts
from support.cubes import build_cubes
from support.peel_scenes import AUGUST, JULY, UNKNOWN, assert_same_results, grid_of, peel_scenes, statuses
from support.s3_server import KEYS, environment_of, serve_s3, storage_between
from support.sentinel2 import BUCKET, cdse_settings, publish
from support.stac_server import serve_stac


@pytest.fixture(scope="module")
def scenes(shared_data):
    return peel_scenes(shared_data)


@pytest.fixture(scope="module")
def data(scenes, tmp_path_factory):
    """Cubes around the scenes."""
    folder = tmp_path_factory.mktemp("aux")
    dem, tcvis = build_cubes(folder, grid_of(scenes[0]), resolution=10, margin_m=600)
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
            "report": False,
            "mask_erosion_size": 3,
        }
        return Sentinel2Pipeline(**(values | data | changed))

    return make


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::darts_segmentation.PixelSizeWarning")
def test_by_tile_and_offline_from_the_store(service, pipeline, tmp_path, scenes):
    online = pipeline("online", tile_ids=["08WMA"], years=[2021]).run()
    assert statuses(online) == {JULY: "success", AUGUST: "success"}
    with rasterio.open(tmp_path / "online" / JULY / "probabilities.tif") as source:
        assert source.crs.to_epsg() == 32608
        assert source.transform == scenes[0].affine(10)
    service.requests.clear()
    offline = pipeline("offline", scene_ids=[JULY], offline=True).run()
    assert statuses(offline) == {JULY: "success"}
    assert not service.requests
    assert_same_results(tmp_path / "online" / JULY, tmp_path / "offline" / JULY)
    in_memory = pipeline("memory", scene_ids=[AUGUST], no_raw_data_store=True, raw_data_store=None).run()
    assert statuses(in_memory) == {AUGUST: "success"}
    assert_same_results(tmp_path / "online" / AUGUST, tmp_path / "memory" / AUGUST)
    again = pipeline("online", scene_ids=[JULY]).run()
    assert statuses(again) == {JULY: "skipped"}
    stored = next(
        path for path in sorted((tmp_path / "raw").rglob("*")) if path.is_file() and path.stat().st_size > 1000
    )
    content = stored.read_bytes()
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (decision,) = pipeline("online", scene_ids=[JULY if JULY in str(stored) else AUGUST], offline=True).plan().decisions
    assert (decision.action, "has another content" in decision.why) == ("compute", True)
    stored.write_bytes(content)
    (decision,) = pipeline("online", scene_ids=[JULY], offline=True).plan().decisions
    assert decision.action == "skip"
    shutil.rmtree(tmp_path / "raw")
    (decision,) = pipeline("online", scene_ids=[JULY]).plan().decisions
    assert decision.action == "skip", "a scene that would be fetched again is the same scene"


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
        jobs = pipeline(aoi_file=aoi, **conditions)._tileinfos()
        assert [name for name, _ in jobs] == expected
        assert [folder.name for _, folder in jobs] == expected
    with pytest.raises(NoTilesError, match="no scene fits the selection"):
        pipeline(aoi_file=aoi, years=[2020]).run()


def test_of_two_processings_of_a_scene_the_newer_one_is_mapped(s3, items, pipeline, tmp_path, monkeypatch, caplog):
    older = copy.deepcopy(items[0])
    older["id"] = JULY.replace("_N0500_", "_N0301_")
    assert older["id"] != JULY
    toolbox = copy.deepcopy(items[0])
    toolbox["id"] = JULY.replace("_N0500_", "_N9999_")
    with serve_stac([older, toolbox, *items]) as stac, caplog.at_level("INFO", "darts"):
        monkeypatch.setenv("DARTS_CDSE_STAC_URL", stac.url)
        jobs = pipeline(tile_ids=["08WMA"], years=[2021])._tileinfos()
        assert [name for name, _ in jobs] == [JULY, AUGUST]
        assert "2 more are left out, processed again since or not by ESA itself (N9999)." in caplog.messages
        named = pipeline(scene_ids=[older["id"], JULY])._tileinfos()
        assert [name for name, _ in named] == [older["id"], JULY]
        assert [name for name, _ in pipeline(scene_ids=[toolbox["id"]])._tileinfos()] == [toolbox["id"]]


def test_a_list_of_no_scenes_says_so(service, pipeline, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(NoTilesError, match=r"none\.json names no scene"):
        pipeline(scene_id_file=tmp_path / "none.json").run()


def test_what_is_ignored_is_said(service, pipeline, tmp_path):
    file = tmp_path / "scenes.json"
    file.write_text(json.dumps([AUGUST]))
    with pytest.warns(IgnoredOptionWarning, match="scene_ids says which scenes to process; scene_id_file, tile_ids is"):
        jobs = pipeline(scene_ids=[JULY], scene_id_file=file, tile_ids=["08WMA"])._tileinfos()
    assert [name for name, _ in jobs] == [JULY]
    assert [name for name, _ in pipeline(scene_id_file=file)._tileinfos()] == [AUGUST]
    with pytest.warns(IgnoredOptionWarning, match="months and years are ignored"):
        jobs = pipeline(tile_ids=["08WMA"], start_date="2021-08", months=[7])._tileinfos()
    assert [name for name, _ in jobs] == [AUGUST]


@pytest.mark.slow
def test_a_scene_that_fails_says_why_in_one_sentence_and_leaves_the_others(
    s3, items, scenes, pipeline, tmp_path, monkeypatch, caplog
):
    """Refused files and absent ones are asked for once; only what can succeed is retried."""
    stormy = dataclasses.replace(scenes[0], name=JULY.replace("R100", "R102"))
    absent = dataclasses.replace(scenes[0], name=JULY.replace("R100", "R103"))
    more = [publish(scene, s3, tmp_path) for scene in (stormy, absent)]
    more[1]["assets"]["B03_10m"]["href"] = f"s3://{BUCKET}/nowhere/B03_10m.jp2"
    expected = {
        UNKNOWN: f"has no scene {UNKNOWN}",
        AUGUST: r"Fetching s3://eodata/.*: the login was refused or is missing \(HTTP status 403, Forbidden\)",
        stormy.name: r"Fetching s3://eodata/.*: HTTP status 429, Too Many Requests, after 3 attempts",
        absent.name: r"s3://eodata/nowhere/B03_10m\.jp2 does not exist although the catalogue names it",
    }
    with storage_between(s3) as storage, serve_stac([*items, *more]) as stac, environment_of(s3):
        settings = cdse_settings(stac.url, storage.url)
        monkeypatch.setattr("darts_acquisition.CDSESettings.from_environment", lambda: settings)
        refusal = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
        storage.inject(path=f"*{AUGUST}*B03_10m*", status=403, times=99, body=refusal)
        storage.inject(path=f"*{stormy.name}*B03_10m*", status=429, times=99, retry_after="1")
        records = pipeline(scene_ids=[*expected, JULY]).run()
    assert statuses(records) == dict.fromkeys(expected, "failed") | {JULY: "success"}
    errors = {record.tile_id: record.error for record in records.tiles if record.status == "failed"}
    for name, message in expected.items():
        assert re.search(message, errors[name])
        assert "\n" not in errors[name]
        assert errors[name].endswith(".")
    asked = [path for path in storage.paths() if "B03" in path]
    assert sum(AUGUST in path for path in asked) == 1
    assert sum("nowhere" in path for path in asked) == 1
    assert sum(stormy.name in path for path in asked) == 2 * 3  # the run itself tries once more at its end
    texts = [file.read_bytes().decode("latin-1") for file in (tmp_path / "results").rglob("*") if file.is_file()]
    assert any(UNKNOWN in text and AUGUST in text for text in texts)  # the log of the run lies among them
    assert not [text for text in [*texts, caplog.text] if KEYS["aws_secret_access_key"] in text]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "Nothing says which scenes"),
        ({"prep_data_scene_id_file": "nowhere.json"}, r"no .*nowhere\.json \(--prep-data-scene-id-file\)"),
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
    jobs = pipeline(tile_ids=["08WMA"], prep_data_scene_id_file=prepared, offline=True)._tileinfos()
    assert [name for name, _ in jobs] == [AUGUST]
    prepared.write_text('{"scenes": 1}')
    with pytest.raises(ConfigurationError, match="is no list of scenes"):
        pipeline(prep_data_scene_id_file=prepared, offline=True)._tileinfos()


@pytest.mark.slow
def test_an_interrupted_repetition_loses_nothing_of_the_list(service, pipeline, tmp_path, monkeypatch):
    made = pipeline(tile_ids=["08WMA"], years=[2021], prep_data_scene_id_file=tmp_path / "prepared.json")
    assert made.prepare_data(optical=True) == []

    def download(source, scene_id, store):
        if scene_id == AUGUST:
            raise KeyboardInterrupt

    monkeypatch.setattr(Sentinel2Source, "download", download)
    with pytest.raises(KeyboardInterrupt):
        made.prepare_data(optical=True)
    assert json.loads((tmp_path / "prepared.json").read_text()) == [JULY, AUGUST]


def test_the_grid_of_a_tile_is_known_before_its_pixels(service, pipeline, scenes):
    made = pipeline(scene_ids=[JULY])
    (geobox,) = made._tile_areas(list_tasks(made), {}).values()
    assert geobox == grid_of(scenes[0])


@pytest.mark.parametrize("limit", [None, 100, 0, 12.5])
def test_a_configuration_reads_back_as_it_was(pipeline, tmp_path, limit):
    made = pipeline(scene_ids=[JULY], max_cloud_cover=limit, months=[7, 8])
    write_config(made, tmp_path / "config.toml")
    keys = known_keys(PlanetPipeline, Sentinel2Pipeline)
    values = read_config(tmp_path / "config.toml", ("inference", "sentinel2-sequential"), keys)
    assert build(Sentinel2Pipeline, values) == made
    with pytest.raises(ValueError, match="0 to 100 percent"):
        pipeline(max_cloud_cover=101)


@pytest.mark.filterwarnings("default::darts_segmentation.PixelSizeWarning")
@pytest.mark.slow
def test_the_command(service, data, tmp_path):
    # One file for both commands: the key of the other pipeline is none of this one's business.
    (tmp_path / "config.toml").write_text(
        '[darts]\nscenes_dir = "x"\npatch_size = 128\noverlap = 32\nraw-data-store = "raw"\n'
    )
    arguments = ["--model-files", demo_model(), "--tile-ids", "08WMA", "--device", "cpu", "--output-data-dir", "out"]
    arguments += ["--max-cloud-cover", "none", "--months", "7", "--years", "2021"]
    for name, path in data.items():
        arguments += [f"--{name.replace('_', '-')}", path]
    code, said = run_darts(tmp_path, "inference", "sentinel2-sequential", *arguments)
    assert code == 0
    assert "1 tile: 1 succeeded" in said
    assert said.count("PixelSizeWarning") == 1
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
