"""A folder that nobody may write to."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked_folder() -> Iterator[Path]:
    """Give a folder that nobody may write to, with `private`, which nobody may read, and `empty` in it.

    Root, who may do anything, is somebody else within the block; what is needed there is best imported before.
    """
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "private").mkdir(mode=0o000)
        (folder / "empty").mkdir()
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
