"""The journal of a run: one line of JSON per ended tile, appended while the run goes on, whole after a kill.

It is locked for as long as its run lives, where the file system has locks.
"""

import errno
import json
import logging
import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Required, TypeAlias, TypedDict, get_args

from darts.run.filelocks import try_lock

logger = logging.getLogger(__name__)

JOURNAL = ".journal.jsonl"
"""How the name of a journal ends, after the name of its run."""

FORMAT = 1
"""Raised when a journal can no longer be read by earlier releases."""

STAGES = (
    "Loading Optical",
    "Loading ArcticDEM",
    "Loading TCVis",
    "Preprocessing",
    "Segmenting",
    "Postprocessing",
    "Exporting",
)
"""The stages of a tile in their order: the columns of the timer's record."""

Status = Literal["success", "skipped", "failed", "empty"]
STATUSES = get_args(Status)
STATUS_WORDS: dict[Status, str] = dict(zip(STATUSES, ("succeeded", "skipped", "failed", "without data"), strict=True))

Entry: TypeAlias = dict[str, Any]
"""A line of a journal about a tile, checked: the fields of a `TileRecord` that are written, and `ended`."""

_HEADER_KEY = "darts_journal"
_NOT_WRITTEN = ("ends_run", "by_service")
_MOST_WARNINGS = 5

_ABSENT = type(None)
_TYPES: tuple[tuple[str, tuple[type, ...]], ...] = (
    *((name, (str,)) for name in ("tile_id", "output_path", "error")),
    *((name, (str, _ABSENT)) for name in ("host", "device", "ended")),
    *((name, (str, _ABSENT)) for name in ("acquired", "footprint")),
    ("objects", (int, _ABSENT)),
    *((name, (float, int, _ABSENT)) for name in ("area_m2", "mean_probability", "reliable", "cloudy")),
)
_TYPES_WITH_DEFAULT = (("attempt", int, 1), ("retryable", bool, False))


class PlanCounts(TypedDict, total=False):
    """How many tiles a run has to do.

    Attributes:
        total: Tiles of the run, those included that are finished already.
        to_compute: Tiles that will be computed.
        finished: Tiles that will be skipped.
        reasons: Tiles by what was decided about them, in words.
    """

    total: Required[int]
    to_compute: int
    finished: int
    reasons: dict[str, int]


@dataclass(slots=True)
class TileRecord:
    """What happened to one tile.

    Attributes:
        tile_id: Name of the tile.
        output_path: Folder of its results.
        status: "success", "failed", "skipped" (its finished results match the configuration) or "empty" (its images
            hold no data, so that there is nothing to map).
        error: Stage, class and message of what went wrong, or why the tile is empty; empty otherwise.
        stages: Seconds by stage, see :data:`STAGES`.
        steps: Seconds by inner step of the stages.
        host: Machine that computed it; None where it was this one.
        device: Device that computed it.
        attempt: 1 for the first try, 2 for the first retry, and so on.
        objects: Number of objects that were found.
        area_m2: Their area in square metres.
        reliable: Share of the tile, 0 to 1, whose pixels are reliable.
        cloudy: Share of the tile, 0 to 1, that clouds or their shadows cover.
        mean_probability: Mean probability of the pixels of its objects, 0 to 1.
        acquired: When its image was taken, ISO 8601 UTC.
        footprint: Its outline in longitude and latitude (WGS 84, degrees) as WKT; longitudes
            go on across the antimeridian.
        retryable: Whether the same tile may succeed later.
        ends_run: Whether no other tile can succeed either. Not written.
        by_service: Whether a service or the network failed. Not written.
    """

    tile_id: str
    output_path: Path
    status: Status = "success"
    error: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    host: str | None = None
    device: str | None = None
    attempt: int = 1
    objects: int | None = None
    area_m2: float | None = None
    reliable: float | None = None
    cloudy: float | None = None
    mean_probability: float | None = None
    acquired: str | None = None
    footprint: str | None = None
    retryable: bool = False
    ends_run: bool = False
    by_service: bool = False

    def to_entry(self) -> Entry:
        """Return what a journal holds of it."""
        entry = {name: getattr(self, name) for name in self.__slots__ if name not in _NOT_WRITTEN}
        entry |= {"output_path": str(self.output_path), "host": self.host or platform.node()}
        return {name: value for name, value in entry.items() if value is not None}

    def note(self, findings: "Findings") -> None:
        """Take over what the results of the tile say about it."""
        for name, value in findings._asdict().items():
            setattr(self, name, value)

    @classmethod
    def from_entry(cls, entry: Entry) -> "TileRecord":
        """Make a record of a line of a journal."""
        named = {name: entry[name] for name in cls.__slots__ if name in entry}
        return cls(**(named | {"output_path": Path(entry["output_path"])}))


