"""Prepare Sentinel-2 scenes and auxiliary data, go offline, run: the results are those of an online run."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import ee
import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import shape

from darts.cli import run_command
from darts.demo import demo_model
from darts.errors import ConfigurationError
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline
from darts_acquisition import Datacube, LoginError
from support.auxiliary_services import serve_arcticdem, trend_image
from support.earthengine_server import connect, serve_earth_engine
from support.peel_scenes import (
    AUGUST,
    GEE_AUGUST,
    GEE_JULY,
    JULY,
    UNKNOWN,
    assert_same_results,
    grid_of,
    harmonised,
    no_network,
    peel_scenes,
    statuses,
)
from support.s3_server import KEYS, environment_of, serve_s3
from support.sentinel2 import BUCKET, earth_image, publish
from support.stac_server import serve_stac

NAMES = {"cdse": (JULY, AUGUST), "gee": (GEE_JULY, GEE_AUGUST)}


@pytest.fixture(scope="module")
def scenes(shared_data):
    return peel_scenes(shared_data)


@pytest.fixture(scope="module")
def services(scenes, tmp_path_factory):
    """All services that a run may ask, on this machine."""
    folder, tile = tmp_path_factory.mktemp("served"), grid_of(scenes[0])
    images = [trend_image(tile), *(earth_image(harmonised(scene)) for scene in scenes)]
    with (
        serve_s3() as s3,
        environment_of(s3),
        serve_arcticdem(folder / "dem", tile) as arcticdem,
        serve_earth_engine(images) as engine,
    ):
        s3.bucket(BUCKET)
        items = [publish(scene, s3, folder) for scene in scenes]
        with serve_stac(items) as stac, pytest.MonkeyPatch.context() as patch:
            patch.setenv("DARTS_CDSE_STAC_URL", stac.url)
            patch.setenv("DARTS_CDSE_S3_URL", s3.url)
            yield SimpleNamespace(stac=stac, s3=s3, arcticdem=arcticdem, engine=engine)


@pytest.fixture
def run_darts(monkeypatch, tmp_path):
    """Run the command; return its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["darts", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def options(tmp_path):
    """Make the options of a run whose data and results lie in folders of its own."""

    def make(folder, **changed):
        values = {
            "model_files": demo_model(),
            "output_data_dir": tmp_path / folder / "results",
            "raw_data_store": tmp_path / folder / "raw",
            "arcticdem_dir": tmp_path / folder / "arcticdem",
            "tcvis_dir": tmp_path / folder / "tcvis",
            "patch_size": 128,
            "overlap": 32,
            "device": "cpu",
            "mask_erosion_size": 3,
            "export_bands": ["probabilities", "binarized", "polygonized", "extent", "dem", "tcvis"],
            "debug_data": True,
        }
        return values | changed

    return make


def as_arguments(options):
    for name, value in options.items():
        word = f"--{name.replace('_', '-')}"
        if value is True:
            yield word
        else:
            for each in value if isinstance(value, list) else [value]:
                yield from (word, each)


def area_file(services, folder):
    file = folder / "aoi.gpkg"
    place = shape(services.stac.respond.__self__.items[0]["geometry"]).centroid.buffer(0.001)
    gpd.GeoDataFrame(geometry=[place], crs="EPSG:4326").to_crs("EPSG:3413").to_file(file)
    return file


@pytest.mark.parametrize("source", ["cdse", "gee"])
def test_an_offline_run_gives_what_an_online_run_gives(services, scenes, options, run_darts, tmp_path, capfd, source):
    """CDSE by area, Earth Engine by tile; cubes and raw scenes are prepared by the command."""
    connect(services.engine)
    place = {"aoi_file": area_file(services, tmp_path)} if source == "cdse" else {"tile_ids": ["08WMA"]}
    selection = place | {"raw_data_source": source, "years": [2021], "months": [7, 8]}
    prepared = options("prepared", prep_data_scene_id_file=tmp_path / "lists" / "scenes.json", **selection)
    told = ["-vv", "--log-dir", tmp_path / "logs"]
    before = dict(os.environ)

    assert run_darts("inference", "prep-data", "sentinel2", "--optical", "--aux", *as_arguments(prepared), *told) == 0
    assert os.environ == before
    assert json.loads((tmp_path / "lists" / "scenes.json").read_text()) == list(NAMES[source])
    assert not (tmp_path / "prepared" / "results").exists()
    ee.Reset()
    with no_network():
        code = run_darts("inference", "sentinel2-sequential", "--offline", *as_arguments(prepared), *told)
    assert code == 0
    assert not ee.data.is_initialized()
    changed = {name for name, value in os.environ.items() if before.get(name) != value}
    assert changed <= {"TORCHINDUCTOR_CACHE_DIR"}  # which torch sets
    secret = KEYS["aws_secret_access_key"]
    written = [*capfd.readouterr(), *texts_below(tmp_path)]
    assert any(scenes[0].name in text or scenes[0].gee_name in text for text in written)
    assert not [text for text in written if secret in text]

    connect(services.engine)
    online = Sentinel2Pipeline(**options("online", **selection)).run()
    assert statuses(online) == dict.fromkeys(NAMES[source], "success")
    for name in NAMES[source]:
        assert_same_results(tmp_path / "prepared" / "results" / name, tmp_path / "online" / "results" / name)
    dem = Datacube.open(tmp_path / "online" / "arcticdem")
    assert dem.missing(dem.window(grid_of(scenes[0]), 20)) == []


def texts_below(folder):
    return [file.read_bytes().decode("latin-1") for file in folder.rglob("*") if file.is_file()]


def test_both_sources_give_the_same_map(services, scenes, options, tmp_path):
    """Cubes are filled by the first run and serve the second; the raw bands are written as they were delivered."""
    connect(services.engine)
    cdse = Sentinel2Pipeline(**options("one", scene_ids=[JULY])).run()
    gee = Sentinel2Pipeline(
        **options("one", scene_ids=[GEE_JULY], raw_data_source="gee", raw_data_store=None, no_raw_data_store=True)
    )
    asked = services.arcticdem.requests()
    assert statuses(cdse) | statuses(gee.run()) == {JULY: "success", GEE_JULY: "success"}
    assert services.arcticdem.requests() == asked
    results = tmp_path / "one" / "results"
    assert_same_results(results / JULY, results / GEE_JULY)
    for name, scene in ((JULY, scenes[0]), (GEE_JULY, harmonised(scenes[0]))):
        for number, values in scene.raw.items():
            with rasterio.open(results / "raw" / name / f"{number}.tif") as source:
                np.testing.assert_array_equal(source.read(1), values)
                assert source.transform == scene.affine(20 if number == "SCL" else 10)
                assert (source.dtypes[0], source.nodata) == (str(values.dtype), 0)
                offset = -0.1 if number != "SCL" and name == JULY else 0
                assert (source.scales[0], source.offsets[0]) == (1 if number == "SCL" else 1e-4, offset)


def test_auxiliary_data_alone(services, options, tmp_path):
    """The scenes are asked for their place only; the list then names those whose surroundings are there."""
    connect(services.engine)
    file = tmp_path / "scenes.json"
    pipeline = Sentinel2Pipeline(**options("aux", scene_ids=[UNKNOWN, JULY], prep_data_scene_id_file=file))
    assert pipeline.prepare_data(aux=True) == [UNKNOWN]
    assert json.loads(file.read_text()) == [JULY]
    assert not (tmp_path / "aux" / "raw").exists()
    offline = Sentinel2Pipeline(**options("aux", offline=True, prep_data_scene_id_file=file)).run()
    (record,) = offline.tiles
    assert record.status == "failed"
    assert "prep-data sentinel2 --optical" in record.error


def test_what_cannot_be_prepared_is_named_and_the_rest_goes_on(services, options, tmp_path):
    file = tmp_path / "scenes.json"
    pipeline = Sentinel2Pipeline(**options("some", scene_ids=[UNKNOWN, JULY], prep_data_scene_id_file=file))
    assert pipeline.prepare_data(optical=True) == [UNKNOWN]
    assert json.loads(file.read_text()) == [JULY]
    with pytest.raises(SystemExit) as ended:
        Sentinel2Pipeline.cli_prepare_data(pipeline=pipeline, optical=True)
    assert ended.value.code == 1
    services.stac.requests.clear()
    done = Sentinel2Pipeline(**options("some", scene_ids=[JULY]))
    assert done.prepare_data(optical=True) == []
    assert not services.stac.requests


@pytest.mark.parametrize("pipeline", [PlanetPipeline, Sentinel2Pipeline])
def test_preparing_offline_is_a_mistake(pipeline):
    with pytest.raises(ConfigurationError, match="leave --offline out, or give --no-offline"):
        pipeline(offline=True).prepare_data(aux=True)


def test_preparing_scenes_needs_a_store_and_a_login(services, options, monkeypatch):
    with pytest.raises(ConfigurationError, match="needs a store"):
        Sentinel2Pipeline(scene_ids=[JULY], no_raw_data_store=True).prepare_data(optical=True)
    stored = Sentinel2Pipeline(**options("login", scene_ids=[JULY]))
    assert stored.prepare_data(optical=True) == []
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert stored.prepare_data(optical=True) == []
    services.stac.requests.clear()
    with pytest.raises(LoginError, match="There are no keys"):
        Sentinel2Pipeline(**options("login", scene_ids=[JULY, AUGUST])).prepare_data(optical=True)
    assert not services.stac.requests


def test_a_missing_login_costs_seconds(services, options, run_darts, monkeypatch, capfd):
    """One sentence before the first tile, and nothing is asked; what is stored or finished needs no login."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    services.stac.requests.clear()
    arguments = as_arguments(options("none", scene_ids=[JULY, AUGUST]))
    assert run_darts("inference", "sentinel2-sequential", *arguments) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Error")]
    assert "There are no keys" in line
    assert "AWS_PROFILE" in line
    assert not services.stac.requests
    ee.Reset()
    monkeypatch.setattr("ee.data.get_persistent_credentials", refuse_to_log_in)
    arguments = as_arguments(options("none", scene_ids=[GEE_JULY], raw_data_source="gee"))
    assert run_darts("inference", "sentinel2-sequential", *arguments) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Error")]
    assert "earthengine authenticate" in line


def refuse_to_log_in():
    raise ee.EEException("Please authorize access to your Earth Engine account by running earthengine authenticate")


def test_the_grid_of_tiles_is_fetched_where_its_folder_is_named(services, options, tmp_path, monkeypatch):
    from support.file_server import serve_files
    from support.mgrs_kml import kml

    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "grid.kml").write_text(kml({"08WMA": (-137.0, 68.0)}))
    with serve_files(tmp_path / "served") as server:
        monkeypatch.setenv("DARTS_SENTINEL2_GRID_URL", f"{server.url}/grid.kml")
        named = {"sentinel2_grid_dir": tmp_path / "grid"}
        with pytest.raises(ValueError, match="no Sentinel-2 tile '08WMB'; did you mean '08WMA'"):
            Sentinel2Pipeline(**options("grid", tile_ids=["08WMB"], **named)).prepare_data(optical=True)
        pipeline = Sentinel2Pipeline(**options("grid", tile_ids=["08WMA"], years=[2021], max_cloud_cover=2, **named))
        assert [job.tile_id for job in pipeline._jobs(Path())] == [JULY]
        assert len(server.requests) == 1
