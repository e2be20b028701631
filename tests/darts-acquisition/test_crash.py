"""Processes that fill one cube at once, and processes that are killed while they do: nothing is lost or half there."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import darts_acquisition.cube.repository
from darts_acquisition import Chunk, ChunkState, CubeBusyError, CubeError, Datacube, Window, verify_cube
from support.arcticdem import Provider, Service, small_product
from support.ingest_process import IngestProcess, running_ingest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")

WHOLE = Window.of(0, 192, 0, 256)
CHUNKS = [Chunk(row, col) for row, col in itertools.product(range(3), range(4))]


class Undisturbed(NamedTuple):
    """What one process makes that nobody disturbs."""

    known: dict[Chunk, ChunkState]
    identities: dict[Chunk, str]
    values: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Provider, Service]]:
    provider = Provider(tmp_path_factory.mktemp("provider") / "files", small_product())
    provider.add("a", Window.of(20, 150, 30, 200), seed=1)
    provider.add("b", Window.of(20, 170, 190, 330), seed=2)
    provider.add("c", Window.of(140, 260, 30, 195), seed=3)
    with provider.serving() as service:
        yield provider, service


@pytest.fixture(scope="module")
def ingesting() -> Iterator[IngestProcess]:
    with running_ingest() as ingesting:
        yield ingesting


@pytest.fixture(scope="module")
def undisturbed(served, ingesting, tmp_path_factory) -> Undisturbed:
    """What one process fills, which is what rasterio reads from the files."""
    provider, service = served
    path = tmp_path_factory.mktemp("undisturbed") / "cube"
    counts = ingesting.result(ingesting.start(path, provider.product, service.api.url, CHUNKS))
    cube = Datacube.open(path)
    assert counts[0] + counts[1] == len(CHUNKS)
    result = Undisturbed(cube.known(), cube.identities(), provider.truth(WHOLE))
    assert_same(cube, result)
    return result


def assert_same(cube: Datacube, undisturbed: Undisturbed) -> None:
    assert cube.known() == undisturbed.known
    assert cube.identities() == undisturbed.identities
    read = cube.read(WHOLE)
    for name, expected in undisturbed.values.items():
        np.testing.assert_array_equal(read[name].values, expected)


def assert_sound(path: Path, undisturbed: Undisturbed) -> int:
    """Check that a cube verifies, and that each of its chunks is right; return how many are known."""
    check = verify_cube(path)
    cube = Datacube.open(path)
    known = cube.known()
    assert not check.damaged
    assert check.checked == sum(state == ChunkState.FILLED for state in known.values())
    for chunk, state in known.items():
        assert state == undisturbed.known[chunk]
        assert cube.identities([chunk])[chunk] == undisturbed.identities[chunk]
        window = cube.product.chunk_window(chunk)
        read = cube.read(window)
        for name, expected in undisturbed.values.items():
            np.testing.assert_array_equal(read[name].values, expected[window])
    return len(known)


@pytest.mark.parametrize("moments", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_filling_leaves_a_cube_that_a_rerun_completes(served, ingesting, undisturbed, tmp_path, moments):
    provider, service = served
    dice = random.Random(moments)
    began = time.monotonic()
    ingesting.result(ingesting.start(tmp_path / "first", provider.product, service.api.url, CHUNKS))
    lasts = time.monotonic() - began
    seen = []
    for moment in range(moments):
        path = tmp_path / f"cube{moment}"
        pid = ingesting.start(path, provider.product, service.api.url, CHUNKS)
        time.sleep(dice.random() * lasts)
        ingesting.kill(pid)
        # A process that is killed while it creates the cube leaves none.
        seen.append(assert_sound(path, undisturbed) if path.exists() else 0)
        counts = ingesting.result(ingesting.start(path, provider.product, service.api.url, CHUNKS))
        assert sum(counts) == len(CHUNKS) - seen[-1]  # only what was missing
        assert_same(Datacube.open(path), undisturbed)
    assert min(seen) < len(CHUNKS)
    print(f"killed within {lasts:.2f} s; chunks known then: {sorted(seen)}")


@pytest.mark.slow
def test_one_cube_is_killed_again_and_again_until_it_is_complete(served, ingesting, undisturbed, tmp_path):
    provider, service = served
    path, dice = tmp_path / "cube", random.Random(7)
    known = 0
    for _ in range(6):
        pid = ingesting.start(path, provider.product, service.api.url, CHUNKS)
        time.sleep(0.02 + 0.2 * dice.random())
        ingesting.kill(pid)
        now = assert_sound(path, undisturbed) if path.exists() else 0
        assert now >= known  # what is in the cube stays
        known = now
    ingesting.result(ingesting.start(path, provider.product, service.api.url, CHUNKS))
    assert_same(Datacube.open(path), undisturbed)


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_four_processes_fill_one_new_cube_at_once(served, ingesting, undisturbed, tmp_path, rounds):
    """Their areas overlap; all of them begin with creating the cube."""
    provider, service = served
    for number in range(rounds):
        path = tmp_path / f"cube{number}"
        areas = [[chunk for chunk in CHUNKS if first <= chunk.col < first + 2] for first in range(4)]
        for area, seed in zip(areas, range(4), strict=True):
            random.Random(seed + number).shuffle(area)
        pids = [
            ingesting.start(path, provider.product, service.api.url, area, per_commit=1 + index)
            for index, area in enumerate(areas)
        ]
        counts = np.array([ingesting.result(pid) for pid in pids])
        # Each chunk was written by one of them, and the others were told.
        assert counts[:, :2].sum() == len(CHUNKS)
        assert_same(Datacube.open(path), undisturbed)
        assert not verify_cube(path).damaged
        assert [each.name for each in tmp_path.iterdir() if each.name.endswith(".partial")] == []


def test_a_part_of_a_damaged_chunk_cannot_be_written(cube):
    """Writing a part reads the rest first. It is one sentence, and the cube stays as it was."""
    window = Window.of(0, 16, 0, 16)
    random = np.random.default_rng(1)
    values = {"height": random.normal(size=(16, 16)).astype("float32"), "kind": np.ones((16, 16), "uint8")}
    cube.write(window, values)
    for file in (cube.path / "chunks").iterdir():
        file.unlink()
    part = Window.of(3, 5, 3, 5)
    with pytest.raises(CubeError, match=r"cannot be written; nothing of this write was kept: .*not found") as caught:
        cube.write(part, {name: array[3:5, 3:5] for name, array in values.items()})
    assert len(str(caught.value).splitlines()) == 1
    verify_cube(cube.path, repair=True)
    assert cube.complete({Chunk(0, 0): values}) == [Chunk(0, 0)]
    np.testing.assert_array_equal(cube.read(window).height, values["height"])


# The lock


HOLDER = """
import sys, time
from pathlib import Path
from darts_acquisition.cube.repository import Location
from darts_acquisition.cube.repository import _one_at_a_time

