"""What tests of runs share: a server of processes that can be killed at any call to the system."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from darts.run.journal import Journal
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


@pytest.fixture
def closed_journals() -> Iterator[None]:
    """Close the journals that a test left open, as the end of a process does."""
    opened: list[Journal] = []
    init = Journal.__init__

    def init_and_note(self: Journal, *args) -> None:
        init(self, *args)
        opened.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "__init__", init_and_note)
        yield
    for journal in opened:
        journal._file.close()
