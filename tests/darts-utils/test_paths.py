"""Default folders: argument before environment before working directory, and what earlier releases left."""

import os
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from darts_utils import CubeOrigin, DefaultPaths, FoundCube, MovedFolderWarning, original_cube
from darts_utils.paths import OriginalPaths

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
    assert paths.models == fast / "models"
    assert paths.training == fast / "training"
    for name in ("output", "input", "cache", "logs", "archive"):
        assert getattr(paths, name) == large / name
    assert paths.auxiliary == large / "aux"
    assert paths.results("planet") == large / "output/planet"
    assert paths.planet_scenes == large / "input/planet/scenes"
    assert paths.planet_orthotiles == large / "input/planet/tiles"
    assert paths.sentinel2_grid == large / "input/sentinel2/grid"
    assert paths.sentinel2_raw("cdse") == large / "input/sentinel2/cdse-scenes"
    assert paths.sentinel2_raw("gee") == large / "input/sentinel2/gee-scenes"
    assert paths.tcvis == large / "aux/tctrend2019.darts.icechunk"
    assert paths.tctrend(2024) == large / "aux/tctrend2024.darts.icechunk"
    assert paths.arcticdem(10) == large / "aux/arcticdem_10m.darts.icechunk"


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
    assert paths.auxiliary == tmp_path / "here/aux"
    assert replace(paths, large_dir="/large").models == before


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


def test_the_object_of_the_original_has_the_folders_of_default_paths_or_of_those_that_are_set(tmp_path):
    paths = OriginalPaths()
    assert paths.out == DefaultPaths().output == tmp_path / "output"
    other = DefaultPaths(tmp_path / "other")
    paths.set_defaults(other)
    assert (paths.out, paths.aux, paths.models) == (other.output, other.auxiliary, other.models)
    assert (paths.arcticdem(2), paths.tcvis()) == (other.arcticdem(2), other.tcvis)
    with pytest.raises(AttributeError, match="OriginalPaths has no attribute 'darts_dir'; DefaultPaths knows"):
        print(paths.darts_dir)


# What release 0.1 and the original left.


@pytest.fixture
def roots(tmp_path):
    """Three roots, one of which has a name that a shell would cut."""
    return DefaultPaths(tmp_path / "darts", tmp_path / "fast disk", tmp_path / "large")


def put(path: Path, content: str = "something") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


# What is asked for, where release 0.1 had it, a file in there, and where it belongs.
OF_0_1 = {
    "models": (lambda paths: paths.models, "darts/models", "a.pt", "fast disk/models"),
    "a model in a folder": (lambda paths: paths.models, "darts/models", "RTS/m.safetensors", "fast disk/models"),
    "ArcticDEM": (
        lambda paths: paths.arcticdem(2),
        "fast disk/auxiliary/arcticdem_2m.icechunk",
        "refs/x",
        "large/aux/arcticdem_2m.darts.icechunk",
    ),
    "TCVIS": (
        lambda paths: paths.tcvis,
        "fast disk/auxiliary/tcvis.icechunk",
        "refs/x",
        "large/aux/tctrend2019.darts.icechunk",
    ),
    "raw scenes": (
        lambda paths: paths.sentinel2_raw("gee"),
        "large/input/sentinel2/raw-gee",
        "S2A/a.tif",
        "large/input/sentinel2/gee-scenes",
    ),
    "results of a scene": (
        lambda paths: paths.results("planet"),
        "darts/output/planet",
        "scene/manifest.json",
        "large/output/planet",
    ),
    "results of an orthotile": (
        lambda paths: paths.results("planet"),
        "darts/output/planet",
        "tile/scene/manifest.json",
        "large/output/planet",
    ),
}


@pytest.mark.parametrize("name", OF_0_1)
@pytest.mark.parametrize("empty_folder_is_there", [False, True])
def test_release_0_1_folder_is_used_until_the_named_move_is_made(roots, tmp_path, name, empty_folder_is_there):
    ask, before, file, now = OF_0_1[name]
    put(tmp_path / before / file, '{"fingerprint": "a"}')
    if empty_folder_is_there and name not in ("models", "a model in a folder"):
        (tmp_path / now).mkdir(parents=True)
    with pytest.warns(MovedFolderWarning) as warned:
        assert ask(roots) == tmp_path / before
    message = str(warned[0].message)
    assert message.startswith(f"{tmp_path / before} is used, where release 0.1 put it; it belongs at {tmp_path / now}")
    assert warned[0].filename == __file__
    subprocess.run(["bash", "-euc", message.partition("To move it: ")[2]], check=True)
    assert ask(roots) == tmp_path / now
    assert (tmp_path / now / file).read_text() == '{"fingerprint": "a"}'


