"""A tile's folder appears complete or not at all: kills, full disks, two writers, folders that are not ours."""

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from skimage.measure import label

from darts_export import (
    DEFAULT_EXPORT_BANDS,
    ExportError,
    ExportTargetError,
    export_tile,
    missing_outputs,
    read_manifest,
    remove_interrupted,
)
from darts_utils.staging import replaced_folder
from support.lanes import mostly_slow

KILLING = Path(__file__).with_name("killing.py")
PROBABILITIES = [
    "collection.json",
    "item.json",
    "manifest.json",
    "preview.tif",
    "probabilities.qml",
    "probabilities.tif",
]
"""What an export of probabilities leaves."""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("kills", [1, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_export_leaves_a_complete_folder_or_none(tmp_path: Path, kills: int) -> None:
    run = subprocess.run(
        [sys.executable, KILLING, tmp_path, str(kills), "7"], capture_output=True, text=True, timeout=500, check=False
    )
    assert run.returncode == 0, run.stderr
    states = json.loads(run.stdout)
    assert sum(states.values()) == kills
    assert set(states) <= {"absent", "f1", "f2"}


def test_an_export_replaces_the_one_before_as_a_whole(make_tile, tmp_path: Path) -> None:
    folder = tmp_path / "tile"
    export_tile(make_tile(seed=1), folder, ["probabilities", "optical", "extent"], fingerprint="f1")
    manifest = export_tile(make_tile(seed=2), folder, ["probabilities"], fingerprint="f2")
    assert names_in(folder) == PROBABILITIES
    assert read_manifest(folder) == manifest
    assert manifest["fingerprint"] == "f2"
    assert names_in(tmp_path) == ["tile"]


def test_what_others_put_beside_an_export_stays(make_tile, tmp_path: Path) -> None:
    folder = tmp_path / "tile"
    export_tile(make_tile(), folder, ["probabilities", "slope"])
    (folder / "notes.txt").write_text("mine")
    (folder / "map").mkdir()
    (folder / "map/project.qgz").write_text("mine, too")
    (folder / "link").symlink_to("notes.txt")
    (folder / "probabilities.tif.aux.xml").write_text("statistics of the raster that goes")
    manifest = export_tile(make_tile(seed=3), folder, ["probabilities"])
    assert names_in(folder) == sorted([*PROBABILITIES, "link", "map", "notes.txt"])
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "map/project.qgz").read_text() == "mine, too"
    assert (folder / "link").is_symlink()
    assert sorted(manifest["files"]) == sorted(set(PROBABILITIES) - {"manifest.json"})


def test_a_folder_that_no_export_wrote_is_not_replaced(make_tile, tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(ExportTargetError, match="no manifest of an export"):
        export_tile(make_tile(), folder, ["extent"])
    assert names_in(folder) == ["thesis.txt"]
    with pytest.raises(ExportTargetError, match="is a file"):
        export_tile(make_tile(), folder / "thesis.txt", ["extent"])
    with pytest.raises(FileExistsError):
        export_tile(make_tile(), folder, ["extent"])


def test_an_empty_folder_is_filled_and_parents_are_made(make_tile, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a/b/c"):
        export_tile(make_tile(), folder, ["extent"])
        assert missing_outputs(folder, ["extent"]) == "none"


def test_a_link_to_a_folder_stays_a_link(make_tile, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    for _ in range(2):
        export_tile(make_tile(), tmp_path / "link", ["extent"])
    assert (tmp_path / "link").is_symlink()
    assert missing_outputs(tmp_path / "disk", ["extent"]) == "none"
    assert names_in(tmp_path) == ["disk", "link"]


def test_an_error_in_the_middle_leaves_the_folder_as_it_was(
    make_tile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tile"
    before = export_tile(make_tile(), folder, ["extent", "probabilities"])

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("darts_export.export.write_thumbnail", fail)
    with pytest.raises(ExportError, match="No space left on device") as error:
        export_tile(make_tile(seed=2), folder)
    assert str(folder) in str(error.value)
    assert "MB are free" in str(error.value)
    assert read_manifest(folder) == before
    assert missing_outputs(folder, ["extent", "probabilities"]) == "none"
    assert names_in(tmp_path) == ["tile"]


def test_leftovers_of_dead_writers_go_and_those_of_living_ones_stay(make_tile, tmp_path: Path) -> None:
    folder = tmp_path / "tile"
    with replaced_folder(folder) as living:
        (living / "half").write_text("")
        dead = living.parent.with_name(living.parent.name[:-4] + "dead")
        (dead / "new").mkdir(parents=True)
        other = tmp_path / ".darts-export-000000000000-other"
        other.mkdir()
        export_tile(make_tile(), folder, ["extent"])
        assert not dead.exists()
        assert (living / "half").exists()
        assert other.exists()
    # The slower writer had nothing but a file of that name, and still replaced the folder as a whole.
    assert names_in(folder) == ["half"]
    assert names_in(tmp_path) == [other.name, "tile"]


@pytest.mark.slow
def test_two_writers_do_not_mix(make_tile, tmp_path: Path) -> None:
    folder = tmp_path / "tile"
    tiles = {
        "f1": (make_tile(seed=1), ["probabilities", "extent"]),
        "f2": (make_tile(seed=2), ["probabilities", "slope"]),
    }
    errors: list[BaseException] = []
    seen: set[str] = set()

    def write(fingerprint: str) -> None:
        tile, bands = tiles[fingerprint]
        try:
            for _ in range(6):
                export_tile(tile, folder, bands, fingerprint=fingerprint)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in tiles]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        with suppress(FileNotFoundError):
            before, names = folder.stat().st_ino, names_in(folder)
            # A folder that was replaced while its names were read is on its way out.
            if folder.stat().st_ino == before:
                seen.add(",".join(names))
    for writer in writers:
        writer.join()
    assert errors == []
    own = {name: list(PROBABILITIES) for name in tiles}
    own["f1"] += ["prediction_extent.gpkg", "prediction_extent.parquet"]
    own["f2"] += ["slope.tif"]
    assert seen <= {",".join(sorted(names)) for names in own.values()}
    last = read_manifest(folder)["fingerprint"]
    assert names_in(folder) == sorted(own[last])
    with rasterio.open(folder / "probabilities.tif") as raster:
        wanted = np.nan_to_num(np.rint(tiles[last][0]["probabilities"].to_numpy() * 100), nan=255)
        np.testing.assert_array_equal(raster.read(1), wanted)
    assert names_in(tmp_path) == ["tile"]


def test_without_an_exchange_of_folders_the_result_is_the_same(
    make_tile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darts_utils.staging._exchange", lambda *_: False)
    test_an_export_replaces_the_one_before_as_a_whole(make_tile, tmp_path)


@pytest.fixture
def disk_of(tmp_path: Path):
    """A file system of a given size in kB."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size_kb: int) -> Path:
        run = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", place], capture_output=True, check=False
        )
        if run.returncode != 0:
            pytest.skip("no small disk to fill: this user may not mount a tmpfs")
        return place

    yield mount
    # Fails where the export has left a file open.
    subprocess.run(["umount", place], capture_output=True, check=place.is_mount())


@pytest.mark.parametrize("size_kb", mostly_slow([8, 40, 100, 180, 260, 340], (100, 260).__contains__))
def test_a_full_disk_is_an_error_and_leaves_nothing(make_tile, disk_of, size_kb: int) -> None:
    disk = disk_of(size_kb)
    rng = np.random.default_rng(0)
    shape = (600, 600)
    tile = make_tile(mask=rng.random(shape) < 0.01, probabilities=rng.random(shape).astype(np.float32))
    with pytest.raises(ExportError, match=r"(could not|cannot) be written") as error:
        export_tile(tile, disk / "tile")
    assert isinstance(error.value, OSError)
    assert names_in(disk) == []


@pytest.mark.parametrize("size_kb", mostly_slow(range(100, 500, 4), lambda size: size % 100 == 40))
def test_a_disk_that_fills_while_parts_are_appended_leaves_all_or_nothing(
    make_tile, disk_of, monkeypatch: pytest.MonkeyPatch, size_kb: int
) -> None:
    monkeypatch.setattr("darts_export.vectors._ROWS", 40)
    rng = np.random.default_rng(0)
    tile = make_tile(mask=rng.random((200, 200)) < 0.01, probabilities=rng.random((200, 200)).astype(np.float32))
    disk = disk_of(size_kb)
    try:
        export_tile(tile, disk / "tile", ["polygonized"])
    except ExportError:
        assert names_in(disk) == []
        return
    tables = [gpd.read_file(disk / "tile/prediction_segments.gpkg", layer="tile-1")]
    tables += [gpd.read_parquet(disk / "tile/prediction_segments.parquet")]
    assert [*map(len, tables)] == [label(tile["binarized_segmentation"].to_numpy(), connectivity=2).max()] * 2


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from killing import make_tile
from darts_export import ExportError, export_tile
parent = Path(sys.argv[1])
for limit in (100, 2_000, 20_000, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        export_tile(make_tile(0.5), parent / "tile")
        message = "no error"
    except ExportError as error:
        message = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(limit, sorted(path.name for path in parent.iterdir()), message)
"""


@pytest.mark.slow
def test_a_file_size_limit_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="this system has no limit on file sizes")
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path, KILLING.parent], capture_output=True, text=True, check=True
    )
    lines = run.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert re.match(rf"\d+ \[\] {re.escape(str(tmp_path / 'tile'))} could not be written: ", line)


def test_a_folder_that_cannot_be_made_is_a_clear_error(make_tile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file"):
        export_tile(make_tile(), tmp_path / "file/tile", ["extent"])


def test_a_folder_without_permission_is_a_clear_error(make_tile, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        closed.rmdir()
        # For root, no folder is closed but those of the kernel.
        closed = Path("/proc/self")
        if not closed.is_dir():
            pytest.skip("this user may write everywhere")
    with pytest.raises(ExportError, match=r"cannot be written to.*choose a folder that you may write to"):
        export_tile(make_tile(), closed / "tile", ["extent"])


NAMES = ["mit Leerzeichen und Ümläuten ß", "тайга", "a'b;c&d", "x" * 250, "100 %"]


@pytest.mark.parametrize("name", mostly_slow(NAMES, lambda name: name[0] in "тx"))
def test_names_of_all_sorts(make_tile, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    tile = make_tile(models=("größe 1",))
    for _ in range(2):
        manifest = export_tile(tile, folder, [*DEFAULT_EXPORT_BANDS, "metadata"], ["größe 1"], debug=True)
    assert set(manifest["files"]) > {"probabilities-größe 1.tif", "prediction_segments-größe 1.gpkg"}
    assert missing_outputs(folder, DEFAULT_EXPORT_BANDS, ["größe 1"]) == "none"
    assert names_in(tmp_path) == [name]


def test_work_folders_of_killed_exports_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    killed = tmp_path / ".darts-export-0123456789ab-0123456789ab"
    (killed / "new").mkdir(parents=True)
    (tmp_path / "finished").mkdir()
    with replaced_folder(tmp_path / "other") as new:
        remove_interrupted(tmp_path)
        assert new.is_dir()
        assert names_in(tmp_path) == sorted([new.parent.name, "finished"])
    assert names_in(tmp_path) == ["finished", "other"]
    remove_interrupted(tmp_path / "absent")
