"""Default folders: argument before environment before working directory."""

import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from darts_utils import DefaultPaths

VARIABLES = {
    "darts_dir": "DARTS_DATA_DIR",
    "fast_dir": "DARTS_FAST_DATA_DIR",
    "large_dir": "DARTS_LARGE_DATA_DIR",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("given", list(product([True, False], repeat=3)))
@pytest.mark.parametrize("in_environment", list(product([True, False], repeat=3)))
def test_argument_before_environment_before_the_default(monkeypatch, tmp_path, given, in_environment):
    arguments, expected = {}, {}
    for root, has_argument, has_variable in zip(VARIABLES, given, in_environment, strict=True):
        if has_variable:
            monkeypatch.setenv(VARIABLES[root], f"/environment/{root}")
        if has_argument:
            arguments[root] = f"/argument/{root}"
        otherwise = expected.get("darts_dir", tmp_path)
        expected[root] = Path(
            f"/argument/{root}" if has_argument else f"/environment/{root}" if has_variable else otherwise
        )
    paths = DefaultPaths(**arguments)
    assert {root: getattr(paths, root) for root in VARIABLES} == expected


def test_the_folders_below_the_roots(tmp_path):
    darts, fast, large = (tmp_path / name for name in ("darts", "fast", "large"))
    paths = DefaultPaths(darts, str(fast), large)
    assert paths.models == darts / "models"
    assert paths.output == darts / "output"
    assert paths.input == large / "input"
    assert paths.planet_scenes == large / "input/planet/scenes"
    assert paths.planet_orthotiles == large / "input/planet/tiles"
    assert paths.sentinel2_grid == large / "input/sentinel2/grid"
    assert paths.sentinel2_raw("cdse") == large / "input/sentinel2/raw-cdse"
    assert paths.auxiliary == fast / "auxiliary"
    assert paths.tcvis == fast / "auxiliary/tcvis.icechunk"
    assert paths.arcticdem(10) == fast / "auxiliary/arcticdem_10m.icechunk"


def test_an_empty_variable_counts_as_absent(monkeypatch, tmp_path):
    monkeypatch.setenv("DARTS_DATA_DIR", "")
    assert DefaultPaths().darts_dir == tmp_path


def test_roots_are_absolute_and_the_home_folder_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("USERPROFILE", "/home/someone")
    paths = DefaultPaths("here", "~/fast")
    assert paths.darts_dir == tmp_path / "here"
    assert paths.fast_dir == Path("/home/someone/fast")


def test_what_changes_later_changes_nothing(monkeypatch, tmp_path):
    paths = DefaultPaths("here")
    before = paths.models
    monkeypatch.setenv("DARTS_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("DARTS_FAST_DATA_DIR", "/elsewhere")
    os.chdir("/")
    assert paths.models == before == tmp_path / "here/models"
    assert paths.auxiliary == tmp_path / "here/auxiliary"
    assert replace(paths, fast_dir="/fast").models == before


def test_no_folder_is_made(tmp_path):
    paths = DefaultPaths("nowhere")
    assert paths.models
    assert paths.arcticdem(2)
    assert list(tmp_path.iterdir()) == []


def test_paths_cannot_be_changed_and_can_be_compared():
    with pytest.raises(AttributeError):
        DefaultPaths().darts_dir = "/elsewhere"
    assert DefaultPaths("/data") == DefaultPaths(Path("/data"), "/data", "/data")
    assert len({DefaultPaths("/data"), DefaultPaths("/data")}) == 1
