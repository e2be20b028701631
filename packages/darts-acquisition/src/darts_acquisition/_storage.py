"""Icechunk repositories on the local disk: the only module that knows how they are opened, created and committed."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_acquisition.errors import CubeConflictError, CubeError, CubeExistsError, CubeNotFoundError

if TYPE_CHECKING:
    import icechunk

BRANCH = "main"


@contextlib.contextmanager
def _quiet_storage() -> Iterator[None]:
    """Keep icechunk from printing, for each local repository and commit, that object stores would be safer.

    Where the user has asked for logs (ICECHUNK_LOG), nothing is kept back.
    """
    import icechunk

    if "ICECHUNK_LOG" in os.environ:
        yield
        return
    icechunk.set_logs_filter("error")
    try:
        yield
    finally:
        icechunk.set_logs_filter(None)


@_quiet_storage()
def create_repository(path: Path, fill: Callable[["icechunk.Session"], None], message: str) -> None:
    """Create a repository with a first commit, both or neither.

    It is built beside its place and moved there when it is whole, so that nobody ever sees half of it.

    Args:
        path: Folder to create; its parents are created as well.
        fill: Called with the session whose changes become the first commit.
        message: Message of the commit.

    Raises:
        CubeExistsError: If there is something at the path.
    """
    import icechunk

    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CubeExistsError(f"{path} exists already; open it with Datacube.open, or choose another path.")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    # Icechunk 2 writes a format of its own unless told otherwise; format 1 is the one that both generations read.
    options: dict[str, Any] = (
        {"spec_version": 1} if "spec_version" in signature(icechunk.Repository.create).parameters else {}
    )
    try:
        repository = icechunk.Repository.create(_local_storage(draft), **options)
        session = repository.writable_session(BRANCH)
        fill(session)
        session.commit(message)
        try:
            draft.rename(path)
        except OSError as error:
            raise CubeExistsError(f"{path} was created by another process in the meantime; open it.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@_quiet_storage()
def open_repository(path: Path) -> "icechunk.Repository":
    """Open the repository at a path.

    Raises:
        CubeNotFoundError: If there is nothing at the path.
        CubeError: If there is something else.
    """
    import icechunk

    if not path.exists():
        raise CubeNotFoundError(f"There is no datacube at {path}.")
    if not (path / "refs").is_dir():  # Icechunk 1 would create folders in whatever lies there.
        raise CubeError(f"{path} is no datacube: expected an Icechunk repository, a folder that holds 'refs'.")
    try:
        return icechunk.Repository.open(_local_storage(path))
    except icechunk.IcechunkError as error:
        raise CubeError(f"{path} is no datacube that can be opened: {error}") from error


@_quiet_storage()
def commit(session: "icechunk.Session", message: str) -> None:
    """Make the changes of a session permanent, all or none, after those that others have made to other chunks.

    Raises:
        CubeConflictError: If somebody else has changed the same chunks.
    """
    import icechunk

    try:
        session.commit(message, rebase_with=icechunk.ConflictDetector())
    except (icechunk.ConflictError, icechunk.RebaseFailedError) as error:
        raise CubeConflictError(
            "Another process has written the same chunks in the meantime; nothing of this write was kept. "
            "Ask the cube again what is missing, and write only that."
        ) from error


def _local_storage(path: Path) -> "icechunk.Storage":
    import icechunk

    return icechunk.local_filesystem_storage(str(path))