class Findings(NamedTuple):
    """What the manifest of finished results says about a tile; the fields are those of a `TileRecord`."""

    objects: int | None
    area_m2: float | None
    reliable: float | None
    cloudy: float | None
    mean_probability: float | None
    acquired: str | None
    footprint: str | None

    @classmethod
    def of(cls, manifest: Mapping[str, object]) -> "Findings":
        """Read the findings of a tile in its manifest; what an earlier release did not write is None."""
        summary, metadata = (_mapping(manifest.get(name)) for name in ("summary", "metadata"))
        numbers = {name: summary.get(name) for name in ("objects", "area_m2", "mean_probability")}
        shares = {name: summary.get(f"{name}_share") for name in ("reliable", "cloudy")}
        texts = {"acquired": manifest.get("time"), "footprint": metadata.get("footprint")}
        known: dict[str, Any] = {
            **{name: value if isinstance(value, int | float) else None for name, value in (numbers | shares).items()},
            **{name: value if isinstance(value, str) else None for name, value in texts.items()},
        }
        return cls(**known)


class Journal:
    """Appends lines to a new journal, which is locked until it is closed.

    A line that could not be written as a whole is taken back, so that the next one begins a line of its own.

    Args:
        path: The file. It must not exist.
        header: What its first line says besides the version of the format.

    Raises:
        FileExistsError: If there is such a file.
        OSError: If it cannot be written; it is then removed again.
    """

    def __init__(self, path: Path, header: Mapping[str, object]) -> None:
        self.path = path
        # Without a buffer of Python's, so that a line that fails half-way does not come back with the next one.
        self._file = path.open("xb", buffering=0)
        try_lock(self._file)
        self._size = 0
        self._torn = False
        try:
            self.append({_HEADER_KEY: FORMAT, **header})
        except OSError:
            self.discard()
            raise

    def append(self, entry: Mapping[str, object]) -> None:
        """Append one line.

        It is handed to the operating system, which keeps it whatever becomes of this process. It is not forced to the
        disk (fsync): on the file systems of clusters that takes up to a second per tile, and what a power cut may take
        away is only the account of the last tiles, not their results.

        Args:
            entry: What the line says. Numbers of numpy are fine; NaN and infinities become null.

        Raises:
            OSError: If the line cannot be written; nothing of it is left then.
        """
        line = ("\n" if self._torn else "") + _dump(entry) + "\n"
        left = memoryview(line.encode("ascii"))
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError:
            self._take_back()
            raise
        self._size += len(line)
        self._torn = False

    def close(self) -> None:
        """Force the journal to the disk, and close it.

        Raises:
            OSError: If the disk does not take it, or the journal was removed meanwhile.
        """
        if self._file.closed:
            return
        with self._file:
            os.fsync(self._file.fileno())
            if os.fstat(self._file.fileno()).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "The journal of the run was removed while it ran", str(self.path))

    def discard(self) -> None:
        """Close the journal and remove it."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _take_back(self) -> None:
        self._torn = True
        with suppress(OSError):
            self._file.truncate(self._size)
            self._file.seek(self._size)
            self._torn = False


def journals(folder: Path) -> dict[str, Path]:
    """Return the journals in a folder of results by the name of their run, oldest first."""
    found = (path for path in folder.glob(f"*{JOURNAL}") if not path.name.startswith("."))
    return by_age({path.name.removesuffix(JOURNAL): path for path in found})


def by_age(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Sort files of runs by the name of the run, which is its start, and a number within one second."""
    return {name: paths[name] for name in sorted(paths, key=lambda name: (name[:19], len(name), name))}


