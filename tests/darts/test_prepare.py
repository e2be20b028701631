"""Preparing an offline run: the auxiliary cubes are filled for all tiles, margins included."""

import dataclasses
from pathlib import Path

import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

import darts_acquisition
from darts.demo import SampleArea, make_sample_area
from darts.errors import ConfigurationError, NoTilesError
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts_acquisition import Datacube, load_arcticdem, load_tcvis
from darts_acquisition.cube.ingest import Estimate, FetchReport
from support import standin
from support.damage import copy_scene


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=128)


def _pipeline(scenes: Path, folder: Path) -> PlanetPipeline:
    return PlanetPipeline(scenes_dir=scenes, arcticdem_dir=folder / "dem", tcvis_dir=folder / "tcvis", ee_project="p")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What the downloads are asked for, in place of downloading."""
    calls: dict = {}

    def note(name: str, answer: object):
        def call(areas, *arguments, **options):
            calls[name] = (list(areas), arguments, options)
            return answer

        return call

    for product in ("arcticdem", "tcvis"):
        monkeypatch.setattr(darts_acquisition, f"estimate_{product}", note(f"estimate {product}", Estimate(1, 1, 1)))
        monkeypatch.setattr(darts_acquisition, f"download_{product}", note(product, FetchReport(1, 0, 0)))
    return calls


def test_what_is_prepared_is_what_a_run_reads(area: SampleArea, tmp_path: Path, asked: dict) -> None:
    from darts.run.features import dem_margin_px
    from darts_acquisition import load_planet_scene
    from darts_acquisition.cube.areas import chunks_of

    assert _pipeline(area.scenes_dir, tmp_path).prepare_data(aux=True) == []
    (footprint,), (cube, resolution), options = asked["arcticdem"]
    assert (Path(cube), resolution, options["buffer"]) == (tmp_path / "dem", 2, dem_margin_px(100, 2))
    assert asked["tcvis"][2]["settings"].project == "p"
    geobox = load_planet_scene(area.scene_dir).odc.geobox
    dem, tcvis = Datacube.open(area.arcticdem_dir), Datacube.open(area.tcvis_dir)
    assert chunks_of(dem.product, footprint, options["buffer"]) == chunks_of(dem.product, geobox, options["buffer"])
    assert dem.missing(dem.window(geobox, options["buffer"])) == []
    assert load_arcticdem(geobox, area.arcticdem_dir, 2, options["buffer"], offline=True).dem.notnull().any()
    assert load_tcvis(geobox, area.tcvis_dir, offline=True).tc_wetness.any()
    assert tcvis.missing(tcvis.window(geobox, 2)) == []


@pytest.mark.parametrize(
    ("bands", "given", "filled"),
    [
        (("nir", "slope"), {}, {"arcticdem"}),
        (("nir", "tc_wetness"), {}, {"tcvis"}),
        (("nir",), {}, set()),
        (("nir", "slope", "tc_wetness"), {}, {"arcticdem", "tcvis"}),
        (("nir", "slope"), {"arcticdem": False}, set()),
        (("nir", "slope"), {"tcvis": True}, {"arcticdem", "tcvis"}),
        (("nir", "slope", "tc_wetness"), {"tcvis": False}, {"arcticdem"}),
        (("nir",), {"arcticdem": True, "tcvis": False}, {"arcticdem"}),
    ],
)
def test_what_the_models_need_is_prepared_unless_it_is_named(
    area: SampleArea,
    tmp_path: Path,
    asked: dict,
    caplog: pytest.LogCaptureFixture,
    bands: tuple[str, ...],
    given: dict,
    filled: set[str],
) -> None:
    model = standin.write_model(tmp_path / "model.safetensors", bands=bands)
    pipeline = dataclasses.replace(_pipeline(area.scenes_dir, tmp_path), model_files=model)
    with caplog.at_level("INFO", logger="darts"):
        pipeline.prepare_data(aux=True, **given)
    needed = [name for name, band in (("ArcticDEM", "slope"), ("TCVIS", "tc_wetness")) if band in bands]
    assert f"The models and the export need {' and '.join(needed) or 'no auxiliary data'}." in caplog.text
    assert {name for name in asked if not name.startswith("estimate")} == filled


def test_corners_of_the_window_around_a_turned_tile_are_prepared(tmp_path: Path, asked: dict) -> None:
    """Far from the meridian of the DEM's grid, tiles lie in it askew, and loading one reads its bounding window."""
    from darts_acquisition import arcticdem_product
    from darts_acquisition.cube.areas import chunks_of, product_windows

    folder = tmp_path / "scenes" / "20210821_210019_08_2405"
    folder.mkdir(parents=True)
    geobox = GeoBox((4500, 8500), Affine(3, 0, 500_000, 0, -3, 7_550_000), "EPSG:32647")
    profile = {"driver": "GTiff", "count": 4, "dtype": "uint16", "tiled": True, "sparse_ok": True}
    profile |= {"height": 4500, "width": 8500, "crs": "EPSG:32647", "transform": geobox.affine}
    with rasterio.open(folder / f"{folder.name}_3B_AnalyticMS_SR.tif", "w", **profile):
        pass
    assert _pipeline(tmp_path / "scenes", tmp_path).prepare_data(aux=True) == []
    (footprint,), _, options = asked["arcticdem"]
    product = arcticdem_product(2)
    (window,) = product_windows(product, geobox, options["buffer"])
    rows, cols = window.in_chunks(product.chunk_px)
    read = {(row, col) for row in range(rows.start, rows.stop) for col in range(cols.start, cols.stop)}
    assert len(read) > 20
    assert set(chunks_of(product, footprint, options["buffer"])) == read


