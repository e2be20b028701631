"""Digests of chunks against hashlib over plain numpy arrays: equal content, equal identity, and not otherwise."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import darts_acquisition.cube.datacube
import darts_acquisition.cube.snapshot
import darts_acquisition.cube.transaction
from darts_acquisition import (
    Chunk,
    ChunkState,
    CubeDamagedError,
    CubeProduct,
    CubeVariable,
    Datacube,
    Window,
    create_arcticdem_cube,
    load_arcticdem,
    verify_cube,
)
from darts_acquisition.auxiliary.loading import read_product
from darts_acquisition.cube.grid import chunk_window
from darts_acquisition.cube.layout import DIGEST
from darts_acquisition.cube.repository import BRANCH
from darts_acquisition.cube.snapshot import Snapshot
from darts_utils import ParameterError
from support.lanes import mostly_slow

SHAPE, SIZE = (70, 90), 16
EVERY = [Chunk(row, col) for row in range(5) for col in range(6)]
FIRST, SECOND, CORNER = Chunk(0, 0), Chunk(0, 1), Chunk(4, 5)


def window_of(chunk):
    """The pixels of a chunk; the last ones of the grid are cut off."""
    return Window.of(16 * chunk[0], min(16 * chunk[0] + 16, 70), 16 * chunk[1], min(16 * chunk[1] + 16, 90))


def arrays_for(window, seed=0):
    rng = np.random.default_rng(seed)
    height = rng.normal(size=window.shape).astype("float32")
    height[rng.random(window.shape) < 0.1] = np.nan
    return {"height": height, "kind": rng.integers(0, 5, window.shape).astype("uint8")}


def oracle(arrays):
    """The digest of a chunk, written down once more."""
    height, kind = arrays["height"].copy(), arrays["kind"]
    rows, cols = height.shape
    bits = height.view("uint32")
    bits[np.isnan(height)] = 0x7FC00000
    content = b'["height", "<f4", [%d, %d]]\n' % (rows, cols) + bits.astype("<u4").tobytes()
    content += b'["kind", "|u1", [%d, %d]]\n' % (rows, cols) + kind.tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


def filled(cube, chunks, seed=0):
    """Fill chunks of a cube; return what they hold."""
    contents = {chunk: arrays_for(window_of(chunk), seed + index) for index, chunk in enumerate(chunks)}
    cube.complete(contents)
    return contents


def make_legacy(cube):
    """Make a cube look as if it had been written before there were digests."""
    session = cube._repository.writable_session(BRANCH)
    group = zarr.open_group(session.store, mode="r+")
    assert DIGEST in group
    del group[DIGEST]
    session.commit("Forget that there are digests")
    return Datacube.open(cube.path)


def first_snapshot(cube):
    *_, first, _ = cube._repository.ancestry(branch=BRANCH)
    return first.id


def stored(cube):
    """The chunks of which the cube keeps a digest, whatever their state."""
    array = zarr.open_group(cube._repository.readonly_session(BRANCH).store, mode="r")[DIGEST][:]
    return {chunk for chunk in EVERY if array[chunk].any()}


def write_without_digest(cube, window, arrays):
    """Write data as a release without digests does."""
    session = cube._repository.writable_session(BRANCH)
    group = zarr.open_group(session.store, mode="r+")
    for name, values in arrays.items():
        group[name][window] = values
    session.commit("Write")


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


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("few", [0, 3, 1000])
def test_identities_of_many_are_those_of_each(cube, monkeypatch, few, legacy):
    filled(cube, EVERY[::4])
    cube.mark_empty(EVERY[1::4])
    if legacy:
        cube = make_legacy(cube)
        filled(cube, EVERY[2::8])
    each = {chunk: cube.identities([chunk])[chunk] for chunk in EVERY}
    monkeypatch.setattr(darts_acquisition.cube.snapshot, "_FEW", few)
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


def only_the_mask(arrays):
    arrays["kind"][15, 15] ^= 1


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
    mostly_slow(itertools.product(CHANGES, WAYS), lambda case: (CHANGES.index(case[0]) + WAYS.index(case[1])) % 3 == 0),
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


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


# What a reader is told


def test_a_read_says_what_it_was_read_from(cube):
    filled(cube, [FIRST, SECOND])
    cube.mark_empty([Chunk(1, 0), Chunk(1, 1)])
    ds = cube.read(Window.of(3, 20, 9, 30), ["kind"])
    identities = cube.identities()
    assert json.loads(ds.attrs["chunk_identities"]) == {
        "0,0": identities[FIRST],
        "0,1": identities[SECOND],
        "1,0": "empty",
        "1,1": "empty",
    }
    assert json.loads(cube.read(Window.of(3, 4, 3, 4)).attrs["chunk_identities"]) == {"0,0": identities[FIRST]}


@pytest.mark.parametrize("before", ["identities", "read"])
def test_pixels_and_identities_are_of_one_state(cube, monkeypatch, before):
    """Somebody writes between the moments at which the two are read."""
    window = window_of(FIRST)
    old, new = arrays_for(window, 1), arrays_for(window, 2)
    cube.write(window, old)
    original = getattr(Snapshot, before)

    def late(*arguments):
        monkeypatch.setattr(Snapshot, before, original)
        Datacube.open(cube.path).write(window, new)
        return original(*arguments)

    monkeypatch.setattr(Snapshot, before, late)
    ds = cube.read(window)
    np.testing.assert_array_equal(ds.height, old["height"])
    assert json.loads(ds.attrs["chunk_identities"]) == {"0,0": oracle(old)}
    assert cube.identities() == {FIRST: oracle(new)}


def test_a_tile_comes_with_the_chunks_it_touches(tmp_path):
    cube = create_arcticdem_cube(tmp_path / "cube", 32)
    place = 35 * 3600 + 10  # some pixels from a corner that four chunks share
    tile = cube.geobox[place : place + 20, place : place + 30]
    touched = [Chunk(34, 34), Chunk(34, 35), Chunk(35, 34), Chunk(35, 35)]
    assert cube.chunks_of(tile, buffer=20) == touched
    assert cube.chunks_of(tile) == [Chunk(35, 35)]
    cube.mark_empty(touched[:3])
    window = cube.window(tile)
    dem = np.random.default_rng(1).uniform(0, 900, window.shape).astype("float32")
    cube.write(window, {"dem": dem, "arcticdem_data_mask": np.ones(window.shape, "uint8")}, complete=True)
    ds = load_arcticdem(tile, cube.path, 32, buffer=20, offline=True)
    whole = np.full((3600, 3600), np.nan, "<f4")
    whole[10:30, 10:40] = dem
    mask = np.zeros((3600, 3600), "uint8")
    mask[10:30, 10:40] = 1
    content = b'["dem", "<f4", [3600, 3600]]\n' + whole.tobytes()
    content += b'["arcticdem_data_mask", "|u1", [3600, 3600]]\n' + mask.tobytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    assert json.loads(ds.attrs["chunk_identities"]) == {
        "34,34": "empty",
        "34,35": "empty",
        "35,34": "empty",
        "35,35": digest,
    }


def test_a_tile_across_the_antimeridian_names_both_sides(tmp_path, product):
    world = CubeProduct(
        "w", "1", "w", GeoBox((16, 72), Affine(5, 0, -180, 0, -5, 80), "EPSG:4326"), product.variables, 8, 8
    )
    cube = Datacube.create(tmp_path / "cube", world)
    cube.write(cube.geobox, arrays_for(Window.of(0, 16, 0, 72)))
    tile = GeoBox((4, 6), Affine(5, 0, 165, 0, -5, 80), "EPSG:4326")
    ds = read_product(tile, cube.path, world, buffer=0, data_source="", how_to_fill="")
    identities = cube.identities([Chunk(0, 0), Chunk(0, 8)])
    assert cube.chunks_of(tile) == list(identities)
    assert json.loads(ds.attrs["chunk_identities"]) == {f"0,{col}": identities[0, col] for col in (0, 8)}


# Cubes of releases without digests


def test_a_legacy_chunk_keeps_its_identity_until_it_is_written(cube):
    contents = filled(cube, [FIRST, SECOND, CORNER])
    cube.mark_empty([Chunk(1, 1)])
    cube = make_legacy(cube)
    legacy = f"legacy:{first_snapshot(cube)}"
    as_found = {FIRST: legacy, SECOND: legacy, Chunk(1, 1): "empty", CORNER: legacy}
    assert cube.identities() == as_found
    ds = cube.read(window_of(SECOND))
    np.testing.assert_array_equal(ds.height, contents[SECOND]["height"])
    assert json.loads(ds.attrs["chunk_identities"]) == {"0,1": legacy}
    assert verify_cube(cube.path).damaged == {}

    other = filled(cube, [Chunk(3, 3)], seed=7)
    assert cube.identities() == dict(sorted((as_found | {Chunk(3, 3): oracle(other[Chunk(3, 3)])}).items()))
    cube.mark_empty([Chunk(3, 4)])
    part = Window.of(3, 5, 18, 20)
    cube.write(part, arrays_for(part, 9))
    for name, values in arrays_for(part, 9).items():
        contents[SECOND][name][3:5, 2:4] = values
    identities = Datacube.open(cube.path).identities()
    assert (identities[FIRST], identities[SECOND], identities[CORNER]) == (legacy, oracle(contents[SECOND]), legacy)
    cube.forget([CORNER])
    assert cube.identities([CORNER, FIRST]) == {CORNER: "missing", FIRST: legacy}
    assert cube.complete({CORNER: contents[CORNER]}) == [CORNER]
    assert cube.identities([CORNER]) == {CORNER: oracle(contents[CORNER])}
    assert verify_cube(cube.path).damaged == {}


def test_copies_of_a_legacy_cube_share_its_identity_and_no_others_do(tmp_path, product):
    contents = None
    found = []
    for number in range(2):
        cube = Datacube.create(tmp_path / f"cube{number}", product)
        contents = filled(cube, [FIRST])
        cube = make_legacy(cube)
        copy = Path(shutil.copytree(cube.path, tmp_path / f"copy{number}"))
        darts_acquisition.cube.snapshot._first_snapshots.clear()
        assert Datacube.open(copy).identities() == cube.identities()
        filled(Datacube.open(copy), [CORNER])
        assert Datacube.open(copy).identities([FIRST]) == cube.identities()
        found.append(cube.identities()[FIRST])
    assert contents is not None
    assert len({*found, oracle(contents[FIRST])}) == 3


def test_a_legacy_cube_is_read_without_writing_into_it(cube, monkeypatch):
    filled(cube, [FIRST])
    cube = make_legacy(cube)
    files = {file: file.stat().st_mtime_ns for file in cube.path.rglob("*")}
    monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", None)
    assert cube.identities()[FIRST].startswith("legacy:")
    assert "legacy:" in cube.read(window_of(FIRST)).attrs["chunk_identities"]
    verify_cube(cube.path)
    assert {file: file.stat().st_mtime_ns for file in cube.path.rglob("*")} == files


def test_the_beginning_of_a_cube_is_looked_for_once(cube, monkeypatch):
    """Of a cube with many commits that nobody writes, each tile would walk through all of them."""
    filled(cube, [FIRST])
    cube = make_legacy(cube)
    monkeypatch.setattr(darts_acquisition.cube.snapshot, "_first_snapshots", {})
    seen = []
    repository = cube._repository

    class Watched:
        def ancestry(self, *, snapshot_id):
            for each in repository.ancestry(snapshot_id=snapshot_id):
                seen.append(each.id)
                yield each

    for expected in (4, 0, 5):  # creation, writing, the making of a legacy cube, and the root; nothing; one more
        seen.clear()
        tip = repository.lookup_branch(BRANCH)
        assert darts_acquisition.cube.snapshot.first_snapshot(Watched(), tip) == first_snapshot(cube)
        assert len(seen) == expected
        if not expected:
            write_without_digest(cube, window_of(CORNER), arrays_for(window_of(CORNER)))


@pytest.mark.parametrize("theirs", ["with digests", "without digests"])
@pytest.mark.parametrize("during", ["Make room for digests", "Write"])
def test_two_first_writers_of_a_legacy_cube_do_not_clash(cube, monkeypatch, during, theirs):
    """The other one comes while the array is made, or between that and the data."""
    filled(cube, [CORNER])
    cube = make_legacy(cube)
    mine, other = arrays_for(window_of(FIRST), 1), arrays_for(window_of(SECOND), 2)
    commit = darts_acquisition.cube.transaction.commit

    def late(place, session, message):
        if message.startswith(during):
            monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", commit)
            if theirs == "with digests":
                Datacube.open(cube.path).write(window_of(SECOND), other)
            else:
                write_without_digest(cube, window_of(SECOND), other)
        commit(place, session, message)

    monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", late)
    legacy = cube.identities()[CORNER]
    assert cube.write(window_of(FIRST), mine) == [FIRST]
    expected = {FIRST: oracle(mine), CORNER: legacy}
    if theirs == "with digests":
        expected[SECOND] = oracle(other)
    assert Datacube.open(cube.path).identities() == expected


FIRST_WRITERS = """
import os, sys
import numpy as np
import odc.geo.xr, zarr
from darts_acquisition import Chunk, Datacube

