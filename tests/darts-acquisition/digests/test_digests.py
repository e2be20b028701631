"""Digests of chunks against hashlib over plain numpy arrays: equal content, equal identity, and not otherwise."""

import itertools
import sys

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import darts_acquisition.cube.datacube
import darts_acquisition.cube.transaction
from darts_acquisition import (
    Chunk,
    ChunkState,
    CubeProduct,
    CubeVariable,
    Datacube,
    Window,
    verify_cube,
)
from darts_acquisition.cube.layout import DIGEST
from darts_acquisition.cube.repository import BRANCH
from darts_utils import ParameterError
from support.datacube import SHAPE, arrays_for
from support.digests import CORNER, FIRST, SECOND, filled, make_legacy, only_the_mask, oracle, window_of
from support.lanes import cases, mostly_slow

EVERY = [Chunk(row, col) for row in range(5) for col in range(6)]


def stored(cube):
    """The chunks of which the cube keeps a digest, whatever their state."""
    array = zarr.open_group(cube._repository.readonly_session(BRANCH).store, mode="r")[DIGEST][:]
    return {chunk for chunk in EVERY if array[chunk].any()}


# What a digest says


def test_identities_are_digests_of_the_content(cube):
    contents = filled(cube, [FIRST, Chunk(2, 3), CORNER, Chunk(4, 0)])
    cube.mark_empty([SECOND])
    expected = {chunk: oracle(arrays) for chunk, arrays in contents.items()}
    assert len(set(expected.values())) == 4
    known = dict(sorted((expected | {SECOND: "empty"}).items()))
    assert list(cube.identities().items()) == list(known.items())
    asked = [CORNER, Chunk(3, 3), SECOND, FIRST]
    assert list(cube.identities(asked).items()) == [
        (CORNER, expected[CORNER]),
        (Chunk(3, 3), "missing"),
        (SECOND, "empty"),
        (FIRST, expected[FIRST]),
    ]
    assert cube.identities([]) == {}
    with pytest.raises(ParameterError, match="outside the cube"):
        cube.identities([FIRST, Chunk(5, 0)])


@pytest.mark.parametrize(
    ("few", "legacy"),
    mostly_slow(itertools.product([0, 3, 1000], [False, True]), [(0, True), (3, False)].__contains__),
)
def test_identities_of_many_are_those_of_each(cube, monkeypatch, few, legacy):
    filled(cube, EVERY[::4])
    cube.mark_empty(EVERY[1::4])
    if legacy:
        cube = make_legacy(cube)
        filled(cube, EVERY[2::8])
    each = {chunk: cube.identities([chunk])[chunk] for chunk in EVERY}
    monkeypatch.setattr(darts_acquisition.cube.transaction, "_FEW", few)
    assert cube.identities(EVERY) == each
    assert cube.identities() == {chunk: identity for chunk, identity in each.items() if identity != "missing"}
    assert len({identity[:6] for identity in each.values()}) > 3


def test_the_same_content_has_the_same_identity_in_every_cube(cube, tmp_path, product):
    contents = filled(cube, [CORNER, FIRST])
    before = cube.identities()
    other = Datacube.create(tmp_path / "other", product)
    rows, cols = window_of(FIRST)
    for part in (Window(rows, slice(0, 5)), Window(rows, slice(3, 16))):
        arrays = {name: values[part.rows, part.cols] for name, values in contents[FIRST].items()}
        assert other.identities([FIRST]) == {FIRST: "missing"}
        other.write(part, arrays, complete=part.cols.stop == cols.stop)
    other.write(window_of(CORNER), contents[CORNER])
    assert other.identities() == before
    cube.forget([FIRST])
    assert cube.identities([FIRST, CORNER]) == {FIRST: "missing", CORNER: before[CORNER]}
    assert stored(cube) == {CORNER}
    cube.complete(contents)
    assert cube.identities() == before


def test_all_nans_are_one(cube, tmp_path, product):
    window = window_of(FIRST)
    arrays = arrays_for(window)
    cube.write(window, arrays)
    hole = np.isnan(arrays["height"])
    for number, bits in enumerate([0x7FC00001, 0xFFC00000, 0x7F800001]):
        arrays["height"].view("uint32")[hole] = bits
        assert arrays["height"].tobytes().count(bits.to_bytes(4, sys.byteorder)) >= hole.sum() > 5
        other = Datacube.create(tmp_path / f"other{number}", product)
        other.write(window, arrays)
        assert other.identities() == cube.identities()


def one_pixel(arrays):
    arrays["height"][3, 4] = np.nextafter(np.float32(1), 2)


def only_where_nan_is(arrays):
    height = arrays["height"]
    (row, col) = np.argwhere(np.isnan(height))[0]
    height[row, col], height[0, 0] = height[0, 0], np.nan


def sign_of_zero(arrays):
    arrays["height"][5, 5] = -0.0


