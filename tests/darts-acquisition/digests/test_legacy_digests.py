"""Datacubes of a release without digests, which get them when they are first written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import darts_acquisition.cube.datacube
import darts_acquisition.cube.transaction
from darts_acquisition import Chunk, Datacube, Window, verify_cube
from darts_acquisition.cube.repository import BRANCH
from support.datacube import arrays_for
from support.digests import CORNER, FIRST, SECOND, filled, make_legacy, oracle, window_of, write_without_digest


def first_snapshot(cube):
    *_, first, _ = cube._repository.ancestry(branch=BRANCH)
    return first.id


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
        darts_acquisition.cube.transaction._first_snapshots.clear()
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
    monkeypatch.setattr(darts_acquisition.cube.transaction, "_first_snapshots", {})
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
        assert darts_acquisition.cube.transaction.first_snapshot(Watched(), tip) == first_snapshot(cube)
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
@pytest.mark.slow
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
