"""What tests of runs share: a server of processes that can be killed at any call to the system."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import standin
from support.forkserver import SOURCE, ForkServer, build_injector


@pytest.fixture(scope="session")
def fault_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A fork server under the fault injector, with everything imported and compiled that a run needs."""
    injector = build_injector(tmp_path_factory.mktemp("injector"))
    if injector is None:
        pytest.skip(f"no fault injection: it needs Linux, a C compiler, and {SOURCE.name} in ../shared/tools")
    server = ForkServer(standin.IMPORTS, injector, prepare="support.standin:warm_up")
    yield server
    server.close()


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory, where there is one: forcing files to a disk takes most of the time of a small run."""
    with tempfile.TemporaryDirectory(
        prefix="darts-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    ) as path:
        yield Path(path)
