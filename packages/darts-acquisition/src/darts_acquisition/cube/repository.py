"""Icechunk repositories, in a folder or in object storage: only this module knows how they are opened and committed."""

import asyncio
import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import icechunk

from darts_acquisition.errors import (
    CubeBusyError,
    CubeConflictError,
    CubeDamagedError,
    CubeError,
    CubeExistsError,
    CubeNotFoundError,
    CubeUnreachableError,
)
from darts_acquisition.io.settings import S3Settings
from darts_acquisition.io.store import find_credentials, make_s3_client
from darts_acquisition.tile import AnyPath
from darts_utils import DartsError, ParameterError


@dataclass(frozen=True)
class Location:
    """Where a repository lies: in a folder, or (`folder` is None) under a prefix of a bucket of an object storage."""

    folder: Path | None
    bucket: str = ""
    prefix: str = ""
    s3: S3Settings = field(default_factory=S3Settings)

    @classmethod
    def parse(cls, path: AnyPath, s3: S3Settings | None = None) -> "Location":
        """Understand a path: a folder, or ``s3://bucket/prefix``; ParameterError if it is another address."""
        text = os.fspath(path)
        if "://" not in text:
            return cls(Path(text).expanduser().absolute())
        parts = urlsplit(text)
        prefix = parts.path.strip("/")
        if parts.scheme != "s3" or not parts.netloc or not prefix:
            raise ParameterError(f"{text} is no address of a datacube; expected a folder, or s3://bucket/prefix.")
        return cls(None, parts.netloc, prefix, s3 or S3Settings())

    def __str__(self) -> str:
        return str(self.folder) if self.folder is not None else f"s3://{self.bucket}/{self.prefix}"

    def storage(self) -> icechunk.Storage:
        """Return what icechunk reads and writes with."""
        if self.folder is not None:
            return icechunk.local_filesystem_storage(str(self.folder))
        endpoint = self.s3.endpoint
        return icechunk.s3_storage(
            bucket=self.bucket,
            prefix=self.prefix,
            region=self.s3.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_url=endpoint,
            allow_http=endpoint is not None and endpoint.startswith("http://"),
            force_path_style=endpoint is not None,
            **self._credentials(),
        )

    def stored_bytes(self) -> int:
        """Return how many bytes lie there."""
        if self.folder is not None:
            total = 0
            for folder, _, names in os.walk(self.folder):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):  # Another process has replaced it in the meantime.
                        total += (Path(folder) / name).stat().st_size
            return total
        pages = make_s3_client(self.s3).get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/")
        return sum(each["Size"] for page in found for each in page.get("Contents", []))

    def _credentials(self) -> dict[str, Any]:
        if self.s3.anonymous:
            return {"anonymous": True}
        if self.s3.profile is None:
            return {"from_env": True}
        _profile_credentials(self.s3.profile)  # What is wrong with it is said here, and not by icechunk later.
        return {"get_credentials": partial(_profile_credentials, self.s3.profile)}


def _profile_credentials(profile: str) -> icechunk.S3StaticCredentials:
    keys = find_credentials(S3Settings(profile=profile)).get_frozen_credentials()
    return icechunk.S3StaticCredentials(keys.access_key, keys.secret_key, keys.token, expires_after=None)


T = TypeVar("T")

BRANCH = "main"
_LOCK_FILE = "darts.lock"
_LONGEST_LOCK_S = 600
_LONGEST_CREATION_S = 10
_GONE = ("not found", "NoSuchKey", "No such file", "range was invalid", "InvalidRange", "range not satisfiable")
"""Words of icechunk's message where a file is absent, or ends before the part that was asked for."""
_LATER = ("dispatch failure", "timed out", "timeout", "SlowDown", "InternalError", "ServiceUnavailable")
"""Words of icechunk's message where the storage does not answer or is too busy, after all of its own attempts."""
_UNREACHABLE = (*_LATER, "service error", "Permission denied")
"""And where it refuses to: nothing is known of the file."""
_FRAME = re.compile(r"^\s*(x|×|[|│`╰├][-─]*[>▶]?)(\s+|$)")
"""What icechunk draws before each line of a message."""
_CAUSE = re.compile(r"^\s*[|│`╰├][-─]*[>▶]")


def create_repository(location: Location, populate: Callable[[icechunk.Session], None], message: str) -> None:
    """Create a repository whose first commit holds what `populate` writes; nobody ever takes half of it for one.

    CubeExistsError if there is something else than an empty folder, CubeError if the storage refuses.
    """
    with _quiet_storage():
        if location.folder is not None:
            _create_in_folder(location.folder, populate, message)
        else:
            _create_in_bucket(location, populate, message)


