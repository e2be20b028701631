"""The patches of a tile: where they lie, what they show, how they are weighted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from darts_segmentation.grid import PatchGrid, plan_axis, reflect_index


@st.composite
def plans(draw):
    patch_size = draw(st.integers(1, 40))
    return {
        "size": draw(st.integers(1, 150)),
        "patch_size": patch_size,
        "overlap": draw(st.integers(0, patch_size // 2)),
        "reflection": draw(st.integers(0, 20)),
    }


@given(plans())
def test_weights_sum_to_one_at_every_pixel_of_the_tile(plan):
    axis = plan_axis(**plan)
    total = np.zeros(plan["size"])
    for index, weights in enumerate(axis.weights):
        tile, patch = axis.inside(index)
        total[tile] += weights[patch]
    np.testing.assert_allclose(total, 1, rtol=0, atol=3e-7)
    assert axis.weights.dtype == np.float32
    assert axis.weights.min() >= 0


@given(plans())
def test_patches_step_by_what_they_do_not_share_and_end_with_the_border(plan):
    axis = plan_axis(**plan)
    border = 1 + plan["reflection"]
    steps = np.diff(axis.starts)
    assert np.all(steps[:-1] == plan["patch_size"] - plan["overlap"])
    assert np.all((steps > 0) & (steps <= plan["patch_size"] - plan["overlap"]))
    end = axis.starts[-1] + plan["patch_size"]
    if plan["size"] + 2 * border >= plan["patch_size"]:
        assert axis.starts[0] == -border
        assert end == plan["size"] + border
    else:
        assert len(axis.starts) == 1
        assert 0 <= (end - plan["size"]) + axis.starts[0] <= 1  # as wide at the end as at the beginning, or one more


@given(st.integers(1, 30), st.integers(0, 70), st.integers(0, 70))
def test_mirrored_index_is_numpys_reflection(size, before, after):
    expected = np.pad(np.arange(size), (before, after), mode="reflect")
    np.testing.assert_array_equal(reflect_index(-before, size + after, size), expected)


@given(plans(), st.integers(0, 2**32 - 1))
def test_a_patch_shows_the_padded_axis(plan, seed):
    axis = plan_axis(**plan)
    values = np.random.default_rng(seed).random(plan["size"])
    length = max(plan["size"] + 2 * (1 + plan["reflection"]), plan["patch_size"])
    before = (length - plan["size"]) // 2
    padded = np.pad(values, (before, length - plan["size"] - before), mode="reflect")
    for index, start in enumerate(axis.starts):
        np.testing.assert_array_equal(values[axis.source(index)], padded[start + before :][: plan["patch_size"]])


@given(plans(), plans(), st.integers(0, 2**32 - 1), st.floats(0, 0.2))
def test_patches_are_left_out_only_where_nothing_is_valid(plan_y, plan_x, seed, share):
    valid = np.random.default_rng(seed).random((plan_y["size"], plan_x["size"])) < share
    grid = PatchGrid(plan_axis(**plan_y), plan_axis(**plan_x))
    expected = [
        (row, column)
        for row in range(len(grid.y.starts))
        for column in range(len(grid.x.starts))
        if valid[grid.y.inside(row)[0], grid.x.inside(column)[0]].any()
    ]
    assert list(grid.with_valid_pixels(valid)) == expected


def test_a_tile_that_is_half_empty_is_three_fifths_of_the_work():
    grid = PatchGrid.plan((4000, 4000), 1024, 256, 0)
    valid = np.ones((4000, 4000), dtype=bool)
    assert len(list(grid.with_valid_pixels(valid))) == 25
    valid[:2000] = False
    assert len(list(grid.with_valid_pixels(valid))) == 15
