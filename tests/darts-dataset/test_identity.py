"""Names and matches of objects, against what is known and brute force."""

from itertools import permutations

import h3
import numpy as np
import pytest

from darts_dataset.identity import matched, new_ids


def test_names_are_cell_and_year_and_none_is_given_twice():
    cell = h3.latlng_to_cell(70.5, -140.25, 15)
    taken = {f"{cell}-2020", "other"}
    lon, lat = np.full(3, -140.25), np.full(3, 70.5)
    assert new_ids(lon, lat, 2020, taken).tolist() == [f"{cell}-2020-2", f"{cell}-2020-3", f"{cell}-2020-4"]
    assert new_ids(lon[:1], lat[:1], 2021, taken).tolist() == [f"{cell}-2021"]
    assert taken == {"other", f"{cell}-2021", *(f"{cell}-2020{end}" for end in ("", "-2", "-3", "-4"))}


@pytest.mark.parametrize("seed", range(5))
def test_matches_share_the_most_ground_of_all_ways_to_match(seed):
    rng = np.random.default_rng(seed)
    before, now = 5, 4
    ground = np.where(rng.random((before, now)) < 0.5, rng.uniform(1, 100, (before, now)), 0)
    pairs = np.argwhere(ground)
    found = matched(pairs, ground[tuple(pairs.T)], before, now)
    best = max(sum(ground[old, new] for new, old in enumerate(order[:now])) for order in permutations(range(before)))
    chosen = [(old, new) for new, old in enumerate(found.tolist()) if old >= 0]
    assert len({old for old, _ in chosen}) == len(chosen)
    assert all(ground[each] > 0 for each in chosen)
    assert sum(ground[each] for each in chosen) == pytest.approx(best)
