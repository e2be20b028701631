"""The main job from end to end: folders of PlanetScope images become rasters, polygons and records."""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio

from darts.cli import run_command
from darts.demo import SampleArea, demo_model, make_sample_area
from darts.errors import ConfigurationError
from darts.pipelines.configfile import read_config
from darts.pipelines.options import build, known_keys
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts_acquisition import Chunk, Datacube
from darts_export import read_manifest
from darts_segmentation import convert_model
from support.commands import logging_restored
from support.cubes import build_cubes
from support.damage import copy_scene

PEEL = "20210821_210019_08_2405"
DEFAULT_FILES = {
    "probabilities.tif",
    "binarized.tif",
    "prediction_segments.gpkg",
    "prediction_segments.parquet",
    "prediction_extent.gpkg",
    "prediction_extent.parquet",
    "thumbnail.jpg",
    "item.json",
    "manifest.json",
}


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    """A small sample area with one scene, and the cubes around it."""
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=320)


@pytest.fixture
def run_darts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run the command; return its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["darts", *map(str, arguments)])
        with logging_restored(), pytest.raises(SystemExit) as ended:
            run_command()
        return int(ended.value.code or 0)

    return run


def _pipeline(area: SampleArea, output: Path, **changed: object) -> PlanetPipeline:
    values = {
        "model_files": demo_model(),
        "scenes_dir": area.scenes_dir,
        "arcticdem_dir": area.arcticdem_dir,
        "tcvis_dir": area.tcvis_dir,
        "output_data_dir": output,
        "patch_size": 256,
        "overlap": 64,
        "batch_size": 2,
        "device": "cpu",
        "report": False,
        "offline": True,
    }
    return PlanetPipeline(**(values | changed))


def _only_results(output: Path) -> pd.DataFrame:
    (path,) = output.glob("*.results.parquet")
    return pd.read_parquet(path)


def _check_results(folder: Path, scene: Path) -> None:
    """Check what must hold of any result: same grid, polygons that are the raster's objects, a true manifest."""
    assert {path.name for path in folder.iterdir()} >= DEFAULT_FILES
    with rasterio.open(next(scene.glob("*_SR.tif"))) as image:
        grid = (image.crs, image.transform, image.shape)
        pixel_area = image.res[0] * image.res[1]
    layers = {}
    for name in ("probabilities", "binarized"):
        with rasterio.open(folder / f"{name}.tif") as raster:
            assert (raster.crs, raster.transform, raster.shape) == grid
            layers[name] = raster.read(1)
    found = layers["binarized"] == 1
    assert (layers["probabilities"][found] >= 50).all()
    assert (layers["probabilities"][found] <= 100).all()
    names = ("prediction_segments", "prediction_extent")
    for suffix in ("gpkg", "parquet"):
        if suffix == "gpkg":
            segments, extent = (gpd.read_file(folder / f"{name}.gpkg", layer=folder.name) for name in names)
        else:
            segments, extent = (gpd.read_parquet(folder / f"{name}.parquet") for name in names)
        assert segments.crs == extent.crs == grid[0]
        assert segments.geometry.area.sum() == pytest.approx(found.sum() * pixel_area)
        reliable = layers["probabilities"] != 255
        assert extent.geometry.area.sum() == pytest.approx(reliable.sum() * pixel_area)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {name: facts["size"] for name, facts in manifest["files"].items()} == {
        path.name: path.stat().st_size for path in folder.iterdir() if path.name != "manifest.json"
    }


@pytest.mark.filterwarnings("ignore::darts_segmentation.PixelSizeWarning")
def test_the_real_scene_of_peel_plateau(run_darts, shared_data: Path, tmp_path: Path) -> None:
    from odc.geo.geobox import GeoBox

    scenes = shared_data / "peel" / "planet_layout" / "scenes"
    with rasterio.open(next((scenes / PEEL).glob("*_SR.tif"))) as image:
        geobox = GeoBox(image.shape, image.transform, image.crs)
        invalid = (image.read() == 0).all(axis=0)
    dem, tcvis = build_cubes(tmp_path, geobox)
    output = tmp_path / "results"
    arguments = ["--scenes-dir", scenes, "--model-files", demo_model(), "--output-data-dir", output, "--offline"]
    arguments += ["--arcticdem-dir", dem, "--tcvis-dir", tcvis, "--device", "cpu"]
    assert run_darts("inference", "planet-sequential", *arguments) == 0
    results = _only_results(output)
    assert list(results["status"]) == ["success"]
    assert list(results["tile_id"]) == [PEEL]
    assert results["output_path"][0] == str(output / PEEL)
    assert (results["seconds_segmenting"] > 0).all()
    _check_results(output / PEEL, scenes / PEEL)
    with rasterio.open(output / PEEL / "probabilities.tif") as raster:
        probabilities = raster.read(1)
    assert (probabilities[invalid] == 255).all()
    assert (probabilities[:10] == 255).all()
    assert (probabilities[11:-11, 11:-11] != 255).any()


