"""Trends of TCVIS by year: which datacube each scene reads, and what a run says of the wrong one."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

from darts.demo import SampleArea, make_sample_area
from darts.errors import ConfigurationError
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts.run import run
from darts.run.fetching import plan_fetching
from darts.run.trends import TrendCubes, trend_of_tile
from darts_acquisition import TRENDS, create_tcvis_cube, load_planet_scene, tcvis_trend_of_year
from darts_utils import DefaultPaths, ParameterError, tctrend_name
from support import standin
from support.damage import copy_scene

READS = {2018: "2000-2019", 2019: "2001-2020", 2021: "2003-2022", 2022: "2005-2024", 2024: "2005-2024"}
"""Trend that a scene of each year reads: the first whose last year is after it, else the newest."""
VALUES = {trend: 40 * number for number, trend in enumerate(TRENDS, start=1)}


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=96)


@pytest.fixture(scope="module")
def scenes(area: SampleArea, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same image as if taken in five years."""
    folder = tmp_path_factory.mktemp("scenes")
    for year in READS:
        copy_scene(area.scene_dir, folder, f"{year}0801_200000_01_2405")
    return folder


@pytest.fixture(scope="module")
def cubes(area: SampleArea, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of datacubes, each of one value."""
    folder = tmp_path_factory.mktemp("cubes")
    for trend, value in VALUES.items():
        cube = create_tcvis_cube(folder / tctrend_name(int(trend[-4:])), trend)
        window = cube.geobox[cube.window(load_planet_scene(area.scene_dir).odc.geobox, 9)]
        filled = {variable.name: np.full(window.shape, value, "uint8") for variable in cube.product.variables}
        cube.write(window, filled, complete=True)
    return folder


def _pipeline(scenes: Path, cubes: Path | str, folder: Path, **options: Any) -> PlanetPipeline:
    model = standin.write_model(folder / "model.safetensors", bands=("nir",))
    defaults = {"model_files": model, "output_data_dir": folder / "results", "device": "cpu", "offline": True}
    places = {"scenes_dir": scenes, "tcvis_dir": cubes, "export_bands": ["tcvis"], "executor": "serial"}
    return PlanetPipeline(**(places | defaults | {"trend": "by-year"} | options))


def _trend_of(results: Path, year: int) -> str:
    (path,) = results.glob(f"{year}*/tcvis.tif")
    with rasterio.open(path) as source:
        (value,) = np.unique(source.read())
    return next(trend for trend, expected in VALUES.items() if expected == value)


@pytest.mark.slow
def test_each_scene_reads_the_trend_of_its_year_and_finished_means_that_trend(scenes, cubes, tmp_path) -> None:
    pipeline = _pipeline(scenes, cubes, tmp_path)
    records = run(pipeline, standin.open_session)
    assert [tile.error for tile in records.tiles] == [""] * len(READS)
    assert {year: _trend_of(tmp_path / "results", year) for year in READS} == READS
    assert {decision.action for decision in pipeline.plan().decisions} == {"skip"}
    fixed = _pipeline(scenes, cubes, tmp_path, trend="2003-2022")
    decided = {int(each.task.tile_id[:4]): each for each in fixed.plan().decisions}
    assert {year for year, each in decided.items() if each.action == "skip"} == {2021}
    assert decided[2018].why.endswith(f"tcvis was {TRENDS['2000-2019']}, is {TRENDS['2003-2022']}")


@pytest.mark.slow
def test_a_trend_that_no_scene_reads_needs_no_cube(scenes, cubes, tmp_path) -> None:
    some = shutil.copytree(cubes, tmp_path / "cubes")
    shutil.rmtree(some / tctrend_name(2020))
    pipeline = _pipeline(scenes, some, tmp_path, image_ids=["20180801_200000_01_2405", "20210801_200000_01_2405"])
    plan = pipeline.plan()
    needed = plan.context.tcvis.needed(pipeline, plan.todo)
    assert {trend: len(tasks) for trend, tasks in needed.items()} == {"2000-2019": 1, "2003-2022": 1}
    with pytest.raises(ConfigurationError, match=r"no datacube at .*tctrend2020"):
        _pipeline(scenes, some, tmp_path).plan()


def test_a_cube_of_another_trend_ends_before_the_first_tile(scenes, cubes, tmp_path) -> None:
    place = cubes / tctrend_name(2022)
    with pytest.raises(ConfigurationError, match=r"holds .*2003-2022_TCVIS; expected .*2000-2019_TCVIS"):
        _pipeline(scenes, place, tmp_path, trend="2000-2019").plan()
    swapped = shutil.copytree(cubes, tmp_path / "cubes")
    shutil.rmtree(swapped / tctrend_name(2024))
    shutil.copytree(place, swapped / tctrend_name(2024))
    with pytest.raises(ConfigurationError, match=r"holds .*2003-2022_TCVIS; expected .*2005-2024_TCVIS"):
        _pipeline(scenes, swapped, tmp_path).plan()
    with pytest.raises(ConfigurationError, match="is one datacube, and trend is 'by-year'"):
        _pipeline(scenes, place, tmp_path).plan()


def test_one_trend_is_read_from_its_cube_or_from_a_folder_of_cubes(scenes, cubes, tmp_path) -> None:
    for number, place in enumerate((cubes, cubes / tctrend_name(2020))):
        pipeline = _pipeline(scenes, place, tmp_path / str(number), trend="2001-2020")
        assert pipeline.plan().context.tcvis.cubes == {"2001-2020": str(cubes / tctrend_name(2020))}


def test_the_default_folder_is_that_of_the_trend(tmp_path: Path) -> None:
    paths = {"default_dirs": DefaultPaths(tmp_path)}
    assert Path(PlanetPipeline(trend="2005-2024", **paths).tcvis_dir) == tmp_path / "aux" / "tctrend2024.darts.icechunk"
    assert Path(PlanetPipeline(trend="by-year", **paths).tcvis_dir) == tmp_path / "aux"


def test_what_is_to_be_fetched_is_counted_for_each_trend(scenes, cubes, tmp_path) -> None:
    pipeline = _pipeline(scenes, tmp_path / "none", tmp_path, offline=False)
    auxiliary = plan_fetching(pipeline, pipeline.plan()).auxiliary
    assert set(auxiliary) == {f"TCVIS {trend}" for trend in TRENDS}
    assert {estimate.missing_chunks for estimate in auxiliary.values()} == {1}


@pytest.mark.parametrize(
    ("time", "year"),
    [
        ("2021-12-31T23:30:00-02:00", 2022),
        ("2022-01-01T01:00:00+05:00", 2021),
        ("2021-12-31T23:30:00Z", 2021),
        (np.datetime64("2021-12-31T23:30:00"), 2021),
        ("20211231T233000Z", 2021),
        ("spring", None),
        ("", None),
    ],
)
def test_the_year_of_a_tile_is_that_of_its_moment_in_utc(time: object, year: int | None) -> None:
    tile = xr.Dataset(attrs={"time": time})
    cubes = TrendCubes("by-year", {trend: trend for trend in TRENDS})
    if year is None:
        with pytest.raises(ParameterError, match="nothing says when the image was taken"):
            trend_of_tile(cubes, None, tile)
    else:
        assert trend_of_tile(cubes, None, tile) == tcvis_trend_of_year(year)
