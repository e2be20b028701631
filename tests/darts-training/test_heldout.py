"""Figures of held-out ground: what lies in several tiles is one slump, and figures are those that are counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from scipy.ndimage import label

from darts_training.heldout import HeldOut, evaluate_held_out
from darts_training.samples import TileSamples
from support.training import CRS, EDGE_M

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
