"""The exit codes of runs and commands: the one place that says which outcome has which."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from darts.errors import ConfigurationError
from darts.run.failures import is_disk_full, is_service_failure

if TYPE_CHECKING:
    from darts.run.records import RunRecords

NOT_DONE, WRONG, LATER = 1, 2, 75
"""Something was not done; the command line or the configuration is wrong; the same command later is right."""


def exit_code(records: "RunRecords") -> int:
    """Return the exit code of a run that no signal ended.

    Returns:
        0 if every tile is done and on record; 75 if all that are not failed by a service or were not reached because a
        scheduler was gone, and trying later is right; else 1.
    """
    not_done = records.count("failed") + records.undone
    if not not_done:
        return 0 if records.whole else NOT_DONE
    later = records.failed_by_service + (records.undone if records.scheduler_gone else 0)
    return LATER if later == not_done else NOT_DONE


def code_of_failures(errors: Iterable[BaseException]) -> int:
    """Return the exit code of a command that did what it could, and failed at some of its scenes or tiles.

    Returns:
        0 if there is none; 75 if all failed by a service or the network; else 1.
    """
    later = [is_service_failure(error) for error in errors]
    return 0 if not later else LATER if all(later) else NOT_DONE


def code_of_error(error: BaseException) -> int:
    """Return the exit code of a command that ended with an error which DARTS raised on purpose.

    Returns:
        2 where the command line or the configuration is wrong; 75 if a service, the network or a scheduler failed it; 1
        if a disk was full; else 2.
    """
    if isinstance(error, ConfigurationError):
        return WRONG
    if is_disk_full(error):
        return NOT_DONE
    return LATER if is_service_failure(error) else WRONG
