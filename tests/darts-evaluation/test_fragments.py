"""Shapes that are cut to ground that counts and put together again, against shapely's areas of single pixels."""

import numpy as np
import pytest
import shapely
from affine import Affine

from darts_evaluation.fragments import Fragments, Shapes
from darts_evaluation.ground import Ground
from darts_evaluation.objects import cut_to_ground
from support.lanes import mostly_slow
from support.maps import CRS, GROUND

SIDE = 16
TRANSFORM = Affine(10, 0, 500_000, 0, -10, 7_600_000)
LEFT, TOP = TRANSFORM.c, TRANSFORM.f


def box(left: float, top: float, width: float, height: float) -> shapely.Polygon:
    """Return a box by metres right of and below the corner of the grid."""
    return shapely.box(LEFT + left, TOP - top - height, LEFT + left + width, TOP - top)


def ground_of(seen: np.ndarray, labelled: np.ndarray | None = None) -> Ground:
    nothing = np.zeros(seen.shape, bool)
    return Ground("a", CRS, TRANSFORM, nothing, nothing, seen, labelled)


def pixels_of(mask: np.ndarray) -> shapely.Geometry:
    return shapely.union_all([box(10 * col, 10 * row, 10, 10) for row, col in np.argwhere(mask)])


@pytest.mark.parametrize("seed", mostly_slow(range(8), lambda seed: seed < 2))
def test_shapes_are_cut_to_the_pixels_that_count(seed):
    import geopandas as gpd

    rng = np.random.default_rng(seed)
    seen, labelled = rng.random((2, SIDE, SIDE)) < 0.8
    seen[4:9, 4:9] = labelled[4:9, 4:9] = True
    valid, ground = seen & labelled, ground_of(seen, labelled)
    places, radii = rng.uniform(-30, 10 * SIDE + 30, (40, 2)), rng.uniform(8, 50, 40)  # from 7.1 m on there is a centre
    shapes = [shapely.Point(LEFT + x, TOP - y).buffer(r) for (x, y), r in zip(places, radii, strict=True)]
    shapes += [box(45, 45, 30, 20), box(-100, -100, 20, 20), box(10 * SIDE - 20, 30, 60, 30)]
    index, cut = cut_to_ground(gpd.GeoSeries(shapes, crs=CRS), ground)
    found, counts = dict(zip(index.tolist(), cut, strict=True)), pixels_of(valid)
    rows, cols = np.indices(valid.shape)
    for number, shape in enumerate(shapes):
        centres = shapely.contains_xy(shape, LEFT + 10 * cols + 5, TOP - 10 * rows - 5)
        assert (number in found) == bool((centres & valid).any())
        if number not in found:
            continue
        if (centres <= valid).all() and box(0, 0, 10 * SIDE, 10 * SIDE).covers(shape):
            assert found[number].equals(shape)
        else:
            assert found[number].area == pytest.approx(shape.intersection(counts).area)
            assert found[number].difference(counts.buffer(1e-6)).area == pytest.approx(0, abs=1e-6)
    assert len(shapes) - 3 in found
    assert len(shapes) - 2 not in found


def test_a_shape_without_a_pixels_centre_counts_where_its_pixel_does():
    import geopandas as gpd

    seen = np.ones((SIDE, SIDE), bool)
    seen[3, 3] = False
    shapes = [
        box(21, 21, 2, 2), box(31, 31, 2, 2), box(-5, 2, 3, 3), box(10 * SIDE + 1, 2, 3, 3), box(2, -5, 3, 3),
        box(2, 10 * SIDE + 1, 3, 3), box(10 * SIDE - 3, 10 * SIDE - 3, 2, 2), box(1, 1, 2, 2),
    ]  # fmt: skip
    index, cut = cut_to_ground(gpd.GeoSeries(shapes, crs=CRS), ground_of(seen))
    assert index.tolist() == [0, 6, 7]
    assert [each.area for each in cut] == pytest.approx([4, 4, 4])


def test_shapes_that_overlap_are_counted_each_on_its_own():
    """All on one another, so that no two can be burnt at once; one half of the ground does not count."""
    import geopandas as gpd

    seen = np.zeros((SIDE, SIDE), bool)
    seen[:, : SIDE // 2] = True
    shapes = [box(20 + 10 * n, 20 + 10 * n, 60, 60) for n in range(5)]
    index, cut = cut_to_ground(gpd.GeoSeries(shapes, crs=CRS), ground_of(seen))
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert [each.area for each in cut] == pytest.approx([60 * (60 - 10 * n) for n in range(5)])


def fragments_of(*rows: tuple) -> Fragments:
    """Make fragments of rows: shape, whole, owner, block, tile, value."""
    made = Fragments()
    for shape, whole, owner, col, tile, value in rows:
        made.add([shape], [whole], [owner], [(CRS, 0, col)], tile, [value])
    return made


def test_fragments_that_have_one_owner_are_one_shape():
    whole = box(0, 0, 100, 10)
    fragments = fragments_of(
        (box(0, 0, 30, 10), whole, 7, 1, "a", 0.5),
        (box(200, 0, 10, 10), box(200, 0, 20, 10), 3, 4, "b", np.nan),
        (box(30, 0, 50, 10), whole, 7, 2, "b", 0.9),
        (box(80, 0, 20, 10), whole, 7, 3, "c", np.nan),
    )
    found = Shapes.of(fragments, fragments.by_owner(), CRS)
    assert found.owners.tolist() == [7, 3]
    assert found.area_m2.tolist() == pytest.approx([1000 * GROUND, 100 * GROUND], rel=1e-5)
    assert found.share.tolist() == pytest.approx([1.0, 0.5])
    assert (found.keys, found.tiles) == ([(CRS, 0, 2), (CRS, 0, 4)], ["b", "b"])  # those of the largest fragment
    assert found.values.tolist() == pytest.approx([(0.5 * 30 + 0.9 * 50) / 80, np.nan], nan_ok=True)
    some = found.take(np.array([1]))
    assert (some.owners.tolist(), some.tiles, some.area_m2.tolist()) == (
        [3],
        ["b"],
        pytest.approx([100 * GROUND], rel=1e-5),
    )


def test_fragments_that_touch_are_one_where_they_are_of_different_tiles():
    rows = [
        (box(0, 0, 10, 10), "a"), (box(10, 0, 10, 10), "b"), (box(20, 0, 10, 10), "a"),  # one, over the one in "b"
        (box(50, 0, 10, 10), "a"), (box(60, 0, 10, 10), "a"),  # two, of one tile
        (box(100, 0, 10, 10), "a"), (box(115, 0, 10, 10), "b"),  # two, too far apart
    ]  # fmt: skip
    fragments = fragments_of(*((shape, shape, 0, 0, tile, np.nan) for shape, tile in rows))
    numbers = fragments.by_touch(4.9)
    same = numbers[:, None] == numbers
    expected = np.eye(7, dtype=bool)
    expected[:3, :3] = True
    assert (same == expected).all()
    assert len(set(fragments.by_touch(5.1).tolist())) == 4
    alone = fragments_of(*((shape, shape, 0, 0, "a", np.nan) for shape, _ in rows))
    assert alone.by_touch(4.9).tolist() == list(range(7))


def test_no_fragments_are_no_shapes():
    found = Shapes.of(Fragments(), Fragments().by_touch(1.0), CRS)
    assert (len(found.shapes), found.values.tolist(), found.area_m2.tolist()) == (0, [], [])
