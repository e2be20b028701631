"""The examples of the READMEs and of the first pages of the documentation work as they stand."""

import re
import shutil
import warnings
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from darts.run import run
from darts_evaluation import FewBlocksWarning
from support import standin

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "packages").glob("*/README.md"))]
DOCS = (
    "coming-from-darts.md",
    "first-run.md",
    "own-images.md",
    "utils.md",
    "evaluation.md",
    "dataset.md",
    "training.md",
)
PAGES += [ROOT / "docs" / name for name in DOCS]
EXAMPLES = {
    f"{page.relative_to(ROOT)}:{number}": code
    for page in PAGES
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
    if "_cdse_" not in code and "_gee_" not in code  # those ask a service
}


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    """A folder with what the examples read: a scene, two GeoTIFFs, a model of optical bands, and a datacube."""
    import segmentation_models_pytorch as smp

    from darts.demo import make_sample_area
    from darts_segmentation import ModelCard, save_model

    folder = tmp_path_factory.mktemp("sample")
    area = make_sample_area(folder / "area", seed=1, size=192)
    scene = next(area.scenes_dir.iterdir())
    name = "20210821_210019_08_2405"
    for target in (folder / "scenes" / name, folder / name):
        target.mkdir(parents=True)
        for path in scene.iterdir():
            shutil.copy(path, target / path.name.replace(scene.name, name))
    shutil.copytree(area.arcticdem_dir, folder / "arcticdem_2m.icechunk")
    for number in range(2):
        standin.write_image(folder / "landsat" / f"LC08_063014_2021082{number}.tif", number, size=96)
    # Where the stand-in's first image shows a slump, and all of its ground.
    left, top = 500_000, 7_600_000
    for name, edge in (("slumps", 200), ("labelled_area", 480)):
        shape = shapely.box(left, top - edge, left + edge, top)
        gpd.GeoDataFrame(geometry=[shape], crs="EPSG:32608").to_file(folder / f"{name}.gpkg")
    unet = {"arch": "unet", "encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    card = ModelCard(name="my-model", architecture=unet, bands=["red", "green", "nir", "ndvi"])
    save_model(folder / "my-model.safetensors", smp.create_model(**card.architecture, encoder_weights=None), card)
    return folder


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """A folder of results, for the examples that read what a run left."""
    folder = tmp_path_factory.mktemp("finished")
    standin.write_model(folder / "model.safetensors")
    standin.write_image(folder / "images" / "20210821_210019_08_2405.tif")
    bands = ["binarized", "polygonized", "extent", "thumbnail"]
    run(standin.make_pipeline(folder, export_bands=bands), standin.open_session)
    return folder / "results"


def test_a_source_of_ones_own_is_short():
    (code,) = [code for name, code in EXAMPLES.items() if name.startswith("docs/own-images.md")]
    assert len([line for line in code.splitlines() if line.strip()]) < 40


def test_every_readme_has_an_example():
    assert {name.rpartition(":")[0] for name in EXAMPLES} == {str(page.relative_to(ROOT)) for page in PAGES}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_works(name, sample, results, tmp_path, monkeypatch):
    for entry in sample.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    if any(word in EXAMPLES[name] for word in ("ResultFolder.open", "evaluate(", "build(")):
        shutil.copytree(results, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    # A tile of half a kilometre is no ground for intervals.
    warnings.simplefilter("ignore", FewBlocksWarning)
    exec(compile(EXAMPLES[name], name, "exec"), {"__name__": "example"})
