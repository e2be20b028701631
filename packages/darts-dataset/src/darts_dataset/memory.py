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
FORMAT = 1


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

    def reuse(self, part: str, inputs: str, new: Path) -> dict[str, str]:
        """Take a part along into a new folder, if it was made from the same and is as it was written.

        Args:
            part: Path of its folder.
            inputs: Digest of what it is to be made from.
            new: The new dataset.

        Returns:
            SHA-256 of its files, by path; nothing if it was not taken along.
        """
        names = [name for name in self.checksums if name.startswith((f"{part}/", f"{COPIES}/{part}/"))]
        if self.inputs.get(part) != inputs or not names:
            return {}
        if not all(self.is_whole(name) for name in names):
            return {}
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.folder / name, new / name)
            except OSError:
                shutil.copy2(self.folder / name, new / name)
        return {name: self.checksums[name] for name in names}

    def is_whole(self, name: str) -> bool:
        """Tell whether a file is there as it was written."""
        try:
            return file_digest(self.folder / name) == self.checksums.get(name)
        except OSError:
            return False


def write_memory(folder: Path, parts: Mapping[str, str], about: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Write ``dataset.json`` and the checksums of all files, in the format of ``sha256sum``.

    Args:
        folder: The dataset.
        parts: Digest of what each part was made from.
        about: What else ``dataset.json`` says.
        known: SHA-256 of files that need not be read again, by path.

    Raises:
        OSError: If a file cannot be read or written.
    """
    content = {"format": FORMAT, **about, "parts": dict(sorted(parts.items()))}
    (folder / FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if name != CHECKSUMS]
    digests = in_order(lambda name: known.get(name) or file_digest(folder / name), names)
    lines = [f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True)]
    (folder / CHECKSUMS).write_text("".join(lines), "utf-8")
