"""Soak tests of a run: kills, a full disk, hundreds of tiles in one process."""

import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import psutil
import pytest

from darts.demo import SampleArea, make_sample_area
from support.soak import describe, make_scenes, pipeline

FULL = pytest.mark.slow


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=128)


OWN = (".darts-run.lock", ".darts-inputs.jsonl")
"""Hidden files that a run leaves in the folder of results."""


def _values(area: SampleArea, scenes: Path, output: Path) -> dict[str, str]:
    return {
        "scenes_dir": str(scenes),
        "arcticdem_dir": str(area.arcticdem_dir),
        "tcvis_dir": str(area.tcvis_dir),
        "output_data_dir": str(output),
    }


def _kill_and_restart(runs: list[dict]) -> list[dict]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "support.soak", json.dumps(runs)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    assert len(told) == len(runs)
    return told


@pytest.mark.parametrize("kills", [pytest.param(4, marks=FULL), pytest.param(40, marks=FULL)])
def test_a_run_that_is_killed_and_started_again_ends_as_if_undisturbed(
    area: SampleArea, tmp_path: Path, kills: int
) -> None:
    make_scenes(area.scene_dir, tmp_path / "scenes", 12)
    runs = [_values(area, tmp_path / "scenes", tmp_path / name) for name in ("undisturbed", "killed")]
    told = _kill_and_restart([{"values": runs[0], "kills": 0}, {"values": runs[1], "kills": kills}])
    assert [run["code"] for run in told] == [0, 0]
    assert [run["computed twice"] for run in told] == [[], []]
    assert told[1]["killed"] >= 1
    assert describe(tmp_path / "killed") == describe(tmp_path / "undisturbed")
    hidden = [path for path in (tmp_path / "killed").rglob(".*") if path.name not in OWN]
    assert hidden == []
    for path in (tmp_path / "killed").glob("*.parquet"):
        pd.read_parquet(path)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_cleanly_and_the_next_completes_it(
    area: SampleArea, tmp_path: Path, small_disk: Path
) -> None:
    make_scenes(area.scene_dir, tmp_path / "scenes", 12)
    values = _values(area, tmp_path / "scenes", small_disk / "results")
    records = pipeline(values).run()
    table = pd.read_parquet(records.path("results.parquet"))
    failed = table[table["status"] == "failed"]
    assert len(failed) >= 1
    # GDAL may hide why a write failed, so that one more tile has to try; the one that ends the run says what to do.
    assert "Free space" in failed["error"].iloc[-1]
    done = set(table[table["status"] == "success"]["tile_id"])
    assert 0 < len(done) < 12
    assert {path.parent.name for path in (small_disk / "results").glob("*/manifest.json")} == done
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    again = pipeline(values).run()
    assert (again.count("success"), again.count("skipped"), again.count("failed")) == (12 - len(done), len(done), 0)


@pytest.mark.parametrize(("tiles", "warm"), [pytest.param(30, 10, marks=FULL), pytest.param(500, 50, marks=FULL)])
def test_many_tiles_leave_nothing_behind_in_the_process(
    area: SampleArea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiles: int, warm: int
) -> None:
    from darts.run.records import RunRecords

    make_scenes(area.scene_dir, tmp_path / "scenes", tiles)
    process = psutil.Process()
    memory: list[int] = []
    add = RunRecords.add

    def add_and_measure(self: RunRecords, tile) -> None:
        add(self, tile)
        gc.collect()
        memory.append(process.memory_info().rss)

    monkeypatch.setattr(RunRecords, "add", add_and_measure)
    values = _values(area, tmp_path / "scenes", tmp_path / "results") | {"export_bands": ["probabilities"]}
    files = process.num_fds()
    records = pipeline(values).run()
    assert records.count("success") == tiles
    assert memory[-1] < 1.05 * memory[warm - 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("darts")]
    assert process.num_fds() <= files + 8
