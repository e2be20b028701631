"""Folds: what is held out was not trained on, nor anything near it."""

import numpy as np
import pytest

from darts_training import Folds, SamplesError, make_folds
from darts_training.batches import TrainingSet, draw_batch
from darts_training.folds import hide
from support.training import EDGE_M, OPTIONS, make_samples


def centres(tile, index, size):
    """Coordinates of the pixels of a patch, (y, x, 2), NaN in the mirrored border."""
    rows = int(tile.rows[index]) + np.arange(size)
    columns = int(tile.columns[index]) + np.arange(size)
    inside = np.logical_and.outer((rows >= 0) & (rows < tile.shape[0]), (columns >= 0) & (columns < tile.shape[1]))
    x = tile.transform.c + EDGE_M * (columns + 0.5)
    y = tile.transform.f - EDGE_M * (rows + 0.5)
    return np.where(inside[..., None], np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1), np.nan)


@pytest.mark.parametrize(("block_m", "buffer_m"), [(200, 50), (310, 120), (150, 0)])
def test_no_held_out_pixel_lies_within_the_buffer_of_one_that_is_trained_on(tmp_path, block_m, buffer_m):
    from scipy.spatial import KDTree

    samples = make_samples(tmp_path)
    folds = make_folds(samples, 3, block_m=block_m, buffer_m=buffer_m)
    size = samples.format.patch_size
    training = TrainingSet(samples, folds, (0, 1))
    held, seen = [], []
    for tile in samples.tiles:
        for index in range(len(tile)):
            there = centres(tile, index, size)
            held.append(there[folds.inside(tile, index, size, (0, 1)) & ~np.isnan(there[..., 0])])
    for place, (number, index) in enumerate(training.items):
        values, labels = training.get(place)
        there = centres(samples.tiles[number], index, size)
        used = (labels != 255) | (values != 0).any(axis=0)
        seen.append(there[used & ~np.isnan(there[..., 0])])
    assert len(training.items)
    assert sum(map(len, seen))
    distance, _ = KDTree(np.concatenate(held)).query(np.concatenate(seen))
    assert distance.min() >= max(buffer_m, EDGE_M * 0.999)


def test_the_mirrored_border_is_hidden_with_the_ground_that_it_shows(tmp_path):
    samples = make_samples(tmp_path, seeds=(0,))
    tile, size = samples.tiles[0], samples.format.patch_size
    folds = Folds(tile.crs, (200, 200), 0.0, {(((7_600_000 - 50) // 200), 500_000 // 200): 0}, 2)
    assert tile.rows[0] == tile.columns[0] == -1
    inside = folds.inside(tile, 0, size, [0])
    np.testing.assert_array_equal(inside[0], inside[2])
    np.testing.assert_array_equal(inside[:, 0], inside[:, 2])
    assert inside[:21, :21].all()
    assert inside.sum() == 21 * 21


def test_every_block_is_in_one_fold_and_folds_share_slumps(tmp_path):
    samples = make_samples(tmp_path, seeds=(0, 1, 2), slumps=25)
    folds = make_folds(samples, 4, block_m=200, buffer_m=50)
    sums = np.zeros(4)
    for tile in samples.tiles:
        labels = tile.read_labels()
        for index in range(len(tile)):
            parts = [folds.inside(tile, index, samples.format.patch_size, [fold]) for fold in range(4)]
            assert (np.sum(parts, axis=0) == 1).all()
            sums += [(part & (labels[index] == 1)).sum() for part in parts]
    assert sums.min() > 0.5 * sums.max()


def test_a_fold_without_slump_is_one_sentence(tmp_path):
    samples = make_samples(tmp_path, seeds=(0,), slumps=1)
    with pytest.raises(SamplesError, match=r"Fold \d of 5 has no labelled slump"):
        make_folds(samples, 5, block_m=200, buffer_m=10)
    with pytest.raises(SamplesError, match="buffer is 300"):
        make_folds(samples, 2, block_m=200, buffer_m=300)
    with pytest.raises(SamplesError, match="No labelled pixel"):
        TrainingSet(samples, Folds(samples.tiles[0].crs, (1e6, 1e6), 0.0, {(7, 0): 0}, 2), (0,))


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    samples = make_samples(tmp_path)
    training = TrainingSet(samples, None, ())
    first, again, other = (draw_batch(training, OPTIONS, step) for step in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (2, 2, 32, 32)
    assert first[1].shape == (2, 32, 32)


def test_batches_keep_image_and_labels_together_and_missing_values_missing(tmp_path):
    from dataclasses import replace

    samples = make_samples(tmp_path)
    training = TrainingSet(samples, None, ())
    options = replace(OPTIONS, slump_share=1.0, batch_size=16)
    for step in range(4):
        values, labels = draw_batch(training, options, step)
        red, ndvi = values[:, 0], values[:, 1]
        assert (labels == 1).any(axis=(1, 2)).all()
        assert red[labels == 1].min() > 0.45 > red[(labels == 0)].max()  # 0.3 of 0.5, relit by a tenth
        np.testing.assert_array_equal((labels == 255) & (red == 0), (red == 0) & (ndvi == 0) & (labels == 255))
        assert 0 <= values.min() <= values.max() <= 1


def test_hiding_makes_ground_missing():
    values, labels = np.ones((2, 4, 4), np.float32), np.ones((4, 4), np.uint8)
    hidden = np.eye(4, dtype=bool)
    x, y = hide(values, labels, hidden)
    assert (x[:, hidden] == 0).all()
    assert (y[hidden] == 255).all()
    assert (x[:, ~hidden] == 1).all()
    assert (y[~hidden] == 1).all()
