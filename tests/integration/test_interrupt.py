"""Ctrl-C and SIGTERM while a service lets a command wait: it ends soon, with its exit code, and asks no more."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from darts.demo import SampleArea, demo_model, make_sample_area
from support.local_server import Answer, LocalServer, Request

SOON_S = 10
"""The waits that are interrupted take minutes."""


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> SampleArea:
    return make_sample_area(tmp_path_factory.mktemp("sample"), seed=3, size=128)


def _come_later(_: Request) -> Answer:
    return Answer(b"", 503, {"Retry-After": "300"})


def _say_nothing(_: Request) -> Answer:
    time.sleep(120)
    return Answer(b"", 503)


def _interrupt(server: LocalServer, arguments: Sequence[object], number: int) -> int:
    """Run the command, send it a signal while it waits for the server, and return its exit code."""
    script = "from darts.cli import run_command; run_command()"
    environment = os.environ | {"DARTS_ARCTICDEM_STAC_URL": server.url}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not server.requests:
                assert process.poll() is None
                time.sleep(0.05)
            time.sleep(0.5)
            made = len(server.requests)
            process.send_signal(number)
            code = process.wait(SOON_S)
        finally:
            process.kill()
    assert len(server.requests) == made
    return code


def _selection(area: SampleArea, folder: Path) -> dict[str, object]:
    return {
        "--scenes-dir": area.scenes_dir,
        "--arcticdem-dir": folder / "dem",
        "--tcvis-dir": area.tcvis_dir,
        "--model-files": demo_model(),
        "--output-data-dir": folder / "results",
    }


@pytest.mark.parametrize(
    ("respond", "number", "code"),
    [
        pytest.param(_say_nothing, signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(_come_later, signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_waits_for_a_service(area: SampleArea, tmp_path: Path, respond, number: int, code: int) -> None:
    small = {"--device": "cpu", "--patch-size": 64, "--overlap": 16}
    options = [word for option in (_selection(area, tmp_path) | small).items() for word in option]
    with LocalServer(respond).running() as server:
        assert _interrupt(server, ["inference", "planet-sequential", *options], number) == code
    (path,) = (tmp_path / "results").glob("*.results.parquet")
    assert pd.read_parquet(path).empty  # The tile has not failed.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_preparing_data_that_waits_for_a_service(area: SampleArea, tmp_path: Path, number: int, code: int) -> None:
    options = [word for option in _selection(area, tmp_path).items() for word in option]
    with LocalServer(_come_later).running() as server:
        assert _interrupt(server, ["inference", "prep-data", "planet", "--aux", *options], number) == code
