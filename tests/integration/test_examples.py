"""The examples of the READMEs and of all pages of the documentation work as they stand."""

import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely

from darts.run import run
from darts_dataset import build
from darts_evaluation import FewBlocksWarning
from support import standin

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "packages").glob("*/README.md")), *sorted((ROOT / "docs").glob("*.md"))]
SCENE = "20210821_210019_08_2405"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

NOT_EXECUTED = {
    "_cdse_": "asks the Copernicus Data Space",
    "Sentinel2Pipeline(**": "searches and fetches scenes",
    "S3Settings(": "asks an object storage",
    "download_sentinel_2_grid(": "fetches the grid of MGRS tiles",
}
"""Why an example with these words is not executed; what it calls is tested with servers of our own."""
SLOW = ("openvino", "onnx", "make_training_data", "practice")
SLOW_PLACES = (
    "docs/first-run.md:0",
    "docs/first-run.md:1",
    "docs/own-images.md:0",
    "docs/segmentation.md:0",
    "packages/darts-training/README.md:0",
    "packages/darts/README.md:0",
)


def blocks(language: str, page: Path) -> list[str]:
    """Return the blocks of a page in one language."""
    return [code for found, code in FENCED.findall(page.read_text("utf-8")) if found == language]


def example(page: Path, number: int, code: str) -> Any:
    reason = next((reason for words, reason in NOT_EXECUTED.items() if words in code), None)
    marks = [pytest.mark.skip(reason=reason)] if reason else []
    place = f"{page.relative_to(ROOT)}:{number}"
    marks += [pytest.mark.slow] if place in SLOW_PLACES or any(words in code for words in SLOW) else []
    return pytest.param(code, id=place, marks=marks)


EXAMPLES = [example(page, number, code) for page in PAGES for number, code in enumerate(blocks("python", page))]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples read: scenes, a DEM, two GeoTIFFs, models of optical bands, datacubes, labels."""
    from darts.demo import make_sample_area

    folder = tmp_path_factory.mktemp("sample")
    area = make_sample_area(folder / "area", seed=1, size=192)
    scene = next(area.scenes_dir.iterdir())
    for target in (folder / "scenes" / SCENE, folder / SCENE):
        target.mkdir(parents=True)
        for path in scene.iterdir():
            shutil.copy(path, target / path.name.replace(scene.name, SCENE))
    (folder / "planet").mkdir()
    for link, target in (("planet/scenes", "scenes"), ("downloads", "scenes"), ("auxiliary", "area/auxiliary")):
        (folder / link).symlink_to(folder / target)
    shutil.copytree(area.arcticdem_dir, folder / "arcticdem_2m.icechunk")
    write_dem(scene, folder / "dem.tif")
    for number in range(2):
        standin.write_image(folder / "landsat" / f"LC08_063014_2021082{number}.tif", number, size=96)
    # Where the stand-in's first image shows a slump, and all of its ground.
    left, top = 500_000, 7_600_000
    for name, edge in (("slumps", 200), ("labels", 200), ("labelled_area", 480), ("labelled-area", 480)):
        shape = shapely.box(left, top - edge, left + edge, top)
        gpd.GeoDataFrame(geometry=[shape], crs="EPSG:32608").to_file(folder / f"{name}.gpkg")
    write_models(folder)
    return folder


def write_dem(scene: Path, path: Path) -> None:
    """Write a slope under a scene, with a margin and a hole, as somebody's own DEM."""
    import numpy as np
    import rasterio

    with rasterio.open(next(scene.glob("*_SR.tif"))) as file:
        profile = file.profile | {"count": 1, "dtype": "float32", "nodata": -9999, "width": 300, "height": 300}
        profile["transform"] = file.transform @ rasterio.Affine.translation(-50, -50)
    heights = np.add.outer(np.arange(300), np.zeros(300)).astype(np.float32)
    heights[100:120, 100:120] = -9999
    with rasterio.open(path, "w", **{name: profile[name] for name in profile if name not in ("photometric",)}) as file:
        file.write(heights, 1)