CHANGES = [one_pixel, only_the_mask, only_where_nan_is, sign_of_zero]
WAYS = ["whole", "part", "refilled"]


@pytest.mark.parametrize(
    ("change", "how"),
    mostly_slow(itertools.product(CHANGES, WAYS), lambda case: CHANGES.index(case[0]) == WAYS.index(case[1])),
)
def test_other_content_has_another_identity_and_neighbours_keep_theirs(cube, change, how):
    arrays = arrays_for(window_of(FIRST))
    arrays["height"][0, 0], arrays["height"][3, 4], arrays["height"][5, 5] = 7, 1, 0.0
    cube.write(window_of(FIRST), arrays)
    filled(cube, EVERY[1:])
    before = cube.identities()
    change(arrays)
    if how == "refilled":
        cube.forget([FIRST])
        assert cube.complete({FIRST: arrays}) == [FIRST]
    elif how == "whole":
        cube.write(window_of(FIRST), arrays)
    else:
        for part in (Window.of(0, 16, 0, 9), Window.of(2, 16, 9, 16), Window.of(0, 2, 9, 16)):
            cube.write(part, {name: values[part] for name, values in arrays.items()})
    after = cube.identities()
    assert after[FIRST] == oracle(arrays) != before[FIRST]
    assert {**after, FIRST: ""} == {**before, FIRST: ""}


def test_dtype_shape_and_names_count(tmp_path, product):
    """The same bytes mean something else under another name, of another type, in another shape."""
    found = set()
    for number, (name, dtype, shape) in enumerate(
        [("a", "uint8", (4, 6)), ("b", "uint8", (4, 6)), ("a", "int8", (4, 6)), ("a", "uint8", (6, 4))]
    ):
        geobox = GeoBox(shape, product.geobox.affine, product.geobox.crs)
        kind = CubeProduct("a", "1", "a", geobox, (CubeVariable(name, dtype, 0, "a"),), 8, 8)
        cube = Datacube.create(tmp_path / f"cube{number}", kind)
        cube.write(geobox, {name: np.arange(24).reshape(shape).astype(dtype)})
        found |= set(cube.identities().values())
    assert len(found) == 4


WINDOWS = st.builds(
    lambda top, left, height, width: Window.of(top, min(top + height, SHAPE[0]), left, min(left + width, SHAPE[1])),
    top=st.sampled_from([0, 5, 16, 32, 60, 69]),
    left=st.sampled_from([0, 7, 16, 48, 80, 89]),
    height=st.sampled_from([1, 6, 16, 32, 70]),
    width=st.sampled_from([1, 9, 16, 48, 90]),
)
PLACES = st.lists(st.sampled_from([Chunk(0, 0), Chunk(0, 1), Chunk(1, 0), Chunk(4, 5), Chunk(2, 3)]), max_size=3)
ACTIONS = st.one_of(
    st.tuples(st.just("write"), WINDOWS, st.booleans()),
    st.tuples(st.sampled_from(["complete", "empty", "forget"]), PLACES, st.booleans()),
)


@settings(max_examples=cases(5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, min_size=1, max_size=5))
def test_any_writes_leave_digests_of_what_is_there(tmp_path_factory, product, actions):
    cube = Datacube.create(tmp_path_factory.mktemp("cubes") / "cube", product)
    held = {"height": np.full(SHAPE, np.nan, "float32"), "kind": np.zeros(SHAPE, "uint8")}
    for number, (action, area, flag) in enumerate(actions):
        if action == "write":
            arrays = arrays_for(area, number)
            cube.write(area, arrays, complete=flag)
            for name, values in arrays.items():
                held[name][area] = values
            continue
        states = dict(zip(area, cube.states_of(area).tolist(), strict=True)) if area else {}
        if action == "empty":
            cube.mark_empty([chunk for chunk, state in states.items() if state != ChunkState.FILLED])
            continue
        contents = {chunk: arrays_for(window_of(chunk), number) if flag else None for chunk in states}
        if action == "complete":
            cube.complete(contents)
            states = {chunk: state for chunk, state in states.items() if state == ChunkState.MISSING}
        else:
            cube.forget(area)
        for chunk in states:
            window = window_of(chunk)
            held["height"][window], held["kind"][window] = np.nan, 0
            if action == "complete" and contents[chunk] is not None:
                for name, values in contents[chunk].items():
                    held[name][window] = values
    names = {ChunkState.MISSING: "missing", ChunkState.EMPTY: "empty"}
    expected = {
        chunk: names.get(state) or oracle({name: values[window_of(chunk)] for name, values in held.items()})
        for chunk, state in zip(EVERY, cube.states(cube.geobox).ravel().tolist(), strict=True)
    }
    assert Datacube.open(cube.path).identities(EVERY) == expected
    assert stored(cube) == {chunk for chunk, identity in expected.items() if len(identity) == 32}
    assert verify_cube(cube.path).damaged == {}