def write(row):
    cube = Datacube.open(sys.argv[1])
    arrays = {"height": np.full((16, 16), row, "float32"), "kind": np.full((16, 16), row, "uint8")}
    os.write(ready[1], b".")
    os.read(go[0], 1)  # until all are ready, and the other end is closed
    for col in range(2):
        cube.complete({Chunk(row, col): arrays})

ready, go = os.pipe(), os.pipe()
pids = []
for row in range(3):
    pid = os.fork()
    if pid == 0:
        os.close(go[1])
        try:
            write(row)
        except BaseException as error:
            print(error)
            os._exit(1)
        os._exit(0)
    pids.append(pid)
for _ in pids:
    os.read(ready[0], 1)
os.close(go[1])
sys.exit(any([os.waitpid(pid, 0)[1] for pid in pids]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to have three processes in the time of one")
def test_three_processes_write_a_legacy_cube_first(cube):
    filled(cube, [CORNER])
    cube = make_legacy(cube)
    legacy = cube.identities()
    done = subprocess.run(
        [sys.executable, "-c", FIRST_WRITERS, str(cube.path)], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expected = {
        Chunk(row, col): oracle({"height": np.full((16, 16), row, "float32"), "kind": np.full((16, 16), row, "uint8")})
        for row in range(3)
        for col in range(2)
    }
    assert cube.identities() == expected | legacy
    messages = [each.message for each in cube._repository.ancestry(branch=BRANCH)]
    assert messages.count("Make room for digests") == 1


# Damage, and writers that die


def test_verify_finds_content_that_is_not_its_digests(cube):
    """Checksums of the pieces are right: somebody has written who knows nothing of digests."""
    contents = filled(cube, [FIRST, SECOND, CORNER])
    identity = cube.identities()[SECOND]
    changed = {name: values.copy() for name, values in contents[SECOND].items()}
    only_the_mask(changed)
    write_without_digest(cube, window_of(SECOND), changed)
    assert cube.identities()[SECOND] == identity
    found = verify_cube(cube.path)
    assert (found.checked, list(found.damaged)) == (3, [SECOND])
    assert "row 0, column 1 holds is not what its digest was taken of" in found.damaged[SECOND]
    assert verify_cube(cube.path, repair=True).damaged == found.damaged
    assert cube.identities([SECOND, FIRST]) == {SECOND: "missing", FIRST: oracle(contents[FIRST])}
    assert verify_cube(cube.path).damaged == {}
    assert cube.complete({SECOND: changed}) == [SECOND]
    assert cube.identities()[SECOND] == oracle(changed)


def test_a_part_of_a_chunk_that_is_damaged_elsewhere_cannot_be_written(cube):
    """There is nothing that a digest of it could be taken of."""
    window = window_of(FIRST)
    arrays = arrays_for(window)
    cube.write(window, arrays)
    before = cube.identities()
    part = Window.of(0, 4, 0, 4)
    refused = 0
    for file in sorted((cube.path / "chunks").iterdir()):
        intact = file.read_bytes()
        for place in range(0, len(intact) - 70, 40):
            content = bytearray(intact)
            content[place] ^= 0x10
            file.write_bytes(content)
            # Zarr itself refuses where it reads the damaged piece.
            with pytest.raises((CubeDamagedError, ValueError, RuntimeError)) as caught:
                cube.write(part, {name: values[part] for name, values in arrays.items()})
            refused += isinstance(caught.value, CubeDamagedError)
            assert cube.identities() == before
        file.write_bytes(intact)
    assert refused > 5
    assert verify_cube(cube.path).damaged == {}


WRITER = """
import sys
import numpy as np
from darts_acquisition import Datacube, Window


cube = Datacube.open(sys.argv[1])
for number in range(1, 2000):
    window = Window.of(number % 7, 20 + number % 9, number % 5, 24 + number % 11)
    values = np.full(window.shape, number)
    cube.write(window, {"height": values.astype("float32"), "kind": values.astype("uint8")}, complete=True)
    if number == 1:
        print("ready", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_writer_leaves_data_and_digests_together(cube):
    """It writes parts of the same chunks over and over, filled ones too."""
    for seconds in (0.11, 0.23):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(cube.path)], stdout=subprocess.PIPE, text=True)
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(seconds)
        finally:
            writer.kill()
            writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        for chunk, identity in Datacube.open(cube.path).identities().items():
            ds = cube.read(chunk_window(chunk, SIZE, cube.geobox))
            assert identity == oracle({name: ds[name].values for name in ("height", "kind")})
    assert cube.known()