def write_models(folder: Path) -> None:
    """Write small networks of optical bands, one of them as a checkpoint of the first DARTS."""
    import segmentation_models_pytorch as smp
    import torch

    from darts_segmentation import ModelCard, save_model

    unet = {"arch": "unet", "encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    bands = ["red", "green", "nir", "ndvi"]
    card = ModelCard(name="my-model", architecture=unet, bands=bands)
    network = smp.create_model(**card.architecture, encoder_weights=None)
    (folder / "models").mkdir()
    for name in ("my-model.safetensors", "models/optical.safetensors", "models/slumps"):
        save_model(folder / name, network, card)
    config = {"model": dict(card.architecture), "bands": bands}
    torch.save({"config": config, "statedict": network.state_dict()}, folder / "RTS_v1.pt")
    shutil.copy(folder / "RTS_v1.pt", folder / "models" / "RTS_v1.pt")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results, for the examples that read what a run left."""
    folder = tmp_path_factory.mktemp("finished")
    standin.write_model(folder / "model.safetensors")
    standin.write_image(folder / "images" / f"{SCENE}.tif")
    bands = ["binarized", "polygonized", "extent", "thumbnail"]
    records = run(standin.make_pipeline(folder, export_bands=bands), standin.open_session)
    shutil.copy(records.path("results.parquet"), folder / "results" / "2025-07-01_12-00-00-gpu1-4711.results.parquet")
    return folder / "results"


@pytest.fixture(scope="session")
def given(sample: Path) -> dict[str, Callable[[Path], Any]]:
    """What the text around an example has made before, by name."""
    import numpy as np

    from darts_acquisition import load_arcticdem, load_planet_masks, load_planet_scene, load_tcvis
    from darts_postprocessing import prepare_export
    from darts_preprocessing import preprocess_v2

    scene = load_planet_scene(sample / SCENE)
    tile = scene.assign(load_planet_masks(sample / SCENE, scene).data_vars)
    dem = load_arcticdem(tile.odc.geobox, sample / "arcticdem_2m.icechunk", resolution=2, buffer=60)
    tcvis = load_tcvis(tile.odc.geobox, sample / "area" / "auxiliary" / "tcvis.icechunk")
    tile = preprocess_v2(tile, dem, tcvis, device="cpu")
    tile["probabilities"] = (tile["nir"] / 0.5).clip(0, 1).astype(np.float32)
    tile = prepare_export(tile, quality_level=1, device="cpu")
    same = {"tile": tile, "area": tile.odc.geobox, "geobox": tile.odc.geobox, "arcticdem": dem, "dem": dem}
    same |= {"tcvis": tcvis, "tile_id": SCENE}
    return {name: lambda _, value=value: value for name, value in same.items()} | {
        "folder": lambda place: place / "results" / SCENE
    }


def test_a_source_of_ones_own_is_short() -> None:
    code, *_ = blocks("python", ROOT / "docs" / "own-images.md")
    source, _, _ = code.partition("\npipeline = ")
    assert len([line for line in source.splitlines() if line.strip()]) < 40


def test_every_readme_has_an_example() -> None:
    assert all(blocks("python", page) for page in PAGES if page.name == "README.md")


def test_no_reason_is_left_over() -> None:
    codes = [code for page in PAGES for code in blocks("python", page)]
    assert all(any(words in code for code in codes) for words in (*NOT_EXECUTED, *SLOW))
    assert {example.id for example in EXAMPLES}.issuperset(SLOW_PLACES)


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_works(code: str, sample, results, given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in sample.iterdir():
        if entry.name != "auxiliary" or "auxiliary/" in code:
            (tmp_path / entry.name).symlink_to(entry)
    if re.search(r"ResultFolder\.open|evaluate\(|build\(|write_report\(|verify_export|gpkg|read_parquet", code):
        shutil.copytree(results, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    # A tile of half a kilometre is no ground for intervals.
    warnings.simplefilter("ignore", FewBlocksWarning)
    known = {name: make(tmp_path) for name, make in given.items() if re.search(rf"\b{name}\b", code)}
    exec(compile(code, "example", "exec"), {"__name__": "example", **known})


@pytest.mark.parametrize("page", ["export.md", "dataset.md"])
def test_a_query_works(page: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    (query,) = blocks("sql", ROOT / "docs" / page)
    build([results], tmp_path / "dataset")
    (tmp_path / "results").symlink_to(results)
    monkeypatch.chdir(tmp_path)
    ((*_, area),) = duckdb.sql(query).fetchall()
    assert area > 0
