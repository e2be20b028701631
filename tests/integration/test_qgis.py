"""Results and their project in a real QGIS, without a screen: style, CRS, no-data and names, and nothing is changed."""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import rasterio

from darts.report import write_report
from darts.run import run
from darts_dataset import build, check
from darts_export import verify_export
from support import standin

pytestmark = pytest.mark.slow

PROGRAM = Path(standin.__file__).with_name("draw_in_qgis.py")


@functools.cache
def qgis_python() -> str | None:
    """Return the Python that can import QGIS, None where there is none."""
    for python in ("/usr/bin/python3", shutil.which("python3-qgis")):
        if python and Path(python).exists():
            done = subprocess.run(
                [python, "-c", "import qgis.core"], capture_output=True, check=False, env=_environment()
            )
            if done.returncode == 0:
                return python
    return None


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"QT_QPA_PLATFORM": "offscreen"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Results of two tiles, moved, and what QGIS says of them after it has opened, drawn and closed every file."""
    python = qgis_python()
    if python is None:
        pytest.skip("QGIS is not installed with its Python")
    home = tmp_path_factory.mktemp("run")
    standin.make_folder(home, 2)
    bands = ["probabilities", "binarized", "polygonized", "extent", "optical", "thumbnail"]
    records = run(standin.make_pipeline(home, export_bands=bands), standin.open_session)
    write_report(records.folder)
    results = Path(shutil.move(home / "results", tmp_path_factory.mktemp("moved") / "results"))
    shutil.rmtree(home)
    build(results, results.parent / "dataset")
    places = [*results.glob("tile-*/*"), *results.parent.glob("dataset/**/*")]
    files = sorted(str(path) for path in places if path.suffix in (".tif", ".gpkg"))
    command = [python, str(PROGRAM), str(results / "report" / "darts.qgs"), str(results.parent / "map.png"), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    return results, json.loads(done.stdout.splitlines()[-1])


def test_the_project_opens_after_it_was_moved(seen: tuple[Path, dict[str, Any]]) -> None:
    _, said = seen
    assert said["read"]
    assert said["crs"] == "EPSG:32608"
    assert all(layer["valid"] and layer["crs"] == "EPSG:32608" for layer in said["layers"])
    names = [layer["name"] for layer in said["layers"]]
    assert len(set(names)) == len(names) == 10
    assert {name.partition(" ")[0] for name in names} == {"tile-000", "tile-001"}
    assert {layer["renderer"] for layer in said["layers"]} == {
        *("QgsSingleSymbolRenderer", "QgsSingleBandPseudoColorRenderer"),
        *("QgsPalettedRasterRenderer", "QgsMultiBandColorRenderer"),
    }


def test_each_file_opens_in_its_style(seen: tuple[Path, dict[str, Any]]) -> None:
    _, said = seen
    renderers = {
        "probabilities.tif": "QgsSingleBandPseudoColorRenderer",
        "binarized.tif": "QgsPalettedRasterRenderer",
        "preview.tif": "QgsMultiBandColorRenderer",
        "optical.tif": "QgsMultiBandColorRenderer",
        "prediction_segments.gpkg": "QgsSingleSymbolRenderer",
        "prediction_extent.gpkg": "QgsSingleSymbolRenderer",
    }
    nodata = {"probabilities.tif": 255, "binarized.tif": 255, "optical.tif": 0, "preview.tif": None}
    files = {file: about for file, about in said["files"].items() if Path(file).parent.name.startswith("tile-")}
    assert len(files) == 2 * len(renderers)
    for file, about in files.items():
        name = Path(file).name
        assert about["valid"]
        assert about["crs"] == "EPSG:32608"
        assert about["renderer"] == renderers[name]
        if name in nodata:
            assert about["nodata"] == nodata[name]
        else:
            frame = gpd.read_parquet(Path(file).with_suffix(".parquet"))
            assert about["count"] == len(frame)
            assert about["display"] == ("object_uid" if "segments" in name else "tile_id")


def test_a_dataset_opens_in_its_style(seen: tuple[Path, dict[str, Any]]) -> None:
    results, said = seen
    dataset = results.parent / "dataset"
    files = {path: about for file, about in said["files"].items() if (path := Path(file)).is_relative_to(dataset)}
    assert sorted(path.name for path in files) == ["detections.gpkg", "looks-north.tif", "objects.gpkg", "seen.gpkg"]
    for path, about in files.items():
        green, pixels = about["green"]
        assert about["valid"]
        assert green < pixels
        if path.suffix == ".tif":
            assert about["crs"] == "EPSG:6931"
            continue
        table = dataset / path.relative_to(dataset / "geopackage").with_suffix(".parquet")
        assert about["count"] == len(gpd.read_parquet(table))
        assert about["crs"] in ("OGC:CRS84", "EPSG:4326")
        assert about["renderer"] == "QgsSingleSymbolRenderer"
    assert check(dataset).failures == ()


def test_nothing_is_drawn_where_nothing_is(seen: tuple[Path, dict[str, Any]]) -> None:
    results, said = seen
    for folder in ("tile-000", "tile-001"):
        with rasterio.open(results / folder / "binarized.tif") as raster:
            share = (raster.read(1) == 1).mean()
        green, pixels = said["files"][str(results / folder / "binarized.tif")]["green"]
        assert 1 - green / pixels == pytest.approx(share, abs=0.02)
        assert said["files"][str(results / folder / "preview.tif")]["green"][0] < 0.02 * pixels
    green, pixels = said["green"]
    assert green < 0.6 * pixels


def test_opening_drawing_and_closing_changes_no_file(seen: tuple[Path, dict[str, Any]]) -> None:
    results, _ = seen
    for folder in sorted(results.glob("tile-*")):
        found = verify_export(folder)
        assert (found.failures, found.notes) == ({}, {})
