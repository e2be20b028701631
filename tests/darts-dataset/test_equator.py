"""Scenes on both sides of the equator, and across it: what hangs together is merged on one plane."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine

from darts_dataset import build, check
from darts_dataset.geometry import NORTH, SOUTH, to_lonlat, to_plane
from darts_dataset.looks import divide_of, footprint_of, parted
from support.results import export_mask
from support.slump_worlds import CRS, LEFT, PIXEL, blocks, day, files_of, objects_of

UPPER, LOWER, ACROSS = (20, 30, 20, 30), (100, 110, 40, 50), (85, 95, 70, 80)


def export(folder: Path, year: int, *slumps: tuple[int, int, int, int], first: int = 0) -> None:
    """Write a scene of which row 90 begins at the equator, moved so many rows southward."""
    grid = Affine(PIXEL, 0, LEFT, 0, -PIXEL, (90 - first) * PIXEL)
    moved = [(top - first, bottom - first, left, right) for top, bottom, left, right in slumps]
    export_mask(folder / f"{year}-{first}", blocks(*moved), grid, CRS, day(year))


def links_of(folder: Path, year: int) -> dict[str, str]:
    """Return what became of objects in a year, by id."""
    links = pd.read_parquet(folder / "links.parquet")
    links = links[links["year_to"] == year]
    return dict(zip(links["object_id_from"].fillna(links["object_id_to"]), links["relation"], strict=True))


@pytest.mark.slow
def test_a_slump_south_of_the_equator_in_a_scene_of_the_north_is_gone(tmp_path):
    """In an update as in a build from nothing, which say the same of it."""
    export(tmp_path / "r", 2019, UPPER, LOWER, ACROSS)
    build(tmp_path / "r", tmp_path / "updated")
    first = objects_of(tmp_path / "updated", 2019).set_index("lat").sort_index()["object_id"].tolist()
    export(tmp_path / "r", 2020, UPPER)
    build(tmp_path / "r", tmp_path / "updated")
    assert links_of(tmp_path / "updated", 2020) == dict(zip(first, ("gone", "gone", "same"), strict=True))
    build(tmp_path / "r", tmp_path / "new")
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "new")


@pytest.mark.parametrize("how", ["update", "release"])
def test_a_scene_south_of_the_equator_goes_on_where_one_across_it_ended(tmp_path, how):
    """Also where the one across it is in the release before only; one slump lies across the equator."""
    export(tmp_path / "r", 2019, UPPER, LOWER, ACROSS)
    made = build(tmp_path / "r", tmp_path / "one")
    ids = objects_of(made.path, 2019).set_index("lat").sort_index()["object_id"].tolist()
    lower, across, upper = ids
    export(tmp_path / ("r" if how == "update" else "s"), 2020, (100, 112, 40, 50), (91, 95, 70, 80), first=91)
    if how == "update":
        build(tmp_path / "r", made.path)
        made = build(tmp_path / "r", tmp_path / "two")
        assert files_of(tmp_path / "one") == files_of(made.path)
    else:
        made = build(tmp_path / "s", tmp_path / "two", previous=made.path)
    assert check(made.path).failures == ()
    found = objects_of(made.path, 2020)
    assert (found["lat"] < 0).all()
    assert set(found["object_id"]) == {lower, across}
    assert upper not in links_of(made.path, 2020)


def test_detections_of_scenes_on_both_sides_are_one_object(tmp_path):
    export(tmp_path / "r", 2019, UPPER, LOWER)
    export(tmp_path / "r", 2019, LOWER, first=91)
    made = build(tmp_path / "r", tmp_path / "dataset")
    found = objects_of(made.path, 2019).sort_values("lat")
    assert found["n_detections"].tolist() == [2, 1]
    assert check(made.path).failures == ()
    assert [path.name for path in made.path.glob("coverage/*/*.tif")] == ["looks-north.tif"]
    area = gpd.read_parquet(made.path / "coverage/year=2019/seen.parquet")["area_km2"].item()
    assert area == pytest.approx(120 * PIXEL * (120 + 91) * PIXEL / 1e6, rel=2e-3)


@pytest.mark.slow
def test_an_update_without_the_scene_across_the_equator_parts_the_planes_again(tmp_path):
    export(tmp_path / "r", 2019, UPPER, LOWER)
    export(tmp_path / "r", 2019, LOWER, first=12_000)
    build(tmp_path / "r", tmp_path / "updated")
    for path in (tmp_path / "r" / "2019-0").iterdir():
        path.unlink()
    export(tmp_path / "r", 2020, UPPER, first=-12_000)
    build(tmp_path / "r", tmp_path / "updated")
    build(tmp_path / "r", tmp_path / "new")
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").glob("coverage/*/*.tif")} == {"looks-north.tif", "looks-south.tif"}


def test_the_planes_are_parted_where_nothing_lies():
    """At the highest latitude up to the equator that nothing lies across."""
    assert divide_of(np.array([[60, 70], [-70, -60], [np.nan, np.nan]])) == 0
    assert divide_of(np.empty((0, 2))) == 0
    rng = np.random.default_rng(0)
    for _ in range(200):
        south = rng.uniform(-30, 30, 12)
        ranges = np.column_stack([south, south + rng.uniform(0, 8, 12)])
        divide = divide_of(ranges)
        low, high = ranges[:, 0] - 0.05, ranges[:, 1] + 0.05
        free = [each for each in (0.0, *low) if each <= 0 and not ((low < each) & (high >= each)).any()]
        assert divide == max(free)


def test_what_a_scene_saw_is_laid_out_on_the_plane_of_its_side():
    boxes = [shapely.box(10, south, 10.2, south + 0.2) for south in (40, -0.1, -0.32, -20)]
    found = [footprint_of(np.array([each], object)) for each in boxes]
    assert [each.plane for each in found] == [NORTH, NORTH, SOUTH, SOUTH]
    divide = divide_of(np.array([[each.south, each.north] for each in found]))
    assert divide == pytest.approx(-0.37)
    moved = parted(found, divide)
    assert [each.plane for each in moved] == [NORTH, NORTH, NORTH, SOUTH]
    assert [moved[number] is found[number] for number in range(4)] == [True, True, False, True]
    back = to_lonlat(np.array([moved[2].extent], object), NORTH)[0]
    assert back.symmetric_difference(boxes[2]).area < 1e-9
    assert moved[2].extent.area == pytest.approx(to_plane(np.array([boxes[2]], object), SOUTH)[0].area, rel=1e-4)
