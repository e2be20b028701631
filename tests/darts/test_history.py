"""What the records of runs tell afterwards, and what a journal tells meanwhile."""

import json
import logging
import os
import platform
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from darts.cli.history import show_runs, show_status
from darts.errors import ConfigurationError
from darts.run.folding import KINDS
from darts.run.history import draw_timings, list_runs
from darts.run.journal import STAGES, TileRecord
from darts.run.lock import HOLDER_FILE, LOCK_FILE, folder_lock
from darts.run.records import RunRecords
from darts.run.status import run_status

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _write_old(folder: Path, name: str, statuses: list[str]) -> None:
    """Write the records that release 0.1 wrote."""
    keys = pd.DataFrame({"tile_id": pd.array([f"tile {n}" for n in range(len(statuses))], dtype="string")})
    timer = pd.DataFrame([dict.fromkeys(STAGES, 0.5)] * len(statuses), columns=list(STAGES), dtype="float64")
    results = keys.assign(output_path="/x", status=pd.array(statuses, dtype="string"), error="")
    seconds = timer.rename(columns={stage: "seconds_" + stage.lower().replace(" ", "_") for stage in STAGES})
    pd.concat([results, seconds], axis="columns").to_parquet(folder / f"{name}.results.parquet", index=False)
    pd.concat([keys, timer], axis="columns").to_parquet(folder / f"{name}.timer.parquet", index=False)
    keys.to_parquet(folder / f"{name}.stopwatch.parquet", index=False)


def _entry(number: int, status: str = "success", seconds: float | None = 0.0, tile: int | None = None) -> dict:
    tile = number if tile is None else tile
    record = TileRecord(
        f"tile {tile}",
        Path(f"/results/tile {tile}"),
        status=status,
        error=f"error {number}" if status == "failed" else "",
        stages={} if status == "skipped" else {"Segmenting": 2.0},
    )
    ended = {} if seconds is None else {"ended": (START + timedelta(seconds=seconds)).isoformat()}
    return record.to_entry() | ended


def _write_journal(folder: Path, name: str, entries: list[dict], **header: object) -> Path:
    facts = {"darts_journal": 1, "run": name, "host": "node", "pid": 7, "start": START.isoformat()}
    path = folder / f"{name}.journal.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [facts | header, *entries]))
    return path


# Runs that ended.


def test_runs_of_release_0_1_killed_runs_and_folded_ones_are_listed_together(tmp_path: Path) -> None:
    _write_old(tmp_path, "2026-01-01_00-00-00", ["success", "failed", "skipped", "success"])
    entries = [_entry(0), _entry(1, "failed"), _entry(2, "empty"), _entry(3, tile=1)]
    _write_journal(tmp_path, "2026-01-02_00-00-00", entries, planned={"total": 8})
    records = RunRecords(tmp_path, planned={"total": 1})
    records.add(TileRecord("one", tmp_path / "one", stages={"Segmenting": 3.0}))
    records.close()
    runs = list_runs(tmp_path)
    assert [(run.succeeded, run.skipped, run.failed, run.empty, run.planned, run.done) for run in runs] == [
        (2, 1, 1, 0, None, 3),
        (2, 0, 0, 1, 8, 3),
        (1, 0, 0, 0, 1, 1),
    ]
    assert [run.killed for run in runs] == [False, True, False]
    assert [run.busy_seconds for run in runs] == [4 * 7 * 0.5, 3 * 2.0, 3.0]
    assert not any(run.running for run in runs)


def test_a_journal_that_has_grown_since_it_was_folded_is_believed(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 2})
    records.add(TileRecord("one", tmp_path / "one"))
    records.close()
    with records.path("journal.jsonl").open("a") as file:
        file.write(json.dumps(_entry(5)) + "\n")
    os.utime(records.path("journal.jsonl"), (0, 0))  # Times decide nothing.
    assert [run.succeeded for run in list_runs(tmp_path)] == [2]


def test_runs_keep_their_plan_without_the_journal(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 5})
    records.close()
    records.path("journal.jsonl").unlink()
    assert [(run.planned, run.done) for run in list_runs(tmp_path)] == [(5, 0)]


