"""Records of runs whose disk is full, whose process is killed, or that go on for long."""

import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from darts.run.folding import fold_ended
from darts.run.records import STAGES, RunRecords, TileRecord

pytestmark = pytest.mark.usefixtures("closed_journals")


def test_a_full_disk_is_on_record_and_no_line_is_torn(small_disk: Path) -> None:
    records = RunRecords(small_disk, planned={"total": 9999})
    with suppress(OSError), (small_disk / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    reserved = []
    with suppress(OSError):
        while True:
            number = len(reserved)
            records.add(TileRecord(f"tile {number}", small_disk / f"tile {number}", error="x" * 300))
            reserved.append(bool(list(small_disk.glob(".*.reserve"))))
    added = len(reserved)
    assert not reserved[20]
    # Two megabytes were set aside for lines of some 500 bytes.
    assert 2_000 < added < 6_000
    assert records.path("journal.jsonl").read_bytes().endswith(b"}\n")
    with pytest.raises(OSError, match="No space left"):
        records.close()
    assert not list(small_disk.glob(".*"))
    assert len(records.tiles) == added
    assert records.undone == 9999 - added
    (small_disk / "filling").unlink()
    assert fold_ended(small_disk) == [records.name]
    assert len(pd.read_parquet(records.path("results.parquet"))) == added


def test_a_disk_that_is_full_at_the_start_leaves_nothing(small_disk: Path) -> None:
    (small_disk / "filling").write_bytes(bytes(2 * 2**20))
    with pytest.raises(OSError, match="No space left"):
        RunRecords(small_disk, planned={"total": 1})
    assert [path.name for path in small_disk.iterdir()] == ["filling"]


@pytest.mark.slow
def test_memory_hardly_grows_with_the_number_of_tiles(tmp_path: Path) -> None:
    records = RunRecords(tmp_path, planned={"total": 5_000})
    steps = {f"step {number}": 0.5 for number in range(20)}
    tracemalloc.start()
    for number in range(5_000):
        records.add(TileRecord(f"t{number}", tmp_path / f"t{number}", stages=dict.fromkeys(STAGES, 1.0), steps=steps))
    # Only what the records and this test hold: others in the process allocate when they like.
    places = [tracemalloc.Filter(True, pattern) for pattern in ("*/darts/run/*", __file__)]
    grown = sum(held.size for held in tracemalloc.take_snapshot().filter_traces(places).statistics("filename"))
    tracemalloc.stop()
    assert grown < 150 * 5_000  # A record alone takes about 2000 bytes.


_SCRIPT = """
import sys
from pathlib import Path
from darts.run.records import RunRecords, TileRecord
folder = Path(sys.argv[1])
records = RunRecords(folder, planned={"total": 10**9})
number = 0
while True:
    records.add(TileRecord(f"tile {number}", folder / f"tile {number}", stages={"Segmenting": 1.0}))
    print(number, flush=True)
    number += 1
"""


def test_a_killed_process_leaves_every_line_that_it_had_reported(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line == "300\n":
                run.kill()
                break
        reported = [300, *(int(line) for line in run.stdout if line.endswith("\n"))]
    (name,) = fold_ended(tmp_path)
    table = pd.read_parquet(tmp_path / f"{name}.results.parquet")
    assert len(table) >= reported[-1] + 1
    assert list(table["tile_id"]) == [f"tile {number}" for number in range(len(table))]
