"""Prepare Sentinel-2 scenes and auxiliary data, go offline, run: the results are those of an online run."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import ee
import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import shape

from darts.demo import demo_model
from darts.errors import ConfigurationError
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline
from darts_acquisition import Datacube, LoginError
from support.auxiliary_services import serve_arcticdem, trend_image
from support.commands import run_darts
from support.earthengine_server import connect, serve_earth_engine
from support.peel_scenes import (
    AUGUST,
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

pytestmark = pytest.mark.filterwarnings("ignore::darts_segmentation.PixelSizeWarning")

SOURCES = ["cdse", "gee"]
NAMES = {"cdse": (JULY, AUGUST), "gee": (GEE_JULY,)}


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


def options_below(folder, **changed):
    """Return the options of a run whose data and results lie in a folder."""
    values = {
        "model_files": demo_model(),
        "output_data_dir": folder / "results",
        "raw_data_store": folder / "raw",
        "arcticdem_dir": folder / "arcticdem",
        "tcvis_dir": folder / "tcvis",
        "patch_size": 256,
        "overlap": 32,
        "device": "cpu",
        "report": False,
        "mask_erosion_size": 3,
        "export_bands": ["probabilities", "binarized", "polygonized", "extent", "dem", "tcvis"],
        "debug_data": True,
    }
    return values | changed


@pytest.fixture
def options(tmp_path):
    """Make the options of a run whose data and results lie in folders of its own."""
    return lambda folder, **changed: options_below(tmp_path / folder, **changed)


def as_arguments(options):
    for name, value in options.items():
        word = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
        if isinstance(value, bool):
            yield word
        else:
            for each in value if isinstance(value, list) else [value]:
                yield from (word, each)


@dataclass
class Runs:
    """What preparing, an offline run and an online run from one source left behind.

    Attributes:
        folder: Where everything lies: `prepared`, `online`, `logs` and `scenes.json`.
        codes: Exit codes of preparing and of the offline run.
        said: What the two wrote on the terminal.
        changed: Variables of the environment that preparing and the offline run changed.
        online: Status by scene of the online run.
        initialized: Whether the offline run had initialised Earth Engine.
    """

    folder: Path
    codes: list[int]
    said: list[str]
    changed: list[set[str]]
    online: dict[str, str]
    initialized: bool


@pytest.fixture(scope="module")
def runs(services, tmp_path_factory):
    """Prepare and run offline with the command, then run online in Python; once for each source."""
    done = {}

    def run(source):
        if source not in done:
            done[source] = run_both_ways(services, source, tmp_path_factory.mktemp(source))
        return done[source]

    return run


def run_both_ways(services, source, folder):
    connect(services.engine)
    if source == "cdse":
        selection = {"aoi_file": area_file(services, folder)}
    else:
        selection = {"tile_ids": ["08WMA"], "max_cloud_cover": 2}
    selection |= {"raw_data_source": source, "years": [2021], "months": [7, 8]}
    prepared = options_below(folder / "prepared", prep_data_scene_id_file=folder / "scenes.json", **selection)
    told = [*as_arguments(prepared), "-vv", "--log-dir", folder / "logs"]
    before = dict(os.environ)

    def changes():
        return {name for name, value in os.environ.items() if before.get(name) != value}

    prepare = run_darts(folder, "inference", "prep-data", "sentinel2", "--optical", "--aux", *told)
    changed = [changes()]
    assert not (folder / "prepared" / "results").exists()
    ee.Reset()
    with no_network():
        offline = run_darts(folder, "inference", "sentinel2-sequential", "--offline", *told)
    initialized = ee.data.is_initialized()
    connect(services.engine)
    online = statuses(Sentinel2Pipeline(**options_below(folder / "online", **selection)).run())
    changed.append(changes())
    return Runs(folder, [prepare[0], offline[0]], [prepare[1], offline[1]], changed, online, initialized)


def area_file(services, folder):
    file = folder / "aoi.gpkg"
    place = shape(services.stac.respond.__self__.items[0]["geometry"]).centroid.buffer(0.001)
    gpd.GeoDataFrame(geometry=[place], crs="EPSG:4326").to_crs("EPSG:3413").to_file(file)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_an_offline_run_gives_what_an_online_run_gives(runs, scenes, source):
    """The Data Space by area, Earth Engine by tile; cubes and raw scenes are prepared by the command."""
    made = runs(source)
    assert made.codes == [0, 0]
    assert json.loads((made.folder / "scenes.json").read_text()) == list(NAMES[source])
    assert not made.initialized
    assert made.online == dict.fromkeys(NAMES[source], "success")
    for name in NAMES[source]:
        assert_same_results(made.folder / "prepared" / "results" / name, made.folder / "online" / "results" / name)
    for cube in (Datacube.open(made.folder / "online" / name) for name in ("arcticdem", "tcvis")):
        assert cube.missing(cube.window(grid_of(scenes[0]), 20)) == []


@pytest.mark.slow
def test_both_sources_give_the_same_map(runs):
    assert_same_results(runs("cdse").folder / "online/results" / JULY, runs("gee").folder / "online/results" / GEE_JULY)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_the_raw_bands_are_written_as_they_were_delivered(runs, scenes, source):
    scene = scenes[0] if source == "cdse" else harmonised(scenes[0])
    for number, values in scene.raw.items():
        with rasterio.open(runs(source).folder / f"online/results/raw/{NAMES[source][0]}/{number}.tif") as file:
            np.testing.assert_array_equal(file.read(1), values)
            assert file.transform == scene.affine(20 if number == "SCL" else 10)
            assert (file.dtypes[0], file.nodata) == (str(values.dtype), 0)
            scaling = (1, 0) if number == "SCL" else (1e-4, -0.1 if source == "cdse" else 0)
            assert (file.scales[0], file.offsets[0]) == scaling


@pytest.mark.slow
def test_the_secret_key_shows_nowhere(runs):
    """Neither in what was said at the highest verbosity, nor in any file; the environment stays as it was."""
    made = runs("cdse")
    files = [file for file in made.folder.rglob("*") if file.is_file()]
    kinds = {file.suffix for file in files}
    assert {".log", ".toml", ".parquet", ".json", ".nc"} <= kinds
    texts = [*made.said, *(file.read_bytes().decode("latin-1") for file in files)]
    assert any(JULY in text for text in made.said)
    assert not [text for text in texts if KEYS["aws_secret_access_key"] in text]
    assert made.changed[0] == set()
    assert made.changed[1] <= {"TORCHINDUCTOR_CACHE_DIR"}  # which torch sets


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("source", "unknown", "known"), [("cdse", UNKNOWN, JULY), ("gee", GEE_JULY.replace("WMA", "WMB"), GEE_JULY)]
)
def test_what_cannot_be_prepared_is_named_and_the_rest_goes_on(services, options, tmp_path, source, unknown, known):
    connect(services.engine)
    file = tmp_path / "scenes.json"
    some = options("some", raw_data_source=source)
    pipeline = Sentinel2Pipeline(**some, scene_ids=[unknown, known], prep_data_scene_id_file=file)
    assert pipeline.prepare_data(optical=True) == [unknown]
    assert json.loads(file.read_text()) == [known]
    with pytest.raises(SystemExit) as ended:
        Sentinel2Pipeline.cli_prepare_data(pipeline=pipeline, optical=True)
    assert ended.value.code == 1
    with no_network():
        assert Sentinel2Pipeline(**some, scene_ids=[known]).prepare_data(optical=True) == []


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


def test_a_missing_login_costs_seconds(services, options, monkeypatch, tmp_path):
    """One sentence before the first tile, and nothing is asked; what is stored or finished needs no login."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setattr("ee.data.get_persistent_credentials", refuse_to_log_in)
    services.stac.requests.clear()
    ee.Reset()
    for scene, source, advice in ((JULY, "cdse", "AWS_PROFILE"), (GEE_JULY, "gee", "earthengine authenticate")):
        arguments = as_arguments(options("none", scene_ids=[scene], raw_data_source=source))
        code, said = run_darts(tmp_path, "inference", "sentinel2-sequential", *arguments)
        assert code == 2
        (line,) = [line for line in said.splitlines() if line.startswith("Error")]
        assert advice in line
    assert not services.stac.requests


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
        assert [name for name, _ in pipeline._tileinfos()] == [JULY]
        assert len(server.requests) == 1
