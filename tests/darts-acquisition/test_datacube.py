"""Datacubes against plain numpy mosaics with a state per chunk."""

import dataclasses
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyproj
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from icechunk import IcechunkStore
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

import darts_acquisition.cube.datacube
import darts_acquisition.cube.transaction
from darts_acquisition import (
    Chunk,
    ChunkState,
    CubeConflictError,
    CubeDamagedError,
    CubeError,
    CubeExistsError,
    CubeNotFoundError,
    CubeProduct,
    CubeVariable,
    Datacube,
    MissingAuxiliaryDataError,
    OutsideExtentError,
    Window,
)
from darts_acquisition.cube.location import Location
from darts_acquisition.cube.repository import BRANCH, create_repository
from darts_utils import DartsError, GridError, ParameterError
from support.lanes import mostly_slow
from support.permissions import locked_folder

SHAPE, SIZE = (70, 90), 16
BLOCK = (5, 6)


def arrays_for(window, seed=0):
    rng = np.random.default_rng(seed)
    height = rng.normal(size=window.shape).astype("float32")
    height[rng.random(window.shape) < 0.1] = np.nan
    return {"height": height, "kind": rng.integers(0, 5, window.shape).astype("uint8")}


class Mosaic:
    """The obvious cube: whole arrays in memory, and a state for each chunk, kept pixel by pixel."""

    def __init__(self):
        self.height = np.full(SHAPE, np.nan, "float32")
        self.kind = np.zeros(SHAPE, "uint8")
        self.states = np.zeros(BLOCK, "uint8")

    def chunks(self, window):
        for row, col in np.ndindex(BLOCK):
            inside = np.zeros(SHAPE, bool)
            inside[row * SIZE : (row + 1) * SIZE, col * SIZE : (col + 1) * SIZE] = True
            area = np.zeros(SHAPE, bool)
            area[window] = True
            if (inside & area).any():
                yield (row, col), inside, area

    def write(self, window, arrays, complete):
        self.height[window], self.kind[window] = arrays["height"], arrays["kind"]
        new = []
        for place, inside, area in self.chunks(window):
            if complete or area[inside].all():
                if self.states[place] != 1:
                    new.append(Chunk(*place))
                self.states[place] = 1
            elif self.states[place] == 2:
                self.states[place] = 0
        return new

    def missing(self, window):
        return [Chunk(*place) for place, _, _ in self.chunks(window) if self.states[place] == 0]

    def read(self, window):
        height, kind = self.height.copy(), self.kind.copy()
        for place, inside, _ in self.chunks(window):
            if self.states[place] == 2:
                height[inside], kind[inside] = np.nan, 0
        return {"height": height[window], "kind": kind[window]}


WINDOWS = st.builds(
    lambda top, left, height, width: Window.of(top, min(top + height, SHAPE[0]), left, min(left + width, SHAPE[1])),
    top=st.sampled_from([0, 5, 16, 32, 48, 60, 69]),
    left=st.sampled_from([0, 7, 16, 31, 48, 80, 89]),
    height=st.sampled_from([1, 6, 16, 32, 70]),
    width=st.sampled_from([1, 9, 16, 48, 90]),
)
WRITES = st.tuples(st.just("write"), WINDOWS, st.booleans())
EMPTIES = st.tuples(st.just("empty"), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=4))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(WRITES | EMPTIES, min_size=1, max_size=5), windows=st.lists(WINDOWS, min_size=1, max_size=4))
def test_any_writes_leave_what_a_plain_mosaic_holds(tmp_path_factory, product, actions, windows):
    cube, mosaic = Datacube.create(tmp_path_factory.mktemp("cubes") / "cube", product), Mosaic()
    for number, action in enumerate(actions):
        if action[0] == "write":
            _, window, complete = action
            arrays = arrays_for(window, number)
            area = window if number % 2 else cube.geobox[window]
            assert cube.write(area, arrays, complete=complete) == mosaic.write(window, arrays, complete)
        else:
            chunks = [Chunk(*place) for place in action[1] if mosaic.states[place] != 1]
            cube.mark_empty(chunks)
            for chunk in chunks:
                mosaic.states[chunk] = 2
    other = Datacube.open(cube.path)
    np.testing.assert_array_equal(other.states(cube.geobox), mosaic.states)
    for window in [*windows, Window.of(0, SHAPE[0], 0, SHAPE[1])]:
        missing = mosaic.missing(window)
        assert other.missing(window) == missing
        if missing:
            with pytest.raises(MissingAuxiliaryDataError, match=f"{len(missing)} of the "):
                other.read(window)
        else:
            ds = other.read(window)
            for name, values in mosaic.read(window).items():
                assert ds[name].dtype == values.dtype
                np.testing.assert_array_equal(ds[name], values)


