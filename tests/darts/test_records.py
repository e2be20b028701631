"""The records of a run hold what happened, in the columns that the contract names."""

import errno
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darts.run.folding import fold, fold_ended, has_lost_lines, is_folded
from darts.run.journal import by_age
from darts.run.progress import summarise
from darts.run.records import STAGES, RunRecords, TileRecord, remove_leftovers
from darts.run.running import may_run
from darts.run.shards import Shard, ShardMetadata
from support.lanes import cases

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
RESULTS = [
    *("tile_id", "output_path", "status", "error"),
    *("seconds_" + name.lower().replace(" ", "_") for name in TIMER[1:]),
    *("host", "device", "attempt", "objects", "area_m2", "reliable", "cloudy", "retryable"),
    *("mean_probability", "acquired", "footprint"),
]
KINDS = ("results", "timer", "stopwatch")


pytestmark = pytest.mark.usefixtures("closed_journals")


def _records(folder: Path) -> RunRecords:
    records = RunRecords(folder, planned={"total": 3})
    records.add(
        TileRecord("one", folder / "one", stages={"Loading Optical": 1.5, "Segmenting": 2.0}, steps={"reading": 1.25})
    )
    records.add(TileRecord("two", folder / "two", status="skipped"))
    failed = TileRecord(
        "three", folder / "three", status="failed", error="Loading Optical: SceneError: no image", stages={STAGES[0]: 1}
    )
    records.add(failed)
    return records


def _closed(folder: Path) -> RunRecords:
    records = _records(folder)
    records.close()
    return records


def test_a_reserve_that_cannot_be_made_is_the_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        RunRecords(tmp_path, planned={"total": 1})
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_results_have_status_error_and_seconds(tmp_path: Path) -> None:
    results = pd.read_parquet(_closed(tmp_path).path("results.parquet"))
    assert list(results.columns) == RESULTS
    assert list(results["status"]) == ["success", "skipped", "failed"]
    assert list(results["error"]) == ["", "", "Loading Optical: SceneError: no image"]
    assert list(results["output_path"]) == [str(tmp_path / name) for name in ("one", "two", "three")]
    assert results["seconds_segmenting"].sum() == 2.0
    assert results["seconds_loading_arcticdem"].isna().all()


def test_timer_has_a_column_per_stage_and_stopwatch_one_per_step(tmp_path: Path) -> None:
    records = _closed(tmp_path)
    timer = pd.read_parquet(records.path("timer.parquet"))
    assert list(timer.columns) == TIMER
    assert timer["Loading Optical"].sum() == 2.5
    stopwatch = pd.read_parquet(records.path("stopwatch.parquet"))
    assert list(stopwatch.columns) == ["tile_id", "reading"]
    assert stopwatch["reading"].sum() == 1.25


def test_journal_is_complete_after_every_tile_and_nothing_else_is_left(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 3})
    for number in range(3):
        records.add(TileRecord(f"tile {number}", tmp_path / f"tile {number}"))
        header, *lines = records.path("journal.jsonl").read_text().splitlines()
        assert json.loads(header)["planned"] == {"total": 3}
        assert [json.loads(line)["tile_id"] for line in lines] == [f"tile {n}" for n in range(number + 1)]
    records.close()
    kinds = ("journal.jsonl", *(f"{kind}.parquet" for kind in sorted(KINDS)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{records.name}.{kind}" for kind in kinds]


def test_an_empty_run_has_the_full_schema(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 0})
    records.close()
    assert list(pd.read_parquet(records.path("timer.parquet")).columns) == TIMER
    assert list(pd.read_parquet(records.path("results.parquet")).columns) == RESULTS


def test_two_runs_in_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    shards = ShardMetadata.of_tiles(Shard(0, 2), "digest", ["a", "b"], "2026-01-02")
    names = [RunRecords(tmp_path, planned={"total": 0}, shards=given).name for given in (None, None, None, shards)]
    assert len(set(names)) == 4
    assert names[3].endswith("-s0of2")


def test_a_run_is_named_by_its_start_its_host_and_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    import darts.run.records as module

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None) -> datetime:
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr("socket.gethostname", lambda: "gpu_01.cluster.example")
    names = [RunRecords(tmp_path, planned={"total": 0}).name for _ in range(3)]
    stem = f"2026-01-02_03-04-05-gpu-01-{os.getpid()}"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]
    assert list(by_age(dict.fromkeys([f"{stem}-10", names[2], stem], tmp_path))) == [stem, names[2], f"{stem}-10"]


