"""The store of raw scenes: what is there is whole, whatever happens to the process that writes it."""

import itertools
import multiprocessing
import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec

import darts_acquisition.scenes.store as module
from darts_acquisition.errors import RawStoreError, SceneNotStoredError
from darts_acquisition.scenes.download import download_scene, load_scene
from darts_acquisition.scenes.raw import SCL, RawGrid, bands_of_scene, select_bands
from darts_acquisition.scenes.store import RawStore
from support.lanes import mostly_slow
from support.made_up_scene import LEFT, MADE_UP, TOP, MadeUp, made_up_values, write_made_up

NAME = MADE_UP.scene_id


def check_whole(store, edge):
    """Check that every band that counts as present holds what was written."""
    present = store.bands("made", NAME)
    for band in bands_of_scene("all"):
        if band.number in present:
            np.testing.assert_array_equal(store.open("made", NAME, band).read(), made_up_values(band, edge))
    return present


def test_what_is_stored_comes_back_as_it_was(tmp_path):
    store, provider = RawStore(tmp_path / "raw"), MadeUp()
    download_scene(provider, NAME, store, bands_of_scene("all"))
    assert len(check_whole(store, 12)) == 13
    assert store.metadata("made", NAME) == MADE_UP
    assert [path.name for path in store.folder.glob("*.zarr")] == [f"made_{NAME}.zarr"]
    grid = store.open("made", NAME, select_bands("nir08")[0]).grid
    assert grid == RawGrid("EPSG:32608", (20.0, 0, LEFT, 0, -20.0, TOP), (6, 6), 1e-4, -0.1)


def test_adding_a_band_fetches_and_writes_that_band_only(tmp_path):
    store, provider = RawStore(tmp_path), MadeUp()
    download_scene(provider, NAME, store, bands_of_scene(["blue", "green"]))
    before = {file: file.stat().st_mtime_ns for file in store.path("made", NAME).rglob("*") if file.is_file()}
    tile = load_scene(provider, NAME, store.folder, bands_of_scene(["blue", "red"]), offline=False)
    assert provider.asked == [["B02", "B03", "SCL"], ["B04"]]
    assert list(tile.data_vars) == ["blue", "red", "s2_scl", "quality_data_mask"]
    assert {file: file.stat().st_mtime_ns for file in before} == before
    again = load_scene(provider, NAME, store.folder, bands_of_scene(["blue", "green", "red"]), offline=True)
    assert len(provider.asked) == 2
    np.testing.assert_array_equal(again.red, tile.red)


def test_the_store_changes_nothing(tmp_path):
    provider = MadeUp(edge=36)
    stored = load_scene(provider, NAME, tmp_path, bands_of_scene("all"), offline=False)
    in_memory = load_scene(provider, NAME, None, bands_of_scene("all"), offline=False)
    assert stored.identical(in_memory)


def test_offline_says_what_is_missing_and_fetches_nothing(tmp_path):
    store, provider = RawStore(tmp_path), MadeUp()
    with pytest.raises(
        SceneNotStoredError, match=r"^Scene a-scene is not in .* fetched\. Fetch it by loading it online\.$"
    ):
        load_scene(provider, NAME, store.folder, bands_of_scene(), offline=True)
    download_scene(provider, NAME, store, bands_of_scene(["blue"]))
    with pytest.raises(SceneNotStoredError, match="Band B04 of scene a-scene is not in"):
        load_scene(provider, NAME, store.folder, bands_of_scene(["blue", "red"]), offline=True)
    with pytest.raises(SceneNotStoredError, match="no store"):
        load_scene(provider, NAME, None, bands_of_scene(), offline=True)
    assert len(provider.asked) == 1


def stored_files(store):
    return sorted(file for file in (store.path("made", NAME) / "B02" / "c").rglob("*") if file.is_file())


def write_in_squares(path, raw):
    """Lay a band out as earlier versions did."""
    zarr.create_array(
        path,
        data=raw.values,
        chunks=(5, 5),
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=("y", "x"),
        attributes=asdict(raw.grid),
        config={"write_empty_chunks": True},
    )


@pytest.mark.parametrize(
    ("squares", "strip_rows"),
    mostly_slow(itertools.product((False, True), (1, 5, 12, 183)), ((False, 5), (True, 12), (False, 183)).__contains__),
)
def test_any_rows_come_back_from_any_layout(tmp_path, monkeypatch, squares, strip_rows):
    monkeypatch.setattr(module, "_STRIP_ROWS", strip_rows)
    if squares:
        monkeypatch.setattr(module, "_write_array", write_in_squares)
    store, provider = RawStore(tmp_path), MadeUp()
    tile = load_scene(provider, NAME, store.folder, bands_of_scene("all"), offline=False)
    assert tile.identical(load_scene(provider, NAME, None, bands_of_scene("all"), offline=False))
    for band in bands_of_scene("all"):
        stored, values = store.open("made", NAME, band), made_up_values(band, 12)
        assert stored._in_strips != (squares and len(values) != 5)
        for start in range(len(values)):
            for stop in range(start + 1, len(values) + 1):
                np.testing.assert_array_equal(stored.read(slice(start, stop)), values[start:stop])
        assert stored.read().dtype == values.dtype


