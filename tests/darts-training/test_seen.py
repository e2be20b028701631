"""Fine-tuning says where its figures flatter: held-out ground that the model was trained on before."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from pyproj import Transformer

from darts_segmentation import ModelCard, save_model
from darts_training import (
    Folds,
    SampleFormat,
    SamplesError,
    SeenGroundWarning,
    begin_samples,
    calibrate,
    finish_samples,
    make_folds,
    train,
    write_tile_samples,
)
from darts_training.calibrate import _unseen
from darts_training.result import folds_from_json, folds_to_json
from darts_training.seen import count_seen, past_of
from support.training import CHANNELS, CRS, OPTIONS, labelled_tile, make_samples

WEST, NORTH = 500_000, 7_600_000
BLOCKS = {(row, column): (row + column) % 3 for row in range(4) for column in range(4)}
FOLDS = Folds(CRS, (200.0, 200.0), 20.0, BLOCKS, 3, (NORTH - 800.0, float(WEST)))


class StoppedError(Exception):
    pass


def record(folder, folds, test=(0,), validation=(1,), samples="theirs"):
    content = {"folds": folds and folds_to_json(folds), "samples": samples, "test": test, "validation": validation}
    folder.mkdir(exist_ok=True)
    (folder / "training.json").write_text(json.dumps(content))
    return folder


def counted_by_cells(theirs, seen=(2,), held=(0, 1)):
    """Count blocks of ours of which a cell of 10 m has its centre in one of theirs."""
    y, x = np.meshgrid(np.arange(5, 800, 10) + FOLDS.origin[0], np.arange(5, 800, 10) + FOLDS.origin[1], indexing="ij")
    there = Transformer.from_crs(CRS, theirs.crs, always_xy=True).transform(x, y)

    def fold(folds, east, north):
        rows = np.floor((north - folds.origin[0]) / folds.size[0]).astype(int)
        columns = np.floor((east - folds.origin[1]) / folds.size[1]).astype(int)
        return [(block, folds.fold_of.get(block, -1)) for block in zip(rows.flat, columns.flat, strict=True)]

    pairs = zip(fold(FOLDS, x, y), fold(theirs, *there), strict=True)
    return len({block for (block, ours), (_, other) in pairs if ours in held and other in seen})


@pytest.mark.parametrize(
    "changes",
    [
        {},  # the same blocks, the same held out
        {"fold_of": {block: (fold + 1) % 3 for block, fold in BLOCKS.items()}},
        {"origin": (NORTH - 900.0, WEST - 100.0)},
        {"origin": (NORTH - 1600.0, float(WEST))},  # touches ours from the south
        {"fold_of": {(0, 2): 2}},
        {"fold_of": {(0, 1): 2}},
        {"size": (300.0, 130.0)},
        {"crs": "EPSG:32609", "origin": (7_611_050.0, 254_900.0), "fold_of": {(0, 0): 2, (2, 1): 2, (-1, 3): 0}},
    ],
)
def test_held_out_blocks_that_a_model_knows_are_counted(tmp_path, changes):
    theirs = replace(FOLDS, **changes)
    expected = counted_by_cells(theirs)
    assert (expected == 0) == (not changes or changes in ({"origin": (NORTH - 1600.0, WEST)}, {"fold_of": {(0, 2): 2}}))
    assert count_seen(record(tmp_path / "model", theirs), "ours", FOLDS, (0, 1)) == expected


def test_a_model_of_the_same_samples_knows_them_all(tmp_path):
    assert count_seen(record(tmp_path / "a", None), "theirs", FOLDS, (0, 1)) == 11
    assert count_seen(record(tmp_path / "a", None), "ours", FOLDS, (0, 1)) == 0
    assert count_seen(tmp_path, "ours", FOLDS, (0, 1)) == 0
    (tmp_path / "a" / "training.json").write_text("{}")
    with pytest.raises(SamplesError, match="lacks folds, samples, test, validation"):
        count_seen(tmp_path / "a", "ours", FOLDS, (0, 1))


@pytest.mark.slow
def test_a_training_that_goes_on_says_where_its_figures_flatter(tmp_path):
    import segmentation_models_pytorch as smp

    samples = make_samples(tmp_path / "samples", seeds=(0,))
    architecture = {"arch": "unet", "encoder_name": OPTIONS.encoder, **dict(OPTIONS.architecture)}
    bands = [channel.band for channel in CHANNELS]
    card = ModelCard(name="base", architecture=architecture, bands=bands, normalization={"red": (0.0, 0.5)})
    torch.manual_seed(0)
    base = save_model(tmp_path / "base", smp.create_model(**card.architecture, encoder_weights=None), card)
    options = replace(OPTIONS, epochs=1, steps_per_epoch=1, patience=None)
    record(base, FOLDS, test=(1,), validation=())

    def stop(*_):
        raise StoppedError

    given = {"folds": FOLDS, "test": (0,), "base": base, "device": "cpu", "on_step": stop}
    with (
        pytest.warns(SeenGroundWarning, match="in 6 of the 6 blocks that are held out here"),
        pytest.raises(StoppedError),
    ):
        train(samples, tmp_path / "a", options, **given)
    record(base, FOLDS, test=(0,), validation=())
    with warnings.catch_warnings():
        warnings.simplefilter("error", SeenGroundWarning)
        with pytest.raises(StoppedError):
            train(samples, tmp_path / "b", options, **given)


@pytest.mark.slow
def test_a_model_trained_without_folds_knows_its_ground_among_more(tmp_path):
    one = make_samples(tmp_path / "one", seeds=(0,))
    options = replace(OPTIONS, epochs=1, steps_per_epoch=1, patience=None)
    model = train(one, tmp_path / "model", options, folds=None, device="cpu").path
    more = make_samples(tmp_path / "more", seeds=(0, 1))
    folds = make_folds(more, 2, block_m=300, buffer_m=0)
    for fold in (0, 1):  # the second tile begins 2 km to the east
        expected = sum(column * 300 < WEST + 1500 for _, column in folds.blocks([fold]))
        assert len(folds.blocks([fold])) > expected > 0
        assert count_seen(model, more.digest, folds, (fold,)) == expected
    allowed = _unseen([model], more, 1000.0)[1]
    assert allowed
    assert all(column * 1000 >= WEST + 2000 for _, column in allowed)
    with pytest.raises(SamplesError, match="trained on all of these samples"):
        calibrate([model], one, tmp_path / "calibrated", device="cpu")


def samples_of(folder, place):
    """Write samples of the tile that :func:`make_samples` sets at a place."""
    form = SampleFormat(channels=CHANNELS, patch_size=64, overlap=16)
    begin_samples(folder, form)
    tile, labels = labelled_tile(place, west=WEST + 2000 * place)
    write_tile_samples(folder, form, tile, f"tile-{place}", labels)
    return finish_samples(folder)


@pytest.mark.slow
def test_a_model_that_goes_on_passes_on_the_ground_of_those_before_it(tmp_path):
    options = replace(OPTIONS, epochs=1, steps_per_epoch=1, patience=None)
    first, second = (samples_of(tmp_path / f"samples-{place}", place) for place in (0, 1))
    base = train(first, tmp_path / "base", options, folds=None, device="cpu").path
    model = train(second, tmp_path / "model", options, folds=None, base=base, device="cpu").path
    assert len(past_of(model)) == 2
    more = make_samples(tmp_path / "more", seeds=(0, 1, 2))
    folds = make_folds(more, 2, block_m=300, buffer_m=0)
    for fold in (0, 1):
        expected = sum(column * 300 < WEST + 3500 for _, column in folds.blocks([fold]))
        assert len(folds.blocks([fold])) > expected > 0
        assert count_seen(model, more.digest, folds, (fold,)) == expected
    blocks, allowed = _unseen([model], more, 500.0)
    assert allowed
    assert all(blocks.origin[1] + (column + 1) * blocks.size[1] > WEST + 4000 for _, column in allowed)
    with pytest.raises(SamplesError, match="trained on"):
        calibrate([model], first, tmp_path / "calibrated", device="cpu")


def test_the_past_of_a_model_is_handed_on_whole(tmp_path):
    model = record(tmp_path / "model", FOLDS, test=(0,), validation=(1,))
    (ours,) = past_of(model)
    assert folds_from_json(ours["ground"]).blocks([0]) == FOLDS.blocks([2])
    assert ours["samples"] == ""
    content = json.loads((model / "training.json").read_text())
    before = [{"samples": "first", "ground": None}, {"samples": "", "ground": None}]
    (model / "training.json").write_text(json.dumps(content | {"earlier": before}))
    assert past_of(model) == [*before, ours]
    assert count_seen(model, "first", FOLDS, (0, 1)) == 11
    assert past_of(tmp_path) == []
