"""Training: killed or not, the same weights; what comes of it runs, and says what it is."""

import errno
import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pystac
import pytest
import torch

from darts_segmentation import EnsembleV1, ModelCard, model_info, read_model, store
from darts_segmentation.network import load_network
from darts_training import (
    SamplesError,
    TrainingError,
    TrainingOptions,
    WritingError,
    cross_validate,
    make_folds,
    make_item,
    result,
    train,
)
from darts_training.batches import TrainingSet
from darts_training.checkpoint import Progress, save_checkpoint
from darts_training.losses import loss_of
from darts_training.networks import average, begin
from darts_utils import ParameterError
from support.lanes import mostly_slow
from support.training import EDGE_M, OPTIONS, labelled_tile, make_samples


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def folds(samples):
    return make_folds(samples, 3, block_m=200, buffer_m=30)


@pytest.fixture(scope="module")
def undisturbed(samples, folds, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "slumps"
    return train(samples, out, OPTIONS, folds=folds, device="cpu", texts={"license": "MIT"})


def same_weights(one, other):
    states = [read_model(path).state_dict for path in (one, other)]
    assert set(states[0]) == set(states[1])
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


KILLS = tuple(int(step) for step in np.random.default_rng(0).integers(1, 9, 10))


@pytest.mark.slow
@pytest.mark.parametrize("kills", mostly_slow([[3, 5], *([each] for each in KILLS)], lambda case: len(case) == 2))
def test_a_training_that_was_killed_ends_with_the_same_weights(samples, folds, undisturbed, tmp_path, kills):
    out = tmp_path / "slumps"
    for kill in kills:

        def on_step(progress, total, kill=kill):
            assert total == 9
            if progress.step == kill:
                raise KilledError

        every = 0.0 if kill % 2 else 1e9  # with a checkpoint at each step, or at the end of each round alone
        with pytest.raises(KilledError):
            train(samples, out, OPTIONS, folds=folds, device="cpu", on_step=on_step, checkpoint_seconds=every)
    train(samples, out, OPTIONS, folds=folds, device="cpu")
    assert same_weights(out, undisturbed.path)
    assert (out / "log.csv").read_text() == (undisturbed.path / "log.csv").read_text()
    assert not (out / "checkpoint.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("last", mostly_slow(["item.json", "model.json", "training.json"], lambda name: name[0] == "i"))
def test_a_training_killed_while_it_writes_its_result_goes_on(samples, folds, undisturbed, tmp_path, monkeypatch, last):
    out, write = tmp_path / "slumps", result.write_atomically

    def kill(path, *given, **named):
        if path.name == last:
            raise KilledError
        write(path, *given, **named)

    with monkeypatch.context() as killing:
        killing.setattr(store if last == "model.json" else result, "write_atomically", kill)
        with pytest.raises(KilledError):
            train(samples, out, OPTIONS, folds=folds, device="cpu")
    with pytest.raises(TrainingError, match="other options"):
        train(samples, out, replace(OPTIONS, seed=1), folds=folds, device="cpu")
    train(samples, out, OPTIONS, folds=folds, device="cpu", texts={"license": "MIT"})
    names = {path.name for path in undisturbed.path.iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        name: (undisturbed.path / name).read_bytes() for name in names
    }


@pytest.mark.slow
def test_a_training_that_was_killed_keeps_its_number_of_threads(samples, folds, tmp_path, monkeypatch):
    seen, options = [], replace(OPTIONS, threads=None)

    def on_step(progress, total):
        seen.append(torch.get_num_threads())
        raise KilledError

    for cpus in (2, 1):
        monkeypatch.setattr("darts_training.trainer.usable_cpus", lambda cpus=cpus: cpus)
        with pytest.raises(KilledError):
            train(samples, tmp_path, options, folds=folds, device="cpu", on_step=on_step, checkpoint_seconds=0)
    assert seen == [2, 2]


def test_a_finished_training_is_not_done_again_and_another_one_is_refused(samples, folds, undisturbed):
    def never(*_):
        raise KilledError

    again = train(samples, undisturbed.path, OPTIONS, folds=folds, device="cpu", on_step=never)
    assert (again.epochs, again.best_epoch) == (undisturbed.epochs, undisturbed.best_epoch)
    with pytest.raises(TrainingError, match="other options"):
        train(samples, undisturbed.path, replace(OPTIONS, seed=1), folds=folds, device="cpu")


@pytest.mark.slow
def test_another_seed_gives_other_weights(samples, folds, undisturbed, tmp_path):
    train(samples, tmp_path / "a", replace(OPTIONS, seed=1), folds=folds, device="cpu")
    assert not same_weights(tmp_path / "a", undisturbed.path)


def test_a_model_says_what_it_is_and_runs(samples, undisturbed):
    info = model_info(undisturbed.path)
    assert info.card.license == "MIT"
    assert samples.digest in info.card.training_data
    assert info.card.bands == ("red", "ndvi")
    assert info.card.normalization["red"] == (0.0, 0.5)
    assert "iou" in info.card.metrics
    assert info.card.pixel_size == EDGE_M
    record = json.loads((undisturbed.path / "training.json").read_text())
    assert info.card.metrics["blocks"] == record["blocks"] > 0
    assert f"The figures come from {record['blocks']} blocks of 1 km × 1 km" in info.card.training_data
    record = json.loads((undisturbed.path / "training.json").read_text())
    assert record["sha256"] == info.sha256
    assert record["threads"] == OPTIONS.threads
    assert record["test"] != record["validation"]
    assert (undisturbed.path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    tile, _ = labelled_tile(0)
    found = EnsembleV1({"a": undisturbed.path}, "cpu").segment_tile(tile, 64, 16)["probabilities"]
    assert float(found.max()) <= 1
    assert np.isnan(found.values).sum() == np.isnan(tile["red"].values).sum()


def test_the_item_is_one_of_the_model_extension(undisturbed):
    from stac_model.schema import MLModelProperties

    item = json.loads((undisturbed.path / "item.json").read_text())
    card = read_model(undisturbed.path).card
    assert item["properties"]["mlm:name"] == card.name == "slumps"
    assert make_item(card, tuple(item["bbox"]), ("a", "b"))["bbox"] == item["bbox"]
    west, south, east, north = item["bbox"]
    assert (west, east) == (pytest.approx(-135, abs=0.1), pytest.approx(-134.9, abs=0.1))
    assert 68 < south < north < 69
    properties = MLModelProperties.model_validate(item["properties"])
    assert properties.name == "slumps"
    assert properties.input[0].bands == ["red", "ndvi"]
    _check_item(item)


UNET = {"arch": "unet", "encoder_name": "resnet18"}
MLM_FIELDS = {"mlm:name", "mlm:architecture", "mlm:framework", "mlm:tasks", "mlm:input", "mlm:output"}


def _check_item(item):
    """Check what version 1.4.0 of the extension's schema asks for, and what it forbids, beyond the types of fields."""
    properties, assets = item["properties"], item["assets"]
    assert {name for name in properties if name.startswith("mlm:")} == MLM_FIELDS | {"mlm:hyperparameters"}
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", properties["mlm:name"])
    assert all(re.fullmatch(r"[0-9a-zA-Z_.-]+", name) for name in properties["mlm:hyperparameters"])
    # Bands that the input names must be described: by STAC 1.1 in an asset, by the extension among the properties.
    given = [{"name": name} for name in properties["mlm:input"][0]["bands"]]
    assert given == properties["bands"] == assets["weights"]["bands"]
    for asset in assets.values():
        is_model = "mlm:model" in asset["roles"]
        assert {name for name in asset if name.startswith("mlm:")} == ({"mlm:artifact_type"} if is_model else set())
    assert "mlm:model" in assets["weights"]["roles"]
    for entry in properties["mlm:output"]:
        assert all(isinstance(each["value"], int) and each["name"] for each in entry["classification:classes"])
    # Without extensions, pystac validates against the core schemas in its own package and needs no network.
    pystac.Item.from_dict(item | {"stac_extensions": []}).validate()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[(name, name) for name in ("slumps", "a.b", "my model-2")],
        *[("2024", "model-2024"), ("ab", "model-ab"), ("rötung", "model-r-tung"), ("x-", "model-x"), ("ü", "model-0")],
    ],
)
def test_an_item_is_valid_whatever_a_model_is_called(name, expected):
    card = ModelCard(name=name, architecture=UNET, bands=["red"], license="as in the letter", metrics={"iou": 0.5})
    item = make_item(card, (-135.0, 68.0, -134.0, 69.0), ("2021-01-01T00:00:00Z", "2021-02-01T00:00:00Z"))
    _check_item(item)
    assert (item["id"], item["properties"]["mlm:name"]) == (name, expected)
    assert (item["properties"]["license"], item["properties"]["darts:license"]) == ("other", "as in the letter")
    plain = make_item(replace(card, license="CC-BY-4.0"), (0, 0, 1, 1), ("a", "b"))["properties"]
    assert plain["license"] == "CC-BY-4.0"
    assert "darts:license" not in plain


def test_the_loss_is_focal_plus_tversky_where_pixels_are_labelled():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 1, 8, 8)), rng.choice([0, 1, 255], (2, 8, 8)).astype(np.uint8)
    single = np.where(np.arange(labels.size).reshape(labels.shape) == labels.size - 1, np.uint8(1), np.uint8(255))
    for drawn in (single, labels):
        counts, truth = (drawn != 255)[:, None], (drawn == 1)[:, None]
        p = 1 / (1 + np.exp(-logits))
        q = np.where(truth, p, 1 - p)
        focal = (-((1 - q) ** 2) * np.log(q))[counts].mean()
        hits, alarms = (p * truth * counts).sum(), (p * ~truth * counts).sum()
        misses = (truth * counts).sum() - hits
        for name, (a, b) in {"dice": (0.5, 0.5), "tversky": (0.3, 0.7)}.items():
            index = (hits + 0.5) / (hits + a * alarms + b * misses + 0.5)
            given = loss_of(torch.from_numpy(logits), torch.from_numpy(drawn), gamma=2.0, overlap=name)
            assert float(given) == pytest.approx(focal + 1 - index)
    wrong = torch.from_numpy(np.where(counts, logits, -9 * logits))
    assert float(loss_of(wrong, torch.from_numpy(labels), gamma=2.0, overlap="tversky")) == pytest.approx(float(given))
    none = torch.from_numpy(logits).requires_grad_(True)
    loss_of(none, torch.full((2, 8, 8), 255, dtype=torch.uint8), gamma=2.0, overlap="dice").backward()
    assert (none.grad == 0).all()