@pytest.mark.slow
def test_one_unreadable_scene_among_three(run_darts, area: SampleArea, tmp_path: Path) -> None:
    scenes, output = tmp_path / "scenes", tmp_path / "results"
    names = ["20210801_200000_01_2405", "20210802_200000_02_2405", "20210803_200000_03_2405"]
    folders = [copy_scene(area.scene_dir, scenes, name) for name in names]
    image = next(folders[1].glob("*_SR.tif"))
    image.write_bytes(image.read_bytes()[:1000])
    arguments = ["--scenes-dir", scenes, "--model-files", demo_model(), "--output-data-dir", output, "--offline"]
    arguments += ["--arcticdem-dir", area.arcticdem_dir, "--tcvis-dir", area.tcvis_dir, "--device", "cpu"]
    assert run_darts("inference", "planet-sequential", *arguments) == 1
    results = _only_results(output).set_index("tile_id")
    assert list(results["status"].sort_index()) == ["success", "failed", "success"]
    assert results["error"][names[1]].startswith("Loading Optical: ")
    assert image.name in results["error"][names[1]]
    assert not (output / names[1]).exists()
    for folder in (folders[0], folders[2]):
        _check_results(output / folder.name, folder)
    # Both are copies of one scene, so they give the same map.
    maps = []
    for name in (names[0], names[2]):
        with rasterio.open(output / name / "probabilities.tif") as raster:
            maps.append(raster.read(1))
    np.testing.assert_array_equal(*maps)


@pytest.mark.slow
def test_finished_tiles_are_skipped_until_something_changes(area: SampleArea, tmp_path: Path) -> None:
    def statuses(**changed: object) -> list[str]:
        return [tile.status for tile in _pipeline(area, tmp_path / "results", **changed).run().tiles]

    assert statuses() == ["success"]
    assert statuses() == ["skipped"]
    assert statuses(batch_size=1, offline=False) == ["skipped"]
    assert statuses(binarization_threshold=0.4) == ["success"]
    assert statuses() == ["success"]
    assert statuses(export_bands=["probabilities"]) == ["skipped"]
    assert statuses(export_bands=["probabilities", "ndvi"]) == ["success"]
    assert statuses(overwrite=True) == ["success"]
    (tmp_path / "results" / area.scene_dir.name / "binarized.tif").unlink()
    assert statuses() == ["success"]


@pytest.mark.slow
def test_the_written_configuration_gives_the_same_run(area: SampleArea, tmp_path: Path) -> None:
    pipeline = _pipeline(area, tmp_path / "results", min_object_size=5)
    records = pipeline.run()
    written = read_config(records.path("config.toml"), ("inference", "planet-sequential"), known_keys(PlanetPipeline))
    again = build(PlanetPipeline, written)
    assert again == pipeline
    assert [tile.status for tile in again.run().tiles] == ["skipped"]


@pytest.mark.slow
def test_members_of_an_ensemble_are_written_and_average_to_the_whole(area: SampleArea, tmp_path: Path) -> None:
    models = [convert_model(demo_model(), tmp_path / name) for name in ("first", "second")]
    records = _pipeline(area, tmp_path / "results", model_files=models, write_model_outputs=True).run()
    layers = {}
    for name in ("probabilities", "probabilities-first", "probabilities-second"):
        with rasterio.open(records.tiles[0].output_path / f"{name}.tif") as raster:
            layers[name] = raster.read(1)
    np.testing.assert_array_equal(layers["probabilities"], layers["probabilities-first"])
    np.testing.assert_array_equal(layers["probabilities-first"], layers["probabilities-second"])
    models_of = read_manifest(records.tiles[0].output_path)["metadata"]["models"]
    assert set(models_of) == {"first", "second"}
    assert models_of["first"]["card"]["mlm:input"][0]["bands"][:2] == ["blue", "green"]


