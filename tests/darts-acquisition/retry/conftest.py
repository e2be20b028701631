"""A server, and a policy whose waits only a list keeps."""

from pathlib import Path

import pytest

from darts_acquisition.io.retry import RetryPolicy
from support.file_server import serve_files
from support.retry import Naps


@pytest.fixture
def waits():
    return Naps()


@pytest.fixture
def policy(waits):
    return RetryPolicy(attempts=4, first_wait_s=1, longest_wait_s=3, longest_retry_after_s=100, sleep=waits)


@pytest.fixture
def server(tmp_path: Path):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 64)
    with serve_files(tmp_path) as server:
        yield server
