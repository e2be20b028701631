"""Files for what memory need not hold, which end with the block that they are used in."""

import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO


class ScratchFile:
    """A file that is written to its end, and read anywhere."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._map: mmap.mmap | None = None

    def append(self, content: memoryview) -> None:
        """Add bytes, or what has a buffer of them."""
        self._file.write(content)
        self._unmap()

    def content(self) -> mmap.mmap:
        """Return what was written so far, at least one byte."""
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def release(self) -> None:
        """Leave what was read to the system, so that it does not count as memory of this process."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """End using it."""
        self._unmap()
        self._file.close()

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


class Scratch:
    """A folder for scratch files."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def open(self, name: str) -> ScratchFile:
        """Make a file, which must not be there."""
        file = ScratchFile((self.folder / name).open("x+b"))
        self._stack.callback(file.close)
        return file


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Scratch]:
    """Yield a folder for scratch files, which vanish with it.

    Args:
        parent: Where it is made.

    Yields:
        The folder.
    """
    with TemporaryDirectory(dir=parent) as folder, ExitStack() as stack:
        yield Scratch(Path(folder), stack)
