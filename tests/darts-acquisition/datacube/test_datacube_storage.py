"""Datacubes on their storage: processes at once, killed writers, damage, and what lies on the disk."""

import dataclasses
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
from icechunk import IcechunkStore
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

import darts_acquisition.cube.datacube
import darts_acquisition.cube.transaction
from darts_acquisition import (
    Chunk,
    ChunkState,
    CubeConflictError,
    CubeDamagedError,
    Datacube,
    Window,
)
from support.datacube import Mosaic, arrays_for
from support.lanes import mostly_slow


def test_writers_of_different_chunks_do_not_clash(cube, monkeypatch):
    mine, theirs = Window.of(0, 16, 0, 16), Window.of(0, 16, 16, 32)
    commit = darts_acquisition.cube.transaction.commit

    def late(place, session, message):
        monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", commit)
        Datacube.open(cube.path).write(theirs, arrays_for(theirs, 2))
        commit(place, session, message)

    monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", late)
    assert cube.write(mine, arrays_for(mine, 1)) == [Chunk(0, 0)]
    np.testing.assert_array_equal(cube.read(mine).height, arrays_for(mine, 1)["height"])
    np.testing.assert_array_equal(cube.read(theirs).height, arrays_for(theirs, 2)["height"])


def test_writers_of_the_same_chunk_are_told_apart(cube, monkeypatch):
    window = Window.of(0, 16, 0, 16)
    commit = darts_acquisition.cube.transaction.commit

    def late(place, session, message):
        monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", commit)
        Datacube.open(cube.path).write(window, arrays_for(window, 2))
        commit(place, session, message)

    monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", late)
    with pytest.raises(CubeConflictError, match="nothing of this write was kept") as caught:
        cube.write(window, arrays_for(window, 1))
    assert isinstance(caught.value, RuntimeError)
    np.testing.assert_array_equal(cube.read(window).height, arrays_for(window, 2)["height"])


def test_a_reader_sees_all_of_a_write_or_nothing(cube, monkeypatch):
    """What is asked while the data are written, but not committed, is answered from before."""
    window = Window.of(0, 16, 0, 16)
    cube.write(window, arrays_for(window, 1))
    commit = darts_acquisition.cube.transaction.commit
    seen = []

    def late(place, session, message):
        seen.append(cube.read(window).height.values)
        commit(place, session, message)

    monkeypatch.setattr(darts_acquisition.cube.transaction, "commit", late)
    cube.write(window, arrays_for(window, 2))
    np.testing.assert_array_equal(seen[0], arrays_for(window, 1)["height"])
    np.testing.assert_array_equal(cube.read(window).height, arrays_for(window, 2)["height"])


WRITER = """
import os, signal, sys
import numpy as np
import darts_acquisition.cube.transaction as module
from darts_acquisition import Datacube, Window

path, when = sys.argv[1:]
cube = Datacube.open(path)
if when == "before the commit":
    module.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
for number in range(1, 2000):
    row, col = divmod(number % 20, 5)
    window = Window.of(16 * row, 16 * row + 16, 16 * col, 16 * col + 16)
    values = np.full((16, 16), number)
    cube.write(window, {"height": values.astype("float32"), "kind": values.astype("uint8")})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
@pytest.mark.parametrize("when", ["before the commit", "0.113"])
def test_a_killed_writer_leaves_the_cube_whole(cube, when):
    window = Window.of(64, 70, 80, 90)
    cube.write(window, arrays_for(window, 7))
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(cube.path), when], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        if when != "before the commit":
            time.sleep(float(when))
            os.kill(writer.pid, signal.SIGKILL)
    finally:
        writer.stdout.close()
        assert writer.wait(60) == -signal.SIGKILL
    again = Datacube.open(cube.path)
    np.testing.assert_array_equal(again.read(window).height, arrays_for(window, 7)["height"])
    states = again.states(again.geobox)
    if when == "before the commit":
        assert states.sum() == 1
    for row, col in np.argwhere(states[:4, :5] == ChunkState.FILLED):
        chunk = again.read(again.chunk_geobox(Chunk(row, col)))
        assert len(np.unique(chunk.height)) == 1
        np.testing.assert_array_equal(chunk.height.values.astype("int64") % 256, chunk.kind)
        assert chunk.height.values[0, 0] % 20 == 5 * row + col
    again.write(Window.of(0, 16, 0, 16), arrays_for(Window.of(0, 16, 0, 16)))
    assert again.states(again.geobox)[0, 0] == ChunkState.FILLED


def test_a_cube_can_be_moved(cube):
    window = Window.of(0, 16, 0, 16)
    cube.write(window, arrays_for(window))
    elsewhere = Path(shutil.move(cube.path, cube.path.with_name("elsewhere")))
    np.testing.assert_array_equal(Datacube.open(elsewhere).read(window).height, arrays_for(window)["height"])


CHATTER = """
import sys
import numpy as np
from affine import Affine
from darts_acquisition import CubeProduct, CubeVariable, Datacube
from odc.geo.geobox import GeoBox

