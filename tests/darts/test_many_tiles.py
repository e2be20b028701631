"""A long run takes no more memory, files or threads than a short one."""

import gc
import threading
from pathlib import Path

import psutil
import pytest

from darts.run import run
from darts.run.records import RunRecords
from support import standin


@pytest.mark.slow
def test_many_tiles_leave_nothing_behind_in_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.make_folder(tmp_path, 20)
    process = psutil.Process()
    memory: list[int] = []
    add = RunRecords.add

    def add_and_measure(self: RunRecords, tile) -> None:
        add(self, tile)
        if len(memory) in {6, 19}:
            gc.collect()
        memory.append(process.memory_info().rss)

    monkeypatch.setattr(RunRecords, "add", add_and_measure)
    run(standin.make_pipeline(tmp_path, output_data_dir=tmp_path / "first"), standin.open_session)
    files = process.num_fds()
    memory.clear()
    records = run(standin.make_pipeline(tmp_path), standin.open_session)
    assert records.count("success") == 20
    assert memory[-1] < 1.03 * memory[6]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("darts-lane")]
    assert process.num_fds() <= files + 2
