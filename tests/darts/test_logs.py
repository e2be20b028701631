"""Log files of the command: each run has its own, however many start at once."""

import logging
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from darts.cli import logs
from darts.run import run
from darts.run.progress import run_log
from support import standin
from support.commands import logging_restored

TIME = datetime(2026, 7, 1, 12, 30, 5, tzinfo=UTC)


class _Clock:
    """A clock that stands still: every run starts in the same second."""

    @staticmethod
    def now(zone):
        return TIME


SCRIPT = """
import logging, sys
from datetime import UTC, datetime
from pathlib import Path
from darts.cli import logs

class Clock:
    now = staticmethod(lambda zone: datetime(2026, 7, 1, 12, 30, 5, tzinfo=UTC))

logs.datetime = Clock
logs.start_logging(0, Path(sys.argv[1]))
logging.getLogger("darts").debug("run of %s", sys.argv[2])
"""


def test_log_files_of_runs_that_start_in_one_second_are_apart(tmp_path):
    folder = tmp_path / "logs"
    runs = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(number)]) for number in range(3)]
    assert [run.wait() for run in runs] == [0] * 3
    lines = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    host = socket.gethostname().partition(".")[0]
    assert set(lines) == {f"darts_2026-07-01_12-30-05-{host}-{run.pid}.log" for run in runs}
    assert sorted(line.split()[-1] for line in lines.values()) == ["0", "1", "2"]


def test_log_file_of_another_machine_with_the_same_name_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "datetime", _Clock)
    monkeypatch.setattr("socket.gethostname", lambda: "node 1.cluster")
    taken = tmp_path / f"darts_2026-07-01_12-30-05-node-1-{os.getpid()}.log"
    taken.write_text("theirs")
    for line in ("a", "b"):
        with logging_restored():
            logs.start_logging(0, tmp_path)
            logging.getLogger("darts").debug(line)
    assert taken.read_text() == "theirs"
    assert taken.with_name(f"{taken.stem}-2.log").read_text().endswith("a\n")
    assert taken.with_name(f"{taken.stem}-3.log").read_text().endswith("b\n")


def test_log_files_need_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with logging_restored(), pytest.raises(logs.ConfigurationError, match=r"cannot be written into .*file: "):
        logs.start_logging(0, tmp_path / "file")


@pytest.mark.parametrize("path", ["/dev/full", "/absent/run.log"])
def test_a_log_of_a_run_that_cannot_be_written_ends_nothing(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    if path == "/dev/full" and not Path(path).exists():
        pytest.skip("this system has no /dev/full")
    with run_log(Path(path)):
        logging.getLogger("darts.run").warning("a line")
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_from_python_is_heard_where_nobody_set_up_logging(tmp_path, monkeypatch, capsys):
    standin.write_model(tmp_path / "model.safetensors")
    standin.write_image(tmp_path / "images" / "a.tif")
    monkeypatch.setattr("darts.run.run", partial(run, open_session=standin.open_session))
    with logging_restored():
        logging.getLogger().handlers = []
        records = standin.make_pipeline(tmp_path, report=False).run()
        assert not logging.getLogger("darts").handlers
    lines = capsys.readouterr().err
    assert "[1/1] a: success in" in lines
    assert "1 tile: 1 succeeded, 0 skipped, 0 failed." in lines
    assert "DEBUG" not in lines
    assert "DEBUG darts" in records.path("log").read_text()


def test_a_run_from_python_leaves_logging_to_who_set_it_up(tmp_path, monkeypatch, capsys):
    standin.write_model(tmp_path / "model.safetensors")
    standin.write_image(tmp_path / "images" / "a.tif")
    monkeypatch.setattr("darts.run.run", partial(run, open_session=standin.open_session))
    with logging_restored():
        logging.getLogger().handlers = [logging.NullHandler()]
        standin.make_pipeline(tmp_path, report=False).run()
    assert capsys.readouterr().err == ""
