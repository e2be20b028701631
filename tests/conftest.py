"""What all tests share: the folder of real data, hypothesis profiles, files in memory, a heap without what stays."""

import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from darts_utils import usable_cpus

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", parent=UNHURRIED, derandomize=True, max_examples=25)
settings.register_profile("weekly", parent=UNHURRIED, max_examples=200)
settings.register_profile("thorough", parent=UNHURRIED, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

collect_ignore = ["support/fill_smart_geocube.py"]
"""Runs in another environment, whose packages are not in this one."""

MEMORY = Path("/dev/shm")
ROOM = 8 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Keep the files of tests in memory where there is room: forcing them to a disk takes a tenth of the time."""
    if config.option.basetemp is None and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        config.option.basetemp = tempfile.mkdtemp(prefix="darts-tests-", dir=MEMORY)
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


def pytest_xdist_auto_num_workers() -> int:
    """Take one process more than there are CPUs, for tests wait for others a quarter of their time."""
    return usable_cpus() + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Search for no garbage while modules and tests are collected, which stay: it takes a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leave modules and tests, which stay until the end, out of every later search for garbage."""
    gc.collect()
    gc.freeze()


REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input data beside the repository; the test is skipped where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real input data: the folder ../shared/data beside the repository is absent")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test that needs a GPU fail where it is skipped and ``DARTS_REQUIRE_GPU`` is 1: then there has to be one."""
    report = yield
    if report.skipped and os.environ.get("DARTS_REQUIRE_GPU") == "1" and item.get_closest_marker("gpu"):
        report.outcome, report.longrepr = "failed", f"DARTS_REQUIRE_GPU is 1, and this was skipped: {report.longrepr}"
    return report


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A disk of 3 MB, as far as this user may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small disk to fill: this user may not mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
