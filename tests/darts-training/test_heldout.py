"""Figures of held-out ground: what lies in several tiles is one slump, and figures are those counted by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from scipy.ndimage import label

from darts_training import Folds
from darts_training.heldout import HeldOut, evaluate_held_out, joined, object_f1, pixel_iou, predict_held_out
from darts_training.samples import TileSamples
from support.training import CRS, EDGE_M, make_samples

SIZE = 40
WEST, NORTH = 500_000, 7_600_000


def held(name, mask, truth, column=0, counts=None):
    """Return held-out ground of a tile whose first column lies so many pixels east of the first tile's."""
    transform = Affine(EDGE_M, 0, WEST + EDGE_M * column, 0, -EDGE_M, NORTH)
    none = np.zeros(0, np.int64)
    tile = TileSamples(Path(name), name, "", CRS, transform, mask.shape, none, none, none.astype(float), "")
    counts = np.ones(mask.shape, bool) if counts is None else counts
    return HeldOut(tile, np.where(mask, 0.9, 0.1).astype(np.float32), truth, counts)


def slumps(seed, width=2 * SIZE, count=9):
    rng, mask = np.random.default_rng(seed), np.zeros((SIZE, width), bool)
    for _ in range(count):
        row, column = rng.integers(0, SIZE - 6), rng.integers(0, width - 8)
        mask[row : row + rng.integers(2, 6), column : column + rng.integers(2, 8)] = True
    return mask


def test_a_slump_in_two_tiles_is_one():
    truth, mask = slumps(0), slumps(0) & ~slumps(100, count=2)
    truth[10:16, SIZE - 5 : SIZE + 18] = mask[10:15, SIZE - 5 : SIZE + 18] = True
    whole = evaluate_held_out([held("a", mask, truth)], 0, block_m=200).figures
    assert whole["objects"]["labels"].value == label(truth, np.ones((3, 3)))[1]
    for shared_px in (0, 1, 12):
        west, east = np.s_[:, : SIZE + shared_px], np.s_[:, SIZE:]
        parts = [held("a", mask[west], truth[west]), held("b", mask[east], truth[east], column=SIZE)]
        found = evaluate_held_out(parts, 0, block_m=200).figures
        for group, name in (("objects", "labels"), ("objects", "f1@0.3"), ("objects", "f1@0.5"), ("pixels", "iou")):
            assert found[group][name].value == pytest.approx(whole[group][name].value), (shared_px, name)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_held_out_ground_is_predicted_with_what_lies_around_it(tmp_path, batch_size):
    samples = make_samples(tmp_path)
    first, second = samples.tiles
    # Blocks of 300 m; those of fold 1 hold the first patch and the last, that of fold 2 lies beside all tiles.
    row, column = NORTH // 300, WEST // 300
    blocks = [(row - 1, column), (row - 2, column), (row - 3, column + 3)]
    folds = Folds(CRS, (300, 300), 0.0, dict.fromkeys(blocks, 1) | {(0, 0): 2}, 3)
    asked = []

    def predict(patches):
        asked.append(len(patches))
        return torch.from_numpy(patches[:, 1])

    (found,) = predict_held_out(samples, folds, [1, 2], predict, batch_size)
    assert found.tile is first
    assert max(asked) == min(batch_size, sum(asked))
    assert 1 < sum(asked) < len(first) + len(second)
    ndvi, labels = (np.zeros(first.shape, dtype) for dtype in (np.float32, np.uint8))
    for index in range(len(first)):
        values, drawn = first.read(index)
        top, left = int(first.rows[index]), int(first.columns[index])
        inside = [np.arange(max(start, 0), min(start + 64, 80)) for start in (top, left)]
        here, there = np.ix_(*inside), np.ix_(inside[0] - top, inside[1] - left)
        ndvi[here], labels[here] = values[1][there], drawn[there]
    rows, columns = np.indices(first.shape)
    y, x = NORTH - EDGE_M * (rows + 0.5), WEST + EDGE_M * (columns + 0.5)
    held_out = np.any([(y // 300 == block[0]) & (x // 300 == block[1]) for block in blocks], axis=0)
    np.testing.assert_array_equal(found.counts, held_out & (labels != 255))
    np.testing.assert_array_equal(found.truth[found.counts], (labels == 1)[found.counts])
    np.testing.assert_allclose(found.probability[found.counts], ndvi[found.counts], atol=1e-6)
    assert found.truth.any()
    assert predict_held_out(samples, folds, [2], predict) == []


def test_objects_and_pixels_are_counted_where_ground_is_held_out_and_labelled():
    truth, probability = np.zeros((SIZE, SIZE), bool), np.full((SIZE, SIZE), 0.5, np.float32)  # 0.5 is not mapped
    truth[0:4, 0:4] = truth[0:4, 10:14] = truth[20:22, 20:22] = True
    probability[0:4, 0:4], probability[0:4, 11:15], probability[30:33, 30:32] = 0.9, 0.51, 0.9
    counts = np.ones_like(truth)
    counts[36:] = False
    probability[36:] = 0.9
    ground = replace(held("a", truth, truth, counts=counts), probability=probability)
    # Objects: a hit, one that overlaps with 12 of 20 pixels, a false alarm of 6; slumps: 16, 16, and 4 that is missed.
    assert object_f1([ground], 0) == pytest.approx(2 * 2 / (3 + 3))
    assert object_f1([ground], 0, least_iou=0.6) == pytest.approx(2 * 2 / 6)
    assert object_f1([ground], 0, least_iou=0.61) == pytest.approx(2 * 1 / 6)
    assert object_f1([ground], 4) == pytest.approx(2 * 2 / 6)
    assert object_f1([ground], 5) == pytest.approx(2 * 2 / (3 + 2))
    assert object_f1([ground], 6) == pytest.approx(2 * 2 / (3 + 2))
    assert object_f1([ground], 7) == pytest.approx(2 * 2 / (2 + 2))
    assert object_f1([ground, replace(ground, truth=~truth & False)], 7) == pytest.approx(2 * 2 / (2 + 2 + 2))
    assert pixel_iou([ground]) == pytest.approx(28 / (36 + 10))
    assert pixel_iou([ground, ground]) == pytest.approx(28 / (36 + 10))
    nothing = replace(ground, probability=0 * probability, truth=~truth & False)
    assert object_f1([nothing], 0) == pixel_iou([nothing]) == 0.0
    found = evaluate_held_out([ground], 7, block_m=100).figures
    assert found["objects"]["f1@0.3"].value == 1
    assert found["objects"]["labels"].value == 2
    assert found["pixels"]["iou"].value == pytest.approx(28 / (36 + 10))
    assert evaluate_held_out([ground], 6, block_m=100).figures["objects"]["precision@0.3"].value == pytest.approx(2 / 3)
    rounded = np.where(probability[:36] == np.float32(0.51), 0.51, probability[:36].astype(float).round(2))
    brier = ((rounded - truth[:36]) ** 2).mean()
    assert found["probability"]["brier"].value == pytest.approx(brier, abs=1e-6)


def test_parts_of_a_tile_become_one():
    truth = slumps(1)
    west = np.zeros_like(truth)
    west[:, :SIZE] = True
    parts = [held("a", truth & counts, truth & counts, counts=counts) for counts in (west, ~west)]
    found = joined(*parts)
    assert found.counts.all()
    np.testing.assert_array_equal(found.truth, truth)
    np.testing.assert_array_equal(found.probability > 0.5, truth)
