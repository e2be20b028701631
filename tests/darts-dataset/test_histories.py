"""Random histories of change: each update has the bytes of a build from nothing."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from darts_dataset import build, check, identity, tables
from darts_dataset.readings import read_detections
from darts_utils.staging import replaced_folder
from support.lanes import mostly_slow
from support.results import export_mask
from support.slump_worlds import CRS, LEFT, PIXEL, SIZE, TOP, day, files_of

YEARS = (2019, 2020, 2021)
STEP = SIZE - 20
"""Pixels from one scene to its neighbour, with which it shares a strip."""


@pytest.fixture(autouse=True)
def small_cells(monkeypatch):
    """Cells of some hundred metres, of which every part has several."""
    monkeypatch.setattr(tables, "MOST_ROWS", 8)


def write(results: Path, place: int, year: int, look: int, rng: np.random.Generator) -> None:
    """Write a scene, one of four side by side in each row, whose slumps grow, merge, split, come and go with luck."""
    steady = np.random.default_rng(place)
    mask = np.zeros((SIZE, SIZE), bool)
    for top, left, height, width in steady.integers((0, 0, 4, 4), (SIZE, SIZE, 30, 14), (14, 4)):
        more = rng.integers(-3, 6, 2)
        if rng.random() < 0.8:
            mask[top : top + height + more[0], left : left + width + more[1]] = True
    extent = np.ones((SIZE, SIZE), bool)
    if rng.random() < 0.3:
        extent[:, : rng.integers(SIZE)] = False
    if rng.random() < 0.1:
        mask[:] = False
    shift = (0, 1)[look % 2]  # Metres beside the grid of the other look.
    grid = Affine(PIXEL, 0, LEFT + place % 4 * STEP * PIXEL + shift, 0, -PIXEL, TOP - place // 4 * STEP * PIXEL)
    name = results / f"{place}-{year}-{look}"
    shutil.rmtree(name, ignore_errors=True)
    pass_of_two = 30 * (int(place) // 2) + int(place) % 2  # Minutes: neighbours are one look.
    export_mask(name, mask & extent, grid, CRS, day(year, 180 + 9 * look, pass_of_two), extent=extent)


def change(results: Path, rng: np.random.Generator, places: int = 8) -> None:
    """Add, change or remove a scene, or all of a place or of a year."""
    scenes = sorted(path.name for path in results.iterdir())
    place, year = rng.integers(places), YEARS[rng.integers(len(YEARS))]
    kind = rng.integers(5)
    if kind == 0 and len(scenes) > 4:
        shutil.rmtree(results / scenes[rng.integers(len(scenes))])
    elif kind == 1:
        for each in YEARS:
            write(results, place, each, 0, rng)
    elif kind == 2 and len({name.split("-")[1] for name in scenes}) > 1:
        for name in scenes:
            if name.split("-")[1] == str(year):
                shutil.rmtree(results / name)
    else:
        write(results, place, year, int(rng.integers(3)), rng)


def made_world(results: Path, rng: np.random.Generator, places: int = 8) -> Path:
    for year in YEARS:
        for place in rng.permutation(places)[:5]:
            for look in range(rng.integers(1, 3)):
                write(results, int(place), year, look, rng)
    return results


def assert_same(found: Path, expected: Path) -> None:
    one, other = files_of(found), files_of(expected)
    assert one.keys() == other.keys()
    assert [name for name in other if one[name] != other[name]] == []


@pytest.mark.parametrize("seed", mostly_slow(range(30), lambda seed: seed == 0))
def test_updates_equal_builds_from_nothing_whatever_changed(tmp_path, seed):
    """Also with a release before, a season, or a share to keep."""
    rng, places = np.random.default_rng(seed), 8 if seed else 2
    results = made_world(tmp_path / "results", rng, places)
    options = {"keep_share": 0.4} if seed % 7 == 6 else {"season": (6, 7)} if seed % 7 == 5 else {}
    if seed % 7 == 4:
        shutil.copytree(results, tmp_path / "before")
        change(tmp_path / "before", rng)
        options["previous"] = build(tmp_path / "before", tmp_path / "release").path
    build(results, tmp_path / "updated", **options)
    for _ in range(5 if seed else 1):
        for _ in range(rng.integers(1, 3)):
            change(results, rng, places)
        update = build(results, tmp_path / "updated", **options)
        build(results, tmp_path / "new", **options)
        assert_same(tmp_path / "updated", tmp_path / "new")
        assert not set(update.written) & set(update.reused)
        shutil.rmtree(tmp_path / "new")
    assert check(tmp_path / "updated").failures == ()


@pytest.mark.slow
def test_an_update_starts_over_where_names_meet(tmp_path, monkeypatch):
    """Ids say a cell of a thousand kilometres, so that a new object elsewhere would be called as one that stays."""
    monkeypatch.setattr(identity, "_H3_RESOLUTION", 0)
    begun = []

    def replacing(*arguments):
        begun.append(arguments)
        return replaced_folder(*arguments)

    monkeypatch.setattr("darts_dataset.dataset.replaced_folder", replacing)
    for place, expected in ((3, 1), (0, 2)):
        write(tmp_path / "results", place, YEARS[0], 0, np.random.default_rng(3))
        begun.clear()
        build(tmp_path / "results", tmp_path / "updated")
        assert len(begun) == expected
    build(tmp_path / "results", tmp_path / "new")
    assert_same(tmp_path / "updated", tmp_path / "new")


@pytest.fixture
def small(tmp_path):
    """Four places in a row, in two years."""
    rng = np.random.default_rng(1)
    for place in range(4):
        for year in YEARS[:2]:
            write(tmp_path / "results", place, year, 0, rng)
    return build(tmp_path / "results", tmp_path / "dataset")


@pytest.mark.slow
def test_another_release_names_again_and_merges_nothing(small, tmp_path, monkeypatch):
    shutil.copytree(tmp_path / "results", tmp_path / "before")
    write(tmp_path / "before", 0, YEARS[0], 0, np.random.default_rng(3))
    release = build(tmp_path / "before", tmp_path / "release").path
    build(tmp_path / "results", tmp_path / "new", previous=release)
    assert files_of(small.path) != files_of(tmp_path / "new")
    monkeypatch.setattr("darts_dataset.level2.merge", None)
    build(tmp_path / "results", small.path, previous=release)
    assert_same(small.path, tmp_path / "new")


@pytest.mark.slow
def test_an_update_reads_and_writes_what_lies_near(small, tmp_path, monkeypatch):
    """Of four places in a row the first changes: the last is not read, and its files are those of before."""
    read = []

    def reading(scene, look):
        read.append(scene.tile_id)
        return read_detections(scene, look)

    monkeypatch.setattr("darts_dataset.detections.read_detections", reading)
    before = {path: path.stat().st_ino for path in small.path.rglob("*.parquet")}
    write(tmp_path / "results", 0, YEARS[0], 0, np.random.default_rng(3))
    update = build(tmp_path / "results", small.path)
    assert {f"level1/source=PlanetScope/year={YEARS[1]}", f"coverage/year={YEARS[1]}"} <= set(update.reused)
    assert f"0-{YEARS[0]}-0" in read
    assert not {f"3-{YEARS[0]}-0", *(f"{place}-{YEARS[1]}-0" for place in range(4))} & set(read)
    kept = {path for path, inode in before.items() if path.exists() and path.stat().st_ino == inode}
    for part in (f"level1/source=PlanetScope/year={YEARS[0]}", *(f"level2/year={year}" for year in YEARS[:2])):
        files = set((small.path / part).iterdir())
        assert files & kept, part
        assert part in update.written or files <= kept
    assert {path for path in kept if path.parent.name == f"year={YEARS[0]}"} < set(before)
    build(tmp_path / "results", tmp_path / "new")
    assert_same(small.path, tmp_path / "new")


@pytest.mark.slow
def test_years_behind_one_that_came_out_the_same_are_taken_along(small, tmp_path, monkeypatch):
    """A scene of the first of three years is mapped again, with the same outlines, then with others."""
    for place in range(4):
        write(tmp_path / "results", place, YEARS[2], 0, np.random.default_rng(place))
    build(tmp_path / "results", small.path)
    scene = tmp_path / "results" / f"1-{YEARS[0]}-0"
    manifest = scene / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"created": "2030-01-01"}))
    update = build(tmp_path / "results", small.path)
    assert set(update.written) == {f"level1/source=PlanetScope/year={YEARS[0]}", f"level2/year={YEARS[0]}"}
    write(tmp_path / "results", 1, YEARS[0], 0, np.random.default_rng(99))
    build(tmp_path / "results", small.path)
    build(tmp_path / "results", tmp_path / "new")
    assert_same(small.path, tmp_path / "new")


@pytest.mark.slow
def test_a_scene_without_detections_has_no_file_and_is_remembered(small, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_ROWS", 1)
    for place in (0, 1):
        shutil.rmtree(tmp_path / "results" / f"{place}-{YEARS[0]}-0")
    grid = Affine(PIXEL, 0, LEFT - 5 * STEP * PIXEL, 0, -PIXEL, TOP)
    export_mask(tmp_path / "results" / "empty", np.zeros((SIZE, SIZE), bool), grid, CRS, day(YEARS[0]))
    build(tmp_path / "results", small.path)
    part = small.path / f"level1/source=PlanetScope/year={YEARS[0]}"
    assert len(list(part.iterdir())) > 1
    monkeypatch.setattr("darts_dataset.dataset.read_year", None)
    assert build(tmp_path / "results", small.path).written == ()


@pytest.mark.slow
def test_rows_of_scenes_that_stay_are_taken_along_within_a_table(tmp_path, monkeypatch):
    """One table for all: a scene changes, one goes, and one comes with detections of the same names."""
    monkeypatch.setattr(tables, "MOST_ROWS", 2000)
    results, rng = tmp_path / "results", np.random.default_rng(1)
    for place in (0, 3, 12):
        write(results, place, YEARS[0], 0, rng)
    build(results, tmp_path / "updated")
    read = []

    def reading(scene, look):
        read.append(scene.tile_id)
        return read_detections(scene, look)

    monkeypatch.setattr("darts_dataset.detections.read_detections", reading)

    def twin(name: str) -> None:
        shutil.copytree(results / f"3-{YEARS[0]}-0", results / name)
        manifest = results / name / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"tile_id": name}))

    changes = {
        "change": (lambda: write(results, 0, YEARS[0], 0, rng), {f"0-{YEARS[0]}-0"}),
        "go": (lambda: shutil.rmtree(results / f"12-{YEARS[0]}-0"), set()),
        "twin": (lambda: twin("0-twin"), {"0-twin", f"3-{YEARS[0]}-0"}),
        "all": (lambda: write(results, 12, YEARS[0], 0, rng), {"0-twin", *(f"{at}-{YEARS[0]}-0" for at in (0, 3, 12))}),
    }
    for name, (make, expected) in changes.items():
        make()
        read.clear()
        build(results, tmp_path / "updated")
        assert set(read) == expected  # All at the end, where some have the same names.
        build(results, tmp_path / name)
        assert_same(tmp_path / "updated", tmp_path / name)


def cut_line(content: bytes) -> bytes:
    """Take away a table of objects from the checksums, as if it had never been."""
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if line != next(each for each in lines if b"  level2/" in each))


def zeroed(content: bytes) -> bytes:
    """Overwrite the middle of a file."""
    return content[:200] + bytes(40) + content[240:]


DAMAGED = {
    **{f"level2/year={year}/": zeroed for year in YEARS[:2]},
    "level1/source=PlanetScope/year=2020/": zeroed,
    "memory/scenes.parquet": lambda content: content.replace(b"0-2019-0", b"0-2019-9"),
    "memory/level2/year=2019/objects.parquet": lambda content: content[:-40] + bytes(40),
    "checksums.sha256": cut_line,
    "dataset.json": lambda content: content.replace(b'"season": null', b'"season": [1] '),
    "links.parquet": lambda content: b"",
}


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_memory_costs_time_and_no_more(small, tmp_path, name, old):
    """Also where the time of the file says nothing."""
    file = min((small.path / name).iterdir()) if name.endswith("/") else small.path / name
    damaged, before = DAMAGED[name](file.read_bytes()), file.stat()
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    if old:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))
    write(tmp_path / "results", 0, YEARS[1], 0, np.random.default_rng(5))
    build(tmp_path / "results", small.path)
    build(tmp_path / "results", tmp_path / "new")
    assert_same(small.path, tmp_path / "new")
