"""Batches: cuts of the patches, each turned one of eight ways, its optical bands relit alike, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from darts_training import SamplesError
from darts_training.batches import TrainingSet, draw_batch
from support.training import OPTIONS, make_samples

SIZE = 32


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    training = TrainingSet(make_samples(tmp_path_factory.mktemp("samples"), slumps=3), None, ())
    for place in range(len(training.items)):
        red, ndvi = training.get(place)[0]
        red[ndvi > 0.8] = 0  # missing here and there
    return training


def turned(part, way):
    part = part if way < 4 else part[..., ::-1]
    return np.rot90(part, way % 4, axes=(-2, -1))


def find(training, ndvi):
    """Return the patch that a cut comes from, where, and which way it was turned, by its unchanged second band."""
    for place in range(len(training.items)):
        (_, whole), _ = training.get(place)
        for way in range(8):
            cut = turned(ndvi, way)
            known = np.argwhere(cut)[0]  # missing values are 0, here and there
            for corner in np.argwhere(whole == cut[tuple(known)]) - known:
                window = tuple(slice(start, start + SIZE) for start in corner)
                if (corner >= 0).all() and np.array_equal(whole[window], cut):
                    return place, window, way
    raise AssertionError("a cut that is in no patch")


@pytest.mark.parametrize("brightness", [0.0, 0.2])
def test_each_cut_is_one_of_a_patch_turned_and_relit(training, brightness):
    options = replace(OPTIONS, batch_size=16, slump_share=0.5, brightness=brightness, crop=SIZE)
    ways, corners, scales, shifts, with_slump = [], [], [], [], 0
    for step in range(6):
        for values, labels in zip(*draw_batch(training, options, step), strict=True):
            place, window, way = find(training, values[1])
            patch, drawn = training.get(place)
            red, red_there = turned(values[0], way), patch[0][window]
            np.testing.assert_array_equal(turned(labels, way), drawn[window])
            np.testing.assert_array_equal(red[red_there == 0], 0)
            inner = (red > 0) & (red < 1) & (red_there > 0)
            scale, shift = np.polyfit(red_there[inner], red[inner], 1)
            assert abs(scale - 1) <= brightness + 1e-4
            assert abs(shift) <= brightness / 5 + 1e-4
            expected = np.clip(scale * red_there + shift, 0, 1)
            np.testing.assert_allclose(red[red_there > 0], expected[red_there > 0], atol=1e-4)
            ways.append(way)
            corners.append((window[0].start, window[1].start))
            scales.append(scale)
            shifts.append(shift)
            with_slump += (labels == 1).any()
    assert set(ways) == set(range(8))
    assert all({0, 64 - SIZE} <= set(axis) for axis in zip(*corners, strict=True))
    assert 0.5 <= with_slump / len(ways) < 1
    if brightness:
        assert min(scales) < 1 - 0.8 * brightness
        assert max(scales) > 1 + 0.8 * brightness
        assert min(shifts) < -0.9 * brightness / 5
        assert max(shifts) > 0.9 * brightness / 5


def test_what_is_asked_for_decides_which_patches_come(training):
    shares = {}
    for share in (0.0, 1.0):
        options = replace(OPTIONS, batch_size=16, slump_share=share, crop=SIZE)
        drawn = [labels for step in range(6) for labels in draw_batch(training, options, step)[1]]
        shares[share] = np.mean([(labels == 1).any() for labels in drawn])
        assert all((labels != 255).any() for labels in drawn)
    assert shares[1.0] == 1
    assert shares[0.0] < 0.8
    whole = draw_batch(training, replace(OPTIONS, crop=None), 0)
    assert whole[0].shape == (2, 2, 64, 64)
    assert whole[0].dtype == np.float32


def test_cuts_lie_where_most_is_labelled(tmp_path):
    samples = make_samples(tmp_path, seeds=(0,))
    training = TrainingSet(samples, None, ())
    for place in range(len(training.items)):
        _, labels = training.get(place)
        labels[:, :48] = 255
        labels[20, 0] = 1
    options = replace(OPTIONS, batch_size=16, slump_share=0.0, crop=SIZE)
    labelled = [(labels != 255).mean() for step in range(8) for labels in draw_batch(training, options, step)[1]]
    # The columns that are left fill half of a cut at most; a cut at random of those that show something, a quarter.
    assert max(labelled) <= 0.5
    assert np.mean(labelled) > 0.35


def test_patches_are_kept_where_memory_holds_half_of_them(training, monkeypatch):
    samples = training.samples
    taken = len(training.items) * 64**2 * (2 * 4 + 1)
    for memory, keeps in ((2 * taken + 1, True), (2 * taken, False)):
        monkeypatch.setattr("darts_training.batches.available_memory", lambda memory=memory: memory)
        made = TrainingSet(samples, None, ())
        made.get(0)
        assert bool(made._kept) is keeps


def test_samples_without_a_slump_cannot_be_trained_on(tmp_path):
    with pytest.raises(SamplesError, match=r"No slump of .* is left to train on"):
        TrainingSet(make_samples(tmp_path, seeds=(0,), slumps=0), None, ())
