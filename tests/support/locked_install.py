"""The preprocessing installed where nobody may write, and processes of a user without rights who works with it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import darts_preprocessing

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534
NAMELESS = 54321  # no entry in the list of users, hence no home folder

# Becomes the user after loading what that user may not be able to read: Python itself can lie in root's home folder.
PRELUDE = """
import concurrent.futures.thread, json, logging, os, pickle, tempfile, time, traceback
import darts_utils, numba, numba.core.event, numpy, xarray
numba.njit(lambda values: values + values)(numpy.ones((2, 2), "f4"))
darts_utils.usable_cpus()
if user := {user}:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
"""


class LockedInstall:
    """A package that cannot be written, and folders that can.

    Attributes:
        site: Holds the package.
        home: A home folder, empty.
        temporary: A folder for temporary files, as ``/tmp`` is.
        current: The current folder, in which anybody may write.
    """

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.site, self.home, self.temporary, self.current = (folder / n for n in ("site", "home", "tmp", "cwd"))
        for place, mode in ((self.home, 0o777), (self.temporary, 0o1777), (self.current, 0o777)):
            place.mkdir()
            place.chmod(mode)
        source = Path(darts_preprocessing.__file__).parent
        shutil.copytree(source, self.site / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        self.lock()

    def lock(self) -> None:
        """Take away the right to write in the package."""
        self._set_mode(0o555)

    def unlock(self) -> None:
        """Let everybody write in the package."""
        self._set_mode(0o777)

    def run(self, code: str, *, user: int = NOBODY, **environment: object) -> tuple[str, str]:
        """Run code as a user without rights, or as this one where that is not root.

        Args:
            code: What to run.
            user: Who runs it, where this process belongs to root.
            **environment: Variables of its environment; ``HOME`` is not set otherwise.

        Returns:
            What it printed last, and its error stream.
        """
        env = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        env["PYTHONPATH"] = os.pathsep.join([str(self.site), *(path for path in sys.path if path)])
        env["TMPDIR"] = str(self.temporary)
        done = subprocess.run(
            [sys.executable, "-B", "-c", PRELUDE.format(user=user if IS_ROOT else None) + code],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=self.current,
            env=env | {name: str(value) for name, value in environment.items()},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1], done.stderr

    def _set_mode(self, mode: int) -> None:
        for place in (self.site, *self.site.rglob("*")):
            if place.is_dir():
                place.chmod(mode)


@contextmanager
def locked_install() -> Iterator[LockedInstall]:
    """Install the package of this environment once more, for as long as the block takes."""
    with tempfile.TemporaryDirectory() as name:
        install = LockedInstall(Path(name).resolve())
        try:
            yield install
        finally:
            install.unlock()
