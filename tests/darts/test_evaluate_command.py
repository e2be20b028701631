"""`darts evaluate`: what it prints, what it writes, and its exit codes."""

import json
import re
import sys
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from darts.cli import run_command
from darts.run import run
from support import standin
from support.commands import logging_restored


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished tiles of the stand-in, labels on one of them, and the area of both."""
    folder = standin.make_folder(tmp_path_factory.mktemp("evaluate"), 2)
    run(standin.make_pipeline(folder), standin.open_session)
    objects = gpd.read_parquet(folder / "results" / "tile-000" / "prediction_segments.parquet")
    labels = gpd.GeoDataFrame({"expert": "a"}, geometry=objects.geometry.to_crs("EPSG:4326"), index=objects.index)
    other = labels.assign(expert="b")
    labels.to_file(folder / "labels.gpkg")
    gpd.pd.concat([labels, other]).to_file(folder / "two.gpkg")
    width = 10 * standin.SIZE
    box = shapely.box(500_000, 7_600_000 - width, 500_000 + 2 * width, 7_600_000)
    gpd.GeoDataFrame(geometry=[box], crs="EPSG:32608").to_file(folder / "area.gpkg")
    return folder


@pytest.fixture
def evaluate(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run `darts evaluate …` in the folder; return code, output and error output."""
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["darts", "evaluate", *arguments])
        with logging_restored(), pytest.raises(SystemExit) as ended:
            run_command()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return call


def test_evaluate_prints_the_headlines_and_writes_the_report(evaluate, folder, tmp_path):
    code, out, _ = evaluate("results", "labels.gpkg", "--area", "area.gpkg", "--out", str(tmp_path / "report"))
    assert code == 0
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert found["figures"]["objects"]["recall@0.5"]["value"] == 1.0
    assert found["figures"]["objects"]["precision@0.5"]["value"] < 1.0  # tile-001 has no label
    assert f"{found['figures']['pixels']['iou']['value']:.3f}" in out
    assert "Blocks of ground that hold something: 1. Intervals need at least 5" in out
    assert "slumps found, overlap 0.3:  1.000 (95 %: not given, 1 block only)" in out
    for text in (out, (tmp_path / "report" / "evaluation.md").read_text()):
        assert not re.search(r"\bnan\b|\binf\b", text)
    assert str(tmp_path / "report" / "evaluation.md") in out


def test_evaluate_takes_several_folders(evaluate, tmp_path):
    code, _, _ = evaluate("results/tile-000", "results/tile-001", "labels.gpkg", "--out", str(tmp_path))
    assert code == 0
    assert list(json.loads((tmp_path / "evaluation.json").read_text())["tiles"]) == ["tile-000", "tile-001"]


def test_evaluate_without_an_area_claims_no_precision_and_says_what_to_do(evaluate, tmp_path):
    code, out, _ = evaluate("results", "labels.gpkg", "--out", str(tmp_path))
    assert code == 0
    assert "--area" in out
    assert "F1 of" not in out
    assert "iou" not in json.loads((tmp_path / "evaluation.json").read_text())["figures"]["pixels"]


@pytest.mark.slow
def test_evaluate_shows_how_far_experts_agree(evaluate, tmp_path):
    code, out, _ = evaluate("results", "two.gpkg", "--area", "area.gpkg", "--out", str(tmp_path))
    assert code == 0
    assert "experts among themselves:   IoU 1.000" in out
    assert "is replaced" not in out
    code, out, _ = evaluate("results", "two.gpkg", "--area", "area.gpkg", "--out", str(tmp_path))
    assert f"the evaluation that was in {tmp_path} is replaced" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "labels.gpkg"], "no finished results"),
        (["results", "absent.gpkg"], "There is no absent.gpkg"),
        (["results", "labels.gpkg", "--area", "absent.gpkg"], "There is no absent.gpkg"),
        (["results", "labels.gpkg", "--expert-column", "who"], "no column 'who'"),
        (["results", "labels.gpkg", "--model", "other"], "holds neither"),
        (["results", "labels.gpkg", "--year", "2021"], "The year 2021 was named; expected one with a dataset only"),
    ],
    ids=["no results", "no labels", "no area", "no column", "no model", "no dataset"],
)
def test_evaluate_says_what_is_wrong_in_one_sentence(evaluate, tmp_path, arguments, message):
    code, _, error = evaluate(*arguments, "--out", str(tmp_path / "report"))
    assert code == 2
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "report").exists()