def test_a_read_is_a_dataset_on_the_cubes_grid(cube):
    window = Window.of(10, 40, 20, 90)
    arrays = arrays_for(window)
    cube.write(window, xr.Dataset({name: (("y", "x"), values) for name, values in arrays.items()}), complete=True)
    ds = cube.read(cube.geobox[window])
    assert ds.odc.geobox == cube.geobox[10:40, 20:90]
    assert ds.height.dims == ("y", "x")
    assert ds.height.attrs == {"long_name": "height", "units": "m"}
    assert ds.kind.attrs == {"long_name": "kind of ground"}
    assert (ds.attrs["collection"], ds.attrs["version"]) == ("terrain-100m", "1")
    assert sorted(ds.attrs) == ["chunk_identities", "collection", "version"]
    np.testing.assert_allclose(ds.x, -2_000_000 + 100 * (np.arange(20, 90) + 0.5))
    np.testing.assert_allclose(ds.y, 1_000_000 - 100 * (np.arange(10, 40) + 0.5))
    assert list(cube.read(window, ["kind"])) == ["kind"]
    ds.height.values[:] = 0  # what was read is the caller's own
    np.testing.assert_array_equal(cube.read(window).height, arrays["height"])


def test_given_arrays_are_not_changed(cube):
    window = Window.of(0, 20, 0, 20)
    arrays = arrays_for(window)
    before = {name: values.copy() for name, values in arrays.items()}
    cube.write(window, arrays)
    for name, values in before.items():
        np.testing.assert_array_equal(arrays[name], values)


def test_partial_writes_complete_a_chunk_only_when_told(cube):
    left, right = Window.of(0, 16, 0, 8), Window.of(0, 16, 8, 16)
    whole = Window.of(0, 16, 0, 16)
    first, second = arrays_for(left, 1), arrays_for(right, 2)
    assert cube.write(left, first) == []
    assert cube.missing(whole) == [Chunk(0, 0)]
    assert cube.write(right, second, complete=True) == [Chunk(0, 0)]
    both = np.concatenate([first["height"], second["height"]], axis=1)
    np.testing.assert_array_equal(cube.read(whole).height, both)


def test_small_area_in_a_large_chunk_costs_little(tmp_path, product):
    huge = CubeProduct(
        "terrain", "1", "terrain-2m", GeoBox((10**6, 10**6), product.geobox.affine, "EPSG:3413"), product.variables
    )
    cube = Datacube.create(tmp_path / "huge", huge)
    window = cube.window(cube.geobox[500_000:500_010, 600_000:600_020])
    cube.write(window, arrays_for(window), complete=True)
    assert cube.missing(window) == []
    assert sum(file.stat().st_size for file in cube.path.rglob("*") if file.is_file()) < 50_000
    chunk = cube.chunk_geobox(Chunk(138, 166))
    assert np.isnan(cube.read(chunk[:100, :100]).height).all()


