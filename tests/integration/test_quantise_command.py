"""`darts model quantise`: from a run's tiles to a model of eight bits that a run computes with."""

import sys
from pathlib import Path

import pytest

from darts.cli import run_command
from darts.demo import demo_model, make_sample_area
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts_segmentation import read_card
from support.commands import logging_restored

pytest.importorskip("nncf", reason="nncf is not installed")


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["darts", *map(str, arguments)])
    with logging_restored(), pytest.raises(SystemExit) as ended:
        run_command()
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_tiles_of_a_run_make_a_model_that_another_run_computes_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    area = make_sample_area(tmp_path / "area", seed=9101, size=1024)
    given = {
        "scenes_dir": area.scenes_dir,
        "arcticdem_dir": area.arcticdem_dir,
        "tcvis_dir": area.tcvis_dir,
        "device": "cpu",
        "offline": True,
        "report": False,
        "engine": "openvino",
        "patch_size": "auto",
    }
    PlanetPipeline(model_files=demo_model(), output_data_dir=tmp_path / "exact", debug_data=True, **given).run()
    assert _run(monkeypatch, "model", "quantise", demo_model(), tmp_path / "exact", "--out", tmp_path / "int8") == 0
    assert "the IoU of its map with that of the network is 0.9" in " ".join(capsys.readouterr().out.split())
    card = read_card(tmp_path / "int8")
    assert card.metrics["int8_iou"] >= 0.97
    assert {**card.metrics, **read_card(demo_model()).metrics} == card.metrics
    records = PlanetPipeline(model_files=tmp_path / "int8", output_data_dir=tmp_path / "rough", **given).run()
    assert records.count("success") == 1
    (tmp_path / "empty").mkdir()
    assert _run(monkeypatch, "model", "quantise", demo_model(), tmp_path / "empty", "--out", tmp_path / "x") == 2
