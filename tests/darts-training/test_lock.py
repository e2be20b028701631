"""One training at a time writes into a folder, also where machines do not see the locks of one another."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from darts_training import TrainingError, lock, make_folds, train
from darts_training.lock import LOCK_FILE, training_lock
from support.training import OPTIONS, make_samples

HOLD = """
import sys, time
from pathlib import Path
from darts_training.lock import training_lock

with training_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def quick(monkeypatch):
    """Let a training show every few hundredths of a second that it lives."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.4)


@pytest.fixture(params=["locks", "no locks"])
def maybe_without_locks(request, monkeypatch):
    """File systems with and without locks."""
    if request.param == "no locks":
        monkeypatch.setattr(lock, "try_lock", lambda descriptor: None)


def leave(folder, host):
    """Leave what a training on a host leaves that is killed."""
    facts = {"host": host, "process": 17, "start": "2026-01-01T00:00:00+00:00"}
    (folder / LOCK_FILE).write_text(json.dumps(facts))


@pytest.mark.usefixtures("quick", "maybe_without_locks")
def test_a_folder_that_is_held_is_refused_with_who_holds_it(tmp_path):
    who = f"{tmp_path}: host {socket.gethostname()}, process {os.getpid()}, since 20"
    with training_lock(tmp_path):
        for _ in range(2):
            with pytest.raises(TrainingError, match=who), training_lock(tmp_path):
                pass
    assert list(tmp_path.iterdir()) == []
    with training_lock(tmp_path):
        pass


def test_a_killed_training_of_this_machine_is_taken_over_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "WATCH_SECONDS", 60)
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(TrainingError, match=f"process {other.pid}"), training_lock(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / LOCK_FILE).exists()
    start = time.monotonic()
    with training_lock(tmp_path):
        assert time.monotonic() - start < 5


@pytest.mark.usefixtures("quick", "maybe_without_locks")
def test_a_training_of_another_machine_is_refused_for_as_long_as_it_lives(tmp_path):
    leave(tmp_path, "elsewhere")
    dead = threading.Event()

    def live():
        while not dead.wait(0.02):
            os.utime(tmp_path / LOCK_FILE)

    heart = threading.Thread(target=live)
    heart.start()
    try:
        with pytest.raises(TrainingError, match="host elsewhere, process 17, since 2026"), training_lock(tmp_path):
            pass
    finally:
        dead.set()
        heart.join()
    with training_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()


@pytest.mark.usefixtures("quick")
def test_a_training_of_another_machine_that_ends_meanwhile_is_waited_for(tmp_path):
    leave(tmp_path, "elsewhere")
    threading.Timer(0.1, (tmp_path / LOCK_FILE).unlink).start()
    with training_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()


@pytest.mark.usefixtures("quick")
def test_what_is_damaged_or_empty_keeps_nobody_out(tmp_path):
    for content in ("", "{", "[]"):
        (tmp_path / LOCK_FILE).write_text(content)
        with training_lock(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
        assert not (tmp_path / LOCK_FILE).exists()


def test_of_many_one_holds_the_folder(tmp_path):
    holding, most, won = 0, 0, 0

    def compete():
        nonlocal holding, most, won
        for _ in range(40):
            try:
                with training_lock(tmp_path):
                    holding += 1
                    most, won = max(most, holding), won + 1
                    time.sleep(0.001)
                    holding -= 1
            except TrainingError:
                continue

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert won > 10


@pytest.mark.slow
def test_a_training_in_a_folder_that_another_holds_writes_nothing(tmp_path):
    samples = make_samples(tmp_path / "samples")
    folds = make_folds(samples, 3, block_m=200, buffer_m=30)
    (tmp_path / "model").mkdir()
    with (
        training_lock(tmp_path / "model"),
        pytest.raises(TrainingError, match=r"Another training writes into .*model: host"),
    ):
        train(samples, tmp_path / "model", OPTIONS, folds=folds, device="cpu")
    assert list((tmp_path / "model").iterdir()) == []
