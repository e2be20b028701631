"""What a run's exit code says, for scripts and batch systems."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from darts.cli import app
from darts.errors import ConfigurationError
from darts.run import run
from darts_training import WritingError
from support import standin
from support.lanes import mostly_slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and three images."""
    monkeypatch.setattr("darts.run.run", partial(run, open_session=standin.open_session))
    return standin.make_folder(tmp_path, 3)


def _code(folder: Path, **values: Any) -> int:
    pipeline = standin.make_pipeline(folder, export_bands=["probabilities"], **values)
    try:
        pipeline.cli(pipeline=pipeline)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _fail(monkeypatch: pytest.MonkeyPatch, errors: dict[str, BaseException]) -> None:
    load = standin.StandInPipeline._load_tile

    def load_or_fail(self: standin.StandInPipeline, key: Path) -> Any:
        if key.stem in errors:
            raise errors[key.stem]
        return load(self, key)

    monkeypatch.setattr(standin.StandInPipeline, "_load_tile", load_or_fail)


def test_0_where_all_is_done(folder: Path) -> None:
    assert _code(folder) == 0
    assert _code(folder) == 0


@pytest.mark.parametrize(
    ("errors", "code"),
    mostly_slow(
        [
            ({"tile-001": ConnectionResetError("reset")}, 75),
            ({"tile-001": ConnectionResetError("reset"), "tile-002": TimeoutError("no answer")}, 75),
            ({"tile-001": ConnectionResetError("reset"), "tile-002": ValueError("no image")}, 1),
            ({"tile-001": MemoryError()}, 1),
            ({"tile-001": ValueError("no image")}, 1),
        ],
        lambda case: len(case[0]) == 2 and case[1] == 1,
    ),
    ids=str,
)
def test_75_only_where_services_failed_alone(
    folder: Path, errors: dict, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail(monkeypatch, errors)
    assert _code(folder) == code
    monkeypatch.undo()
    monkeypatch.setattr("darts.run.run", partial(run, open_session=standin.open_session))
    assert _code(folder) == 0


def test_1_where_a_run_stops_before_all_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail(monkeypatch, {"tile-000": ConnectionResetError("reset")})
    assert _code(folder, fail_fast=True, executor="serial") == 1


@pytest.mark.parametrize(
    ("values", "begun"),
    [({"fail_fast": True}, 1), ({"max_failures": 1}, 1), ({"max_failures": 2}, 2), ({}, 3)],
    ids=str,
)
def test_a_run_begins_no_tile_after_more_failures_than_it_may_have(
    folder: Path, values: dict, begun: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def fail(self: standin.StandInPipeline, key: Path) -> Any:
        started.append(key.stem)
        raise ValueError("no image")

    monkeypatch.setattr(standin.StandInPipeline, "_load_tile", fail)
    assert _code(folder, executor="serial", **values) == 1
    assert len(started) == begun


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143)])
def test_a_signal_counts_before_all_else(folder: Path, name: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    load = standin.StandInPipeline._load_tile

    def signal_meanwhile(self: standin.StandInPipeline, key: Path) -> Any:
        if key.stem == "tile-001":
            os.kill(os.getpid(), getattr(signal, name))
        return load(self, key)

    monkeypatch.setattr(standin.StandInPipeline, "_load_tile", signal_meanwhile)
    assert _code(folder) == code


def test_a_run_under_nohup_outlives_its_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = standin.StandInPipeline._load_tile

    def hang_up_meanwhile(self: standin.StandInPipeline, key: Path) -> Any:
        os.kill(os.getpid(), signal.SIGHUP)
        return load(self, key)

    monkeypatch.setattr(standin.StandInPipeline, "_load_tile", hang_up_meanwhile)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert _code(folder) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(13, "Permission denied", "results/report"),
            "results/report cannot be read or written: Permission",
        ),
        (OSError(28, "No space left on device"), "A file could not be written: No space left on device."),
        (
            RuntimeError("object store error: No space left on device (os error 28)"),
            "A file could not be written: No space",
        ),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_written_is_one_sentence(error, said, monkeypatch, capsys) -> None:
    monkeypatch.setattr(app, "app", Mock(side_effect=error))
    with pytest.raises(SystemExit) as ended:
        app.run_command()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"Error: {said}")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WritingError("x cannot be written: No space left on device."), 1),
        (WritingError("x cannot be written: Permission denied."), 2),
        (ConfigurationError("Records cannot be written: No space left on device."), 2),
    ],
    ids=str,
)
def test_a_full_disk_is_no_mistake_of_the_command_once_it_has_begun(error, code, monkeypatch, capsys) -> None:
    monkeypatch.setattr(app, "app", Mock(side_effect=error))
    with pytest.raises(SystemExit) as ended:
        app.run_command()
    assert (ended.value.code, capsys.readouterr().err) == (code, f"Error: {error}\n")


def test_any_other_error_keeps_its_traceback(monkeypatch) -> None:
    monkeypatch.setattr(app, "app", Mock(side_effect=OSError("a bug")))
    with pytest.raises(OSError, match="a bug"):
        app.run_command()