@pytest.mark.slow
def test_an_interrupted_run_leaves_complete_records(
    area: SampleArea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = tmp_path / "scenes"
    for day in (1, 2, 3):
        copy_scene(area.scene_dir, scenes, f"2021080{day}_200000_01_2405")
    load = PlanetPipeline._load_tile

    first = tmp_path / "results" / "20210801_200000_01_2405"

    def interrupt_at_the_second(self: PlanetPipeline, key: Path):
        if key.name.startswith("20210802"):
            while not (first / "manifest.json").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return load(self, key)

    monkeypatch.setattr(PlanetPipeline, "_load_tile", interrupt_at_the_second)
    pipeline = _pipeline(area, tmp_path / "results", scenes_dir=scenes)
    with pytest.raises(SystemExit) as ended:
        PlanetPipeline.cli(pipeline=pipeline)
    assert ended.value.code == 130
    assert list(_only_results(tmp_path / "results")["status"]) == ["success"]
    _check_results(first, scenes / first.name)


@pytest.mark.slow
def test_orthotiles_go_to_a_folder_per_tile_and_failures_end_a_run_where_asked(
    area: SampleArea, tmp_path: Path
) -> None:
    orthotiles = tmp_path / "tiles"
    scene = copy_scene(area.scene_dir, orthotiles / "4372514", "5790392_4372514_2022-07-16_2459")
    for name in ("5790393_4372514_2022-07-17_2459", "5790394_4372514_2022-07-18_2459"):
        (orthotiles / "4372514" / name).mkdir()
    changed = {"orthotiles_dir": orthotiles, "scenes_dir": None}
    records = _pipeline(area, tmp_path / "results", **changed).run()
    assert sorted(tile.status for tile in records.tiles) == ["failed", "failed", "success"]
    _check_results(tmp_path / "results" / "4372514" / scene.name, scene)
    stopped = _pipeline(area, tmp_path / "results", fail_fast=True, executor="serial", **changed).run()
    assert [tile.status for tile in stopped.tiles] == ["skipped", "failed"]
    only = _pipeline(area, tmp_path / "results", image_ids=[scene.name], **changed).run()
    assert [tile.status for tile in only.tiles] == ["skipped"]


def test_a_missing_cube_ends_the_run_before_a_tile_is_read(area: SampleArea, tmp_path: Path) -> None:
    pipeline = _pipeline(area, tmp_path / "results", arcticdem_dir=tmp_path / "absent.icechunk")
    with pytest.raises(
        ConfigurationError,
        match=r"`darts inference prep-data planet --aux` .*, run without --offline, or .* --arcticdem-dir\.$",
    ):
        pipeline.run()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("place", "says"),
    [("scenes", "is no datacube: expected an Icechunk repository"), ("tcvis", "holds .*; expected arcticdem-mosaics")],
)
@pytest.mark.parametrize("offline", [True, False])
def test_a_wrong_cube_ends_the_run_before_a_tile_is_read(
    area: SampleArea, tmp_path: Path, place: str, says: str, offline: bool
) -> None:
    wrong = {"scenes": area.scenes_dir, "tcvis": area.tcvis_dir}[place]
    pipeline = _pipeline(area, tmp_path / "results", arcticdem_dir=wrong, offline=offline)
    with pytest.raises(ConfigurationError, match=rf"{says}.* Correct --arcticdem-dir\.$"):
        pipeline.run()
    assert not (tmp_path / "results").exists()


def test_the_folder_of_a_scene_is_that_of_one_scene(area: SampleArea, tmp_path: Path) -> None:
    pipeline = _pipeline(area, tmp_path / "results", scenes_dir=area.scene_dir)
    assert pipeline._tileinfos() == [(area.scene_dir, tmp_path / "results" / area.scene_dir.name)]