@pytest.mark.parametrize("name", OF_0_1)
def test_release_0_1_folder_that_is_empty_is_not_used(roots, tmp_path, name):
    ask, before, _, now = OF_0_1[name]
    put(tmp_path / before / ".hidden")
    assert ask(roots) == tmp_path / now


def test_models_and_cubes_in_their_new_place_go_before_those_of_release_0_1(roots, tmp_path):
    for name in ("models", "ArcticDEM", "TCVIS"):
        ask, before, file, now = OF_0_1[name]
        put(tmp_path / before / file)
        put(tmp_path / now / file)
        assert ask(roots) == tmp_path / now


def test_models_folder_of_release_0_1_without_a_model_is_not_used(roots, tmp_path):
    put(tmp_path / "darts/models/readme.txt")
    assert roots.models == tmp_path / "fast disk/models"


def test_one_root_for_all_keeps_models_and_results_where_they_were(tmp_path):
    put(tmp_path / "models/a.pt")
    put(tmp_path / "output/planet/scene/manifest.json", '{"fingerprint": "a"}')
    paths = DefaultPaths(tmp_path)
    assert paths.models == tmp_path / "models"
    assert paths.results("planet") == tmp_path / "output/planet"


def test_results_of_release_0_1_go_before_those_in_the_new_place(roots, tmp_path):
    for root in ("darts", "large"):
        put(tmp_path / root / "output/planet/scene/manifest.json", '{"fingerprint": "a"}')
    with pytest.warns(MovedFolderWarning, match=r"mv -n \S+/darts/output/planet/\* \S+/large/output/planet/$"):
        assert roots.results("planet") == tmp_path / "darts/output/planet"


@pytest.mark.parametrize(
    ("files", "are_ours"),
    [
        (["2026-01-01_10-00-00.results.parquet", "2026-01-01_10-00-00.log"], True),
        (["2026-01-01_10-00-00.results.parquet"], False),  # the original writes such records, and no log beside them
        (["order/manifest.json"], False),  # an order of Planet has a manifest without a fingerprint
        (["scene/probabilities.tif"], False),
    ],
)
def test_results_are_told_by_manifests_and_records_of_ours(roots, tmp_path, files, are_ours):
    for file in files:
        put(tmp_path / "darts/output/planet" / file, "{}")
    if are_ours:
        with pytest.warns(MovedFolderWarning):
            assert roots.results("planet") == tmp_path / "darts/output/planet"
    else:
        assert roots.results("planet") == tmp_path / "large/output/planet"
    assert roots.results("sentinel2-cdse") == tmp_path / "large/output/sentinel2-cdse"


@pytest.mark.parametrize(
    ("ask", "name", "original"),
    [
        (lambda paths: paths.find_arcticdem(32), "arcticdem_32m.darts.icechunk", "arcticdem_32m.icechunk"),
        (lambda paths: paths.find_tctrend(2022), "tctrend2022.darts.icechunk", "TCTrend2022.icechunk"),
        (lambda paths: paths.find_tctrend(2019), "tctrend2019.darts.icechunk", "TCTrend2019.icechunk"),
        (lambda paths: paths.find_tctrend(2019), "tctrend2019.darts.icechunk", "tcvis.icechunk"),
    ],
)
def test_cube_of_the_original_is_told_by_its_name_and_never_taken(roots, tmp_path, ask, name, original):
    new = tmp_path / "large/aux" / name
    assert ask(roots) == FoundCube(new, CubeOrigin.NONE)
    beside = put(tmp_path / "large/aux" / original / "refs").parent
    assert ask(roots) == FoundCube(new, CubeOrigin.ORIGINAL, beside)
    assert original_cube(new) == beside
    assert original_cube(beside) is None
    put(new / "refs")
    assert ask(roots) == FoundCube(new, CubeOrigin.DARTS)


def test_cube_of_release_0_1_goes_before_that_of_the_original(roots, tmp_path):
    put(tmp_path / "large/aux/arcticdem_2m.icechunk/refs")
    before = put(tmp_path / "fast disk/auxiliary/arcticdem_2m.icechunk/refs").parent
    assert roots.find_arcticdem(2) == FoundCube(before, CubeOrigin.RELEASE_0_1)
    assert roots.find_arcticdem(10).origin is CubeOrigin.NONE