def _create_in_folder(path: Path, populate: Callable[[icechunk.Session], None], message: str) -> None:
    """Build the repository beside its location, and move it there when it is whole."""
    if _is_taken(path):
        raise CubeExistsError(f"{path} exists already; open it with Datacube.open, or choose another path.")
    target = Path(os.path.realpath(path))  # A link stays one; what it leads to becomes the repository.
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    with _of_the_folder(f"No datacube can be created at {path}: {target.parent} cannot be written to"):
        draft.mkdir(parents=True)  # Icechunk panics where it cannot create a folder.
    try:
        repository = icechunk.Repository.create(Location(draft).storage(), **_format())
        session = repository.writable_session(BRANCH)
        populate(session)
        session.commit(message)
        with _of_the_folder(f"No datacube can be created at {path}"):
            try:
                draft.rename(target)
            except OSError as error:
                if _is_taken(path):
                    raise CubeExistsError(f"{path} was created by another process in the meantime; open it.") from error
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_taken(path: Path) -> bool:
    with _of_the_folder(f"No datacube can be created at {path}"):
        return path.exists() and (not path.is_dir() or any(path.iterdir()))


@contextlib.contextmanager
def _of_the_folder(said: str) -> Iterator[None]:
    """Say in our words, as CubeError, what the file system refuses."""
    try:
        yield
    except DartsError:
        raise
    except OSError as error:
        raise CubeError(f"{said}: {error.strerror or error}.") from error


def _create_in_bucket(location: Location, populate: Callable[[icechunk.Session], None], message: str) -> None:
    """Create the repository, or finish one whose creator died before the first commit."""
    storage = location.storage()
    if not icechunk.Repository.exists(storage):
        try:
            icechunk.Repository.create(storage, **_format())
        except icechunk.IcechunkError as error:
            # Where another process is faster, there is a repository soon, and the first commit decides.
            if not _appears(storage):
                raise _failure(f"No datacube can be created at {location}", error) from error
    repository = icechunk.Repository.open(storage)
    session = repository.writable_session(BRANCH)
    # Asked once the session has begun: what is committed from now on makes its commit fail.
    if not is_unborn(repository):
        raise CubeExistsError(f"{location} exists already; open it with Datacube.open, or choose another location.")
    populate(session)
    try:
        session.commit(message)
    except icechunk.ConflictError as error:
        raise CubeExistsError(f"{location} was created by another process in the meantime; open it.") from error


def _appears(storage: icechunk.Storage) -> bool:
    """Wait for a repository that another process has begun to create, which takes it a few requests."""
    end = time.monotonic() + _LONGEST_CREATION_S
    while not icechunk.Repository.exists(storage):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _format() -> dict[str, Any]:
    """Return what makes icechunk write format 1, which both generations read; icechunk 2 would write its own."""
    return {"spec_version": 1} if "spec_version" in signature(icechunk.Repository.create).parameters else {}


def is_unborn(repository: icechunk.Repository) -> bool:
    """Tell whether nothing was ever committed to a repository."""
    history = repository.ancestry(branch=BRANCH)
    next(history)
    return next(history, None) is None


def open_repository(location: Location) -> icechunk.Repository:
    """Open the repository at a location.

    CubeNotFoundError if there is nothing, an empty folder, or one whose creator died before the first commit; CubeError
    if there is something else, or the storage cannot be reached.
    """
    if location.folder is not None:
        _check_folder(location.folder)
    try:
        with _quiet_storage():
            storage = location.storage()
            if location.folder is None and not icechunk.Repository.exists(storage):
                raise CubeNotFoundError(f"There is no datacube at {location}.")
            repository = icechunk.Repository.open(storage)
            if location.folder is None and is_unborn(repository):
                raise CubeNotFoundError(f"There is no datacube at {location}; somebody began to create one.")
    except icechunk.IcechunkError as error:
        raise _failure(f"{location} is no datacube that can be opened", error) from error
    return repository


def _check_folder(folder: Path) -> None:
    """Check that a folder holds a repository: icechunk 1 would create folders in whatever lies there."""
    try:
        # In this order: another process may put a whole repository where an empty folder is at any time.
        is_empty = not any(folder.iterdir())
        is_repository = (folder / "refs").is_dir()
        is_format_2 = not is_repository and (folder / "repo").is_file()
    except FileNotFoundError:
        is_empty, is_repository, is_format_2 = True, False, False
    except OSError as error:
        raise CubeError(f"{folder} is no datacube that can be opened: {error.strerror or error}.") from error
    if is_empty:
        raise CubeNotFoundError(f"There is no datacube at {folder}.")
    if is_format_2 and not _format():
        raise CubeError(f"{folder} has Icechunk's format 2; expected format 1, or icechunk 2, which needs Python 3.12.")
    if not is_repository and not is_format_2:
        raise CubeError(f"{folder} is no datacube: expected an Icechunk repository, a folder that holds 'refs'.")


