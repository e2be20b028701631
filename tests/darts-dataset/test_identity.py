"""Names and matches of objects, against what is known and brute force."""

from dataclasses import fields
from itertools import permutations

import h3
import numpy as np
import pytest
import shapely

from darts_dataset.former import Traits, no_pairs, read_former, write_former
from darts_dataset.geometry import NORTH, to_lonlat, to_plane
from darts_dataset.identity import Ground, States, digests_of, matched, new_ids, shared_ground
from darts_dataset.memory import Memory, file_digest


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


def squares(lefts: list[float], year: int) -> States:
    """Return squares of 30 m in a row on the plane as objects of a year."""
    x, y = 1_000_000.0, -2_000_000.0
    shapes = to_lonlat(np.array([shapely.box(x + left, y, x + left + 30, y + 30) for left in lefts], object), NORTH)

    def take(rows: np.ndarray) -> np.ndarray:
        TAKEN.extend((year, row) for row in rows.tolist())
        return to_plane(shapes[rows], NORTH)

    ids = np.array([f"{year}-{number}" for number in range(len(lefts))], object)
    bounds, digests = shapely.bounds(to_plane(shapes, NORTH)), digests_of(shapely.to_wkb(shapes))
    return States(ids, np.full(len(lefts), year), bounds, take, digests, shapely.bounds(shapes))


TAKEN: list[tuple[int, int]] = []


@pytest.mark.parametrize("cell_m", [10.0, 45.0, 1e6])
def test_ground_that_is_known_is_not_measured_again(cell_m):
    """Squares that share 20 and 10 m of their 30 m, a border, and nothing; one changes."""
    before, now = squares([0, 100, 200], 2020), squares([10, 120, 230, 300, 180], 2021)
    TAKEN.clear()
    first = Ground()
    pairs, shared = shared_ground(before, now, cell_m, first)
    assert pairs.tolist() == [[0, 0], [1, 1], [2, 4]]
    assert shared == pytest.approx([600, 300, 300], rel=1e-4)
    assert {(2020, 0), (2021, 4)} <= set(TAKEN)
    assert not {(2021, 3)} & set(TAKEN)
    assert {key: area for key, area in first.used.items() if area > 0.1} == dict(
        zip([(before.digests[old], now.digests[new]) for old, new in pairs], shared, strict=True)
    )
    TAKEN.clear()
    moved = squares([10, 110, 230, 300, 180], 2021)
    again = Ground(first.used)
    pairs, shared = shared_ground(before, moved, cell_m, again)
    assert pairs.tolist() == [[0, 0], [1, 1], [2, 4]]
    assert shared == pytest.approx([600, 600, 300], rel=1e-4)
    assert set(TAKEN) == {(2020, 1), (2021, 1)}
    assert shared_ground(before, now.subset(np.empty(0, np.int64)), cell_m, again)[0].shape == (0, 2)


def test_what_is_remembered_of_objects_comes_back(tmp_path):
    digests = digests_of([b"1", b"2", b"3"])
    ground = Ground(used={(b"y", digests[1]): 2.5, (b"x", digests[1]): 0.05, (b"x", digests[0]): 1.5})
    rng = np.random.default_rng(0)
    points, sides = rng.uniform(0, 90, (3, 2)), rng.uniform(0, 90, (3, 4))
    traits = Traits(np.array(["b", "a", "c"], object), digests, points, np.array([4, 5, 9]), sides, sides + 1)
    write_former(tmp_path, 2020, traits, no_pairs(), ground)
    names = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.parquet"))]
    memory = Memory(tmp_path, checksums={name: file_digest(tmp_path / name) for name in names})
    former = read_former(memory, 2020)
    for each in fields(Traits):
        assert getattr(former.traits, each.name).tolist() == getattr(traits, each.name).tolist()
    assert former.files == {"level2/year=2020/objects.parquet": slice(0, 3)}
    expected = {(b"y", digests[1]): 2.5, (b"x", digests[0]): 1.5}  # What shares less does not overlap.
    assert {(each["before"], each["digest"]): each["shared_m2"] for each in former.pairs.to_pylist()} == expected
    write_former(tmp_path / "other", 2020, traits, former.pairs, Ground())
    assert [(tmp_path / "other" / name).read_bytes() for name in names] == [(tmp_path / n).read_bytes() for n in names]
    assert len({*digests, *digests_of([b"4"])}) == 4
    assert {len(digest) for digest in digests} == {16}