def test_reading_touches_only_the_chunks_of_the_window(cube):
    """The other chunks' files may be gone, and the rest still reads."""
    cube.write(Window.of(0, 16, 0, 16), arrays_for(Window.of(0, 16, 0, 16), 1))
    known = {file.name for file in (cube.path / "chunks").iterdir()}
    window = Window.of(16, 32, 16, 32)
    arrays = arrays_for(window, 2)
    cube.write(window, arrays)
    for name in known:
        (cube.path / "chunks" / name).unlink()
    np.testing.assert_array_equal(Datacube.open(cube.path).read(window).height, arrays["height"])


def test_compressed_pieces_are_smaller_than_chunks(cube):
    array = zarr.open_group(cube._repository.readonly_session(BRANCH).store, mode="r")["height"]
    assert (array.shards, array.chunks) == ((16, 16), (8, 8))
    assert array.metadata.dimension_names == ("y", "x")


def test_product_comes_back_as_it_was_stored(cube, product):
    found = Datacube.open(str(cube.path)).product
    assert found.geobox == product.geobox
    assert math.isnan(found.variables[0].nodata)
    assert found.to_attrs() == product.to_attrs()
    assert found.variables[1] == product.variables[1]


def test_window_is_cut_off_at_the_edges(cube):
    corner = cube.geobox[60:70, 80:90].translate_pix(5, 5)
    assert cube.window(corner) == Window.of(65, 70, 85, 90)
    assert cube.window(corner, 3) == Window.of(62, 70, 82, 90)
    with pytest.raises(OutsideExtentError, match="lies outside terrain-100m") as caught:
        cube.window(cube.geobox.translate_pix(90, 0))
    assert isinstance(caught.value, DartsError | ValueError)


def test_missing_area_is_described_in_both_systems(cube):
    cube.write(Window.of(0, 32, 0, 32), arrays_for(Window.of(0, 32, 0, 32)))
    with pytest.raises(MissingAuxiliaryDataError) as caught:
        cube.read(Window.of(10, 40, 20, 50), how_to_fill="Fill it by hand.")
    message = str(caught.value)
    assert isinstance(caught.value, LookupError)
    assert "7 of the 9 chunks" in message
    assert "x -1998000 to -1995000, y 996000 to 999000 in EPSG:3413" in message
    rows, cols = np.mgrid[10:40:301j, 20:50:301j]
    x, y = -2_000_000 + 100 * cols, 1_000_000 - 100 * rows
    lon, lat = pyproj.Transformer.from_crs(3413, 4326, always_xy=True).transform(x, y)
    assert f"longitude {lon.min():.3f} to {lon.max():.3f}, latitude {lat.min():.3f} to {lat.max():.3f}." in message
    assert message.endswith("Fill it by hand.")
    assert str(cube.path) in message


def test_chunks_that_are_filled_or_elsewhere_cannot_be_empty(cube):
    cube.write(Window.of(0, 16, 0, 16), arrays_for(Window.of(0, 16, 0, 16)))
    with pytest.raises(ParameterError, match=r"row=0, col=0.*filled"):
        cube.mark_empty([Chunk(0, 0), Chunk(0, 1)])
    for chunk in (Chunk(5, 0), Chunk(0, 6), Chunk(-1, 0)):
        with pytest.raises(ParameterError, match="outside the cube"):
            cube.mark_empty([chunk])
    assert cube.states(cube.geobox).sum() == 1


