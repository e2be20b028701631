"""The loop over tiles: skip, try again, stop, hold the folder, keep the records whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from darts.errors import ConfigurationError, FolderInUseError
from darts.run.failures import describe, is_disk_full, is_transient
from darts.run.fingerprint import describe_change
from darts.run.history import draw_timings, list_runs
from darts.run.journal import Journal
from darts.run.lock import folder_lock, running_in
from darts.run.records import RunRecords
from darts.run.resume import Decision
from darts.run.task import TileTask, TileWork
from darts_acquisition import (
    CubeDamagedError,
    LoginError,
    MissingAuxiliaryDataError,
    SceneNotFoundError,
    SceneNotStoredError,
    ServiceError,
)
from darts_acquisition.errors import Failure
from support.stages import SleepingWorker, decisions, make_tasks, run_tasks


def _run(output: Path, tasks: list[TileTask], hook=None, **changed) -> RunRecords:
    return run_tasks(output, tasks, SleepingWorker((0,) * 5, hook=hook), **changed)


def test_what_failed_by_chance_is_tried_once_more_and_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries: dict[str, int] = {}

    def fail(work: TileWork, stage: str) -> None:
        if stage == "Loading Optical":
            tile = work.task.tile_id
            tries[tile] = tries.get(tile, 0) + 1
            if tile == "tile-001" and tries[tile] == 1:
                raise ConnectionResetError("reset by peer")
            if tile == "tile-002":
                raise TimeoutError("no answer")
            if tile == "tile-003":
                raise ValueError("no image")

    with caplog.at_level("INFO", "darts.run.progress"):
        records = _run(tmp_path, make_tasks(tmp_path, 5), fail)
    places = [line.partition(":")[0] for line in caplog.messages if line.startswith("[")]
    ends = ["tile-000", "tile-001 failed", "tile-002 failed", "tile-003 failed", "tile-004"]
    ends = [f"[{number}/5] {end}" for number, end in enumerate(ends, 1)]
    assert places == [*ends, "[5/5] tile-001, attempt 2", "[5/5] tile-002, attempt 2 failed"]
    assert tries == {"tile-000": 1, "tile-001": 2, "tile-002": 2, "tile-003": 1, "tile-004": 1}
    table = pd.read_parquet(records.path("results.parquet")).set_index("tile_id").sort_index()
    assert list(table["status"]) == ["success", "success", "failed", "failed", "success"]
    assert table["error"]["tile-002"] == "Loading Optical: TimeoutError: no answer"


@pytest.mark.parametrize(("allowed", "expected"), [(0, 1), (2, 2), (None, 6)])
def test_a_run_ends_after_as_many_failures_as_asked(tmp_path: Path, allowed: int | None, expected: int) -> None:
    def fail(work: TileWork, stage: str) -> None:
        raise ValueError("no image")

    records = _run(tmp_path, make_tasks(tmp_path, 6), fail, most_failures=allowed)
    assert records.count("failed") == expected


def test_finished_tiles_are_recorded_as_skipped(tmp_path: Path) -> None:
    tasks = make_tasks(tmp_path, 3)
    plan = [Decision(tasks[0], "skip", "finished"), *decisions(tasks[1:])]
    records = _run(tmp_path, tasks, plan=plan)
    assert [(tile.tile_id, tile.status) for tile in records.tiles] == [
        ("tile-000", "skipped"),
        ("tile-001", "success"),
        ("tile-002", "success"),
    ]
    assert records.tiles[0].stages == {}


def test_a_full_disk_ends_the_run_and_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device")

    def fail(work: TileWork, stage: str) -> None:
        if (work.task.tile_id, stage) == ("tile-001", "Exporting"):
            raise full

    # The records find no space either, until what was set aside for them is given up.
    append = Journal.append

    def append_to_full_disk(self: Journal, entry: dict) -> None:
        if entry.get("status") == "failed" and list(tmp_path.glob(".*reserve")):
            raise full
        append(self, entry)

    monkeypatch.setattr(Journal, "append", append_to_full_disk)
    records = _run(tmp_path, make_tasks(tmp_path, 6), fail)
    table = pd.read_parquet(records.path("results.parquet"))
    assert list(table["status"]) == ["success", "failed"]
    assert "Free space" in table["error"][1]
    assert not list(tmp_path.glob(".*reserve"))


def test_the_second_run_into_a_folder_is_refused_and_told_about_the_first(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom darts.run.lock import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])) as tell:\n"
        "    tell('first')\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        assert running_in(tmp_path) == "first"
        with pytest.raises(FolderInUseError, match=f"process {first.pid}, since 20"):
            _run(tmp_path, make_tasks(tmp_path, 1))
        first.kill()
        first.wait()
    assert running_in(tmp_path) is None
    assert _run(tmp_path, make_tasks(tmp_path, 1)).count("success") == 1


def test_a_killed_run_leaves_nothing_that_the_next_does_not_clear(tmp_path: Path) -> None:
    for name in (".2026-01-01_00-00-00.reserve", ".2026-01-01_00-00-00.results.parquet.new"):
        (tmp_path / name).write_bytes(b"x")
    script = (
        "import os, sys\nfrom darts_utils import atomic_path\n"
        "with atomic_path(sys.argv[1]) as draft:\n    draft.write_text('half')\n    os.kill(os.getpid(), 9)\n"
    )
    killed = [sys.executable, "-c", script, str(tmp_path / "2026-01-01_00-00-00.config.toml")]
    assert subprocess.run(killed, timeout=60, check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.partial"))) == 1
    with folder_lock(tmp_path):
        pass
    records = _run(tmp_path, make_tasks(tmp_path, 1))
    kinds = ("journal.jsonl", "results.parquet", "stopwatch.parquet", "timer.parquet")
    visible = {path.name for path in tmp_path.iterdir()} - {".darts-run.lock", f"{records.name}.log"}
    assert visible == {f"{records.name}.{kind}" for kind in kinds}


_SCRIPT = """
import sys
from pathlib import Path
from support.stages import SleepingWorker, make_tasks, run_tasks
from darts.run.cancel import RunInterrupted
from darts.run.executors import overlap_executor, serial_executor
output = Path(sys.argv[1])
executor = overlap_executor() if sys.argv[2] == "overlap" else serial_executor()
def hook(work, stage):
    if stage == "Exporting":
        (output / work.task.tile_id).write_text("whole")
    elif stage == "Loading Optical":
        print(work.task.tile_id, flush=True)
