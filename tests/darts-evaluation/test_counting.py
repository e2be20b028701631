"""Counts by block, boundaries and probabilities against plain loops, scipy's distances and scikit-learn."""

import numpy as np
import pytest
import shapely
from affine import Affine
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from darts_evaluation.blocks import enlarge
from darts_evaluation.counts import BlockCounts, by_block
from darts_evaluation.ground import PERCENTS, Ground, burn
from darts_evaluation.outlines import boundary_counts, outline_distances
from darts_evaluation.probability import calibration_error, reliability, thresholds
from support.maps import blobs

TINY = np.eye(PERCENTS, dtype=np.int64)


def test_blocks_count_the_pixels_whose_centres_lie_in_them():
    """A grid that begins in the middle of a block, and reaches over both axes to negative coordinates."""
    rng = np.random.default_rng(1)
    transform, mask = Affine(10, 0, -235, 0, -10, 145), rng.random((37, 41)) < 0.4
    percent = rng.integers(0, PERCENTS, mask.shape)
    blocks = Ground("a", "EPSG:32608", transform, mask, mask, mask, None).blocks(70)
    expected: dict = {}
    histogram: dict = {}
    for row, col in np.ndindex(mask.shape):
        key = ("EPSG:32608", int((145 - 10 * row - 5) // 70), int((-235 + 10 * col + 5) // 70))
        expected[key] = expected.get(key, 0) + int(mask[row, col])
        histogram.setdefault(key, np.zeros(PERCENTS, int))[percent[row, col]] += int(mask[row, col])
    assert dict(zip(blocks.keys, blocks.count(mask).tolist(), strict=True)) == expected
    for key, found in zip(blocks.keys, blocks.histogram(percent, mask, PERCENTS), strict=True):
        assert found.tolist() == histogram[key].tolist()


def test_blocks_of_several_tiles_add_up_by_what_each_has_counted():
    rng = np.random.default_rng(2)
    parts = []
    for names in (("hit", "alarm", "miss"), ("hit", "alarm", "miss", "mapped_1")):
        keys = [(crs, row, col) for crs in "ab" for row in range(-3, 3) for col in range(-3, 3)]
        values = {name: rng.integers(0, 2, 72).astype(float) for name in names}
        histograms = rng.integers(0, 9, (2, 72, PERCENTS))
        parts.append(BlockCounts(keys, values, *histograms))
    whole = BlockCounts.together(parts).merged(2)
    for number, (crs, row, col) in enumerate(whole.keys):
        for name in ("hit", "mapped_1"):
            expected = sum(
                value
                for part in parts
                for key, value in zip(part.keys, part.sums.get(name, np.zeros(72)), strict=True)
                if (key[0], key[1] // 2, key[2] // 2) == (crs, row, col)
            )
            assert whole.sums[name][number] == expected
        inside = [(key[0], key[1] // 2, key[2] // 2) == (crs, row, col) for key in parts[0].keys]
        assert whole.slump[number].tolist() == sum(part.slump[inside].sum(axis=0) for part in parts).tolist()
        assert whole.other[number].tolist() == sum(part.other[inside].sum(axis=0) for part in parts).tolist()
    filled = parts[0].non_empty()
    some = sum(parts[0].sums[name] for name in ("hit", "alarm", "miss")) > 0
    assert filled.keys == [key for key, is_some in zip(parts[0].keys, some, strict=True) if is_some]
    assert 0 < len(filled.keys) < 72
    assert by_block(["a", "c", "b", "a"], np.array([1.0, 2, 4, 8]), ["b", "a"]).tolist() == [4, 9]


@pytest.mark.parametrize(("blocks", "factor"), [(1024, 16), (40, 2), (39, 2), (38, 1)])
def test_blocks_are_doubled_four_times_at_most_and_down_to_twenty(blocks, factor):
    share = np.linspace(0.1, 0.9, blocks)  # each block resembles the next, however large they are
    sums = {"hit": share, "alarm": 1 - share, "miss": 1 - share}
    empty = np.zeros((blocks, 1), np.int64)
    counts = BlockCounts([("grid", 0, number) for number in range(blocks)], sums, empty, empty)
    assert enlarge(counts) == (factor, True)
    assert enlarge(counts, 2)[0] == max(factor, 2) * (2 if blocks == 1024 else 1)
    assert enlarge(counts, fixed=True) == (1, True)


def test_blocks_of_one_quality_stay_as_they_are_however_alike_their_sizes():
    """What each adds to an F1 of a half is none exactly, while hits, false alarms and misses change smoothly."""
    hit = 2.0 * np.arange(10, 74)
    alarm = np.round(hit * np.linspace(0.2, 1.4, 64))
    empty = np.zeros((64, 1), np.int64)
    sums = {"hit": hit, "alarm": alarm, "miss": 2 * hit - alarm}
    assert enlarge(BlockCounts([("grid", 0, number) for number in range(64)], sums, empty, empty)) == (1, False)


def test_boundaries_are_those_of_erosion_and_of_all_distances(monkeypatch):
    """Also where strips of rows meet: a boundary there is looked for beyond the strip."""
    monkeypatch.setattr("darts_evaluation.outlines._STRIP_ROWS", 7)
    rng = np.random.default_rng(3)
    one, other = blobs(rng, 40, 0.3), blobs(rng, 40, 0.3)
    found = boundary_counts(one, other, np.ones((40, 40), bool))
    edges = [mask & ~binary_erosion(mask, border_value=1) for mask in (one, other)]
    places = np.argwhere(np.ones((40, 40), bool))
    to_one, to_other = (cdist(places, np.argwhere(edge)).min(axis=1).reshape(40, 40) for edge in edges)
    for width in (1, 2, 3):
        inner_one, inner_other = one & (to_one < width), other & (to_other < width)
        expected = {
            "mapped": edges[0],
            "mapped_right": edges[0] & (to_other <= width),
            "truth": edges[1],
            "truth_found": edges[1] & (to_one <= width),
            "inner_both": inner_one & inner_other,
            "inner_either": inner_one | inner_other,
        }
        for name, mask in expected.items():
            assert (found[name][width] == mask).all(), (name, width)


def test_boundaries_of_nothing_are_far_from_everything():
    some, nothing, valid = np.zeros((9, 9), bool), np.zeros((9, 9), bool), np.ones((9, 9), bool)
    some[3:6, 3:6] = True
    found = boundary_counts(some, nothing, valid)
    assert found["mapped"][1].sum() == 8
    assert not found["mapped_right"][3].any()
    valid[:, 5:] = False  # A mask that ends because the valid pixels do has no boundary there.
    assert (
        boundary_counts(some, nothing, valid)["mapped"][1][:, 4].tolist()
        == [False] * 3 + [True, False, True] + [False] * 3
    )


def test_distance_of_outlines_is_measured_every_metre():
    one, other = shapely.box(0, 0, 40, 4), shapely.box(0, 0, 40, 10)
    edge = one.boundary
    expected = np.median(
        [edge.interpolate(metre).distance(other.boundary) for metre in np.arange(0, edge.length, 0.01)]
    )
    assert outline_distances([one], [other], 1.0) == pytest.approx([expected], abs=0.5)
    assert outline_distances([one], [one], 1.0).tolist() == [0]


def test_burnt_are_the_pixels_whose_centres_lie_inside():
    shapes = [shapely.Point(52, 48).buffer(31), None, shapely.Polygon()]
    found = burn(shapes, Affine(10, 0, 0, 0, -10, 100), (10, 11))
    rows, cols = np.indices((10, 11))
    assert (found == shapely.contains_xy(shapes[0], 10 * cols + 5, 95 - 10 * rows)).all()
    assert not burn(shapes[1:], Affine(10, 0, 0, 0, -10, 100), (10, 11)).any()


def test_reliability_is_that_of_the_pixels_one_by_one():
    rng = np.random.default_rng(4)
    percent, truth = rng.integers(30, PERCENTS, 4000), rng.random(4000) < 0.4
    percent[:50] = 100
    slump, other = (np.bincount(percent[each], minlength=PERCENTS) for each in (truth, ~truth))
    found, gap = reliability(slump, other), 0.0
    for number in range(15):
        inside = (percent * 15 >= number * 100) & ((percent * 15 < (number + 1) * 100) | (number == 14))
        assert found["pixels"][number] == inside.sum()
        if not inside.any():
            assert np.isnan([found["probability"][number], found["frequency"][number]]).all()
            continue
        assert found["probability"][number] == pytest.approx(percent[inside].mean() / 100)
        assert found["frequency"][number] == pytest.approx(truth[inside].mean())
        gap += abs(percent[inside].mean() / 100 - truth[inside].mean()) * inside.mean()
    assert calibration_error(slump, other) == pytest.approx(gap)


def test_calibration_error_of_one_pixel_is_its_own_and_of_none_is_not_defined():
    assert calibration_error(TINY[30], 0 * TINY[0]) == pytest.approx(0.7)
    assert calibration_error(0 * TINY[0], TINY[30]) == pytest.approx(0.3)
    assert np.isnan(calibration_error(0 * TINY[0], 0 * TINY[0]))


def test_thresholds_are_those_of_scikit_learn_to_either_end():
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(5)
    percent, truth = rng.integers(3, 90, 300), rng.random(300) < 0.4
    curve = thresholds(*(np.bincount(percent[each], minlength=PERCENTS) for each in (truth, ~truth)))
    for place in (0, 2, 3, 4, 5, 30, 55, 88, 89, 90, 91, 100):
        mapped = percent >= place
        precision, recall, f1, _ = precision_recall_fscore_support(truth, mapped, average="binary", zero_division=0)
        assert curve["threshold"][place] == place / 100
        assert curve["precision"][place] == pytest.approx(precision if mapped.any() else np.nan, nan_ok=True)
        assert (curve["recall"][place], curve["f1"][place]) == pytest.approx((recall, f1))


def test_thresholds_without_slumps_have_no_recall():
    curve = thresholds(0 * TINY[0], TINY[40] + TINY[60])
    assert np.isnan(curve["recall"]).all()
    assert curve["precision"][:61].tolist() == [0] * 61
    assert np.isnan(curve["precision"][61:]).all()
    assert curve["f1"][:61].tolist() == [0] * 61
    assert np.isnan(curve["f1"][61:]).all()
