"""A signal ends the run that it is meant for, and no other of the process."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from darts.run import RunInterrupted, run
from darts.run.cancel import CancellationToken, cancelling_on_signals
from darts_acquisition import FetchCancellation, RetryPolicy
from support import standin


class Service:
    """Tells whoever asks to come back in an hour, until it answers."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def request(self) -> None:
        self.asked.set()
        if not self.answers.is_set():
            raise ConnectionError("lost")


SERVICES: dict[str, Service] = {}


@dataclass
class WaitingPipeline(standin.StandInPipeline):
    """Asks the service of its folder before it loads an image."""

    def _load_tile(self, tilekey: Path) -> Any:
        service = SERVICES[self.images_dir.parent.name]
        first_wait_s = 3600.0 if service.answers.wait(0) else 0.2
        policy = RetryPolicy(attempts=1000, first_wait_s=first_wait_s, longest_wait_s=first_wait_s)
        policy.call(service.request, "the service")
        return super()._load_tile(tilekey)


def _pipeline(folder: Path) -> WaitingPipeline:
    SERVICES[folder.name] = Service()
    made = standin.make_pipeline(standin.make_folder(folder, 2))
    given = ("images_dir", "output_data_dir", "model_files", "patch_size", "overlap", "device", "export_bands")
    return WaitingPipeline(**{name: getattr(made, name) for name in given})


@pytest.mark.timeout(120)
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_downloads_where_there_are_any(number: signal.Signals) -> None:
    fetches = FetchCancellation()
    for given in (fetches, None):
        token = CancellationToken()
        with cancelling_on_signals(token, given):
            assert not (token.requested or fetches.requested) or given is None
            os.kill(os.getpid(), number)
            assert token.wait(10)
        assert token.signum == number
    assert fetches.requested


def test_a_cancelled_run_does_not_disturb_another_one(tmp_path: Path) -> None:
    cancelled, other = _pipeline(tmp_path / "cancelled"), _pipeline(tmp_path / "other")
    records: list[Any] = []
    thread = threading.Thread(target=lambda: records.append(run(other, standin.open_session)), daemon=True)
    thread.start()
    assert SERVICES["other"].asked.wait(60)

    def interrupt() -> None:
        assert SERVICES["cancelled"].asked.wait(60)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(RunInterrupted):
        run(cancelled, standin.open_session)
    assert thread.is_alive()
    SERVICES["other"].answers.set()
    thread.join(60)
    assert [record.status for record in records[0].tiles] == ["success", "success"]
    SERVICES["cancelled"].answers.set()
    again = run(cancelled, standin.open_session)
    assert [record.status for record in again.tiles] == ["success", "success"], "a token is of one run"


_STOPPED = """
import atexit, logging, os, signal, sys, threading, time
from pathlib import Path
from darts.pipelines.sequential_v2.base import _BasePipeline
from darts.run import run
from support import standin

class Busy:
    device, precision = "cpu", "fp32"
    def segment(self, tile):
        work()

def stop_soon():
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()

def forever():
    stop_soon()
    while True:
        pass

def in_torch():
    import torch
    values = torch.rand(200, 200)
    stop_soon()
    while True:
        torch.mm(values, values)

work = {"python": forever, "torch": in_torch}[sys.argv[2]]
pipeline = standin.make_pipeline(standin.make_folder(Path(sys.argv[1]), 2))
# While the signal is handled, longer than a poll: until then a queue.SimpleQueue waited, and then for ever.
logging.getLogger("darts.run.cancel").addFilter(lambda record: time.sleep(0.2) or True)
atexit.register(print, "registered before the end")
pipeline.run = lambda: run(pipeline, lambda *_: Busy())
_BasePipeline.cli(pipeline=pipeline)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("work", ["python", *(pytest.param("torch", marks=pytest.mark.slow) for _ in range(5))])
def test_a_process_that_is_stopped_in_the_middle_of_a_tile_ends_with_its_code(tmp_path: Path, work: str) -> None:
    """Not by abort, as C++ does it where Python unwinds its threads, and after what others have registered."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _STOPPED, str(tmp_path), work]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stdout) == (143, "registered before the end\n"), ended.stderr