def test_the_average_follows_the_weights():
    network, averaged = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    network.running_mean += 3.0
    network.num_batches_tracked += 5
    average(averaged, network, 0.9, step=0)
    np.testing.assert_allclose(averaged.running_mean, 3 * 0.9)  # 1 − (1 + 0) / (10 + 0)
    before = averaged.running_mean.clone()
    average(averaged, network, 0.9, step=10_000)
    np.testing.assert_allclose(averaged.running_mean, before + 0.1 * (3 - before), rtol=1e-6)
    assert averaged.num_batches_tracked == 5


def test_a_network_that_is_trained_is_the_one_that_inference_runs(samples):
    """An activation of the architecture would come before that of loss and figures, and inference leaves it out."""
    options = replace(OPTIONS, architecture=(*OPTIONS.architecture, ("activation", "sigmoid")))
    start = begin(samples.format, options, None, "slumps")
    network = load_network(start.card, start.network.state_dict())
    patches = torch.from_numpy(samples.tiles[0].read(0)[0][None].astype("float32"))
    with torch.no_grad():
        trained = start.network.eval()(patches)
    torch.testing.assert_close(trained, network(patches), rtol=0, atol=0)
    assert trained.min() < 0


@pytest.mark.slow
def test_fine_tuning_begins_with_the_model(samples, folds, undisturbed, tmp_path):
    options = replace(OPTIONS, epochs=1, steps_per_epoch=1, learning_rate=1e-12, weight_decay=0.0, ema=0.0)
    tuned = train(samples, tmp_path / "tuned", options, folds=folds, base=undisturbed.path, device="cpu")
    before, after = (read_model(path).state_dict for path in (undisturbed.path, tuned.path))
    for name, tensor in before.items():
        if tensor.is_floating_point() and "running" not in name:
            torch.testing.assert_close(after[name], tensor, atol=1e-6, rtol=0)
    record = json.loads((tuned.path / "training.json").read_text())
    assert record["origin"] == model_info(undisturbed.path).sha256
    other = make_samples(tmp_path / "samples", form=replace(samples.format, channels=samples.format.channels[:1]))
    with pytest.raises(SamplesError, match="make samples for this model"):
        train(other, tmp_path / "b", OPTIONS, folds=folds, base=undisturbed.path, device="cpu")


