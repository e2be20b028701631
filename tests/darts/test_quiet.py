"""What is shown of Dask's lines, and what only the log of a run gets."""

import asyncio
import logging

import dask
import pytest
from distributed.comm.core import CommClosedError

from darts.run.cluster import quiet

SAID = [
    ("distributed.scheduler", "broadcast to tls://10.0.0.1:4711 failed: CommClosedError: in <TLS>", None),
    ("distributed.worker", "Failed to communicate with scheduler during heartbeat.", CommClosedError("closed")),
    (
        "distributed.worker.state_machine",
        "Async instruction for <Task cancelled name='x'> ended with CancelledError",
        None,
    ),
    ("distributed.batched", "Batched Comm Closed <TLS (closed)>", CommClosedError("closed")),
    ("distributed.client", "", asyncio.CancelledError()),
    ("distributed.client", "", ConnectionRefusedError("refused")),
    ("distributed.nanny", "Worker process died unexpectedly", TypeError("'NoneType'")),
]
TRUE_FAULTS = [
    ("distributed.nanny", "Worker process 7 was killed by signal 9", None),
    ("distributed.nanny", "Worker exceeded 95% memory budget. Restarting...", None),
    ("distributed.comm.tcp", "Listener on 'tls://10.0.0.1': TLS handshake failed with remote 'tls://10.0.0.2'", None),
    ("distributed.worker", "Compute Failed", ValueError("no")),
    ("distributed.diskutils", "Failed to remove", PermissionError("no")),
]


@pytest.fixture
def handler() -> logging.Handler:
    """What Dask shows its lines with."""
    handler = logging.NullHandler()
    handler.addFilter(quiet.ConnectionEndFilter())
    return handler


def _record(name: str, message: str, error: BaseException | None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, (), info)


@pytest.mark.parametrize(("name", "message", "error"), SAID)
def test_the_end_of_a_connection_goes_to_the_log_alone(
    handler: logging.Handler, caplog: pytest.LogCaptureFixture, name: str, message: str, error: BaseException | None
) -> None:
    with caplog.at_level(logging.DEBUG, "darts"):
        assert not handler.filter(_record(name, message, error))
    (kept,) = caplog.records
    assert (kept.levelno, kept.getMessage()) == (logging.DEBUG, f"{name}: {message}")
    assert (kept.exc_info is None) == (error is None)


@pytest.mark.parametrize(("name", "message", "error"), TRUE_FAULTS)
def test_a_fault_is_shown(handler: logging.Handler, name: str, message: str, error: BaseException | None) -> None:
    assert handler.filter(_record(name, message, error))


def test_dask_shows_its_lines_through_one_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = logging.NullHandler()
    for name in ("distributed", "distributed.client"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [shown])
    quiet.dask_setup(None)
    quiet.quieten()
    assert [type(each) for each in shown.filters] == [quiet.ConnectionEndFilter]


def test_what_the_user_lets_workers_load_stays() -> None:
    with dask.config.set({"distributed.worker.preload": ["mine"]}):
        assert quiet.preloads() == ["mine", "darts.run.cluster.quiet"]