@pytest.mark.parametrize("squares", [False, True])
def test_every_damaged_byte_is_found(tmp_path, monkeypatch, squares):
    if squares:
        monkeypatch.setattr(module, "_write_array", write_in_squares)
    store = RawStore(tmp_path)
    download_scene(MadeUp(), NAME, store, bands_of_scene(["blue"]))
    stored = store.open("made", NAME, select_bands("blue")[0])
    file = stored_files(store)[0]
    intact = file.read_bytes()
    for place in range(
        8 if squares else 0, len(intact), 3
    ):  # what stands before is not covered by Zstandard's checksum
        content = bytearray(intact)
        content[place] ^= 0x10
        file.write_bytes(content)
        with pytest.raises(RawStoreError, match="B02 is damaged"):
            stored.read()
        with pytest.raises(RawStoreError, match="B02 is damaged"):
            stored.read(slice(0, stored.rows_at_once))
    for length in (0, 3, len(intact) // 2, len(intact) - 1):
        file.write_bytes(intact[:length])
        with pytest.raises(RawStoreError, match="B02 is damaged"):
            stored.read(slice(0, stored.rows_at_once))


@pytest.mark.parametrize("damage", ["lost", "empty", "flipped", "metadata"])
def test_damage_is_an_error_and_never_other_numbers(tmp_path, damage):
    store = RawStore(tmp_path)
    download_scene(MadeUp(), NAME, store, bands_of_scene(["blue"]))
    file = stored_files(store)[0]
    if damage == "lost":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "flipped":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0x10
        file.write_bytes(content)
    else:
        (store.path("made", NAME) / "B02" / "zarr.json").write_text("{")
    with pytest.raises((RawStoreError, SceneNotStoredError), match=r"(?i)fetch it"):
        load_scene(MadeUp(), NAME, store.folder, bands_of_scene(["blue"]), offline=True)


@pytest.mark.parametrize("lost", ["c", "c/0/0", "zarr.json"])
def test_a_band_of_which_files_are_lost_is_fetched_again(tmp_path, lost):
    store, intact = RawStore(tmp_path), load_scene(MadeUp(), NAME, None, bands_of_scene(["blue"]), offline=False)
    download_scene(MadeUp(), NAME, store, bands_of_scene(["blue"]))
    place = store.path("made", NAME) / "B02" / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert store.bands("made", NAME) == {"SCL"}
    with pytest.raises(SceneNotStoredError, match="Band B02 of scene"):
        load_scene(MadeUp(), NAME, store.folder, bands_of_scene(["blue"]), offline=True)
    download_scene(MadeUp(), NAME, store, bands_of_scene(["blue"]))
    xr.testing.assert_identical(
        load_scene(MadeUp(), NAME, store.folder, bands_of_scene(["blue"]), offline=True), intact
    )
    assert not list(tmp_path.glob(".*.partial"))


def test_another_format_is_refused(tmp_path):
    store = RawStore(tmp_path)
    zarr.create_group(store.path("made", NAME), attributes={"darts_raw_format": 99, "tile": {}})
    with pytest.raises(RawStoreError, match="format 1"):
        store.metadata("made", NAME)


def test_a_provider_that_fails_half_way_leaves_whole_bands(tmp_path):
    store = RawStore(tmp_path)

    class Failing(MadeUp):
        def raw(self, band):
            if band.number == "B04":
                raise ConnectionError("lost")
            return super().raw(band)

    with pytest.raises(ConnectionError, match="lost"):
        download_scene(Failing(), NAME, store, bands_of_scene())
    assert check_whole(store, 12) == {"B02", "B03"}
    download_scene(MadeUp(), NAME, store, bands_of_scene())
    assert len(check_whole(store, 12)) == 5
    assert not list(tmp_path.glob(".*.partial"))


def _kill_while_writing(folder: Path, moments: list[float], edge: int) -> int:
    """Kill writers at moments after they began; return how many had not finished."""
    context = multiprocessing.get_context("spawn")
    killed = 0
    for number, moment in enumerate(moments):
        ready = folder.parent / f"ready-{number}"
        process = context.Process(target=write_made_up, args=(folder, edge, 0.01, ready))
        process.start()
        while not ready.exists() and process.is_alive():
            time.sleep(0.002)
        time.sleep(moment)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        assert check_whole(RawStore(folder), edge) <= {each.number for each in bands_of_scene("all")}
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_a_killed_writer_never_counts_as_finished(tmp_path, count):
    rng = np.random.default_rng(count)
    folder = tmp_path / "raw"
    killed = _kill_while_writing(folder, sorted(rng.uniform(0, 0.5, count)), 360)
    assert killed > 0
    write_made_up(folder, 360, 0)
    assert len(check_whole(RawStore(folder), 360)) == 13
    assert not list(folder.glob(".*.partial"))


@pytest.mark.slow
def test_two_processes_on_one_scene_do_not_disturb_each_other(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_made_up, args=(tmp_path, 120, 0.01)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(check_whole(RawStore(tmp_path), 120)) == 13


def test_who_comes_second_keeps_what_is_there(tmp_path):
    """Without the lock, as on a file system that has none."""
    one, other = RawStore(tmp_path), RawStore(tmp_path)
    provider = MadeUp()
    for store in (one, other):
        store.add(MADE_UP, provider.raw(SCL))
        store.add(MADE_UP, provider.raw(select_bands("blue")[0]))
    assert check_whole(one, 12) == {"B02", "SCL"}
