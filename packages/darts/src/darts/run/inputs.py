"""Tell whether the files that a tile was made from hold what they held, without reading them again where possible.

A file is described by its size and the SHA-256 of its content, a member of a zip archive by its size and CRC-32, which
stand in the archive's directory, and a whole archive by names, sizes and CRC-32 of its members. A digest is remembered
beside the results by path, device, inode, size and the times of change of content and of inode: while these are the
same, the content is. Where they differ (a file was touched, copied or moved), the content decides.
"""

import hashlib
import json
import logging
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from darts.errors import InputChangedError

logger = logging.getLogger(__name__)

MEMORY_FILE = ".darts-inputs.jsonl"
_BLOCK_BYTES = 1 << 20
_State = tuple[int, int, int, int, int]


class InputMemory:
    """Remembers digests of files in a file of the folder of results. Any thread may use it.

    It is a help and never needed: what cannot be read or written of it costs time, and nothing else.

    Args:
        folder: Folder of results.
        writes: Whether new digests are kept for later runs.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self._path = folder / MEMORY_FILE
        self._writes = writes
        self._lock = threading.Lock()
        self._known: dict[str, tuple[_State, str]] | None = None
        self._archives: dict[Path, tuple[_State, dict[str, tuple[int, int]]]] = {}

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of the content of a file, or of a member of a zip archive, in hexadecimal.

        Raises:
            OSError: If the file cannot be read.
            InputChangedError: If it is changed meanwhile.
        """
        return self._remembered(path, str(path), _digest)

    def crc32(self, path: Path) -> str:
        """Return the CRC-32 of a file's content, as an archive has it of its members; errors are those of `digest`."""
        return self._remembered(path, f"{path}#crc32", _crc32)

    def _remembered(self, path: Path, key: str, read: Callable[[Path], str]) -> str:
        stored = _archive_above(path) or path
        state = _state(stored)
        with self._lock:
            known = self._load().get(key)
        if known is not None and known[0] == state:
            return known[1]
        digest = read(path)
        if _state(stored) != state:
            raise InputChangedError(f"{path} was changed while it was read; start the run again when it is whole.")
        self._remember(key, state, digest)
        return digest

    def members(self, archive: Path) -> dict[str, tuple[int, int]]:
        """Return size and CRC-32 of each member of a zip archive by name, as its directory has them.

        Raises:
            OSError: If the archive cannot be read.
        """
        state = _state(archive)
        known = self._archives.get(archive)
        if known is None or known[0] != state:
            try:
                with zipfile.ZipFile(archive) as file:
                    members = {info.filename: (info.file_size, info.CRC) for info in file.infolist()}
            except zipfile.BadZipFile as error:
                raise OSError(f"{archive} is no zip archive: {error}") from error
            known = self._archives[archive] = state, members
        return known[1]

    def _load(self) -> dict[str, tuple[_State, str]]:
        if self._known is None:
            self._known = {}
            try:
                lines = self._path.read_bytes().splitlines()
            except OSError:
                lines = []
            for line in lines:
                try:
                    path, *state, digest = json.loads(line)
                    self._known[path] = (tuple(state), digest)
                except (ValueError, TypeError):
                    continue  # Cut off by a kill; the file's content will be read again.
        return self._known

    def _remember(self, key: str, state: _State, digest: str) -> None:
        line = (json.dumps([key, *state, digest]) + "\n").encode()
        with self._lock:
            self._load()[key] = (state, digest)
            if not self._writes:
                return
            try:
                # One call to the system per line: several processes may append at once.
                file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                try:
                    # A line that a kill cut off is ended first, so that this one is whole.
                    os.write(file, line if _ends_with_newline(self._path) else b"\n" + line)
                finally:
                    os.close(file)
            except OSError as error:
                logger.debug("The digest of %s is not remembered: %s", key, error)


def describe_inputs(files: Sequence[Path], memory: InputMemory) -> dict[str, dict[str, object]]:
    """Describe files by their content.

    Args:
        files: The files; members of a zip archive are paths below it.
        memory: Digests that are known.

    Returns:
        By name below the files' common folder: ``size`` in bytes and ``sha256``, of a member of a zip archive ``crc32``
        instead; of an archive ``members``, the SHA-256 of the list of their names, sizes and CRC-32.

    Raises:
        OSError: If a file cannot be read.
        InputChangedError: If one is changed meanwhile.
    """
    return {name: _describe(path, memory) for name, path in _named(files).items()}


