"""A folder is replaced as a whole or not at all, and what dead writers leave is removed."""

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from darts_utils import staging
from darts_utils.staging import carry_over, remove_interrupted, remove_leftovers, replaced_folder

fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")

DAY = 24 * 3600


def _content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder with a file, alone in its parent."""
    folder = tmp_path / "parent" / "target"
    folder.mkdir(parents=True)
    (folder / "old").write_text("before")
    return folder


def _leave(target: Path, name: str, host: str, age: float = 0) -> Path:
    """Leave a work folder of `target` as a writer on some host would that began some seconds ago."""
    work = target.parent / f"{staging._prefix(target)}{name}"
    (work / "new").mkdir(parents=True)
    (work / "lock").write_text(host)
    os.utime(work / "lock", (time.time() - age,) * 2)
    return work


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(target: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:  # as elsewhere than on Linux
        monkeypatch.setattr(sys, "platform", "other")
    with replaced_folder(target) as new:
        assert new.parent.parent == target.parent
        assert _content(new) == {}
        (new / "deep").mkdir()
        (new / "deep" / "file").write_text("after")
        assert _content(target) == {"old": "before"}
    assert _content(target) == {"deep/file": "after"}
    assert [path.name for path in target.parent.iterdir()] == ["target"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges two folders in one step")
def test_on_linux_a_folder_is_never_absent_while_it_is_replaced(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(path: Path, other: Path) -> None:
        raise AssertionError(f"{path} is moved out of its place")

    with replaced_folder(target) as new:
        (new / "file").write_text("after")
        monkeypatch.setattr(Path, "rename", rename)
    assert _content(target) == {"file": "after"}


def test_an_error_leaves_the_folder_and_nothing_else(target: Path) -> None:
    with pytest.raises(ZeroDivisionError), replaced_folder(target) as new:
        (new / "file").write_text(str(1 / 0))
    assert _content(target) == {"old": "before"}
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_where_nothing_can_be_written_the_error_is_the_callers(target: Path) -> None:
    (target.parent / "file").write_text("")
    with (
        pytest.raises(KeyError, match=r"file cannot be written to: .*Free some space"),
        replaced_folder(target.parent / "file" / "folder", KeyError),
    ):
        pass


@pytest.mark.parametrize("locks", [True, False])
def test_only_what_dead_writers_left_is_removed(target: Path, monkeypatch: pytest.MonkeyPatch, locks: bool) -> None:
    here = socket.gethostname()
    living = _leave(target, "living", here, 2 * DAY)
    kept = {_leave(target, "elsewhere", "another.host", DAY - 60), _leave(target, "future", "another.host", -2 * DAY)}
    gone = {_leave(target, "long-gone", "another.host", DAY + 60), _leave(target, "old", here, DAY + 60)}
    young = {_leave(target, "dead", here), _leave(target, "cut-off", "")}
    other = _leave(target.with_name("other"), "x", here, 2 * DAY)
    if not locks:  # as on a file system without any: only time tells
        monkeypatch.setitem(sys.modules, "fcntl", None)
    with (living / "lock").open("rb") as lock:
        if locks:
            fcntl.flock(lock, fcntl.LOCK_EX)
        remove_leftovers(target)
        assert living.exists() == locks
    assert all(work.exists() for work in kept)
    assert not any(work.exists() for work in gone)
    assert {work.exists() for work in young} == {not locks}
    assert other.exists()
    remove_interrupted(target.parent)
    assert not other.exists()
    assert _content(target) == {"old": "before"}


def test_a_writer_shows_that_it_lives_and_on_which_host(target: Path) -> None:
    with replaced_folder(target) as new:
        remove_interrupted(target.parent)
        assert new.is_dir()
        assert (new.parent / "lock").read_text() == socket.gethostname()
        with (new.parent / "lock").open("rb") as lock:
            assert staging.try_lock(lock.fileno()) is False


def test_a_work_folder_that_another_writer_took_is_given_up_for_one_more(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []
    same = staging.is_same_file

    def take_two(lock: Path, descriptor: int) -> bool:
        if len(taken) < 2:
            taken.append(lock.parent)
            return False
        return same(lock, descriptor)

    monkeypatch.setattr(staging, "is_same_file", take_two)
    with replaced_folder(target) as new:
        assert new.parent not in taken
        (new / "file").write_text("after")
    assert _content(target) == {"file": "after"}
    monkeypatch.setattr(staging, "is_same_file", lambda lock, descriptor: False)
    with pytest.raises(OSError, match="after many attempts"), replaced_folder(target):
        pass


def test_what_is_carried_over_costs_no_copy_and_never_wins(target: Path) -> None:
    new = target.with_name("new")
    (new / "kept").mkdir(parents=True)
    (new / "kept" / "a").write_text("new")
    for name in ("kept", "taken/deep"):
        (target / name).mkdir(parents=True)
        (target / name / "a").write_text(f"old {name}")
    (target / "link").symlink_to("nowhere")
    (target / "to-folder").symlink_to("taken")
    carry_over(target, new, ["old", "kept", "taken", "link", "to-folder", "never there"])
    assert _content(new) == {"kept/a": "new", "old": "before", "taken/deep/a": "old taken/deep"}
    assert (target / "taken" / "deep" / "a").samefile(new / "taken" / "deep" / "a")
    assert [str((new / name).readlink()) for name in ("link", "to-folder")] == ["nowhere", "taken"]
