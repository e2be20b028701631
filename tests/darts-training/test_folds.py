"""Folds: what is held out was not trained on, nor anything near it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer

from darts_training import Folds, SampleFormat, SamplesError, make_folds
from darts_training.batches import TrainingSet, draw_batch
from darts_training.folds import count_blocks, divide, hide
from support.training import CHANNELS, EDGE_M, OPTIONS, make_samples


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


def test_blocks_go_where_least_is_so_far():
    slump = Counter({(0, 0): 9, (0, 1): 5, (1, 0): 5, (1, 1): 1})
    other = Counter({(0, 0): 1, (0, 1): 1, (1, 0): 3, (2, 0): 8, (2, 1): 2, (3, 3): 1})
    # 9 | 5 5 | then 1 to the first, which has 9 against 10; of blocks without slump each to the fold with least of it.
    expected = {(0, 0): 0, (1, 0): 1, (0, 1): 1, (1, 1): 0, (2, 0): 0, (2, 1): 1, (3, 3): 1}
    assert divide(slump, other, 2) == expected
    with pytest.raises(
        SamplesError, match="Fold 2 of 2 has no labelled slump: there are 2 blocks of ground, 1 of them"
    ):
        divide(Counter({(0, 0): 1}), Counter({(0, 1): 1}), 2)
    with pytest.raises(SamplesError, match="Fold 2 of 2 has no labelled ground without slump"):
        divide(Counter({(0, 0): 2, (0, 1): 1}), Counter({(0, 0): 1}), 2)


@pytest.mark.parametrize(("zones", "north", "crs"), [((9, 8), 7_600_000, "6931"), ((109, 108), 2_400_000, "6932")])
def test_tiles_of_two_zones_share_blocks_of_equal_area(tmp_path, zones, north, crs):
    form = SampleFormat(channels=CHANNELS, patch_size=64, overlap=0)
    samples = make_samples(tmp_path, seeds=(0,), form=form, size=126)  # two patches of 64, with a mirrored pixel around
    mirrored = np.pad(np.arange(126), 1, mode="reflect") + 0.5
    place = Affine(EDGE_M, 0, 500_000, 0, -EDGE_M, north)
    tiles = tuple(replace(samples.tiles[0], crs=f"EPSG:{32600 + zone}", transform=place) for zone in zones)
    samples = replace(samples, tiles=tiles)
    folds = make_folds(samples, 2, block_m=150, buffer_m=0)
    assert folds.crs == f"EPSG:{crs}"
    folds = replace(folds, size=(150.0, 310.0), origin=(70.0, -40.0), buffer=60.0)  # as blocks of a record may be
    folds = replace(folds, fold_of={block: sum(block) % 2 for part in count_blocks(samples, folds) for block in part})
    counted = {1: Counter(), 0: Counter()}
    for tile in tiles:
        to_blocks, labels = Transformer.from_crs(tile.crs, folds.crs, always_xy=True), tile.read_labels()
        for index in range(len(tile)):
            row, column = (mirrored[start + 1 : start + 65] for start in (tile.rows[index], tile.columns[index]))
            x, y = to_blocks.transform(*np.meshgrid(500_000 + EDGE_M * column, north - EDGE_M * row))
            rows, columns = ((y - 70) // 150).astype(int), ((x + 40) // 310).astype(int)
            for label, counter in counted.items():
                chosen = labels[index] == label
                counter.update(zip(rows[chosen].tolist(), columns[chosen].tolist(), strict=True))
            blocks = zip(rows.flat, columns.flat, strict=True)
            assert folds.inside(tile, index, 64, [0]).ravel().tolist() == [sum(block) % 2 == 0 for block in blocks]
            corners = [(150 * block[0] + 70, 310 * block[1] - 40) for block in folds.blocks([0])]
            gaps = [
                np.hypot(np.maximum(np.abs(y - top - 75) - 75, 0), np.maximum(np.abs(x - left - 155) - 155, 0))
                for top, left in corners
            ]
            np.testing.assert_array_equal(folds.near(tile, index, 64, [0]), np.min(gaps, axis=0) < 60)
    assert count_blocks(samples, folds) == (counted[1], counted[0])


def test_a_fold_without_slump_is_one_sentence(tmp_path):
    samples = make_samples(tmp_path, seeds=(0,), slumps=1)
    with pytest.raises(SamplesError, match=r"Fold \d of 5 has no labelled slump"):
        make_folds(samples, 5, block_m=200, buffer_m=10)
    with pytest.raises(SamplesError, match="to be 1 folds; expected at least 2"):
        make_folds(samples, 1)
    with pytest.raises(SamplesError, match="buffer is -1"):
        make_folds(samples, 2, block_m=200, buffer_m=-1)
    nothing = make_samples(tmp_path / "nothing", seeds=(0,), slumps=0)
    with pytest.raises(SamplesError, match="nothing to learn"):
        make_folds(nothing, 2, block_m=200)
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
