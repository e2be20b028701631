"""Results that are moved and handed on: nothing in them names the machine, and the command finds what was changed."""

import getpass
import shutil
import socket
from pathlib import Path

import pytest

from darts.demo import demo_model, make_sample_area
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts_export import EXPORT_BANDS
from support.commands import run_darts

ELSEWHERE = "somebodys-folder-8c1f"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two tiles with every product, debug data and auxiliary data; the images and cubes are gone."""
    home = tmp_path_factory.mktemp(ELSEWHERE)
    area = make_sample_area(home / "sample", seed=3, size=160)
    shutil.copy(demo_model(), home / "model.safetensors")
    shutil.copy(demo_model().with_suffix(".json"), home / "model.json")
    records = PlanetPipeline(
        scenes_dir=area.scenes_dir,
        arcticdem_dir=area.arcticdem_dir,
        tcvis_dir=area.tcvis_dir,
        model_files=home / "model.safetensors",
        output_data_dir=home / "results",
        export_bands=EXPORT_BANDS,
        debug_data=True,
        patch_size=128,
        overlap=16,
        offline=True,
        device="cpu",
    ).run()
    assert [tile.status for tile in records.tiles] == ["success"]
    moved = tmp_path_factory.mktemp("moved")
    shutil.move(home / "results", moved / "results")
    shutil.rmtree(home)
    return moved / "results"


@pytest.mark.slow
def test_no_file_of_a_tile_names_the_machine(results: Path) -> None:
    secrets = {ELSEWHERE, socket.gethostname(), getpass.getuser(), Path.home().name, str(Path.cwd())}
    files = [path for folder in results.iterdir() if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
    kinds = {
        ".tif",
        ".gpkg",
        ".parquet",
        ".json",
        ".jpg",
        ".nc",
        ".qml",
        ".xml",
        ".html",
        ".js",
        ".css",
        ".qgs",
        ".qlr",
    }
    assert {path.suffix for path in files} == kinds
    for path in files:
        content = path.read_bytes()
        # Short names occur by chance in compressed data.
        found = [name for name in secrets if len(name) > 5 and name.encode() in content]
        assert not found, path.name
    records = b"".join(path.read_bytes() for path in results.iterdir() if path.is_file())
    assert ELSEWHERE.encode() in records  # which belong to the machine


@pytest.mark.slow
def test_the_command_names_what_was_changed(results: Path, tmp_path: Path) -> None:
    code, said = run_darts(tmp_path, "export", "verify", results)
    assert (code, said) == (0, "1 tile compared with the manifests, 0 not as written.\n")
    copied = Path(shutil.copytree(results, tmp_path / "results"))
    (raster,) = copied.rglob("probabilities.tif")
    content = bytearray(raster.read_bytes())
    content[len(content) // 2] ^= 1
    raster.write_bytes(content)
    (raster.parent / "mine.txt").write_text("mine")
    code, said = run_darts(tmp_path, "export", "verify", results, raster.parent)
    assert code == 1
    assert said.splitlines() == [
        f"{raster}: its content was changed.",
        f"note: {raster.parent / 'mine.txt'}: the export did not write it.",
        "2 tiles compared with the manifests, 1 not as written.",
    ]
    (raster.parent / "manifest.json").write_text("{")
    code, said = run_darts(tmp_path, "export", "verify", copied, results)
    assert code == 1
    assert f"{raster.parent / 'manifest.json'} cannot be read" in " ".join(said.split())
    assert said.splitlines()[-1] == "2 tiles compared with the manifests, 1 not as written."
    code, said = run_darts(tmp_path, "export", "verify", tmp_path / "nowhere")
    assert code == 2
    assert "holds no manifest.json" in said
