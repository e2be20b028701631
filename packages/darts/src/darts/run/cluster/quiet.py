"""Keep from the screen what Dask says of connections that end, often in tracebacks; logs of runs get it at debug.

What it means for a run, a sentence says elsewhere. Workers import this module at their start (Dask's preload).
"""

import asyncio
import logging
import re

import dask
import distributed  # noqa: F401 - sets up its logging when it is imported
from distributed.comm.core import CommClosedError

logger = logging.getLogger(__name__)

_OF_AN_END = re.compile(
    "Async instruction for <Task cancelled|Batched Comm Closed|broadcast to .* failed: CommClosedError"
    "|Failed to communicate with scheduler during heartbeat|Worker process died unexpectedly"
)
"""The last is what a nanny says of a worker that ended as it should; of one that died it says by which signal."""
_ENDS = (ConnectionError, TimeoutError, asyncio.CancelledError)


class ConnectionEndFilter(logging.Filter):
    """Hands lines about connections that end on to the log of the run, and lets all others pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line is shown."""
        error = record.exc_info[1] if record.exc_info else None
        message = record.getMessage()
        if not isinstance(error, (*_ENDS, CommClosedError)) and _OF_AN_END.match(message) is None:
            return True
        logger.debug("%s: %s", record.name, message, exc_info=record.exc_info)
        return False


def quieten() -> None:
    """Filter what this process shows of Dask's lines."""
    names = ("distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed.")))
    for handler in {handler for name in names for handler in logging.getLogger(name).handlers}:
        if not any(isinstance(known, ConnectionEndFilter) for known in handler.filters):
            handler.addFilter(ConnectionEndFilter())


def preloads() -> list[str]:
    """Return what a worker loads at its start: what the user's configuration of Dask names, and this module."""
    return [*dask.config.get("distributed.worker.preload"), __name__]


def dask_setup(_worker: object) -> None:
    """Filter what a worker shows; Dask calls it."""
    quieten()