def changed_input(before: Mapping[str, dict[str, object]], files: Sequence[Path], memory: InputMemory) -> str:
    """Name the first input that does not hold what it held.

    Args:
        before: What :func:`describe_inputs` returned when the results were computed.
        files: The same inputs now. Where none is left nothing is known against the results.
        memory: Digests that are known.

    Returns:
        What changed, an empty string if nothing did.
    """
    now = _named(files)
    if not now:
        return ""
    for name in sorted({*before, *now}):
        if name not in now:
            return f"{name} is gone"
        if name not in before:
            return f"{name} is new"
        try:
            # Another size is another content, and needs no look into the file.
            size = _size(now[name], memory)
            same = before[name].get("size", size) == size and _holds(now[name], before[name], memory)
        except (OSError, InputChangedError) as error:
            return f"{name} cannot be compared ({error})"
        if not same:
            return f"{name} has another content"
    return ""


def states_of(files: Sequence[Path]) -> dict[Path, tuple[int, int, int, int, int]]:
    """Return what a change of a file would change, for the files that exist."""
    states = {}
    for path in files:
        try:
            states[path] = _state(_archive_above(path) or path)
        except OSError:
            continue  # Loading the tile says what is wrong with it.
    return states


def _named(files: Sequence[Path]) -> dict[str, Path]:
    if not files:
        return {}
    folder = os.path.commonpath([path.parent for path in files])
    return {os.path.relpath(path, folder).replace(os.sep, "/"): path for path in files}


def _describe(path: Path, memory: InputMemory) -> dict[str, object]:
    member = _member(path, memory)
    if member is not None:
        return {"size": member[0], "crc32": f"{member[1]:08x}"}
    if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
        members = sorted([name, *about] for name, about in memory.members(path).items())
        return {"members": hashlib.sha256(json.dumps(members).encode()).hexdigest()}
    return {"size": path.stat().st_size, "sha256": memory.digest(path)}


def _holds(path: Path, before: Mapping[str, object], memory: InputMemory) -> bool:
    """Tell whether a file holds what was described, also where it came out of a zip archive since, or went into one."""
    archive = _archive_above(path)
    if archive is None and "crc32" in before:
        return memory.crc32(path) == before["crc32"]
    if archive is not None and "sha256" in before:
        return memory.digest(path) == before["sha256"]
    return before == _describe(path, memory)


def _size(path: Path, memory: InputMemory) -> int:
    member = _member(path, memory)
    return path.stat().st_size if member is None else member[0]


def _member(path: Path, memory: InputMemory) -> tuple[int, int] | None:
    """Return size and CRC-32 of a member of an archive; None for a file of its own."""
    archive = _archive_above(path)
    if archive is None:
        return None
    name = path.relative_to(archive).as_posix()
    try:
        return memory.members(archive)[name]
    except KeyError as error:
        raise FileNotFoundError(f"{archive} holds no {name}") from error


def _archive_above(path: Path) -> Path | None:
    """Return the zip archive that a path is a member of; None for a file of its own, whether it exists or not."""
    if path.exists():
        return None
    return next((folder for folder in path.parents if folder.suffix.lower() == ".zip" and folder.is_file()), None)


def _digest(path: Path) -> str:
    archive = _archive_above(path)
    if archive is None:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    try:
        with zipfile.ZipFile(archive) as whole, whole.open(path.relative_to(archive).as_posix()) as member:
            digest = hashlib.sha256()
            while block := member.read(_BLOCK_BYTES):
                digest.update(block)
            return digest.hexdigest()
    except (zipfile.BadZipFile, zlib.error, RuntimeError, KeyError) as error:  # also encrypted archives
        raise OSError(f"{path} cannot be read: {error}") from error


def _crc32(path: Path) -> str:
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found = zlib.crc32(block, found)
    return f"{found:08x}"


def _state(path: Path) -> _State:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