def test_a_scene_that_cannot_be_read_is_named_and_the_others_go_on(
    area: SampleArea, tmp_path: Path, asked: dict
) -> None:
    names = ["20210801_200000_01_2405", "20210802_200000_02_2405"]
    folders = [copy_scene(area.scene_dir, tmp_path / "scenes", name) for name in names]
    next(folders[0].glob("*_SR.tif")).unlink()
    assert _pipeline(tmp_path / "scenes", tmp_path).prepare_data(aux=True) == [names[0]]
    assert len(asked["arcticdem"][0]) == 1
    with pytest.raises(SystemExit) as ended:
        PlanetPipeline.cli_prepare_data(pipeline=_pipeline(tmp_path / "scenes", tmp_path), aux=True)
    assert ended.value.code == 1


def test_where_no_scene_can_be_read_there_is_nothing_to_prepare(area: SampleArea, tmp_path: Path, asked: dict) -> None:
    folder = copy_scene(area.scene_dir, tmp_path / "scenes", "20210801_200000_01_2405")
    next(folder.glob("*_SR.tif")).unlink()
    with pytest.raises(NoTilesError, match="none of those selected can be read"):
        _pipeline(tmp_path / "scenes", tmp_path).prepare_data(aux=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoTilesError, match="holds no folder of a scene"):
        _pipeline(tmp_path / "empty", tmp_path).prepare_data(aux=True)
    assert asked == {}


def test_asking_for_nothing_or_for_images_is_a_mistake(area: SampleArea, tmp_path: Path, asked: dict) -> None:
    pipeline = _pipeline(area.scenes_dir, tmp_path)
    with pytest.raises(ConfigurationError, match="ask for --aux, --optical or both"):
        pipeline.prepare_data()
    with pytest.raises(ConfigurationError, match="leave --optical out"):
        pipeline.prepare_data(optical=True)
    assert asked == {}


def test_nothing_is_prepared_offline(area: SampleArea, tmp_path: Path, asked: dict) -> None:
    with pytest.raises(ConfigurationError, match="leave --offline out"):
        dataclasses.replace(_pipeline(area.scenes_dir, tmp_path), offline=True).prepare_data(aux=True)
    assert asked == {}
