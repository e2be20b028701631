"""An output-directory lock: one run at a time, with and without locks of the file system."""

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from darts.errors import ConfigurationError, FolderInUseError, NoFileLocksWarning
from darts.run.lock import HOLDER_FILE, LOCK_FILE, OWNER_FILE, Holding, find_holder, folder_lock, running_in

NO_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]


@pytest.fixture
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses locks, here with one of the ways in which that is said."""
    number = getattr(request, "param", errno.ENOLCK)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)


@contextmanager
def _held_without_locks(folder: Path) -> Iterator[Callable[[str], None]]:
    with ExitStack() as held:
        with pytest.warns(NoFileLocksWarning, match="no file locks"):
            tell = held.enter_context(folder_lock(folder))
        yield tell


def _owner(folder: Path, **changed: object) -> None:
    facts = {"host": platform.node(), "process": 1, "start": "2026-01-01", "process_start": 0.0, "run": "old"}
    (folder / OWNER_FILE).write_text(json.dumps(facts | changed))


def test_lock_is_held_until_the_end_and_names_its_run(tmp_path: Path) -> None:
    with folder_lock(tmp_path) as tell:
        assert running_in(tmp_path) == "unknown"
        tell("first")
        assert running_in(tmp_path) == "first"
        with pytest.raises(FolderInUseError, match=f"host {platform.node()}, process {os.getpid()}, since 20"):
            folder_lock(tmp_path).__enter__()
    assert running_in(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


@pytest.mark.parametrize("no_locks", NO_LOCKS, indirect=True)
def test_without_locks_a_file_keeps_other_runs_out(tmp_path: Path, no_locks: None) -> None:
    with _held_without_locks(tmp_path) as tell:
        tell("first")
        assert running_in(tmp_path) == "first"
        with pytest.warns(NoFileLocksWarning), pytest.raises(FolderInUseError, match=f"process {os.getpid()}"):
            folder_lock(tmp_path).__enter__()
    assert running_in(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


_SCRIPT = """
import errno, fcntl, sys, time, warnings
from pathlib import Path
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
warnings.simplefilter("ignore")
from darts.run.lock import folder_lock
with folder_lock(Path(sys.argv[1])) as tell:
    tell("first")
    print("held", flush=True)
    time.sleep(60)
"""


def test_without_locks_a_killed_run_is_taken_over(tmp_path: Path, no_locks: None) -> None:
    with subprocess.Popen([sys.executable, "-c", _SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        assert find_holder(tmp_path) == Holding("running", "first")
        with pytest.warns(NoFileLocksWarning), pytest.raises(FolderInUseError, match=f"process {first.pid}"):
            folder_lock(tmp_path).__enter__()
        first.kill()
        first.wait()
    assert find_holder(tmp_path) == Holding("free", "first")
    with _held_without_locks(tmp_path) as tell:
        tell("second")
        assert running_in(tmp_path) == "second"
    assert not (tmp_path / OWNER_FILE).exists()


def test_without_locks_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it(
    tmp_path: Path, no_locks: None
) -> None:
    _owner(tmp_path, process=os.getpid())  # This very process, but it did not start in 1970.
    assert running_in(tmp_path) is None
    with pytest.warns(NoFileLocksWarning), folder_lock(tmp_path):
        assert json.loads((tmp_path / OWNER_FILE).read_text())["process_start"] > 0


def test_without_locks_a_folder_that_was_taken_over_meanwhile_is_left_alone(
    tmp_path: Path, no_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs find the same dead one; the slower must not take the folder from the faster."""
    _owner(tmp_path, process=2**22 + 1)
    rename = Path.rename

    def rename_late(path: Path, target: Path) -> Path:
        if path.name == OWNER_FILE:
            _owner(tmp_path, process=os.getppid(), run="faster")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_late)
    with pytest.warns(NoFileLocksWarning), pytest.raises(FolderInUseError, match=f"process {os.getppid()}"):
        folder_lock(tmp_path).__enter__()
    assert json.loads((tmp_path / OWNER_FILE).read_text())["run"] == "faster"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(OWNER_FILE)] == [OWNER_FILE]


@pytest.mark.parametrize("content", ['{"host": "another", "process": 1, "start": "2026-01-01", "run": "r"}', "", "\0{"])
def test_without_locks_what_another_machine_or_nobody_known_holds_is_refused_with_a_way_out(
    tmp_path: Path, no_locks: None, content: str
) -> None:
    (tmp_path / OWNER_FILE).write_text(content)
    with pytest.warns(NoFileLocksWarning), pytest.raises(FolderInUseError) as refused:
        folder_lock(tmp_path).__enter__()
    assert f"remove {tmp_path / OWNER_FILE}" in str(refused.value)
    assert ("host another" in str(refused.value)) == bool(content.startswith('{"'))
    assert (tmp_path / OWNER_FILE).read_text() == content
    assert find_holder(tmp_path).state == "unknown"
    assert running_in(tmp_path) == ("r" if content.startswith('{"') else "unknown")


def test_lock_file_of_another_run_is_not_removed_at_the_end(tmp_path: Path, no_locks: None) -> None:
    with pytest.warns(NoFileLocksWarning), folder_lock(tmp_path):
        _owner(tmp_path, host="another")
    assert (tmp_path / OWNER_FILE).exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    opened = os.open

    def refuse(path, flags, *rest, **further) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *rest, **further)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigurationError, match=f"cannot be locked.*{os.strerror(number)}"):
        folder_lock(tmp_path).__enter__()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b'{"run": 5}', b"[" * 100_000])
def test_a_damaged_holder_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HOLDER_FILE).write_bytes(content)
    assert find_holder(tmp_path) == Holding("free", None)
    with folder_lock(tmp_path):
        assert running_in(tmp_path) == "unknown"
        with pytest.raises(FolderInUseError, match="Another run writes"):
            folder_lock(tmp_path).__enter__()


def test_a_holder_of_another_machine_whose_lock_does_not_reach_here_is_unknown(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    for host, state in (("another", "unknown"), (platform.node(), "free")):
        (tmp_path / HOLDER_FILE).write_text(json.dumps({"host": host, "run": "first"}))
        assert find_holder(tmp_path) == Holding(state, "first")


def test_looking_whether_a_folder_is_held_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    with (tmp_path / LOCK_FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # As another process does while it looks.
        assert running_in(tmp_path) is None
