"""Matching is the best there is, and average precision is COCO's."""

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_evaluation import Overlaps, Ranking, match
from darts_evaluation.matching import COCO_THRESHOLDS


def boxes(rng: np.random.Generator, count: int, extent: int = 30) -> np.ndarray:
    left, top = rng.integers(0, extent, (2, count))
    width, height = rng.integers(2, 12, (2, count))
    return shapely.box(left, top, left + width, top + height)


def iou_of(one, other) -> float:
    return one.intersection(other).area / one.union(other).area


def best_by_hand(objects, labels, least: float) -> tuple[int, float]:
    """Try every assignment: the most pairs, then the largest sum of overlaps."""
    best = (0, 0.0)
    places = [*range(len(labels)), *[None] * len(objects)]
    for chosen in set(itertools.permutations(places, len(objects))):
        values = [iou_of(one, labels[place]) for one, place in zip(objects, chosen, strict=True) if place is not None]
        if all(value >= least for value in values):
            best = max(best, (len(values), round(sum(values), 9)))
    return best


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.05, 0.1, 0.3, 0.5]))
def test_match_is_the_best_of_all_assignments(seed, object_count, label_count, least):
    rng = np.random.default_rng(seed)
    objects, labels = boxes(rng, object_count, 8), boxes(rng, label_count, 8)
    overlaps = Overlaps.of(objects, labels)
    pairs = match(overlaps, least)
    used = pairs[pairs >= 0]
    assert len(set(used.tolist())) == len(used)
    values = [iou_of(objects[one], labels[other]) for one, other in enumerate(pairs) if other >= 0]
    assert all(value >= least for value in values)
    assert (len(values), round(sum(values), 9)) == best_by_hand(objects, labels, least)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_match_does_not_depend_on_the_order(seed):
    rng = np.random.default_rng(seed)
    objects, labels = boxes(rng, 25), boxes(rng, 20)
    one, other = rng.permutation(25), rng.permutation(20)
    for least in (0.1, 0.3, 0.6):
        plain = match(Overlaps.of(objects, labels), least)
        mixed = match(Overlaps.of(objects[one], labels[other]), least)
        pairs = {(int(a), int(b)) for a, b in enumerate(plain) if b >= 0}
        shuffled = {(int(one[a]), int(other[b])) for a, b in enumerate(mixed) if b >= 0}
        assert len(pairs) == len(shuffled)
        total, again = (sum(iou_of(objects[a], labels[b]) for a, b in each) for each in (pairs, shuffled))
        assert total == pytest.approx(again)


def test_overlaps_are_those_of_all_pairs():
    rng = np.random.default_rng(1)
    objects, labels = boxes(rng, 40), boxes(rng, 30)
    overlaps = Overlaps.of(objects, labels)
    found = {
        (a, b): v
        for a, b, v in zip(overlaps.objects.tolist(), overlaps.labels.tolist(), overlaps.iou.tolist(), strict=True)
    }
    for (a, one), (b, other) in itertools.product(enumerate(objects), enumerate(labels)):
        expected = iou_of(one, other)
        assert found.get((a, b), 0.0) == pytest.approx(expected)
        assert ((a, b) in found) == (expected > 0)


def coco_average_precision(objects, confidence, labels) -> float:
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def annotation(shape, number: int) -> dict:
        left, top, right, bottom = shape.bounds
        bbox = [left, top, right - left, bottom - top]
        return {"id": number, "image_id": 1, "category_id": 1, "bbox": bbox, "area": shape.area, "iscrowd": 0}

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1}],
            "categories": [{"id": 1}],
            "annotations": [annotation(shape, number) for number, shape in enumerate(labels, start=1)],
        }
        truth.createIndex()
        found = truth.loadRes(
            [annotation(shape, 0) | {"score": float(c)} for shape, c in zip(objects, confidence, strict=True)]
        )
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = [1000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return float(evaluation.eval["precision"].mean())


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_coco(seed):
    rng = np.random.default_rng(seed)
    labels = boxes(rng, 25, 60)
    moved = [shapely.affinity.translate(shape, *rng.integers(-1, 2, 2)) for shape in labels[:18]]
    objects = np.array([*moved, *boxes(rng, 12, 60)], dtype=object)
    confidence = rng.permutation(len(objects)) / 100
    ranking = Ranking.of(Overlaps.of(objects, labels), confidence)
    assert ranking.average_precision(len(labels)) == pytest.approx(
        coco_average_precision(objects, confidence, labels), abs=1e-9
    )


def test_average_precision_with_weights_is_that_of_repeated_objects():
    rng = np.random.default_rng(3)
    labels = boxes(rng, 10, 200)
    objects = np.array([shapely.affinity.translate(shape, 1, 0) for shape in labels[:7]], dtype=object)
    confidence = rng.permutation(7) / 10
    weights = rng.integers(0, 3, 10).astype(float)
    weighted = Ranking.of(Overlaps.of(objects, labels), confidence).average_precision(weights.sum(), weights[:7])
    again = np.repeat(np.arange(10), weights.astype(int))
    far = [shapely.affinity.translate(labels[place], 10_000 * number, 0) for number, place in enumerate(again)]
    near = [
        (shapely.affinity.translate(objects[place], 10_000 * number, 0), confidence[place])
        for number, place in enumerate(again)
        if place < 7
    ]
    plain = Ranking.of(Overlaps.of([each for each, _ in near], far), np.array([c for _, c in near]))
    assert weighted == pytest.approx(plain.average_precision(len(far)))


def test_average_precision_without_labels_is_not_defined():
    ranking = Ranking.of(Overlaps.of(boxes(np.random.default_rng(1), 3), []), np.ones(3))
    assert np.isnan(ranking.average_precision(0))
    box = [shapely.box(0, 0, 2, 2)]
    assert Ranking.of(Overlaps.of(box, box), np.ones(1)).average_precision(1) == 1
    assert Ranking.of(Overlaps.of([], boxes(np.random.default_rng(1), 3)), np.ones(0)).average_precision(3) == 0


@pytest.mark.parametrize("pixel_m", [10, 4.77, 0.7, 1 / 3])
def test_an_overlap_of_exactly_the_threshold_is_a_match_at_any_pixel_size(pixel_m):
    """Coordinates in the millions leave areas of small pixels inexact."""
    rng = np.random.default_rng(3)
    for tenths in range(1, 10):
        left, top = rng.integers(10**5, 10**6) * pixel_m, rng.integers(10**6, 10**7) * pixel_m
        mapped, label = (shapely.box(left, top, left + width * pixel_m, top + pixel_m) for width in (tenths, 10))
        overlaps = Overlaps.of([mapped], [label])
        assert match(overlaps, tenths / 10).tolist() == [0]
        assert match(overlaps, tenths / 10 + 1e-5).tolist() == [-1]
        hits = Ranking.of(overlaps, np.ones(1)).hits[:, 0]
        assert hits.tolist() == [threshold <= tenths / 10 for threshold in COCO_THRESHOLDS]


@pytest.mark.slow
def test_a_hundred_thousand_objects_are_matched():
    """Their time and memory stand in the benchmarks; here, that the result is right where it is known."""
    side = 320
    x, y = (each.ravel() * 100.0 for each in np.meshgrid(np.arange(side), np.arange(side)))
    labels = shapely.box(x, y, x + 40, y + 40)
    objects = shapely.box(x + 4, y, x + 44, y + 40)
    pairs = match(Overlaps.of(objects, labels), 0.5)
    assert (pairs == np.arange(side * side)).all()
