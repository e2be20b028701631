"""Seasons: which looks are merged, against a build of the scenes of that season alone."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from darts_dataset import DatasetError, build, check, info
from darts_utils import ParameterError
from support.results import export_mask
from support.slump_worlds import APPEARS, CRS, GRID, GROWS, HIDDEN, VANISHES, blocks, files_of, objects_of

SCENES = {
    # Two looks of the summer, one of each edge of it, and a year that has no summer.
    "may": (datetime(2020, 5, 31, 23, 59, 59, tzinfo=UTC), blocks(GROWS[2], VANISHES)),
    "june": (datetime(2020, 6, 1, 0, 10, tzinfo=UTC), blocks(GROWS[0])),
    "august": (datetime(2020, 8, 31, 23, 55, tzinfo=UTC), blocks(GROWS[1], APPEARS)),
    "frame-in-september": (datetime(2020, 9, 1, 0, 2, tzinfo=UTC), blocks(HIDDEN)),  # Of the pass of August.
    "september": (datetime(2020, 9, 1, 1, tzinfo=UTC), blocks(GROWS[2], VANISHES)),
    "winter": (datetime(2021, 2, 1, tzinfo=UTC), blocks(VANISHES)),
    "later": (datetime(2022, 7, 1, tzinfo=UTC), blocks(GROWS[1])),
}
SUMMER = ("june", "august", "frame-in-september", "later")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("seasons")
    for name, (time, mask) in SCENES.items():
        export_mask(root / "results" / name, mask, GRID, CRS, time)
    return root


def test_objects_links_and_coverage_are_those_of_the_season(folder, tmp_path):
    made = build(folder / "results", tmp_path / "all", season=[8, 6, 7])
    alone = build([folder / "results" / name for name in SUMMER], tmp_path / "alone")
    assert (made.scenes, made.looks, made.detections) == (7, 6, 10)
    assert (alone.looks, made.objects) == (3, 4)
    found, expected = files_of(made.path), files_of(alone.path)
    merged = [name for name in expected if name.startswith(("level2/", "coverage/", "links"))]
    assert merged == [name for name in found if name.startswith(("level2/", "coverage/", "links"))]
    for name in merged:
        assert found[name] == expected[name], name
    objects = objects_of(made.path, 2020)
    assert objects["n_looks"].tolist() == [2] * 3
    assert objects["last_date"].max() == pd.Timestamp("2020-09-01T00:02Z")
    assert sorted(path.name for path in made.path.glob("level1/*/*")) == ["year=2020", "year=2021", "year=2022"]
    assert (check(made.path).failures, info(made.path)["season"], info(alone.path)["season"]) == ((), [6, 7, 8], None)


@pytest.mark.slow
def test_another_season_updates_what_it_changes(folder, tmp_path):
    build(folder / "results", tmp_path / "updated")
    update = build(folder / "results", tmp_path / "updated", season=range(6, 9))
    assert [part for part in update.written if part.startswith("level1")] == []
    assert {"coverage/year=2020", "level2/year=2020", "level2/year=2022"} <= set(update.written)
    assert "coverage/year=2022" in update.reused
    build(folder / "results", tmp_path / "new", season=range(6, 9))
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "new")


@pytest.mark.parametrize("season", [[], [0], [13], [7, 8.5]])
def test_a_season_is_months(folder, tmp_path, season):
    with pytest.raises(ParameterError, match="season is"):
        build(folder / "results", tmp_path / "dataset", season=season)


def test_a_season_without_looks_is_refused(folder, tmp_path):
    with pytest.raises(DatasetError, match=r"No look is of the season \[11, 12\].* \[2, 5, 6, 7, 8, 9\]"):
        build(folder / "results", tmp_path / "dataset", season=[11, 12])
    assert list(tmp_path.iterdir()) == []