with _one_at_a_time(Location(Path(sys.argv[1]))):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(cube) -> Iterator["subprocess.Popen[str]"]:
    """A process that is committing to the cube, and never comes to an end."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(cube.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_who_holds_the_lock_for_too_long_is_reported(cube, holder, monkeypatch):
    monkeypatch.setattr(darts_acquisition.cube.repository, "_LONGEST_LOCK_S", 0.3)
    with pytest.raises(CubeBusyError, match="Another process has been writing to"):
        cube.mark_empty([Chunk(0, 0)])
    assert cube.known() == {}
    assert cube.missing(Window.of(0, 16, 0, 16)) == [Chunk(0, 0)]  # reading does not wait


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o700])
def test_who_may_write_into_the_cube_may_take_its_lock(cube, mode):
    cube.path.chmod(mode)
    cube.mark_empty([Chunk(0, 0)])
    assert (cube.path / "darts.lock").stat().st_mode & 0o777 == mode & 0o666


def test_a_lock_that_cannot_be_taken_is_reported(cube):
    (cube.path / "darts.lock").mkdir()
    with pytest.raises(CubeError, match=r"nothing of this write was kept: .*darts\.lock cannot be locked"):
        cube.mark_empty([Chunk(0, 0)])
    assert cube.known() == {}


@pytest.mark.slow
def test_a_dead_process_holds_no_lock(cube, holder, monkeypatch):
    monkeypatch.setattr(darts_acquisition.cube.repository, "_LONGEST_LOCK_S", 5)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(30)
    began = time.monotonic()
    cube.mark_empty([Chunk(0, 0)])
    assert time.monotonic() - began < 5
    assert cube.known() == {Chunk(0, 0): ChunkState.EMPTY}