def test_made_up_cubes_are_announced(area: SampleArea, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _pipeline(area, tmp_path / "results").plan()
    assert "is made up, for demonstrations; nothing in it was measured." in caplog.text


def _actions(pipeline: PlanetPipeline) -> list[tuple[str, str]]:
    return [(decision.action, decision.why) for decision in pipeline.plan().decisions]


@pytest.mark.slow
def test_finished_means_that_the_cubes_hold_what_they_held(area: SampleArea, tmp_path: Path) -> None:
    cubes = {name: shutil.copytree(getattr(area, f"{name}_dir"), tmp_path / name) for name in ("arcticdem", "tcvis")}
    places = {f"{name}_dir": folder for name, folder in cubes.items()}
    places["export_bands"] = ["probabilities", "tcvis"]
    pipeline = _pipeline(area, tmp_path / "results", **places)
    assert pipeline.run().count("success") == 1
    finished = [("skip", "finished")]
    assert _actions(pipeline) == finished
    for name, folder in cubes.items():
        cube = Datacube.open(folder)
        used = read_manifest(tmp_path / "results" / area.scene_dir.name)["metadata"]["depends_on"]["auxiliary"][name]
        row, col = map(int, next(iter(used["chunks"])).split(","))
        window = cube.chunk_geobox(Chunk(row, col))
        held = {variable: np.asarray(values) for variable, values in cube.read(window).data_vars.items()}
        cube.forget([Chunk(row, col)])
        cube.complete({Chunk(row, col): held})
        assert _actions(pipeline) == finished, "a chunk was fetched again with the same content"
        elsewhere = Chunk(row + 3, col)
        cube.mark_empty([elsewhere])
        assert _actions(pipeline) == finished, "another part of the cube was filled"
        first = next(iter(held))
        cube.write(window, held | {first: np.zeros_like(held[first])})
        changed = [("compute", f"changed since: chunk {row},{col} of {name} has another content")]
        assert _actions(pipeline) == changed
        cube.write(window, held)
        assert _actions(pipeline) == finished
    exchanged = {"arcticdem_dir": cubes["tcvis"], "tcvis_dir": cubes["arcticdem"]}
    with pytest.raises(ConfigurationError, match="expected arcticdem-mosaics"):
        _pipeline(area, tmp_path / "results", **places | exchanged).plan()


def test_a_small_file_that_claims_to_be_large_fails_alone(area: SampleArea, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    good = copy_scene(area.scene_dir, scenes, "20210801_200000_01_2405")
    large = copy_scene(area.scene_dir, scenes, "20210802_200000_01_2405")
    (image,) = large.glob("*_SR.tif")
    with rasterio.open(image) as source:
        profile = source.profile
    profile |= {
        "height": 49_000,
        "width": 49_000,
        "tiled": True,
        "sparse_ok": True,
        "blockxsize": 1024,
        "blockysize": 1024,
    }
    with rasterio.open(image, "w", **profile):
        pass
    assert image.stat().st_size < 200_000
    records = _pipeline(area, tmp_path / "results", scenes_dir=scenes).run()
    ended = {tile.tile_id: (tile.status, tile.error) for tile in records.tiles}
    assert ended[good.name][0] == "success"
    assert ended[large.name][0] == "failed"
    assert re.search(r"_SR\.tif takes 53\.7 GB of memory as a tile, and .* GB are available", ended[large.name][1])


def test_records_that_are_lost_are_not_taken_for_done(
    area: SampleArea, tmp_path: Path, run_darts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of results is renamed while the run goes on."""
    load = PlanetPipeline._load_tile

    def rename_meanwhile(self: PlanetPipeline, key: Path):
        (tmp_path / "results").rename(tmp_path / "renamed")
        return load(self, key)

    monkeypatch.setattr(PlanetPipeline, "_load_tile", rename_meanwhile)
    with pytest.raises(SystemExit) as ended:
        PlanetPipeline.cli(pipeline=_pipeline(area, tmp_path / "results"))
    assert ended.value.code == 1


def test_a_folder_that_holds_no_scene_is_left_out(area: SampleArea, tmp_path: Path, caplog) -> None:
    scenes = tmp_path / "scenes"
    copy_scene(area.scene_dir, scenes, "20210801_200000_01_2405")
    (scenes / "notes").mkdir()
    (scenes / "notes" / "todo.txt").write_text("look at the slumps")
    pipeline = _pipeline(area, tmp_path / "results", scenes_dir=scenes)
    assert [decision.task.tile_id for decision in pipeline.plan().decisions] == ["20210801_200000_01_2405"]
    assert f"{scenes / 'notes'} is left out: it holds no file of a scene" in caplog.text


def test_scenes_may_be_listed_in_a_file(area: SampleArea, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    names = [copy_scene(area.scene_dir, scenes, f"2021080{day}_200000_01_2405").name for day in (1, 2, 3)]
    listed = tmp_path / "images.txt"
    listed.write_bytes(b"\xef\xbb\xbf" + f"{names[2]}\r\n{names[0]}\r\n".encode())
    pipeline = _pipeline(area, tmp_path / "results", scenes_dir=scenes, image_list=listed)
    assert [decision.task.tile_id for decision in pipeline.plan().decisions] == [names[0], names[2]]
    listed.write_text("20210809_200000_01_2405\n")
    with pytest.raises(ConfigurationError, match="no scene '20210809_200000_01_2405'"):
        pipeline.plan()
