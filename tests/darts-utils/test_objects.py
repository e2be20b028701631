"""Objects, their statistics and outlines, against scikit-image, numpy and GDAL's polygonizer."""

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from darts_utils.objects import Objects, find_objects
from darts_utils.outlines import object_polygons

UNIT = (0.0, 1.0, 0.0, -1.0)

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


def label_image(objects: Objects) -> np.ndarray:
    image = np.zeros(objects.shape[0] * objects.shape[1], np.int64)
    image[objects.pixel_index()] = objects.pixel_label() + 1
    return image.reshape(objects.shape)


def assert_outlines_right(mask: np.ndarray) -> None:
    """Compare with scikit-image's labels and with GDAL's polygons of each object."""
    objects = find_objects(mask)
    polygons = object_polygons(objects, UNIT)
    labels = label(mask, connectivity=2)
    assert len(polygons) == objects.count == labels.max()
    assert shapely.is_valid(polygons).all()
    np.testing.assert_array_equal(shapely.area(polygons), objects.pixels)
    for number, polygon in enumerate(polygons, start=1):
        alone = (labels == number).astype(np.uint8)
        traced = rasterio.features.shapes(alone, mask=alone > 0, connectivity=4)
        parts = [shapely.affinity.scale(shapely.geometry.shape(part), 1, -1, origin=(0, 0)) for part, _ in traced]
        assert len(polygon.geoms) == len(parts)
        assert shapely.equals(polygon, shapely.MultiPolygon(parts))


@given(masks)
def test_labels_are_those_of_scikit_image(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(label_image(find_objects(mask)), label(mask, connectivity=2))


@given(masks)
def test_outlines_of_random_masks(mask: np.ndarray) -> None:
    assert_outlines_right(mask)


@given(masks, st.integers(1, 5))
def test_groups_are_the_objects_some_at_a_time(mask: np.ndarray, most: int) -> None:
    objects = find_objects(mask)
    groups = [*objects.groups(most)]
    assert [group.count for group in groups] == [min(most, objects.count - at) for at in range(0, objects.count, most)]
    polygons = object_polygons(objects, UNIT)
    np.testing.assert_array_equal([*polygons], [each for group in groups for each in object_polygons(group, UNIT)])
    assert [*objects.pixels] == [pixels for group in groups for pixels in group.pixels]


@pytest.mark.parametrize(
    "rows",
    [
        ["#"],
        ["."],
        ["##", "##"],
        ["#.", ".#"],
        [".#", "#."],
        ["###", "#.#", "###"],
        ["###", "#.#", "##."],  # a hole that touches the outside at a corner
        ["####", "#.##", "##.#", "####"],  # two holes that touch each other
        ["#####", "#...#", "#.#.#", "#...#", "#####"],  # an island in a hole
        ["####", "#..#", "#.#.", "####"],  # an island that touches the shell of its hole at a corner
        ["#.#.#", ".#.#.", "#.#.#", ".#.#.", "#.#.#"],
        [".#.", "###", ".#."],
        ["#...#", ".###.", ".#.#.", ".###.", "#...#"],
    ],
)
def test_outlines_of_awkward_masks(rows: list[str]) -> None:
    assert_outlines_right(np.array([[mark == "#" for mark in row] for row in rows]))


def test_outlines_have_only_corners_and_run_counter_clockwise() -> None:
    mask = np.ones((30, 40), np.bool_)
    mask[10:20, 10:30] = False
    (polygon,) = object_polygons(find_objects(mask), UNIT)
    (part,) = polygon.geoms
    assert part.exterior.is_ccw
    assert not part.interiors[0].is_ccw
    assert len(part.exterior.coords) == len(part.interiors[0].coords) == 5


def test_nothing_gives_nothing() -> None:
    objects = find_objects(np.zeros((4, 5), np.uint8))
    assert objects.count == 0
    assert len(object_polygons(objects, UNIT)) == 0


def test_the_mask_may_have_any_dtype_and_memory_layout() -> None:
    mask = np.random.default_rng(3).random((40, 50)) < 0.5
    wanted = label(mask, connectivity=2)
    for other in (mask.astype(np.uint8) * 2, mask.astype(np.float32), np.asfortranarray(mask), mask[::-1][::-1]):
        np.testing.assert_array_equal(label_image(find_objects(other)), wanted)


def test_a_mask_larger_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts_utils.objects._CHUNK_PIXELS", 64)
    mask = np.random.default_rng(4).random((60, 30)) < 0.6
    np.testing.assert_array_equal(label_image(find_objects(mask)), label(mask, connectivity=2))


def test_the_real_planetscope_mask_is_traced_as_gdal_traces_it(shared_data) -> None:
    (path,) = (shared_data / "planet_udm2").glob("*.tif")
    with rasterio.open(path) as file:
        clear = file.read(1) > 0
    objects = find_objects(clear)
    polygons = object_polygons(objects, UNIT)
    assert objects.count == label(clear, connectivity=2).max()
    assert shapely.is_valid(polygons).all()
    np.testing.assert_array_equal(shapely.area(polygons), objects.pixels)
    traced = rasterio.features.shapes(clear.astype(np.uint8), mask=clear, connectivity=4)
    parts = [shapely.geometry.shape(part) for part, _ in traced]
    found = shapely.get_parts(polygons)
    assert sorted(part.area for part in parts) == sorted(shapely.area(found))
    assert sorted(len(part.interiors) for part in parts) == sorted(shapely.get_num_interior_rings(found))
