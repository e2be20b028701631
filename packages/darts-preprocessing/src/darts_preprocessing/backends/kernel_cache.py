"""Where the machine code of the kernels is kept for the next process.

numba looks for a place itself: ``NUMBA_CACHE_DIR``, else beside the source, else in the cache folder of the user. Where
it finds none, a private folder among the temporary files takes its place.
"""

import functools
import logging
import os
import pickle
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numba
from numba import types
from numba.core.dispatcher import Dispatcher

_config: Any = numba.config
logger = logging.getLogger(__name__)

_lock = Lock()
_troubles: list[str] = []


def compile_and_keep(
    function: Callable[..., None], arguments: tuple[types.Type, ...], options: dict[str, Any]
) -> Callable[..., None]:
    """Compile a function for one signature, or load its machine code.

    Args:
        function: What to compile; it returns nothing.
        arguments: The types of its arguments.
        options: Those of :func:`numba.njit`.

    Returns:
        The function, which takes arguments of other types only where they convert without loss.
    """
    dispatcher = declare(function, options)
    signature = types.void(*arguments)
    try:
        dispatcher.compile(signature)
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        # The disk is full, or a file of the cache is damaged or belongs to somebody else.
        _troubles.append(f"{type(error).__name__}: {error}")
        if not dispatcher.signatures:
            dispatcher = numba.njit(**options)(function)
            dispatcher.compile(signature)
    dispatcher.disable_compile()
    return dispatcher


def get_trouble() -> str | None:
    """Say why machine code could not be kept in this process; None where it could, or nothing was compiled."""
    return _troubles[0] if _troubles else None


def declare(function: Callable[..., None], options: dict[str, Any]) -> Dispatcher:
    """Choose the place, without compiling yet."""
    with _lock:
        if _numba_may_look(Path(function.__code__.co_filename)):
            try:
                return numba.njit(cache=True, **options)(function)
            except RuntimeError:  # "no locator available": none of its places can be written
                pass
        try:
            with _cache_dir(private_folder()):
                return numba.njit(cache=True, **options)(function)
        except (OSError, RuntimeError) as error:
            _troubles.append(str(error))
            return numba.njit(**options)(function)


def _numba_may_look(source: Path) -> bool:
    """Tell whether numba looks for places in the right order by itself.

    Where the home folder is not known, it would make one called ``~`` in the current folder.
    """
    with suppress(RuntimeError):
        if Path(os.environ["XDG_CACHE_HOME"] if "XDG_CACHE_HOME" in os.environ else Path.home()).is_absolute():
            return True
    folders = [_config.CACHE_DIR, source.parent / "__pycache__"]
    return any(_is_writable(Path(folder)) for folder in folders if folder)


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@contextmanager
def _cache_dir(folder: Path) -> Iterator[None]:
    """Let numba keep machine code in a folder.

    The setting holds for the whole process, so it is made for as long as it takes to declare one kernel: a function of
    other code that is declared meanwhile would be kept there too, which does no harm.
    """
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        _config.CACHE_DIR = before


@functools.cache
def private_folder() -> Path:
    """Return a folder among the temporary files that only this user can write; machine code in it is executed.

    Raises:
        OSError: If there is no such folder, or it is not this user's alone.
    """
    if not hasattr(os, "geteuid"):
        raise OSError("this system has no private temporary folders")
    parent = Path(tempfile.gettempdir()).resolve()
    folder = parent / f"darts-kernels-{os.geteuid()}"
    _check_safe(parent)
    try:
        folder.mkdir(mode=0o700)
        is_new = True
    except FileExistsError:
        is_new = False
    _check_private(folder)
    if not _is_writable(folder):
        raise OSError(f"{folder} cannot be written")
    if is_new:
        logger.warning(
            "The compiled kernels are kept in %s, since no other folder that numba knows can be written. "
            "NUMBA_CACHE_DIR chooses another one.",
            folder,
        )
    return folder


def _check_private(folder: Path) -> None:
    """Refuse a folder that somebody else prepared."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(f"{folder} is no folder")
    if status.st_uid != os.geteuid():
        raise OSError(f"{folder} belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"{folder} can be written by other users")


def _check_safe(parent: Path) -> None:
    """Refuse a place where other users may put one folder in the place of another."""
    for folder in (parent, *parent.parents):
        status = folder.stat()
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or shared:
            raise OSError(f"{folder} belongs to another user or can be written by one")
