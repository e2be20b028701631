"""Training data through the stages of a run, an ensemble's file in a run, and the map against itself."""

import dataclasses
import io
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from odc.geo.geom import Geometry
from typer.testing import CliRunner

import darts_evaluation
import darts_preprocessing.version
from darts import cli
from darts.cli import rounds
from darts.cli.app import app
from darts.errors import ConfigurationError
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts.run.models import find_models
from darts.run.planning import Planner
from darts.run.shift_test import shift_test
from darts.run.training_data import _digest, _on_labelled_ground, make_training_data
from darts_acquisition import load_planet_masks, load_planet_scene
from darts_evaluation import make_labels
from darts_preprocessing import preprocess_v2
from darts_segmentation import Calibration, ModelCard, SMPSegmenter, save_model, write_ensemble
from darts_training import SamplesError
from darts_training.checkpoint import Progress
from support import standin

BANDS = ["red", "nir", "ndvi"]
UNET = {"arch": "unet", "encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [8, 8, 8]}


@pytest.fixture
def images(shared_data):
    return {"scenes_dir": shared_data / "peel/planet_layout/scenes", "offline": True, "device": "cpu"}


def save(path, calibration=None):
    import segmentation_models_pytorch as smp

    card = ModelCard(name=path.name, architecture=UNET, bands=BANDS, calibration=calibration)
    return save_model(path, smp.create_model(**card.architecture, encoder_weights=None), card)


@pytest.mark.slow
def test_samples_are_what_a_run_sends_to_its_network(shared_data, images, tmp_path):
    from torch.nn import Module

    peel = shared_data / "peel"
    model = save(tmp_path / "model")
    pipeline = PlanetPipeline(**images, model_files=model, output_data_dir=tmp_path / "results")
    given = (peel / "experts.gpkg", peel / "aoi.geojson", tmp_path / "samples")
    made = make_training_data(pipeline, *given, patch_size=64, overlap=16)
    assert [channel.band for channel in made.samples.format.channels] == BANDS
    assert (made.failed, made.outside) == ([], 0)
    sent = []

    class Recorder(Module):
        def forward(self, patches):
            sent.extend(patches.clone().numpy())
            return patches[:, :1] * 0

    def session(pipeline, context):
        segmenter = SMPSegmenter.from_network(Recorder(), ModelCard(name="a", architecture=UNET, bands=BANDS), "cpu")

        class Session:
            device, precision = "cpu", "fp32"

            def segment(self, tile):
                return segmenter.segment_tile(tile, 64, 16)

        return Session()

    assert [each.iou for each in shift_test(pipeline, 1, session)] == [1.0]
    tile = made.samples.tiles[0]
    stored = [tile.read(index)[0].tobytes() for index in range(len(tile))]
    assert len(stored) > 20
    assert set(stored) <= {patch.tobytes() for patch in sent}
    labels = tile.read_labels()
    assert 0.02 < (labels == 1).mean() < 0.2
    again = make_training_data(pipeline, *given, patch_size=64, overlap=16)
    assert again.samples.digest == made.samples.digest
    with pytest.raises(SamplesError, match="another folder"):
        make_training_data(pipeline, *given, patch_size=128)
    corrected = gpd.read_file(given[0])
    corrected[1:].to_file(tmp_path / "corrected.gpkg")
    with pytest.raises(SamplesError, match="other bands, labels or options"):
        make_training_data(pipeline, tmp_path / "corrected.gpkg", *given[1:], patch_size=64, overlap=16)
    with pytest.raises(SamplesError, match="other bands, labels or options"):
        make_training_data(dataclasses.replace(pipeline, quality_level=2), *given, patch_size=64, overlap=16)
    with pytest.raises(ConfigurationError, match="--tcvis-dir"):
        make_training_data(pipeline, *given[:2], tmp_path / "b", bands=["tc_brightness"])
    assert not (tmp_path / "b").exists()


def test_tiles_beside_the_labelled_area_give_no_samples(shared_data, images, tmp_path, caplog):
    peel = shared_data / "peel"
    area = gpd.read_file(peel / "aoi.geojson")
    area.set_geometry(area.to_crs("EPSG:32608").translate(50_000, 0)).to_file(tmp_path / "far.gpkg")
    pipeline = PlanetPipeline(**images, output_data_dir=tmp_path / "results")
    made = make_training_data(
        pipeline, peel / "experts.gpkg", tmp_path / "far.gpkg", tmp_path / "samples", bands=BANDS, patch_size=64
    )
    assert made.samples is None
    assert made.outside > 0
    assert not (tmp_path / "samples").exists()
    assert f"None of 1 tile touches the labelled area {tmp_path / 'far.gpkg'}" in caplog.text


@pytest.mark.filterwarnings("ignore::darts_evaluation.RepairedLabelsWarning")
@pytest.mark.parametrize("crs", ["EPSG:32601", "EPSG:3413", "EPSG:4326"])
def test_tiles_on_labelled_ground_across_180_degrees_are_found(crs):
    area = gpd.GeoSeries([shapely.box(386_000, 7_801_000, 389_000, 7_804_000)], crs="EPSG:32601")
    drawn = make_labels(gpd.GeoDataFrame(geometry=area).to_crs(crs), area.to_crs(crs))
    places = {name: shapely.box(left, 7_802_000, left + 500, 7_802_500) for name, left in (("on", 387e3), ("off", 4e5))}
    outlines = {name: Geometry(place, crs="EPSG:32601") for name, place in places.items()}
    pipeline = SimpleNamespace(offline=True, _tile_areas=lambda *_, **__: outlines)
    tasks = [SimpleNamespace(tile_id=name) for name in places]
    assert [task.tile_id for task in _on_labelled_ground(pipeline, tasks, drawn)] == ["on"]


def test_two_tiles_of_one_name_make_no_samples(tmp_path, monkeypatch):
    folder, ground = standin.make_folder(tmp_path / "folder", 2), tmp_path / "ground.gpkg"
    square = shapely.box(500_000, 7_599_000, 502_000, 7_601_000)
    gpd.GeoDataFrame(geometry=[square], crs="EPSG:32608").to_file(ground)
    monkeypatch.setattr(standin.StandInPipeline, "_get_tile_id", lambda self, key: "same")
    with pytest.raises(ConfigurationError, match="Two tiles are called 'same'"):
        make_training_data(standin.make_pipeline(folder), ground, ground, tmp_path / "out", bands=["nir"])
    assert not (tmp_path / "out").exists()


def test_samples_are_cut_again_where_their_tile_changed(tmp_path, caplog, monkeypatch):
    folder, ground = standin.make_folder(tmp_path / "folder", 2), tmp_path / "ground.gpkg"
    square = shapely.box(500_000, 7_599_000, 502_000, 7_601_000)
    gpd.GeoDataFrame(geometry=[square], crs="EPSG:32608").to_file(ground)

    def make(out):
        caplog.clear()
        with caplog.at_level("INFO", "darts.run"):
            made = make_training_data(
                standin.make_pipeline(folder), ground, ground, out, bands=["nir"], patch_size=32, overlap=0
            )
        return made.samples.digest, [message for message in caplog.messages if "samples." in message]

    first, cut = make(tmp_path / "samples")
    assert len(cut) == 3  # one line for each tile, and how many there are
    assert make(tmp_path / "samples") == (first, ["0 of 2 tiles are to be cut into samples."])
    standin.write_image(folder / "images" / "tile-001.tif", 1, level=-0.2)
    again, cut = make(tmp_path / "samples")
    assert [message.partition(":")[0] for message in cut[1:]] == ["Tile tile-001"]
    assert "Tile tile-001 is cut again, changed since: tile-001.tif has another content." in caplog.messages
    assert again != first
    assert again == make(tmp_path / "new")[0]
    with rasterio.open(folder / "images" / "tile-001.tif", "r+") as file:
        file.write(file.read() * 0)
    assert make(tmp_path / "samples")[0] == make(tmp_path / "without")[0]
    standin.write_image(folder / "images" / "tile-001.tif", 1)
    assert make(tmp_path / "samples")[0] == first
    monkeypatch.setattr(darts_preprocessing.version, "RESULTS_VERSION", 1000)
    assert make(tmp_path / "samples")[1][0] == "2 of 2 tiles are to be cut into samples."


def test_samples_of_another_trend_are_others(shared_data, images):
    peel = shared_data / "peel"
    labels = darts_evaluation.read_labels(peel / "experts.gpkg", peel / "aoi.geojson")
    pipelines = [PlanetPipeline(**images, trend=trend) for trend in ("2000-2019", "2001-2020")]
    assert len({_digest(pipeline, labels, ["tc_brightness"]) for pipeline in pipelines}) == 2
    assert len({_digest(pipeline, labels, ["red", "slope"]) for pipeline in pipelines}) == 1


@pytest.mark.slow
def test_an_ensemble_is_one_model_of_a_run(images, tmp_path):
    members = {name: save(tmp_path / name) for name in ("a", "b")}
    hashes = []
    for temperature in (2.0, 3.0):
        file = write_ensemble(tmp_path / "both.json", members, Calibration(temperature))
        pipeline = PlanetPipeline(**images, model_files=file, output_data_dir=tmp_path / "results")
        context = Planner(pipeline, writes=False).context
        assert context.ensemble == file
        assert set(context.models) == {"a", "b"}
        hashes.append(context.depends_on["models"])
    assert hashes[0]["a"] == hashes[1]["a"]
    assert hashes[0] != hashes[1]
    with pytest.raises(ConfigurationError, match="name it alone"):
        find_models([file, tmp_path / "a"], tmp_path)


def test_a_shift_of_patches_leaves_a_pixelwise_map_as_it_is(tmp_path):
    standin.write_model(tmp_path / "model.safetensors")
    standin.write_image(tmp_path / "images" / "20210821_210019_08_2405.tif")
    pipeline = standin.make_pipeline(tmp_path)
    (found,) = shift_test(pipeline, 1, standin.open_session)
    assert found.iou == 1.0
    assert found.either > 0
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").glob("*/manifest.json"))


@pytest.mark.slow
def test_the_commands_go_from_labels_to_a_calibrated_model(shared_data, tmp_path):
    peel, runner = shared_data / "peel", CliRunner()

    def call(*words):
        done = runner.invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output

    labels = ("--labels", peel / "experts.gpkg", "--area", peel / "aoi.geojson")
    scenes = ("--scenes-dir", peel / "planet_layout/scenes", "--offline", "--device", "cpu")
    bands = [word for band in BANDS for word in ("--bands", band)]
    samples = tmp_path / "samples"
    call("training-data", "create", "planet", *scenes, *labels, "--out", samples, *bands, "--sample-size", 128)
    options = ("--encoder", "resnet18", "--epochs", 1, "--steps-per-epoch", 2, "--crop", 64, "--block-km", 0.5)
    text = call(
        "train", samples, "--out", tmp_path / "model", *options, "--buffer-m", 50, "--patience", 0, "--device", "cpu"
    )
    assert "IoU of pixels" in text
    call("model", "info", tmp_path / "model")
    segmenter = SMPSegmenter(tmp_path / "model", "cpu")
    assert np.isfinite(segmenter.card.metrics.get("iou", 0.0))
    results = tmp_path / "results"
    call("inference", "planet-sequential", *scenes, "--model-files", tmp_path / "model", "--output-data-dir", results)
    (scene_dir,) = (peel / "planet_layout/scenes").iterdir()
    scene = load_planet_scene(scene_dir)
    scene = scene.assign(load_planet_masks(scene_dir, scene=scene).data_vars)
    found = segmenter.segment_tile(preprocess_v2(scene, None, None, device="cpu"), 1024, 256)["probabilities"].values
    with rasterio.open(results / scene_dir.name / "probabilities.tif") as file:
        written = file.read(1)
    assert (written != 255).mean() > 0.8
    np.testing.assert_array_equal(written[written != 255], np.round(100 * found[written != 255]))


def test_training_has_an_option_for_every_field_and_hands_it_on(monkeypatch, tmp_path):
    import dataclasses

    import darts_training
    from darts_training import TrainingOptions

    taken = []
    trained = SimpleNamespace(evaluation=None, path=tmp_path / "model")
    monkeypatch.setattr(cli.logs, "start_logging", lambda *_: None)
    monkeypatch.setattr(darts_training, "read_samples", lambda folder: folder)
    monkeypatch.setattr(darts_training, "make_folds", lambda *_, **__: None)
    monkeypatch.setattr(darts_training, "train", lambda *given, **more: taken.append((given, more)) or trained)
    command = ["train", str(tmp_path), "--out", str(tmp_path / "model")]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, "nothing was done.\n" in done.output) == (0, True)  # as there is no evaluation
    again = CliRunner().invoke(app, [*command, "--license", "CC0"])
    assert "its licence and description stay as they are" in again.output
    taken.pop()
    assert taken.pop()[0] == (tmp_path, tmp_path / "model", TrainingOptions())
    changed = TrainingOptions(
        arch="fpn", encoder="resnet18", epochs=3, steps_per_epoch=4, batch_size=5, crop=64, slump_share=0.25,
        learning_rate=0.5, weight_decay=0.125, warmup=0.75, overlap_loss="tversky", focal_gamma=1.5, brightness=0.375,
        ema=0.625, patience=None, min_object_px=6, seed=7, threads=8,
    )  # fmt: skip
    default, words = TrainingOptions(), []
    for field in dataclasses.fields(TrainingOptions):
        if field.name != "architecture":
            assert getattr(changed, field.name) != getattr(default, field.name), field.name
            words += ["--" + field.name.replace("_", "-"), str(getattr(changed, field.name) or 0)]
    assert CliRunner().invoke(app, [*command, *words]).exit_code == 0
    assert taken.pop()[0][2] == changed