def _damage(path: Path, kind: str) -> None:
    if kind == "random bytes":
        path.write_bytes(np.random.default_rng(1).bytes(2000))
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "foreign table":
        pd.DataFrame({"a": [1]}).to_parquet(path)
    elif kind == "foreign status":
        pd.DataFrame({"status": ["well"]}).to_parquet(path)
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("kind", ["random bytes", "cut", "empty", "foreign table", "foreign status", "folder"])
def test_a_damaged_file_hides_no_other_run(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00", "2026-01-03_00-00-00"):
        _write_old(tmp_path, name, ["success"])
    bad = tmp_path / "2026-01-02_00-00-00.results.parquet"
    _damage(bad, kind)
    with caplog.at_level(logging.WARNING, "darts"):
        names = [run.name for run in list_runs(tmp_path)]
    assert names == ["2026-01-01_00-00-00", "2026-01-03_00-00-00"]
    (message,) = caplog.messages
    assert str(bad) in message
    assert "Move or remove it" in message
    if kind == "foreign table":
        assert "has no column status" in message


def test_a_damaged_file_whose_journal_is_there_loses_nothing(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 1})
    records.add(TileRecord("one", tmp_path / "one"))
    records.close()
    _damage(records.path("results.parquet"), "cut")
    assert [run.succeeded for run in list_runs(tmp_path)] == [1]
    show_runs(tmp_path)
    assert len(pd.read_parquet(records.path("results.parquet"))) == 1


@pytest.mark.parametrize("damage", ["emptied", "garbage", "a line", "the header and a line", "cut"])
def test_a_journal_that_was_damaged_since_it_was_folded_takes_no_tile_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    name = "2026-01-02_03-04-05"
    journal = _write_journal(tmp_path, name, [_entry(n, "failed" if n == 2 else "success") for n in range(3)])
    show_runs(tmp_path)
    before = {kind: (tmp_path / f"{name}.{kind}").read_bytes() for kind in KINDS}
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    journal.write_bytes(
        {
            "emptied": b"",
            "garbage": b"garbage\n",
            "a line": b"".join([*lines[:2], b'{"bro\n', lines[3]]),
            "the header and a line": b"".join([b"{\n", lines[1], lines[2]]),
            "cut": b"".join(lines)[:-30],
        }[damage]
    )
    for _ in range(2):  # It is said each time.
        caplog.clear()
        show_runs(tmp_path)
        assert f"{journal} tells of fewer tiles than the Parquet files" in caplog.text
        (run,) = list_runs(tmp_path)
        assert (run.succeeded, run.failed) == (2, 1)
        assert {kind: (tmp_path / f"{name}.{kind}").read_bytes() for kind in KINDS} == before


def test_foreign_journals_hide_no_other_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write_journal(tmp_path, "2026-01-01_00-00-00", [_entry(0)])
    (tmp_path / "2026-01-02_00-00-00.journal.jsonl").write_text('{"darts_journal": 99}\n')
    (tmp_path / "2026-01-03_00-00-00.journal.jsonl").mkdir()
    with caplog.at_level(logging.WARNING, "darts"):
        show_runs(tmp_path)
        assert [run.name for run in list_runs(tmp_path)] == ["2026-01-01_00-00-00"]
    for day in ("02", "03"):
        assert any(f"2026-01-{day}_00-00-00.journal.jsonl" in message for message in caplog.messages)


def test_timings_skip_what_is_damaged_and_are_drawn_from_a_journal(tmp_path: Path) -> None:
    _write_journal(tmp_path, "2026-01-01_00-00-00", [_entry(0), _entry(1, "skipped")])
    _write_old(tmp_path, "2026-01-02_00-00-00", ["success"])
    _damage(tmp_path / "2026-01-02_00-00-00.timer.parquet", "random bytes")
    assert draw_timings(tmp_path, tmp_path / "timings.png").stat().st_size > 1000
    with pytest.raises(ConfigurationError, match="computed a tile"):
        draw_timings(tmp_path, tmp_path / "timings.png", "2026-01-02_00-00-00")


def test_runs_are_shown_with_empty_tiles_and_what_was_not_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_journal(tmp_path, "2026-01-01_00-00-00", [_entry(n, "empty") for n in range(3)], planned={"total": 8})
    show_runs(tmp_path)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split()[:5] == ["2026-01-01_00-00-00", "0", "0", "0", "3"]
    assert line.rstrip().endswith("was killed, 3 of 8 done")
    assert len(list(tmp_path.glob("2026-01-01_00-00-00.*.parquet"))) == 3
    for _ in range(2):  # Its journal was folded meanwhile.
        show_status(tmp_path, None)
        assert "was killed with 5 to go" in capsys.readouterr().out
        show_runs(tmp_path)
        assert "was killed, 3 of 8 done" in capsys.readouterr().out


