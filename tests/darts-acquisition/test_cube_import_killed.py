"""Imports that are killed at calls to the system: nothing is lost or half there, and the next one completes it."""

import hashlib
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from darts_acquisition import ChunkState, Datacube, Window, verify_cube
from support.foreign_cubes import random_content, write_smart_geocube
from support.forkserver import SOURCE, Fault, ForkServer, build_injector
from support.importer import IMPORTS, PRODUCT

pytestmark = pytest.mark.slow

TILES = ["42_17_32m_v4.1"]
CHUNKS = 6
KILLS = 40
IMPORT = "support.importer:import_small_cube"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ForkServer]:
    injector = build_injector(tmp_path_factory.mktemp("injector"))
    if injector is None:
        pytest.skip(f"no fault injection: it needs Linux, a C compiler, and {SOURCE.name} in ../shared/tools")
    server = ForkServer(IMPORTS, injector)
    yield server
    server.close()


@pytest.fixture(scope="module")
def content() -> dict[str, np.ndarray]:
    return random_content(PRODUCT, PRODUCT.geobox.shape)


@pytest.fixture(scope="module")
def origin(tmp_path_factory, content) -> Path:
    folder = tmp_path_factory.mktemp("origin") / "old"
    return write_smart_geocube(folder, PRODUCT.geobox, content, TILES, title="ArcticDEM32m", chunk_px=50)


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def count_sound(path: Path, content: dict[str, np.ndarray]) -> int:
    """Check that a cube verifies and that each chunk that it has is equal to the origin's; return how many it has."""
    if not path.exists():  # A process that is killed while it creates the cube leaves none.
        return 0
    assert not verify_cube(path).damaged
    cube = Datacube.open(path)
    for chunk, state in cube.known().items():
        assert state == ChunkState.FILLED
        window = PRODUCT.chunk_window(chunk)
        read = cube.read(window)
        for name, values in content.items():
            np.testing.assert_array_equal(read[name].values, values[window])
    return len(cube.known())


def complete(server: ForkServer, origin: Path, path: Path, content: dict[str, np.ndarray]) -> None:
    """Import once more, undisturbed: it adds what is missing, and no more."""
    known = count_sound(path, content)
    ended = server.call(IMPORT, str(origin), str(path))
    assert ended.error == ""
    assert ended.value == [CHUNKS - known, 0, known, 0, 0]
    assert count_sound(path, content) == CHUNKS
    read = Datacube.open(path).read(Window.of(0, 128, 0, 192))
    for name, values in content.items():
        np.testing.assert_array_equal(read[name].values, values)


def test_an_import_that_is_killed_at_any_call_loses_nothing(server, origin, content, tmp_path) -> None:
    before = digest(origin)
    trace = tmp_path / "trace.txt"
    ended = server.call(IMPORT, str(origin), str(tmp_path / "whole"), fault=Fault("/whole", trace=str(trace)))
    assert (ended.error, ended.value) == ("", [CHUNKS, 0, 0, 0, 0])
    calls = trace.read_text().splitlines()
    assert len({line.split()[1] for line in calls}) >= 3, "the calls of all libraries are seen"
    dice, known = random.Random(11), []
    for number in sorted({0, 1, len(calls) - 1, *dice.sample(range(len(calls)), min(KILLS, len(calls)))}):
        path = tmp_path / f"killed-{number}"
        ended = server.call(IMPORT, str(origin), str(path), fault=Fault(f"/killed-{number}", number))
        assert ended.signal in (signal.SIGKILL, 0), ended.error  # Threads make some calls more or fewer each time.
        known.append(count_sound(path, content))
        complete(server, origin, path, content)
    assert set(known) > {0, CHUNKS - 1}, "some were killed at the beginning, and some at the end"
    assert digest(origin) == before
    print(f"{len(calls)} calls, {len(known)} of them the last; chunks known then: {known}")


def test_a_cube_whose_imports_are_killed_again_and_again_only_grows(server, origin, content, tmp_path) -> None:
    path, dice, known = tmp_path / "cube", random.Random(12), 0
    for _ in range(15):
        server.call(IMPORT, str(origin), str(path), fault=Fault("/cube", dice.randrange(1, 60)))
        now = count_sound(path, content)
        assert now >= known
        known = now
    complete(server, origin, path, content)
