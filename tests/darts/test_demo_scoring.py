"""Scores: by hand, and against all possible ways to match objects with slumps."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from darts.demo import Score, score
from darts_utils import GridError, ParameterError

SHAPE = (9, 8)


def blank(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Label image with one rectangle (top, bottom, left, right) per number."""
    image = np.zeros((20, 20), dtype=np.int32)
    for number, (top, bottom, left, right) in enumerate(boxes, start=1):
        image[top:bottom, left:right] = number
    return image


def test_a_perfect_map():
    truth = blank((0, 8, 0, 8), (10, 18, 10, 18))
    result = score(truth > 0, truth)
    assert result == Score(iou=1, pixel_precision=1, pixel_recall=1, found=2, missed=0, false_alarms=0)
    assert (result.precision, result.recall, result.f1) == (1, 1, 1)


def test_one_found_one_missed_one_false():
    truth = blank((0, 8, 0, 8), (10, 18, 0, 8))
    found = blank((0, 8, 2, 8), (0, 8, 12, 20)) > 0
    result = score(found, truth)
    assert (result.found, result.missed, result.false_alarms) == (1, 1, 1)
    assert result.iou == pytest.approx(48 / (64 + 64 + 64))
    assert result.pixel_precision == pytest.approx(48 / 112)
    assert result.pixel_recall == pytest.approx(48 / 128)
    assert (result.precision, result.recall, result.f1) == (0.5, 0.5, 0.5)


def test_one_object_over_two_slumps_finds_one_of_them():
    truth = blank((0, 8, 0, 8), (0, 8, 9, 11))
    found = blank((0, 8, 0, 11)) > 0
    result = score(found, truth, min_pixels=4)
    assert (result.found, result.missed, result.false_alarms) == (1, 1, 0)


def test_two_pieces_of_one_slump_are_one_find_and_one_false_alarm():
    truth = blank((0, 10, 0, 10))
    found = blank((0, 7, 0, 10), (8, 10, 0, 10)) > 0
    result = score(found, truth, min_pixels=4)
    assert (result.found, result.missed, result.false_alarms) == (1, 0, 1)


def test_objects_that_touch_at_a_corner_are_one():
    truth = blank((0, 6, 0, 6))
    truth[6:12, 6:12] = 1
    result = score(truth > 0, truth)
    assert (result.found, result.missed, result.false_alarms) == (1, 0, 0)


def test_only_the_valid_area_counts():
    truth = blank((0, 10, 0, 10), (12, 20, 12, 20))
    valid = np.zeros((20, 20), dtype=bool)
    valid[:10, :5] = True
    result = score(blank((0, 10, 0, 5), (12, 20, 0, 5)) > 0, truth, valid)
    assert result == Score(iou=1, pixel_precision=1, pixel_recall=1, found=1, missed=0, false_alarms=0)


def test_slivers_are_no_objects_but_their_pixels_count():
    truth = blank((0, 8, 0, 8), (0, 8, 19, 20))
    result = score(blank((0, 8, 0, 8)) > 0, truth)
    assert (result.found, result.missed) == (1, 0)
    assert result.iou == pytest.approx(64 / 72)


def test_nothing_to_find_gives_nan():
    result = score(np.zeros((20, 20), bool), blank())
    assert (result.found, result.missed, result.false_alarms) == (0, 0, 0)
    assert all(math.isnan(value) for value in (result.iou, result.precision, result.recall, result.f1))


@pytest.mark.parametrize("min_iou", [0, -0.1, 1.01, float("nan")])
def test_impossible_overlaps_are_refused(min_iou):
    with pytest.raises(ParameterError, match="min_iou is"):
        score(np.zeros((2, 2), bool), np.zeros((2, 2), int), min_iou=min_iou)


def test_different_grids_are_refused():
    with pytest.raises(GridError, match=r"\(2, 2\).*\(2, 3\)"):
        score(np.zeros((2, 2), bool), np.zeros((2, 3), int))


def flood(mask: np.ndarray) -> list[set]:
    """8-connected objects, by walking."""
    rest, objects = set(map(tuple, np.argwhere(mask))), []
    while rest:
        reached, edge = set(), [rest.pop()]
        while edge:
            row, column = edge.pop()
            reached.add((row, column))
            near = {(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)} & rest
            rest -= near
            edge += near
        objects.append(reached)
    return objects


def brute_force(found, truth, valid, min_iou, min_pixels):
    objects = [o for o in flood(found & valid) if len(o) >= min_pixels]
    slumps = [set(map(tuple, np.argwhere((truth == n) & valid))) for n in range(1, truth.max() + 1)]
    slumps = [s for s in slumps if len(s) >= max(min_pixels, 1)]
    short, long = sorted((objects, slumps), key=len)
    matches = 0
    for chosen in permutations(range(len(long)), len(short)):
        matches = max(
            matches, sum(len(a & long[b]) / len(a | long[b]) >= min_iou for a, b in zip(short, chosen, strict=True))
        )
    return matches, len(slumps) - matches, len(objects) - matches


@given(
    found=arrays(bool, SHAPE),
    truth=arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 2, 3])),
    valid=arrays(bool, SHAPE, elements=st.sampled_from([True, True, True, False])),
    min_iou=st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    min_pixels=st.integers(0, 4),
)
def test_counts_equal_those_of_every_possible_matching(found, truth, valid, min_iou, min_pixels):
    result = score(found, truth, valid, min_iou, min_pixels)
    expected = brute_force(found, truth, valid, min_iou, min_pixels)
    assert (result.found, result.missed, result.false_alarms) == expected
    both, either = (found & (truth > 0) & valid).sum(), ((found | (truth > 0)) & valid).sum()
    assert result.iou == pytest.approx(both / either) if either else math.isnan(result.iou)