def read_header(path: Path) -> dict[str, object]:
    """Read what the first line of a journal says.

    Returns:
        The header; empty where the line is torn or damaged.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a later release wrote it in a way that this one does not know.
    """
    with _open(path) as file:
        line = file.readline()
    header = _parse(line) if line.endswith(b"\n") else None
    if not isinstance(header, dict) or _HEADER_KEY not in header:
        return {}
    if header[_HEADER_KEY] != FORMAT:
        raise ValueError(f"{path} was written by another release of DARTS; install a newer one to read it.")
    return header


def read_entries(path: Path, size: int | None = None, *, warn: bool = True) -> Iterator[Entry]:
    """Read the lines about tiles, in the order in which they were written.

    A last line without an end is not read: the run was killed in it, or is writing it now. Any other damaged line is
    left out with a warning in the log that names file and line.

    Args:
        path: The journal.
        size: Read only so many bytes; default all.
        warn: Whether to tell of damaged lines.

    Yields:
        The lines.

    Raises:
        OSError: If the file cannot be read.
    """
    position = damaged = 0
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            position += len(line)
            if not line.endswith(b"\n") or (size is not None and position > size):
                break
            entry = _parse(line)
            if _is_entry(entry):
                yield entry
            elif line.strip() and not (number == 1 and isinstance(entry, dict) and _HEADER_KEY in entry):
                damaged += 1
                if warn and damaged <= _MOST_WARNINGS:
                    logger.warning("Line %d of %s is damaged and left out.", number, path)
    if warn and damaged > _MOST_WARNINGS:
        logger.warning("%d lines of %s are damaged and left out.", damaged, path)


def latest(entries: Iterator[Entry]) -> list[Entry]:
    """Return the last line about each tile, in the order of these lines."""
    found: dict[str, Entry] = {}
    for entry in entries:
        found.pop(entry["output_path"], None)
        found[entry["output_path"]] = entry
    return list(found.values())


def utc_now() -> str:
    """Return the time as journals write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _open(path: Path) -> BinaryIO:
    if not path.is_file() and path.exists():  # Opening a named pipe would wait for ever.
        raise OSError(errno.EINVAL, "This is no file", str(path))
    return path.open("rb")


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _dump(entry: Mapping[str, object]) -> str:
    try:
        return json.dumps(entry, separators=(",", ":"), allow_nan=False, default=_plain)
    except ValueError:  # A number that is not finite, which is rare.
        return json.dumps(_plain(entry), separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    """Bring a value into what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _plain(value.item() if hasattr(value, "item") else str(value))


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("status") in STATUSES
        and _are_seconds(entry.get("stages"))
        and _are_seconds(entry.get("steps"))
        and all(_fits(entry.get(name), kinds) for name, kinds in _TYPES)
        and all(_fits(entry.get(name, default), (kind,)) for name, kind, default in _TYPES_WITH_DEFAULT)
    )


def _are_seconds(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    # Nearly always all are floats, and that is quickly said.
    only_floats = set(map(type, value.values())) <= {float}
    return only_floats or all(_fits(item, (float, int, _ABSENT)) for item in value.values())


def _fits(value: object, kinds: tuple[type, ...]) -> bool:
    return type(value) in kinds and (type(value) is not int or abs(value) < 2**63)
