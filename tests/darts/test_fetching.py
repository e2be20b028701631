"""What a plan says that would be fetched is what the run then fetches."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from darts.demo import make_sample_area
from darts.errors import ConfigurationError
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts.run import plan, run
from darts.run.features import dem_margin_px
from darts.run.fetching import PlannedFetch
from darts_acquisition import (
    Datacube,
    Estimate,
    MissingAuxiliaryDataError,
    Window,
    arcticdem_product,
    create_arcticdem_cube,
    load_arcticdem,
    tcvis_product,
)
from support import standin
from support.arcticdem import Provider
from support.commands import run_darts
from support.damage import copy_scene
from support.earth_images import EarthImage
from support.earthengine_server import connect, serve_earth_engine

PRODUCTS = {"ArcticDEM": arcticdem_product(10), "TCVIS": tcvis_product()}
CRS = "EPSG:32608"
NORTH = Transformer.from_crs("EPSG:4326", CRS, always_xy=True).transform(-135, 68)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Providers with something in one chunk each; of all others they know that there is nothing."""
    provider = Provider(tmp_path_factory.mktemp("dem"), PRODUCTS["ArcticDEM"])
    row, col = _pixel("ArcticDEM", *NORTH)
    provider.add("tile", Window.of(row, row + 200, col, col + 200))
    row, col = _pixel("TCVIS", *NORTH)
    bands = {name: np.full((50, 50), 100, "uint8") for name in ("TCB_slope", "TCG_slope", "TCW_slope")}
    corner = PRODUCTS["TCVIS"].geobox.affine * Affine.translation(col, row)
    image = EarthImage(f"{PRODUCTS['TCVIS'].collection}/trends", bands, corner)
    with provider.serving() as dem, serve_earth_engine([image]) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARTS_ARCTICDEM_STAC_URL", dem.api.url)
        connect(engine)
        yield SimpleNamespace(requests=lambda: dem.requests() + len(engine.requests))


def _pixel(product: str, x: float, y: float) -> tuple[int, int]:
    """Return row and column of a point of the images' CRS in the grid of a product."""
    geobox = PRODUCTS[product].geobox
    col, row = ~geobox.affine * Transformer.from_crs(CRS, str(geobox.crs), always_xy=True).transform(x, y)
    return int(row), int(col)


