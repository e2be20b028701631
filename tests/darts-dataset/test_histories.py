"""Random histories of change: each update has the bytes of a build from nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from darts_dataset import build, check, tables
from support.lanes import mostly_slow
from support.results import export_mask
from support.slump_worlds import CRS, LEFT, PIXEL, SIZE, TOP, day, files_of

YEARS = (2019, 2020, 2021)
STEP = SIZE - 20
"""Pixels from one scene to its neighbour, with which it shares a strip."""


@pytest.fixture(autouse=True)
def small_cells(monkeypatch):
    """Cells of some hundred metres, of which every part has several."""
    monkeypatch.setattr(tables, "CELL_LEVEL", 16)
    monkeypatch.setattr(tables, "FEW_SCENES", 2)


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
    export_mask(name, mask & extent, grid, CRS, day(year, 180 + 9 * look, int(place)), extent=extent)


def change(results: Path, rng: np.random.Generator) -> None:
    """Add, change or remove a scene, or all of a place or of a year."""
    scenes = sorted(path.name for path in results.iterdir())
    place, year = rng.integers(8), YEARS[rng.integers(len(YEARS))]
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


def made_world(results: Path, rng: np.random.Generator) -> None:
    for year in YEARS:
        for place in rng.permutation(8)[:5]:
            for look in range(rng.integers(1, 3)):
                write(results, int(place), year, look, rng)


@pytest.mark.parametrize("seed", mostly_slow(range(30), lambda seed: seed == 0))
def test_updates_equal_builds_from_nothing_whatever_changed(tmp_path, seed):
    rng = np.random.default_rng(seed)
    results = tmp_path / "results"
    options = {"keep_share": 0.4} if seed % 7 == 6 else {"season": (6, 7)} if seed % 7 == 5 else {}
    made_world(results, rng)
    if seed % 7 == 4:
        shutil.copytree(results, tmp_path / "before")
        change(tmp_path / "before", rng)
        options["previous"] = build(tmp_path / "before", tmp_path / "release").path
    build(results, tmp_path / "updated", **options)
    for step in range(2 if seed == 0 else 5):
        for _ in range(rng.integers(1, 3)):
            change(results, rng)
        update = build(results, tmp_path / "updated", **options)
        build(results, tmp_path / "new", **options)
        found, expected = files_of(tmp_path / "updated"), files_of(tmp_path / "new")
        assert found.keys() == expected.keys(), step
        assert [name for name in expected if found[name] != expected[name]] == [], step
        assert {*update.written, *update.reused} == {
            path.parent.relative_to(tmp_path / "new").as_posix()
            for level in ("level1", "level2", "coverage")
            for path in (tmp_path / "new" / level).rglob("*.parquet")
        }
        shutil.rmtree(tmp_path / "new")
    assert check(tmp_path / "updated").failures == ()