geobox = GeoBox((8, 8), Affine(1, 0, 0, 0, -1, 0), "EPSG:3413")
cube = Datacube.create(sys.argv[1], CubeProduct("a", "1", "a", geobox, (CubeVariable("a", "uint8", 0, "a"),), 8, 8))
cube.write(geobox, {"a": np.ones((8, 8), "uint8")})
Datacube.open(sys.argv[1]).read(geobox)
"""


@pytest.mark.slow
def test_the_storage_does_not_chatter(tmp_path):
    """Icechunk would print a warning for every local repository, and others for every commit."""
    done = subprocess.run(
        [sys.executable, "-c", CHATTER, str(tmp_path / "cube")], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "icechunk" not in done.stderr


LAYOUTS = {
    "level 3": {"compressors": [BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()]},
    "other blosc": {"compressors": [BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec()]},
    "zstd": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "no checksum": {"compressors": [ZstdCodec(level=1)]},
    "gzip": {"compressors": [GzipCodec(), Crc32cCodec()]},
    "uncompressed": {"compressors": None},
    "big-endian": {"serializer": BytesCodec(endian="big")},
    "other chunks": {"chunks": (4, 4)},
    "no shards": {"chunks": (16, 16), "shards": None},
    "other nodata": {"fill_value": 77},
}


@pytest.mark.parametrize("layout", mostly_slow(LAYOUTS, ("big-endian", "no shards", "other nodata").__contains__))
def test_cubes_that_were_laid_out_differently_read_the_same(tmp_path, product, monkeypatch, layout):
    create = zarr.Group.create_array

    def create_differently(group, name, **arguments):
        differences = LAYOUTS[layout] if name in ("height", "kind") else {}
        if layout == "big-endian" and name == "kind":
            differences = {}  # a byte has no order
        return create(group, name, **(arguments | differences))

    monkeypatch.setattr(zarr.Group, "create_array", create_differently)
    cube, mosaic = Datacube.create(tmp_path / "cube", product), Mosaic()
    monkeypatch.undo()
    for window in (Window.of(0, 48, 16, 80), Window.of(48, 70, 0, 90)):
        arrays = arrays_for(window, window.rows.start)
        cube.write(window, arrays)
        mosaic.write(window, arrays, complete=False)
    cube.forget([Chunk(1, 2)])
    cube.mark_empty([Chunk(0, 0), Chunk(1, 0), Chunk(1, 2)])
    mosaic.states[0, 0] = mosaic.states[1, 0] = mosaic.states[1, 2] = 2
    for window in (Window.of(0, 32, 0, 80), Window.of(17, 45, 37, 66), Window.of(60, 70, 85, 90)):
        ds = Datacube.open(cube.path).read(window)
        for name, values in mosaic.read(window).items():
            np.testing.assert_array_equal(ds[name], values)


@pytest.mark.parametrize("layout", mostly_slow(["ours", "other"], lambda layout: layout == "ours"))
def test_damage_is_an_error_and_never_other_numbers(tmp_path, product, monkeypatch, layout):
    """Bytes all over a chunk's file, one after the other; only what a window touches matters to it."""
    if layout == "other":
        monkeypatch.setattr("darts_acquisition.cube.transaction.find_decoder", lambda *_: None)
    only_height = dataclasses.replace(product, variables=product.variables[:1])
    cube = Datacube.create(tmp_path / "cube", only_height)
    window = Window.of(0, 16, 0, 16)
    height = arrays_for(window)["height"]
    cube.write(window, {"height": height})
    (file,) = (cube.path / "chunks").iterdir()
    intact = file.read_bytes()
    touching = 0
    for place in range(0, len(intact), 11 if layout == "ours" else 37):
        content = bytearray(intact)
        content[place] ^= 0x10
        file.write_bytes(content)
        for part in (window, Window.of(0, 5, 0, 5)):
            try:
                found = cube.read(part).height
            except CubeDamagedError as error:
                touching += part != window
                assert "`darts_acquisition.verify_cube`" in str(error)  # noqa: PT017 - each byte may or may not matter
            else:
                assert part != window
                np.testing.assert_array_equal(found, height[part])
    # Of a window that lies in one of the four Zarr chunks, that chunk and the index matter.
    assert layout == "other" or 20 < 11 * touching < len(intact) / 2
    for length in (0, 3, 50, len(intact) - 70, len(intact) - 1):
        file.write_bytes(intact[:length])
        with pytest.raises(CubeDamagedError):
            cube.read(Window.of(0, 5, 0, 5))
    file.unlink()
    with pytest.raises(CubeDamagedError):
        cube.read(window)


def test_nodata_takes_no_space_and_little_is_read_for_a_little(tmp_path, product, monkeypatch):
    cube = Datacube.create(tmp_path / "cube", product)
    window = Window.of(0, 16, 0, 16)
    height = np.full((16, 16), np.nan, "float32")
    cube.write(window, {"height": height, "kind": np.zeros((16, 16), "uint8")})
    assert not (cube.path / "chunks").exists() or not list((cube.path / "chunks").iterdir())
    assert np.isnan(cube.read(window).height).all()
    height[8:, 8:] = arrays_for(window)["height"][8:, 8:]
    height[:8, :8] = arrays_for(window)["height"][:8, :8]
    cube.write(window, {"height": height, "kind": np.zeros((16, 16), "uint8")})
    np.testing.assert_array_equal(cube.read(window).height, height)
    asked = []
    get = IcechunkStore.get

    async def remember(store, key, prototype, byte_range=None):
        if key.startswith("height/c/"):
            asked.append(byte_range)
        return await get(store, key, prototype, byte_range)

    monkeypatch.setattr(IcechunkStore, "get", remember)
    part = Window.of(9, 12, 10, 16)
    np.testing.assert_array_equal(cube.read(part, ["height"]).height, height[part])
    index, chunk = asked
    assert index.suffix == 4 * 16 + 4
    assert 50 < chunk.end - chunk.start < 8 * 8 * 4 + 30
    assert cube.read(Window.of(0, 8, 8, 16), ["height"]).height.isnull().all()
    assert len(asked) == 3  # the index says that nothing was written there