@pytest.mark.slow
def test_cross_validation_measures_all_ground_by_models_that_have_not_seen_it(samples, tmp_path):
    folds = make_folds(samples, 2, block_m=200, buffer_m=30)
    options = replace(OPTIONS, epochs=1, patience=None)
    trained, evaluation = cross_validate(samples, tmp_path, options, folds=folds, device="cpu")
    assert [each.path.name for each in trained] == ["fold-1", "fold-2"]
    labelled = 2 * 80 * 80 - 2 * 4 * 9
    area = sum(evaluation.tables["reliability"]["area_m2"])
    # The area on the ground is that on the grid but for the scale of the projection.
    assert area == pytest.approx(labelled * EDGE_M**2, rel=1e-3)
    assert (tmp_path / "cross-validation.json").is_file()
    for fold, each in enumerate(trained):
        assert json.loads((each.path / "training.json").read_text())["test"] == [fold]


def test_mistakes_are_one_sentence(samples, folds, tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match="epochs is 0"):
        TrainingOptions(epochs=0)
    for wrong in ({"epochs": 2.5}, {"epochs": "3"}, {"weight_decay": -1}, {"focal_gamma": math.nan}):
        with pytest.raises(ParameterError, match=f"{next(iter(wrong))} is "):
            TrainingOptions(**wrong)
    with pytest.raises(TrainingError, match="patience"):
        train(samples, tmp_path / "a", OPTIONS, folds=None)
    for wrong in ((), (3,), (0, -1)):
        with pytest.raises(TrainingError, match=r"The test folds are .*; expected one or more of 0 to 2"):
            train(samples, tmp_path / "a", OPTIONS, folds=folds, test=wrong)
    with pytest.raises(TrainingError, match="No fold is left"):
        train(samples, tmp_path / "a", OPTIONS, folds=make_folds(samples, 2, block_m=200, buffer_m=30))
    with pytest.raises(TrainingError, match="cannot be built"):
        train(samples, tmp_path / "a", replace(OPTIONS, encoder="resnet0"), folds=folds)
    with pytest.raises(TrainingError, match="patches have 64 px"):
        train(samples, tmp_path / "a", replace(OPTIONS, crop=65), folds=folds)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="damaged"):
        train(samples, tmp_path / "b", OPTIONS, folds=folds, device="cpu")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WritingError, match="No space left on device"):
        train(samples, tmp_path / "c", OPTIONS, folds=folds, device="cpu", checkpoint_seconds=0)


