"""States of many chunks: as if each were asked for, but only those that are stored are."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import darts_acquisition.cube.transaction
from darts_acquisition import Chunk, ChunkState, CubeError, Datacube, Window, arcticdem_product, estimate_arcticdem
from darts_acquisition.cube import repository
from darts_acquisition.cube.transaction import Snapshot
from support.lanes import cases


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> Datacube:
    """ArcticDEM at 2 m: 1125 × 1125 chunks, some of them known, and one forgotten again."""
    cube = Datacube.create(tmp_path_factory.mktemp("cubes") / "huge", arcticdem_product(2))
    cube.mark_empty([Chunk(0, 0), Chunk(7, 1124), *(Chunk(500 + n, 600 + 2 * n) for n in range(20))])
    cube.mark_empty([Chunk(9, 9)])
    cube.forget([Chunk(9, 9)])
    return cube


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """How many states were read one by one, per call."""
    counts = []
    ask = Snapshot._read_small

    def count(self, array, places):
        found = ask(self, array, places)
        counts.append(len(found))
        return found

    monkeypatch.setattr(Snapshot, "_read_small", count)
    return counts


def test_the_whole_grid_costs_what_is_known(huge, asked):
    states = huge.states(huge.geobox)
    assert asked == [22]  # a chunk that was forgotten is stored no more
    assert states.shape == (1125, 1125)
    assert states.dtype == np.uint8
    expected = np.zeros((1125, 1125), "uint8")
    expected[0, 0] = expected[7, 1124] = ChunkState.EMPTY
    expected[np.arange(500, 520), np.arange(600, 640, 2)] = ChunkState.EMPTY
    np.testing.assert_array_equal(states, expected)
    assert huge.known() == {Chunk(*place): ChunkState.EMPTY for place in np.argwhere(expected).tolist()}


def test_an_estimate_of_a_large_area_costs_what_is_known(huge, asked):
    area = huge.geobox[1_700_000:2_300_000, 2_000_000:2_600_000]
    estimate = estimate_arcticdem(area, huge.path, 2)
    assert estimate.area_chunks == 167 * 168
    assert estimate.missing_chunks == 167 * 168 - 20
    assert sum(asked) == 20


BOUNDS = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted).filter(lambda pair: pair[0] < pair[1])


@settings(max_examples=cases(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    known=st.dictionaries(st.tuples(st.integers(0, 11), st.integers(0, 11)), st.sampled_from([0, 1, 2]), max_size=12),
    rows=BOUNDS,
    cols=BOUNDS,
    few=st.sampled_from([0, 5, 1000]),
)
def test_listing_and_asking_agree(tmp_path_factory, product, monkeypatch, known, rows, cols, few):
    grid = GeoBox((48, 48), product.geobox.affine, product.geobox.crs)
    cube = Datacube.create(
        tmp_path_factory.mktemp("cubes") / "cube", dataclasses.replace(product, geobox=grid, chunk_px=4, inner_px=4)
    )
    expected = np.zeros((12, 12), "uint8")
    values = {"height": np.ones((4, 4), "float32"), "kind": np.ones((4, 4), "uint8")}
    cube.complete({Chunk(*place): values if state == 1 else None for place, state in known.items()})
    cube.forget([Chunk(*place) for place, state in known.items() if state == 0])
    for place, state in known.items():
        expected[place] = state
    monkeypatch.setattr(darts_acquisition.cube.transaction, "_FEW", few)
    window = Window.of(4 * rows[0], 4 * rows[1] - 1, 4 * cols[0] + 1, 4 * cols[1])
    part = expected[slice(*rows), slice(*cols)]
    np.testing.assert_array_equal(cube.states(window), part)
    chunks = [Chunk(row, col) for row in range(*rows) for col in range(*cols)][::-1]
    np.testing.assert_array_equal(cube.states_of(chunks), part.ravel()[::-1])
    assert cube.states_of([]).shape == (0,)
    missing = [chunk for chunk, state in zip(chunks, part.ravel()[::-1], strict=True) if state == ChunkState.MISSING]
    assert cube.missing_of(chunks) == missing
    assert cube.missing(window) == [chunk for chunk in chunks[::-1] if expected[chunk] == 0]
    assert {tuple(chunk): int(state) for chunk, state in cube.known().items()} == {
        place: state for place, state in known.items() if state
    }


def test_a_cube_of_a_later_format_is_said_to_be_one(tmp_path, monkeypatch):
    """Where icechunk reads it, that decides; where it does not, the error says what would."""
    (tmp_path / "repo").write_bytes(b"")
    for folder in ("overwritten", "snapshots", "transactions"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(repository, "_format", dict)
    with pytest.raises(CubeError, match="has Icechunk's format 2; expected format 1, or icechunk 2"):
        Datacube.open(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overwritten", "repo", "snapshots", "transactions"]