def test_training_that_ctrl_c_ends_says_that_the_same_command_goes_on(monkeypatch, tmp_path):
    import darts_training

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.logs, "start_logging", lambda *_: None)
    monkeypatch.setattr(darts_training, "read_samples", lambda folder: folder)
    monkeypatch.setattr(darts_training, "make_folds", lambda *_, **__: None)
    monkeypatch.setattr(darts_training, "train", interrupt)
    found = CliRunner().invoke(app, ["train", str(tmp_path), "--out", str(tmp_path / "model")])
    assert found.exit_code == 130
    assert "The same command goes on" in found.stderr


@pytest.mark.parametrize("folds", [None, 3])
def test_a_training_without_a_terminal_has_a_line_per_round(folds, caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    now = iter(range(0, 10_000, 25))
    monkeypatch.setattr(rounds, "monotonic", lambda: next(now))
    progress = Progress()
    with caplog.at_level("INFO", "darts.cli.rounds"), rounds.showing_rounds(2, folds) as shown:
        if folds is not None:
            shown.fold(1)
        for step in range(1, 7):
            progress.step = step
            if step % 3 == 0:
                progress.history.append({"loss": 1 / step})
            shown.step(progress, 6)
    before = "Round" if folds is None else "Fold 2 of 3, round"
    told = [message for message in caplog.messages if "loss" in message]
    assert told == [f"{before} 1 of 2: loss 0.3333.", f"{before} 2 of 2: loss 0.1667."]


def test_a_training_on_a_terminal_has_a_bar_that_ends_with_the_last_round():
    progress, bar = Progress(step=6, history=[{}, {}], best_epoch=1, best_score=(0.5, 0.5)), MagicMock()
    rounds.Rounds(2, None, bar).step(progress, 6)
    assert bar.update.call_args.kwargs["description"] == "round 2 of 2, best F1 0.50"
