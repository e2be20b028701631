"""What a dataset remembers of its inputs, so that an update writes only what changes."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_dataset.errors import DatasetError
from darts_dataset.parallel import in_order

FILE = "dataset.json"
CHECKSUMS = "checksums.sha256"
COPIES = "geopackage"
"""Folder of the copies as GeoPackage; readers of a folder of GeoParquet take every file for one."""
REMEMBERED = "memory"
"""Folder of what updates need beside the tables."""
FORMAT = 1


def digest_of(value: object) -> str:
    """Return the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class StartOverError(Exception):
    """The dataset before cannot be used."""


@dataclass
class Memory:
    """Parts of a dataset: folders, and digests of what each was made from.

    Attributes:
        folder: The dataset.
        inputs: Digest of what a part was made from, by the path of its folder within the dataset.
        checksums: SHA-256 of its files, by path.
        about: What else ``dataset.json`` says.
    """

    folder: Path
    inputs: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._whole: set[str] = set()
        self._compared: set[str] = set()
        self._names: dict[str, list[str]] = {}
        for name in self.checksums:
            first, _, rest = name.partition("/")
            inside = rest if first in (COPIES, REMEMBERED) else name
            for part in {inside.rpartition("/")[0], inside.rpartition(".")[0]}:
                self._names.setdefault(part, []).append(name)

    @classmethod
    def read(cls, folder: Path) -> "Memory":
        """Read what a dataset remembers.

        Raises:
            DatasetError: If the folder holds no dataset of this release.
        """
        try:
            content = json.loads((folder / FILE).read_text("utf-8"))
            lines = (folder / CHECKSUMS).read_text("utf-8").splitlines()
            inputs = {str(name): str(digest) for name, digest in content["parts"].items()}
            checksums = {path: digest for digest, _, path in (line.partition("  ") for line in lines)}
            if content["format"] != FORMAT:
                raise DatasetError(
                    f"{folder} holds a dataset in format {content['format']}; this release reads {FORMAT}. "
                    "Build it again into another folder."
                )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{folder} holds no dataset: {FILE} and {CHECKSUMS} are expected ({error}).") from error
        return cls(folder, inputs, checksums, content)

    def reuse(self, part: str, new: Path, inputs: str | None = None) -> dict[str, str] | None:
        """Take a part along into a new folder, if it was made from the same and is as it was written.

        Args:
            part: Path of its folder, or of its table without the ending.
            new: The new dataset.
            inputs: Digest of what it is to be made from; None where that is known to be the same.

        Returns:
            SHA-256 of its files, by path; None if it was not taken along.
        """
        if inputs not in (None, self.inputs.get(part)) or not self.has(part):
            return None
        names = self._names[part]
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.folder / name, new / name)
            except OSError:
                shutil.copy2(self.folder / name, new / name)
        return {name: self.checksums[name] for name in names}

    def years(self) -> list[int]:
        """Return the years that there are objects of, though it may be none."""
        parts = (part.partition("level2/year=") for part in self._names)
        return sorted(int(year) for before, mark, year in parts if mark and not before and year.isdigit())

    def has(self, part: str) -> bool:
        """Tell whether the files of a part are there as they were written, see `verify`."""
        names = self._names.get(part, [])
        return bool(names) and self._whole.issuperset(names)

    def file(self, name: str) -> Path:
        """Return the path of a file, whose content is that which its checksum was written for.

        Raises:
            StartOverError: If it is not.
        """
        if name not in self._compared:
            if not self._is_same(name):
                raise StartOverError
            self._compared.add(name)
        return self.folder / name

    def is_whole(self, name: str) -> bool:
        """Tell whether a file is there as it was written, see `verify`."""
        return name in self._whole

    def verify(self) -> bool:
        """Find the files that are as they were written, and tell whether those are that were written, and all of them.

        A file that is older than the checksums, which were written last, needs no reading here: where it is taken
        along, its checksum is, too, and before anything is read from it, it is compared, see `file`.
        """
        written = (self.folder / CHECKSUMS).stat().st_mtime_ns

        def is_whole(name: str) -> bool:
            try:
                return (self.folder / name).stat().st_mtime_ns < written or self._is_same(name)
            except OSError:
                return False

        found = in_order(is_whole, self.checksums)
        self._whole = {name for name, whole in zip(self.checksums, found, strict=True) if whole}
        return self._is_same(FILE) and self.lists_written()

    def lists_written(self) -> bool:
        """Tell whether the checksums are those that were written, and all of them, as ``dataset.json`` has it."""
        listed = {name: digest for name, digest in self.checksums.items() if name != FILE}
        return FILE in self.checksums and self.about.get("files") == digest_of(listed)

    def _is_same(self, name: str) -> bool:
        try:
            return file_digest(self.folder / name) == self.checksums.get(name)
        except OSError:
            return False


def write_memory(folder: Path, parts: Mapping[str, str], about: Mapping[str, object], known: Mapping[str, str]) -> None:
    """Write ``dataset.json`` and the checksums of all files, in the format of ``sha256sum``.

    Args:
        folder: The dataset.
        parts: Digest of what each part was made from.
        about: What else ``dataset.json`` says.
        known: SHA-256 of files that need not be read again, by path.

    Raises:
        OSError: If a file cannot be read or written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    digests = in_order(lambda name: known.get(name) or file_digest(folder / name), names)
    listed = dict(zip(names, digests, strict=True))
    content = {"format": FORMAT, **about, "parts": dict(parts), "files": digest_of(listed)}
    (folder / FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
    listed[FILE] = file_digest(folder / FILE)
    (folder / CHECKSUMS).write_text("".join(f"{listed[name]}  {name}\n" for name in sorted(listed)), "utf-8")