def test_a_checkpoint_on_a_full_disk_says_so(small_disk):
    network = torch.nn.Linear(1500, 1000)  # 6 MB
    with pytest.raises(WritingError, match=r"checkpoint\.pt cannot be written: No space left on device\.$"):
        save_checkpoint(small_disk, "f", Progress(), network=network)
    assert not list(small_disk.iterdir())


def test_a_model_that_another_training_put_there_meanwhile_stays(samples, folds, undisturbed, tmp_path):
    def other_ends(progress, total):
        if progress.step == total:
            shutil.copytree(undisturbed.path, tmp_path, dirs_exist_ok=True)

    options = replace(OPTIONS, epochs=1, steps_per_epoch=1, patience=None)
    with pytest.raises(TrainingError, match="holds a model that was trained with other options"):
        train(samples, tmp_path, options, folds=folds, device="cpu", on_step=other_ends)
    assert same_weights(tmp_path, undisturbed.path)


def test_a_model_of_the_working_folder_has_its_name(samples, folds, tmp_path, monkeypatch):
    def stop(form, options, base, name):
        raise KilledError(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("darts_training.trainer.begin", stop)
    with pytest.raises(KilledError, match=tmp_path.name):
        train(samples, ".", OPTIONS, folds=folds)


def test_patches_are_read_anew_where_memory_does_not_hold_them(samples, monkeypatch):
    kept = TrainingSet(samples, None, ())
    monkeypatch.setattr("darts_training.batches.available_memory", lambda: 0)
    fresh = TrainingSet(samples, None, ())
    for place in range(len(kept.items)):
        for one, other in zip(kept.get(place), fresh.get(place), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not fresh._kept