def test_an_empty_chunk_that_gets_a_part_is_missing(cube):
    window = Window.of(0, 4, 0, 4)
    cube.mark_empty([Chunk(0, 0), Chunk(0, 1)])
    assert np.isnan(cube.read(Window.of(0, 16, 0, 32)).height).all()
    cube.write(window, arrays_for(window))
    assert cube.missing(Window.of(0, 16, 0, 32)) == [Chunk(0, 0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("kind"), "Got the variables height; .* needs all of height, kind"),
        (lambda arrays: arrays.update(slope=arrays["height"]), "Got the variables height, kind, slope"),
        (lambda arrays: arrays.update(kind=arrays["kind"].astype("int64")), "kind is int64 of shape"),
        (lambda arrays: arrays.update(height=arrays["height"].astype("float64")), "height is float64"),
        (
            lambda arrays: arrays.update(height=arrays["height"][1:]),
            r"shape \(15, 16\); expected float32 of shape \(16",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(cube, change, message):
    window = Window.of(0, 16, 0, 16)
    arrays = arrays_for(window)
    change(arrays)
    with pytest.raises(ParameterError, match=message):
        cube.write(window, arrays)
    assert not cube.states(window).any()


def test_areas_that_are_not_of_the_grid_are_refused(cube):
    window = Window.of(60, 71, 0, 10)
    for call in (cube.read, cube.missing, cube.states, lambda area: cube.write(area, arrays_for(window))):
        with pytest.raises(GridError, match=r"\(70, 90\)|70 pixels|not within"):
            call(window)
        with pytest.raises(GridError, match="a part of a pixel"):
            call(cube.geobox[:10, :10].translate_pix(0.5, 0))
    with pytest.raises(ParameterError, match="no variable slope; it has height, kind"):
        cube.read(Window.of(0, 1, 0, 1), ["slope"])


def test_what_is_no_cube_is_an_error(tmp_path):
    with pytest.raises(CubeNotFoundError, match="no datacube at") as caught:
        Datacube.open(tmp_path / "nowhere")
    assert isinstance(caught.value, FileNotFoundError)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.txt").touch()
    for name in ("file", "file/cube", "folder"):
        with pytest.raises(CubeError, match="is no datacube"):
            Datacube.open(tmp_path / name)
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["thesis.txt"]
    (tmp_path / "broken/refs").mkdir(parents=True)
    with pytest.raises(CubeError, match="no datacube that can be opened"):
        Datacube.open(tmp_path / "broken")


@pytest.mark.parametrize(
    ("attrs", "message"),
    [({}, "found none"), ({"darts_cube_format": 99}, "found format 99"), ({"darts_cube_format": 1}, "damaged")],
)
def test_repositories_of_others_are_no_cubes(tmp_path, attrs, message):
    path = tmp_path / "other"
    create_repository(
        Location.parse(path), lambda session: zarr.create_group(store=session.store, attributes=attrs), "other"
    )
    with pytest.raises(CubeError, match=message):
        Datacube.open(path)


def test_repository_without_anything_is_no_cube(tmp_path):
    path = tmp_path / "other"
    create_repository(
        Location.parse(path),
        lambda session: zarr.create_array(session.store, name="a", shape=(1,), dtype="u1"),
        "other",
    )
    with pytest.raises(CubeError, match="no datacube of DARTS"):
        Datacube.open(path)


def test_nothing_is_overwritten(cube, tmp_path, product):
    with pytest.raises(CubeExistsError, match="exists already") as caught:
        Datacube.create(cube.path, product)
    assert isinstance(caught.value, FileExistsError)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.txt").write_text("years of work")
    with pytest.raises(CubeExistsError, match="exists already"):
        Datacube.create(tmp_path / "taken", product)
    assert (tmp_path / "taken/thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert Datacube.create(tmp_path / "empty", product).missing(product.geobox)


@pytest.mark.parametrize("place", ["folder", "link to a folder", "link to nothing"])
def test_an_empty_folder_is_a_place_for_a_cube(tmp_path, product, place):
    path = tmp_path / "cubes" / "terrain"
    path.parent.mkdir()
    behind = tmp_path / "scratch" if place.startswith("link") else path
    if place != "link to nothing":
        behind.mkdir()
    if behind != path:
        path.symlink_to(behind)
    with pytest.raises(CubeNotFoundError, match="no datacube at"):
        Datacube.open(path)
    cube = Datacube.open_or_create(path, product)
    assert len(cube.missing(product.geobox)) == 30
    assert (path.is_symlink(), Datacube.open(behind).product.collection) == (behind != path, "terrain-100m")
    assert [entry.name for entry in path.parent.iterdir()] == ["terrain"]


def test_an_empty_folder_may_become_a_cube_at_any_time(tmp_path, product, monkeypatch):
    """Another process creates the cube after the folder was found to be empty."""
    path = tmp_path / "cube"
    path.mkdir()
    whole = Datacube.create(tmp_path / "whole", product).path
    iterdir = Path.iterdir

    def late(folder):
        names = list(iterdir(folder))
        if folder == path and whole.exists():
            whole.rename(path)
        return iter(names)

    monkeypatch.setattr(Path, "iterdir", late)
    assert len(Datacube.open_or_create(path, product).missing(product.geobox)) == 30
    assert not whole.exists()


@pytest.fixture
def locked() -> Iterator[Path]:
    with locked_folder() as folder:
        yield folder


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of POSIX")
@pytest.mark.parametrize("place", ["cube", "new/cube", "private/cube"])
def test_a_cube_that_must_not_be_created_is_an_error(cube, product, locked, place):
    with pytest.raises(CubeError, match=r"No datacube can be created at .*cube: .*Permission denied") as caught:
        Datacube.create(locked / place, product)
    assert str(locked / place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in locked.iterdir()) == ["empty", "private"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of POSIX")
@pytest.mark.parametrize("place", ["private", "private/cube"])
def test_a_cube_that_must_not_be_read_is_an_error(cube, product, locked, place):
    for call in (Datacube.open, lambda path: Datacube.open_or_create(path, product)):
        with pytest.raises(CubeError, match=f"{place} is no datacube that can be opened: Permission denied"):
            call(locked / place)


def test_a_place_below_a_file_is_an_error(tmp_path, product):
    (tmp_path / "file").touch()
    with pytest.raises(CubeError, match=r"No datacube can be created at .*file/cube: .*file cannot be written to"):
        Datacube.create(tmp_path / "file/cube", product)


def test_files_that_vanish_take_no_space(cube, monkeypatch):
    """While another process writes, files are replaced between their listing and the question for their size."""
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top: ((top, dirs, [*names, "gone"]) for top, dirs, names in walk(top)))
    assert cube.stored_bytes() == sum(file.stat().st_size for file in cube.path.rglob("*") if file.is_file())


@pytest.mark.parametrize("exists", [False, True], ids=["no folder", "empty folder"])
def test_of_two_that_create_a_cube_one_is_told(tmp_path, product, monkeypatch, exists):
    path = tmp_path / "cube"
    if exists:
        path.mkdir()
    lay_out = darts_acquisition.cube.datacube.lay_out

    def late(session, product):
        lay_out(session, product)
        monkeypatch.setattr(darts_acquisition.cube.datacube, "lay_out", lay_out)
        Datacube.create(path, product)

    monkeypatch.setattr(darts_acquisition.cube.datacube, "lay_out", late)
    with pytest.raises(CubeExistsError, match="another process"):
        Datacube.create(path, product)
    assert len(Datacube.open(path).missing(product.geobox)) == 30
    assert [entry.name for entry in tmp_path.iterdir()] == ["cube"]


def test_creation_that_fails_leaves_nothing(tmp_path, product, monkeypatch):
    def fail(session, product):
        raise KeyboardInterrupt

    monkeypatch.setattr(darts_acquisition.cube.datacube, "lay_out", fail)
    with pytest.raises(KeyboardInterrupt):
        Datacube.create(tmp_path / "deep/cube", product)
    assert not list((tmp_path / "deep").iterdir())


def test_chunks_must_fit_together(tmp_path, product):
    bad = CubeProduct("a", "1", "a", product.geobox, (CubeVariable("a", "uint8", 0, "a"),), chunk_px=16, inner_px=5)
    with pytest.raises(ParameterError, match="chunk_px is 16 and inner_px 5"):
        Datacube.create(tmp_path / "cube", bad)


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
        monkeypatch.setattr("darts_acquisition.cube.snapshot.find_decoder", lambda *_: None)
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
                assert "`darts cube verify`" in str(error)  # noqa: PT017 - each byte may or may not matter
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