def test_the_summary_counts_and_sorts_by_time(tmp_path: Path) -> None:
    lines = summarise(_records(tmp_path)).splitlines()
    assert lines[0] == "3 tiles: 1 succeeded, 1 skipped, 1 failed."
    assert str(tmp_path) in lines[1]
    assert lines[2] == "Time: Loading Optical 2.5 s, Segmenting 2.0 s."


def test_the_summary_names_empty_tiles_and_what_is_not_done(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 5})
    records.add(TileRecord("one", tmp_path / "one", status="empty", error="no data"))
    expected = "5 tiles: 0 succeeded, 0 skipped, 0 failed, 1 without data, 4 not done."
    assert summarise(records).splitlines()[0] == expected


# Random histories against a plain data frame.

_SETTINGS = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=cases(12),
)
_seconds = st.floats(0, 1e6)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_share = st.none() | st.floats(0, 1) | st.floats(0, 1, width=32).map(np.float32)
_tiles = st.builds(
    TileRecord,
    tile_id=_text,
    output_path=st.sampled_from([Path(f"/results/tile {number}") for number in range(8)]),
    status=st.sampled_from(["success", "skipped", "failed", "empty"]),
    error=_text,
    stages=st.dictionaries(st.sampled_from(STAGES), _seconds, max_size=4),
    steps=st.dictionaries(st.sampled_from("abcdef"), _seconds | st.integers(0, 9).map(np.float64), max_size=3),
    host=st.just("node-1") | _text.filter(bool),
    device=st.none() | st.sampled_from(["cpu", "cuda:0"]),
    attempt=st.integers(1, 3),
    objects=st.none() | st.integers(0, 2**40) | st.integers(0, 9).map(np.int64),
    area_m2=st.none() | st.floats(0, 1e12),
    reliable=_share,
    cloudy=_share,
    retryable=st.booleans(),
    mean_probability=_share,
    acquired=st.none() | st.just("2021-08-21T21:00:19Z"),
    footprint=st.none() | st.just("POLYGON ((1 2, 1 3, 2 3, 1 2))"),
)


def _oracle(tiles: list[TileRecord]) -> dict[str, pd.DataFrame]:
    """Make the three tables in the plainest way: drop what a later record replaces, and let pandas build columns."""
    kept = [
        tile
        for number, tile in enumerate(tiles)
        if tile.output_path not in [other.output_path for other in tiles[number + 1 :]]
    ]
    keys = pd.DataFrame({"tile_id": pd.array([tile.tile_id for tile in kept], dtype="string")})
    timer = pd.DataFrame([tile.stages for tile in kept], columns=TIMER[1:], index=keys.index, dtype="float64")
    results = keys.assign(
        output_path=pd.array([str(tile.output_path) for tile in kept], dtype="string"),
        status=pd.array([tile.status for tile in kept], dtype="string"),
        error=pd.array([tile.error for tile in kept], dtype="string"),
        **{"seconds_" + name.lower().replace(" ", "_"): timer[name] for name in timer.columns},
        host=pd.array([tile.host for tile in kept], dtype="string"),
        device=pd.array([tile.device for tile in kept], dtype="string"),
        attempt=np.array([tile.attempt for tile in kept], dtype="int64"),
        objects=pd.array([tile.objects for tile in kept], dtype="Int64"),
        **{
            name: np.array([getattr(tile, name) for tile in kept], dtype="float64")
            for name in ("area_m2", "reliable", "cloudy")
        },
        retryable=np.array([tile.retryable for tile in kept], dtype="bool"),
        mean_probability=np.array([tile.mean_probability for tile in kept], dtype="float64"),
        acquired=pd.array([tile.acquired for tile in kept], dtype="string"),
        footprint=pd.array([tile.footprint for tile in kept], dtype="string"),
    )
    steps = pd.DataFrame([tile.steps for tile in kept], index=keys.index, dtype="float64")
    return {
        "results": results,
        "timer": pd.concat([keys, timer], axis="columns"),
        "stopwatch": pd.concat([keys, steps], axis="columns"),
    }


def _compare(records: RunRecords, tiles: list[TileRecord]) -> None:
    for kind, expected in _oracle(tiles).items():
        found = pd.read_parquet(records.path(f"{kind}.parquet"))
        pd.testing.assert_frame_equal(found, expected, check_exact=True, check_column_type=False)


