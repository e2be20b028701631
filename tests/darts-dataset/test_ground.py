"""Ground that polygons share, against overlays by GEOS."""

import numpy as np
import pytest
import shapely

from darts_dataset import ground
from darts_dataset.ground import shared_areas
from support.lanes import mostly_slow


def polygons(seed: int, count: int = 40) -> np.ndarray:
    """Return polygons of all kinds: with holes, in several parts, on a grid and off it, far from the origin."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-4e6, 4e6, 2)
    made = []
    for _ in range(count):
        lefts = np.round(rng.uniform(0, 60, (rng.integers(1, 7), 2)) / 3) * 3
        sizes = np.round(rng.uniform(3, 40, lefts.shape) / 3) * 3
        if rng.random() < 0.4:
            lefts += rng.uniform(-1, 1, 2)
        boxes = shapely.box(*(lefts + corner).T, *(lefts + sizes + corner).T)
        inner = shapely.buffer(shapely.centroid(boxes[0]), rng.uniform(0.1, 9))
        outline = shapely.difference(shapely.union_all(boxes), inner)
        if rng.random() < 0.5:
            outline = shapely.affinity.rotate(outline, rng.uniform(0, 360))
        made.append(outline if rng.random() < 0.5 else shapely.reverse(outline))
    return np.array(made, object)


@pytest.mark.parametrize("seed", mostly_slow(range(20), lambda seed: seed < 4))
def test_shared_areas_are_those_of_overlays_and_hang_on_no_other_pair(seed, monkeypatch):
    shapes = polygons(seed)
    pairs = np.argwhere(np.triu(np.ones((len(shapes), len(shapes)), bool)))
    expected = shapely.area(shapely.intersection(*shapes[pairs].T))
    assert (expected > 1).mean() > 0.3
    assert (expected == 0).any()
    found = shared_areas(shapes, pairs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    monkeypatch.setattr(ground, "_AT_A_TIME", 7)
    some = np.random.default_rng(seed).permutation(len(pairs))[:200]
    assert shared_areas(shapes, pairs[some]).tolist() == found[some].tolist()
    assert shared_areas(shapes, pairs[:0]).shape == (0,)
