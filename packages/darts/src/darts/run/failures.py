"""Tell failures apart: what may succeed when retried, what ends the run, and what the user can do."""

import errno
from collections.abc import Iterator

import darts_acquisition
from darts.run.journal import TileRecord
from darts_utils import NoDataError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TRANSIENT = (ConnectionError, TimeoutError, MemoryError)
_TRANSIENT_ERRNO = (errno.EAGAIN, errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ESTALE)


def is_transient(error: BaseException) -> bool:
    """Say whether the same work may succeed later: the network or the memory failed, not the input.

    An error that carries a service's answer (an attribute `failure`, as those of acquisition have) is believed: a
    refused login or an absent file stays one.
    """
    for link in _chain(error):
        if hasattr(link, "failure"):
            return bool(getattr(link.failure, "transient", False))
    known = [isinstance(link, _TRANSIENT) or _is_out_of_memory(link) for link in _chain(error)]
    return any(known) or any(getattr(link, "errno", None) in _TRANSIENT_ERRNO for link in _chain(error))


def is_service_failure(error: BaseException) -> bool:
    """Say whether a service or the network failed, so that trying later is right."""
    return is_transient(error) and not any(_is_out_of_memory(link) for link in _chain(error))


def no_data_reason(error: BaseException) -> str | None:
    """Return why a scene holds no data at all, None where the error is another one."""
    return next((str(link) for link in _chain(error) if isinstance(link, NoDataError)), None)


def is_disk_full(error: BaseException) -> bool:
    """Say whether a disk or a quota was full, so that no other tile can be written either."""
    return any(
        getattr(link, "errno", None) in _NO_SPACE or "No space left on device" in str(link) for link in _chain(error)
    )


def describe(stage: str, error: BaseException, how_to_prepare: str = "darts inference prep-data") -> str:
    """Say in which stage a tile failed, why, and what to do about it; with the command that prepares an offline run."""
    absent = (darts_acquisition.MissingAuxiliaryDataError, darts_acquisition.SceneNotStoredError)
    message = " ".join(f"{stage}: {type(error).__name__}: {_with_cause(error)}".split())
    if is_disk_full(error):
        advice = "Free space on the disk of the results, then start the same run again."
    elif any(_is_out_of_memory(link) for link in _chain(error)):
        advice = "Reduce batch_size or patch_size, set executor to serial, or use a machine with more memory."
    elif any(isinstance(link, absent) for link in _chain(error)):
        advice = f"`{how_to_prepare}` fetches it for all tiles of a run."
    elif any(isinstance(link, darts_acquisition.CubeDamagedError) for link in _chain(error)):
        advice = "`darts cube verify` lists what is damaged, and with `--repair` has it fetched again."
    else:
        return message
    return f"{message}{'' if message.endswith('.') else '.'} {advice}"


def note_failure(
    record: TileRecord, stage: str, error: BaseException, how_to_prepare: str = "darts inference prep-data"
) -> TileRecord:
    """Write down in a tile's record that a stage failed, why, and what that means for the run; return the record."""
    record.status, record.error = "failed", describe(stage, error, how_to_prepare)
    record.retryable, record.by_service = is_transient(error), is_service_failure(error)
    record.ends_run = is_disk_full(error)
    return record


def _with_cause(error: BaseException) -> str:
    # rasterio says what failed, and leaves the file and the reason to GDAL's error, which is its cause.
    text = str(error)
    said = text.removesuffix("See previous exception for details.")
    return text if said == text or error.__cause__ is None else f"{said}{error.__cause__}"


def _is_out_of_memory(error: BaseException) -> bool:
    # torch and cupy have classes of their own, which are not imported for a look at an error.
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