try:
    worker = SleepingWorker((0.01, 0.01, 0.01, 0.01, 0.4), hook=hook)
    run_tasks(output, make_tasks(output, 20), worker, executor=executor)
except RunInterrupted as interrupted:
    sys.exit(interrupted.code)
"""


@pytest.mark.parametrize(
    ("executor", "number", "code"),
    [
        ("serial", signal.SIGINT, 130),
        ("overlap", signal.SIGTERM, 143),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("overlap", signal.SIGINT, 130),
                ("overlap", signal.SIGHUP, 143),
                ("serial", signal.SIGTERM, 143),
                ("serial", signal.SIGHUP, 143),
            )
        ),
    ],
)
def test_a_signal_ends_a_run_with_complete_records(tmp_path: Path, executor: str, number: int, code: int) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path), executor]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        while run.stdout.readline() != "tile-001\n":
            pass
        time.sleep(0.1)
        run.send_signal(number)
        run.stdout.read()
        assert run.wait(20) == code
    (path,) = tmp_path.glob("*.results.parquet")
    table = pd.read_parquet(path)
    written = sorted(path.name for path in tmp_path.glob("tile-*"))
    assert sorted(table["tile_id"]) == written
    assert 1 <= len(written) < 20
    assert set(table["status"]) == {"success"}
    assert not (tmp_path / ".darts-run.json").exists()


def test_runs_are_listed_with_counts_and_drawn(tmp_path: Path) -> None:
    def fail(work: TileWork, stage: str) -> None:
        if work.task.tile_id == "tile-001":
            raise ValueError("no image")
        time.sleep(0.001)

    _run(tmp_path, make_tasks(tmp_path, 3), fail)
    _run(tmp_path, [])
    runs = list_runs(tmp_path)
    assert [(run.succeeded, run.skipped, run.failed, run.running) for run in runs] == [
        (2, 0, 1, False),
        (0, 0, 0, False),
    ]
    assert 0.01 <= runs[0].busy_seconds < 5
    picture = draw_timings(tmp_path, tmp_path / "timings.png")
    from PIL import Image

    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(2**24)) > 5
    with pytest.raises(ConfigurationError, match="no run 'x'"):
        draw_timings(tmp_path, picture, "x")
    with pytest.raises(ConfigurationError, match="no folder"):
        list_runs(tmp_path / "elsewhere")


def test_a_change_is_described_by_what_differs() -> None:
    before = {"configuration": {"overlap": 128, "reflection": 0}, "models": {"a": "1"}, "code": {"darts-utils": 1}}
    now = {"configuration": {"overlap": 256, "reflection": 0}, "models": {"a": "2"}, "code": {"darts-utils": 2}}
    described = "overlap was 128, is 256, model a, results version of darts-utils was 1, is 2"
    assert describe_change(json.loads(json.dumps(before)), now) == described
    assert describe_change(before, before) == ""
    by_name, by_number, other = ({"configuration": {"quality_level": level}} for level in ("low_quality", 1, "none"))
    assert describe_change(by_name, by_number) == describe_change(by_number, by_name) == ""
    assert describe_change(by_name, other) == "quality_level was 1, is 0"
    assert describe_change({"engine": {"precision": "bf16"}}, {"engine": {"precision": "auto"}}) == ""


def test_failures_are_told_apart_through_their_causes() -> None:
    chained = ValueError("cannot load")
    chained.__cause__ = TimeoutError("no answer")
    assert is_transient(chained)
    assert not is_transient(ValueError("cannot load"))
    assert is_disk_full(RuntimeError("GDAL: write failed: No space left on device"))
    assert describe("Exporting", ValueError("two\nlines")) == "Exporting: ValueError: two lines"


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (MissingAuxiliaryDataError("No cube."), "darts inference prep-data planet --aux"),
        (SceneNotStoredError("No scene."), "darts inference prep-data planet --aux"),
        (CubeDamagedError("Damaged."), "darts cube verify"),
    ],
)
def test_what_helps_at_the_command_line_is_said_beside_an_error(error: Exception, command: str) -> None:
    chained = ValueError("cannot load")
    chained.__cause__ = error
    for raised in (error, chained):
        assert f". `{command}` " in describe("Loading", raised, "darts inference prep-data planet --aux")


def test_describe_names_the_file_that_gdal_could_not_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    grid = {"width": 64, "height": 64, "crs": "EPSG:32607", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 7.7e6)}
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype="uint16", **grid) as file:
        file.write(np.ones((1, 64, 64), "uint16"))
    path.write_bytes(path.read_bytes()[:3000])
    with rasterio.open(path) as file, pytest.raises(rasterio.errors.RasterioIOError) as raised:
        file.read()
    said = describe("Loading Optical", raised.value)
    assert said.startswith("Loading Optical: RasterioIOError: Read failed. cut.tif")
    assert "previous exception" not in said


def test_what_a_service_answered_decides_whether_it_is_asked_again() -> None:
    busy = ServiceError("busy", Failure("HTTP status 429", transient=True, status=429))
    refused = LoginError("refused", Failure("HTTP status 403", transient=False, status=403, login=True))
    absent = SceneNotFoundError("absent")
    absent.__cause__ = ServiceError("absent", Failure("HTTP status 404", transient=False, status=404))
    assert is_transient(busy)
    assert not any(is_transient(error) for error in (refused, absent, LoginError("no keys"), ServiceError("no page")))