def _places(rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    """Draw corners of images, half of them near the corner of a chunk of some product, and two in one chunk."""
    places = []
    for number in range(count):
        x, y = NORTH[0] + rng.uniform(-50_000, 50_000), NORTH[1] + rng.uniform(-50_000, 50_000)
        if number % 2:
            product = PRODUCTS["ArcticDEM" if number % 4 == 1 else "TCVIS"]
            row, col = (round(index / 3600) * 3600 for index in _pixel(("ArcticDEM", "TCVIS")[number % 4 // 2], x, y))
            there = Transformer.from_crs(str(product.geobox.crs), CRS, always_xy=True)
            x, y = there.transform(*product.geobox.affine * (col, row))
            x, y = x + rng.uniform(-700, 200), y + rng.uniform(-200, 700)
        places.append((round(x), round(y)))
    return [*places, (places[0][0] + 100, places[0][1] - 100)]


def _make(folder: Path, places: list[tuple[float, float]], **values: Any) -> standin.StandInPipeline:
    """Write an image at each place, and a model that needs both products."""
    standin.write_model(folder / "model.safetensors", bands=("nir", "slope", "tc_wetness"))
    for number, (x, y) in enumerate(places):
        path = folder / "images" / f"tile-{number:03}.tif"
        if not path.exists():
            standin.write_image(path, number)
            with rasterio.open(path, "r+") as file:
                file.transform = Affine(10, 0, x, 0, -10, y)
    cubes = {"arcticdem_dir": folder / "dem", "tcvis_dir": folder / "tcvis"}
    given = {"offline": False, "ee_project": "p", "export_bands": ["probabilities"]} | values
    return standin.make_pipeline(folder, **cubes, **given)


def _known(folder: Path) -> dict[str, int]:
    """Count the chunks that the cubes of a folder know of."""
    paths = {"ArcticDEM": folder / "dem", "TCVIS": folder / "tcvis"}
    return {name: len(Datacube.open(path).known()) if path.exists() else 0 for name, path in paths.items()}


def _fetched(folder: Path, pipeline: standin.StandInPipeline) -> tuple[dict[str, int], dict[str, str]]:
    """Run a pipeline; return how many chunks it fetched, and what became of the tiles."""
    before = _known(folder)
    records = run(pipeline, standin.open_session)
    counts = {name: after - before[name] for name, after in _known(folder).items()}
    return counts, {tile.tile_id: tile.status for tile in records.tiles}


def _planned(fetch: PlannedFetch) -> dict[str, int]:
    return {name: estimate.missing_chunks for name, estimate in fetch.auxiliary.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_chunks_that_are_planned_are_those_that_the_run_fetches(
    services: SimpleNamespace, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    places = _places(rng, 7)
    first = int(rng.integers(1, 6))
    for count in (first, len(places)):  # first into cubes that do not exist, then into those
        pipeline = _make(tmp_path, places[:count])
        asked = services.requests()
        fetch = plan(pipeline).fetch
        assert fetch is not None
        assert services.requests() == asked
        assert fetch.tiles == (first if count == first else count - first)
        assert (fetch.images, fetch.unplaced, fetch.fails, fetch.offline) == ({}, (), {}, False)
        planned = _planned(fetch)
        touched = {name: estimate.area_chunks for name, estimate in fetch.auxiliary.items()}
        assert all(0 < planned[name] <= touched[name] or count > first for name in PRODUCTS)
        counts, statuses = _fetched(tmp_path, pipeline)
        assert counts == planned
        assert set(statuses.values()) <= {"success", "skipped"}
    again = plan(_make(tmp_path, places)).fetch
    assert again is not None
    assert (again.tiles, again.auxiliary, again.lines()) == (0, {}, ["Nothing is to be fetched."])
    redone = plan(_make(tmp_path, places, overwrite=True)).fetch
    assert redone is not None
    assert _planned(redone) == {"ArcticDEM": 0, "TCVIS": 0}
    assert redone.lines() == ["Nothing is to be fetched."]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_tiles_that_are_planned_to_fail_offline_are_those_that_do(
    services: SimpleNamespace, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(100 + seed)
    places = _places(rng, 6)
    _fetched(tmp_path, _make(tmp_path, places[:2]))
    fetch = plan(_make(tmp_path, places, offline=True)).fetch
    assert fetch is not None
    asked = services.requests()
    counts, statuses = _fetched(tmp_path, _make(tmp_path, places, offline=True))
    assert services.requests() == asked
    assert counts == {"ArcticDEM": 0, "TCVIS": 0}
    failed = {tile for tile, status in statuses.items() if status == "failed"}
    assert set(fetch.fails) == failed
    assert failed
    first, second = fetch.lines()
    assert first.startswith("Missing, and offline not fetched: ")
    assert second.startswith(f"{len(failed)} of {fetch.tiles} tiles would fail: chunks of ")
    # What is missing is what a run that is not offline then fetches.
    counts, statuses = _fetched(tmp_path, _make(tmp_path, places))
    assert counts == _planned(fetch)
    assert set(statuses.values()) <= {"success", "skipped"}


@pytest.mark.slow
def test_tiles_beyond_a_product_are_planned_to_fail(services: SimpleNamespace, tmp_path: Path) -> None:
    """ArcticDEM ends south of 50° N, TCVIS at 45° N; a tile at 47° N lacks one of them."""
    inside, between = (round(NORTH[0]), round(NORTH[1])), (500_000, 5_200_000)
    fetch = plan(_make(tmp_path, [inside, between])).fetch
    assert fetch is not None
    dem = fetch.auxiliary["ArcticDEM"]
    reaches = ~PRODUCTS["ArcticDEM"].geobox.affine * Transformer.from_crs(CRS, 3413, always_xy=True).transform(*between)
    assert max(reaches) > PRODUCTS["ArcticDEM"].geobox.shape[0] or min(reaches) < 0
    assert dem.outside == (1,)
    assert fetch.fails == {"tile-001": "it lies outside ArcticDEM"}
    _, statuses = _fetched(tmp_path, _make(tmp_path, [inside, between]))
    assert statuses == {"tile-000": "success", "tile-001": "failed"}
    alone = plan(_make(tmp_path, [inside, between])).fetch
    assert alone is not None
    assert alone.auxiliary["ArcticDEM"] == Estimate(0, 0, 0, outside=(0,))
    assert alone.lines()[-1] == "1 of 1 tiles would fail: it lies outside ArcticDEM (1)."


def test_a_tile_outside_is_told_before_advice_that_cannot_help(tmp_path: Path) -> None:
    inside, outside = (round(NORTH[0]), round(NORTH[1])), (500_000, 5_200_000)
    with pytest.raises(
        ConfigurationError, match=r"in EPSG:32608 lies outside arcticdem.* All 2 tiles lie outside, and the models"
    ):
        plan(_make(tmp_path, [outside, (510_000, 5_200_000)], offline=True))
    with pytest.raises(ConfigurationError, match=r"there is no datacube at .*: fetch one with .* without --offline"):
        plan(_make(tmp_path / "b", [outside, inside], offline=True))


@pytest.mark.slow
def test_places_are_sought_of_tiles_that_would_be_computed_and_by_no_run(
    services: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    find = standin.StandInPipeline._tile_areas

    def note(self: Any, tasks: Any, failed: list[str], **options: Any) -> Any:
        asked.append([task.tile_id for task in tasks])
        return find(self, tasks, failed, **options)

    monkeypatch.setattr(standin.StandInPipeline, "_tile_areas", note)
    places = _places(np.random.default_rng(7), 2)
    _fetched(tmp_path, _make(tmp_path, places[:1]))
    assert asked == []
    plan(_make(tmp_path, places))
    assert asked == [["tile-001", "tile-002"]]


@pytest.mark.slow
def test_places_of_planet_scenes_are_those_of_their_images(tmp_path: Path) -> None:
    """A scene without one of its files is counted as one that would fail."""
    area = make_sample_area(tmp_path / "sample", seed=3, size=128)
    names = [f"2021080{day}_200000_01_2405" for day in (1, 2, 3, 4)]
    folders = [copy_scene(area.scene_dir, tmp_path / "scenes", name) for name in names]
    cube = tmp_path / "dem"
    model = standin.write_model(tmp_path / "model.safetensors", bands=("nir", "slope"))
    pipeline = PlanetPipeline(
        scenes_dir=tmp_path / "scenes", model_files=model, output_data_dir=tmp_path / "results", arcticdem_dir=cube
    )
    with rasterio.open(next(folders[-1].glob("*_SR.tif"))) as file:
        geobox = GeoBox.from_rio(file)
    create_arcticdem_cube(cube, 2)
    with pytest.raises(MissingAuxiliaryDataError, match=r"of the (\d+) chunks") as error:
        load_arcticdem(geobox, cube, 2, dem_margin_px(100, 2), offline=True)
    for folder, file in zip(folders, ("*_SR.tif", "*_udm2.tif", "*_metadata.json"), strict=False):
        next(folder.glob(file)).unlink()
    fetch = plan(pipeline).fetch
    assert fetch is not None
    reason = "the scene cannot be loaded (SceneNotFoundError)"
    assert fetch.fails == dict.fromkeys(names[:3], reason)
    assert fetch.lines()[-1] == f"3 of 4 tiles would fail: {reason} (3)."
    assert f"{fetch.auxiliary['ArcticDEM'].missing_chunks} of the " in str(error.value)
    assert "TCVIS" not in fetch.auxiliary


@pytest.mark.slow
def test_a_plan_with_a_tile_that_would_fail_ends_with_the_code_of_such_a_run(tmp_path: Path) -> None:
    area = make_sample_area(tmp_path / "sample", seed=3, size=64)
    scene = copy_scene(area.scene_dir, tmp_path / "scenes", "20210801_200000_01_2405")
    model = standin.write_model(tmp_path / "model.safetensors", bands=("nir",))
    command = ("inference", "planet-sequential", "--scenes-dir", "scenes", "--model-files", model)
    command += ("--output-data-dir", "results", "--export-bands", "probabilities")
    assert run_darts(tmp_path, *command, "--dry-run")[0] == 0
    next(scene.glob("*_udm2.tif")).unlink()
    code, said = run_darts(tmp_path, *command, "--dry-run")
    assert code == 1
    assert f"fails   {scene.name}: the scene cannot be loaded (SceneNotFoundError)" in said


def test_a_scene_that_ends_in_an_error_of_python_is_one_that_would_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run records any error of a tile, and does the others."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    area = make_sample_area(tmp_path / "sample", seed=3, size=64)
    scene = copy_scene(area.scene_dir, tmp_path / "scenes", "20210801_200000_01_2405")
    model = standin.write_model(tmp_path / "model.safetensors", bands=("nir",))
    pipeline = PlanetPipeline(scenes_dir=scene.parent, model_files=model, output_data_dir=tmp_path / "results")
    monkeypatch.setattr("darts_acquisition.check_planet_scene", refuse)
    fetch = plan(pipeline).fetch
    assert fetch is not None
    assert fetch.fails == {scene.name: "the scene cannot be loaded (PermissionError)"}


def test_places_are_sought_for_auxiliary_data_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> Any:
        raise NotImplementedError("no footprints")

    monkeypatch.setattr(standin.StandInPipeline, "_tile_aoi", refuse)
    fetch = plan(standin.make_pipeline(standin.make_folder(tmp_path / "plain", 2))).fetch
    assert fetch == PlannedFetch(tiles=2, offline=True)
    needing = plan(_make(tmp_path / "needing", [(500_000, 7_600_000)] * 2)).fetch
    assert needing is not None
    assert needing.unplaced == ("tile-000", "tile-001")
    assert needing.lines()[-1].startswith("Of 2 tiles the place is not known")


def test_sizes_are_summed_as_far_as_they_are_known() -> None:
    def said(*sizes: int | None) -> str:
        (line,) = PlannedFetch(images={str(number): size for number, size in enumerate(sizes)}).lines()
        return line

    assert said(1_000_000, 500_001) == "To fetch: images of 2 tiles, 2 MB to download."
    assert said(1_000_000, None) == "To fetch: images of 2 tiles, at least 1 MB to download."
    assert said(None, None, None) == "To fetch: images of 3 tiles, of unknown size."