@_SETTINGS
@given(tiles=st.lists(_tiles, max_size=12), rows=st.integers(1, 4))
def test_folded_files_are_those_of_a_plain_frame(
    tmp_path_factory: pytest.TempPathFactory, tiles: list[TileRecord], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("results")
    records = RunRecords(folder, planned={"total": 8})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts.run.folding._ROWS", rows)  # So that a few tiles make several batches.
        for tile in tiles:
            records.add(tile)
        records.close()
        before = {kind: records.path(f"{kind}.parquet").read_bytes() for kind in KINDS}
        fold(folder, records.name)
        assert {kind: records.path(f"{kind}.parquet").read_bytes() for kind in KINDS} == before
    _compare(records, tiles)
    assert not has_lost_lines(folder, records.name)
    expected = _oracle(tiles)["results"]
    for status in ("success", "skipped", "failed", "empty"):
        assert records.count(status) == (expected["status"] == status).sum()
    assert records.undone == 8 - len(expected)
    assert [tile.tile_id for tile in records.tiles] == list(expected["tile_id"])
    assert [tile.reliable for tile in records.tiles] == [None if np.isnan(v) else v for v in expected["reliable"]]
    spent = {stage: sum(tile.stages.get(stage, 0) for tile in tiles) for stage in STAGES}
    assert records.seconds() == pytest.approx(spent)


@_SETTINGS
@given(tiles=st.lists(_tiles, min_size=1, max_size=8), where=st.floats(0, 1))
def test_a_kill_at_any_byte_leaves_exactly_the_complete_lines(
    tmp_path_factory: pytest.TempPathFactory, tiles: list[TileRecord], where: float
) -> None:
    folder = tmp_path_factory.mktemp("results")
    records = RunRecords(folder, planned={"total": 8})
    ends = []
    for tile in tiles:
        records.add(tile)
        ends.append(records.path("journal.jsonl").stat().st_size)
    cut = round(where * ends[-1])
    journal = records.path("journal.jsonl")
    journal.write_bytes(journal.read_bytes()[:cut])
    complete = [tile for tile, end in zip(tiles, ends, strict=True) if end <= cut]
    assert [tile.tile_id for tile in records.tiles] == list(_oracle(complete)["results"]["tile_id"])
    remove_leftovers(folder)
    assert fold_ended(folder) == [records.name]
    _compare(records, complete)
    assert fold_ended(folder) == []


def test_folding_leaves_a_run_that_goes_on_alone_and_folds_again_what_has_grown(tmp_path: Path) -> None:
    records = _records(tmp_path)
    assert fold_ended(tmp_path, running=[records.name]) == []
    assert fold_ended(tmp_path) == [records.name]
    assert is_folded(tmp_path, records.name)
    records.add(TileRecord("four", tmp_path / "four"))
    assert not is_folded(tmp_path, records.name)
    records.path("timer.parquet").unlink()
    assert fold_ended(tmp_path) == [records.name]
    assert len(pd.read_parquet(records.path("timer.parquet"))) == 4


def test_leftovers_of_other_runs_are_removed_and_those_of_running_ones_kept(tmp_path: Path) -> None:
    running = RunRecords(tmp_path, planned={"total": 1})
    for name in (".2026-01-01_00-00-00.reserve", ".2026-01-01_00-00-00.results.parquet.new"):
        (tmp_path / name).write_bytes(b"x")
    remove_leftovers(tmp_path, partial(may_run, tmp_path))
    assert [path.name for path in tmp_path.glob(".*")] == [f".{running.name}.reserve"]


def test_names_that_utf_8_does_not_hold_are_folded(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 1})
    records.add(TileRecord("odd", Path("/results/\udcff"), error="\udc80 odd"))
    records.close()
    assert records.tiles[0].output_path == Path("/results/\udcff")
    assert pd.read_parquet(records.path("results.parquet"))["error"][0] == "\\udc80 odd"


def test_what_is_not_finite_is_missing(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 1})
    records.add(TileRecord("one", tmp_path / "one", reliable=np.float32("nan"), area_m2=float("inf")))
    records.close()
    assert pd.read_parquet(records.path("results.parquet"))[["reliable", "area_m2"]].isna().all(axis=None)
    json.loads(records.path("journal.jsonl").read_text().splitlines()[1], parse_constant=pytest.fail)


# What goes wrong with the disk.


def test_a_folder_that_is_renamed_or_a_journal_that_is_removed_is_an_error_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    records = _records(tmp_path / "results")
    (tmp_path / "results").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        records.close()
    assert fold_ended(tmp_path / "elsewhere") == [records.name]
    other = _records(tmp_path)
    other.path("journal.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="was removed while it ran"):
        other.close()