def test_tiles_that_failed_are_not_done_and_an_ended_run_waits_for_no_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = RunRecords(tmp_path, planned={"total": 3})
    for tile, status in (("a", "skipped"), ("b", "skipped"), ("c", "failed")):
        records.add(TileRecord(tile, tmp_path / tile, status=status, error="e" * (status == "failed")))
    records.close()
    with records.path("journal.jsonl").open() as file:
        header = json.loads(file.readline())
    show_status(tmp_path, None)
    run_line, tiles, *_ = capsys.readouterr().out.splitlines()
    assert run_line.endswith(f"process {header['pid']}: ended")
    assert tiles == "tiles:    2 of 3 done (66 %): 2 skipped, 1 failed"
    show_runs(tmp_path)
    assert capsys.readouterr().out.rstrip().endswith("ended, 2 of 3 done")
    (tmp_path / "nothing").mkdir()
    nothing = RunRecords(tmp_path / "nothing", planned={"total": 3})
    nothing.close()
    show_status(tmp_path / "nothing", None)
    assert len(capsys.readouterr().out.splitlines()) == 2, "neither rate nor last end of a run that did nothing"


def test_a_folder_that_may_not_be_written_is_listed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_journal(tmp_path, "2026-01-01_00-00-00", [_entry(0)], planned={"total": 1})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("darts.run.history.is_folded", lambda *_: False)
    monkeypatch.setattr("darts.run.folding.fold", refuse)
    show_runs(tmp_path)
    assert "2026-01-01_00-00-00  1 " in capsys.readouterr().out


# A run that goes on.


def _now(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None) -> datetime:
            return START + timedelta(seconds=seconds)

    monkeypatch.setattr("darts.run.status.datetime", Clock)


def test_status_counts_the_last_line_of_each_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = ["skipped", "skipped", "failed", "success", "empty", "failed"]
    entries = [_entry(n, status, 10.0 * n) for n, status in enumerate(statuses)]
    _write_journal(tmp_path, "r", [*entries, _entry(6, "success", 60, tile=2)], planned={"total": 9, "to_compute": 7})
    _now(monkeypatch, 75)
    status = run_status(tmp_path)
    assert status.counts == {"success": 2, "skipped": 2, "failed": 1, "empty": 1}
    assert (status.done, status.planned, status.host, status.pid, status.start) == (5, 9, "node", 7, START)
    assert status.failures == [("tile 5", "error 5")]
    assert status.quiet == timedelta(seconds=15)
    assert status.state == "ended"
    assert status.time_left is None


def test_status_says_that_a_run_was_killed_or_ended_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [_entry(n, "success", 10.0 * n) for n in range(3)]
    _write_journal(tmp_path, "r", entries, planned={"total": 9, "to_compute": 9})
    show_status(tmp_path, None)
    assert "process 7: was killed with 6 to go; the same command goes on\n" in capsys.readouterr().out
    (tmp_path / "r.results.parquet").touch()
    show_status(tmp_path, None)
    assert "process 7: ended early with 6 to go; the same command goes on\n" in capsys.readouterr().out
    _write_journal(tmp_path, "r", entries, planned={"total": 3, "to_compute": 3})
    show_status(tmp_path, None)
    assert "process 7: ended\n" in capsys.readouterr().out


def test_status_of_a_run_that_goes_on_tells_rate_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder_lock(tmp_path) as tell:
        tell("r")
        entries = [_entry(n, "skipped", 0.001 * n) for n in range(1000)]
        # The first tiles took a minute each, the last 400 ten seconds.
        ends = [60.0 * n for n in range(1, 101)]
        ends += [ends[-1] + 10.0 * n for n in range(1, 401)]
        entries += [_entry(1000 + n, "success", end) for n, end in enumerate(ends)]
        _write_journal(tmp_path, "r", entries, planned={"total": 2000, "to_compute": 1000})
        _now(monkeypatch, ends[-1] + 5)
        status = run_status(tmp_path)
        assert status.state == "running"
        assert status.rate == pytest.approx(360)
        assert status.time_left == timedelta(seconds=500 * 10)
        _now(monkeypatch, ends[-1] + 3600)  # Nothing has ended for an hour.
        slow = run_status(tmp_path)
        assert slow.rate == pytest.approx(200 / (3600 + 1990) * 3600)
        assert slow.quiet == timedelta(hours=1)


