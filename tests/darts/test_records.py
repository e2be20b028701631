"""The records of a run hold what happened, in the columns that the contract names."""

from pathlib import Path

import pandas as pd

from darts.run.progress import summarise
from darts.run.records import STAGES, RunRecords, TileRecord

TIMER = [
    "tile_id",
    "Loading Optical",
    "Loading ArcticDEM",
    "Loading TCVis",
    "Preprocessing",
    "Segmenting",
    "Postprocessing",
    "Exporting",
]


def _records(folder: Path) -> RunRecords:
    records = RunRecords(folder)
    records.add(
        TileRecord("one", folder / "one", stages={"Loading Optical": 1.5, "Segmenting": 2.0}, steps={"reading": 1.25})
    )
    records.add(TileRecord("two", folder / "two", status="skipped"))
    failed = TileRecord(
        "three", folder / "three", status="failed", error="Loading Optical: SceneError: no image", stages={STAGES[0]: 1}
    )
    records.add(failed)
    return records


def test_results_have_status_error_and_seconds(tmp_path: Path) -> None:
    results = pd.read_parquet(_records(tmp_path).path("results.parquet"))
    assert list(results.columns[:4]) == ["tile_id", "output_path", "status", "error"]
    assert list(results["status"]) == ["success", "skipped", "failed"]
    assert list(results["error"]) == ["", "", "Loading Optical: SceneError: no image"]
    assert list(results["output_path"]) == [str(tmp_path / name) for name in ("one", "two", "three")]
    assert results["seconds_segmenting"].sum() == 2.0
    assert results["seconds_loading_arcticdem"].isna().all()


def test_timer_has_a_column_per_stage_and_stopwatch_one_per_step(tmp_path: Path) -> None:
    records = _records(tmp_path)
    timer = pd.read_parquet(records.path("timer.parquet"))
    assert list(timer.columns) == TIMER
    assert timer["Loading Optical"].sum() == 2.5
    stopwatch = pd.read_parquet(records.path("stopwatch.parquet"))
    assert list(stopwatch.columns) == ["tile_id", "reading"]
    assert stopwatch["reading"].sum() == 1.25


def test_files_are_whole_after_every_tile_and_nothing_else_is_left(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    for number in range(3):
        records.add(TileRecord(f"tile {number}", tmp_path / f"tile {number}"))
        assert len(pd.read_parquet(records.path("results.parquet"))) == number + 1
    records.close()
    kinds = ("results", "stopwatch", "timer")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{records.name}.{kind}.parquet" for kind in kinds]


def test_an_empty_run_has_the_full_schema(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    records.write()
    assert list(pd.read_parquet(records.path("timer.parquet")).columns) == TIMER


def test_two_runs_in_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        records = RunRecords(tmp_path)
        records.write()
        names.add(records.name)
    assert len(names) == 3


def test_the_summary_counts_and_sorts_by_time(tmp_path: Path) -> None:
    lines = summarise(_records(tmp_path)).splitlines()
    assert lines[0] == "3 tiles: 1 succeeded, 1 skipped, 1 failed."
    assert str(tmp_path) in lines[1]
    assert lines[2] == "Time: Loading Optical 2.5 s, Segmenting 2.0 s."