@contextlib.contextmanager
def reading(location: Location) -> Iterator[None]:
    """Say in our words what goes wrong while a repository is read: as CubeDamagedError or CubeError."""
    try:
        yield
    except icechunk.IcechunkError as error:
        reason = reason_of(error)
        if any(words in reason for words in _GONE):
            raise CubeDamagedError(
                f"A file of {location} is gone or cut off ({reason}); `darts_acquisition.verify_cube` lists what is "
                "damaged."
            ) from error
        raise _failure(f"{location} cannot be read", error) from error


@contextlib.contextmanager
def writing(location: Location) -> Iterator[None]:
    """Say in our words, as CubeError, what goes wrong while changes are made to a repository."""
    try:
        yield
    except icechunk.IcechunkError as error:
        raise _failure(f"{location} cannot be written; nothing of this write was kept", error) from error


def check_list(location: Location, session: icechunk.Session, array: str) -> None:
    """Check that the list of an array's chunks can be read, without which nothing in it can be found.

    CubeDamagedError if it is lost or damaged, CubeError if the storage does not answer.
    """
    try:
        stored_chunks(session, array)
    except icechunk.IcechunkError as error:
        reason = reason_of(error)
        if any(words in reason for words in _UNREACHABLE) and not any(words in reason for words in _GONE):
            raise _failure(f"{location} cannot be read", error) from error
        raise CubeDamagedError(
            f"The list of the chunks of {array} in {location} is damaged ({reason}), which nothing can repair; "
            "put a copy in its place, or delete the cube and fetch it again."
        ) from error


def stored_chunks(session: icechunk.Session, array: str) -> set[tuple[int, ...]]:
    """Return the coordinates of the chunks of an array that are stored."""

    async def collect() -> set[tuple[int, ...]]:
        return {tuple(at) async for at in session.chunk_coordinates(f"/{array}")}

    return run_async(collect)


def run_async(work: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run a coroutine to its end and return its result, also where an event loop runs already (a notebook)."""
    with ThreadPoolExecutor(1, thread_name_prefix="cube") as pool:
        return pool.submit(copy_context().run, lambda: asyncio.run(work())).result()


def _failure(said: str, error: Exception) -> CubeError:
    reason = reason_of(error)
    if any(words in reason for words in _LATER):
        return CubeUnreachableError(f"{said}: its storage does not answer or is too busy ({reason}).")
    return CubeError(f"{said}: {reason}.")


def reason_of(error: Exception) -> str:
    """Return what icechunk's message begins with and the cause that it ends with, without the trace between them."""
    lines = str(error).splitlines() or [""]
    first = _FRAME.sub("", lines[0]).strip(" .") or type(error).__name__
    causes = [_FRAME.sub("", line).strip(" .") for line in lines if _CAUSE.match(line)]
    return f"{first}: {causes[-1]}" if causes and causes[-1] not in first else first


def commit(location: Location, session: icechunk.Session, message: str) -> None:
    """Make the changes of a session permanent, all or none, after those that others have made to other chunks.

    Object storage itself lets only one of two commits win. A file system does not, so there a lock makes them queue.
    CubeConflictError if somebody else has changed the same chunks, CubeBusyError if somebody else holds the lock for
    too long, CubeError if the storage fails.
    """
    with writing(location):
        try:
            with _quiet_storage(), _one_at_a_time(location):
                session.commit(message, rebase_with=icechunk.ConflictDetector())
        except (icechunk.ConflictError, icechunk.RebaseFailedError) as error:
            raise CubeConflictError(
                "Another process has written the same chunks in the meantime; nothing of this write was kept. "
                "Ask the cube again what is missing, and write only that."
            ) from error


@contextlib.contextmanager
def _one_at_a_time(location: Location) -> Iterator[None]:
    from filelock import FileLock, Timeout

    if location.folder is None:
        yield
        return

    file = location.folder / _LOCK_FILE
    with _of_the_folder(f"{location} cannot be written, nothing of this write was kept: {file} cannot be locked"):
        try:
            mode = location.folder.stat().st_mode & 0o666  # Whoever may write into the cube may take its lock.
            lock = FileLock(file, timeout=_LONGEST_LOCK_S, mode=mode, thread_local=False)
            lock.acquire()
        except Timeout as error:
            raise CubeBusyError(
                f"Another process has been writing to {location} for {_LONGEST_LOCK_S // 60} minutes; see what it does."
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _quiet_storage() -> Iterator[None]:
    """Keep icechunk from printing, for each local repository and commit, that object stores would be safer.

    Where the user has asked for logs (ICECHUNK_LOG), nothing is kept back.
    """
    if "ICECHUNK_LOG" in os.environ:
        yield
        return
    icechunk.set_logs_filter("error")
    try:
        yield
    finally:
        icechunk.set_logs_filter(None)