def test_status_knows_no_rate_before_the_first_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder_lock(tmp_path) as tell:
        tell("r")
        _write_journal(tmp_path, "r", [_entry(0, "skipped")], planned={"total": 2})
        _now(monkeypatch, 30)
        assert run_status(tmp_path).rate is None
        _write_journal(tmp_path, "r", [_entry(0, "skipped"), _entry(1, "success", 20)], planned={"total": 5})
        status = run_status(tmp_path)
        assert status.rate == pytest.approx(180)
        assert status.time_left == timedelta(seconds=60)


def test_status_needs_neither_header_nor_timestamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write_journal(tmp_path, "r", [_entry(0, seconds=None), _entry(1, "failed", None)])
    path.write_bytes(b"\0\0" + path.read_bytes()[path.read_bytes().index(b"\n") :])
    status = run_status(tmp_path)
    assert (status.done, status.planned, status.rate, status.quiet, status.start) == (1, None, None, None, None)


def test_status_takes_the_newest_run_or_the_one_that_is_named(tmp_path: Path) -> None:
    for day, count in ((1, 1), (2, 2)):
        _write_journal(tmp_path, f"2026-01-0{day}_00-00-00", [_entry(n) for n in range(count)])
    assert run_status(tmp_path).done == 2
    assert run_status(tmp_path, "2026-01-01_00-00-00").done == 1
    with pytest.raises(ConfigurationError, match="no run 'x'"):
        run_status(tmp_path, "x")
    with pytest.raises(ConfigurationError, match="no folder"):
        run_status(tmp_path / "elsewhere")
    (tmp_path / "old").mkdir()
    _write_old(tmp_path / "old", "2026-01-02_03-04-05", ["success"])
    with pytest.raises(ConfigurationError, match=r"are of release 0\.1, which kept no journal"):
        run_status(tmp_path / "old")


def test_status_of_a_journal_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "2024-01-01_00-00-00.journal.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match=r"run 2024-01-01_00-00-00 cannot be read: "):
        run_status(tmp_path)


def test_status_of_another_machine_whose_lock_does_not_reach_here_is_unknown(tmp_path: Path) -> None:
    _write_journal(tmp_path, "r", [])
    (tmp_path / LOCK_FILE).touch()
    states = {"another": "unknown", platform.node(): "ended"}
    for host, state in states.items():
        (tmp_path / HOLDER_FILE).write_text(json.dumps({"host": host, "run": "r"}))
        assert run_status(tmp_path).state == state
    (tmp_path / HOLDER_FILE).write_text(json.dumps({"host": "another", "run": "another"}))
    assert run_status(tmp_path).state == "ended"


def test_status_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with folder_lock(tmp_path) as tell:
        tell("r")
        entries = [_entry(0, "success", 600), _entry(1, "failed", 1200)]
        _write_journal(tmp_path, "r", entries, planned={"total": 8})
        _now(monkeypatch, 1261)
        show_status(tmp_path, None)
    assert capsys.readouterr().out.splitlines() == [
        "run:      r on node, process 7: running",
        "tiles:    1 of 8 done (12 %): 1 succeeded, 1 failed",
        "rate:     6.0 tiles per hour",
        "left:     1 h 0 min",
        "last end: 1 min 1 s ago",
        "failed:   tile 1: error 1",
    ]


def test_status_says_that_a_run_waits_for_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with folder_lock(tmp_path) as tell:
        tell("r")
        _write_journal(tmp_path, "r", [], planned={"total": 8}, executor="dask")
        show_status(tmp_path, None)
        first, *_, last = capsys.readouterr().out.splitlines()
        assert first == "run:      r on node, process 7: running, and waits for workers of its cluster"
        assert last == "last end: none yet"
        (tmp_path / "r.worker-node-8.log").touch()
        show_status(tmp_path, None)
        assert capsys.readouterr().out.startswith("run:      r on node, process 7: running\n")


def test_records_copied_to_another_disk_stay_folded(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    records = RunRecords(tmp_path / "one", planned={"total": 0})
    records.close()
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    from darts.run.folding import fold_ended

    assert fold_ended(tmp_path / "two") == []
