"""Files written whole: against errors, kills at every step, other writers, and what they leave behind."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from darts_utils import atomic_path, remove_partials, write_atomically

OLD, NEW = b"old content", b"new content " * 5000
SCHEME = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-[0-9a-f]{14}\.partial")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "list.json"
    path.write_bytes(OLD)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def draft_of(path: Path, pid: int) -> Path:
    """Return the name that a draft of a process of this machine has."""
    with atomic_path(path) as draft:
        draft.write_bytes(path.read_bytes() if path.exists() else OLD)
    return draft.with_name(draft.name.replace(f".{os.getpid()}-", f".{pid}-"))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(timeout=30)
    return process.pid


@pytest.mark.parametrize("durable", [True, False])
def test_content_is_replaced_and_nothing_else_is_left(file, durable):
    write_atomically(file, NEW, durable=durable)
    assert file.read_bytes() == NEW
    write_atomically(str(file.with_name("another")), OLD, durable=durable)
    assert names(file.parent) == ["another", "list.json"]


def test_a_draft_lies_beside_the_file_under_the_one_scheme(file):
    with atomic_path(file) as draft:
        assert not draft.exists()
        draft.write_bytes(NEW)
        assert file.read_bytes() == OLD
    assert draft.parent == file.parent
    match = SCHEME.fullmatch(draft.name)
    assert (match["name"], match["pid"]) == ("list.json", str(os.getpid()))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("written", [True, False])
def test_an_error_in_the_block_leaves_the_old_content(file, error, written):
    def write():
        with atomic_path(file) as draft:
            if written:
                draft.write_bytes(NEW)
            raise error

    with pytest.raises(error):
        write()
    assert file.read_bytes() == OLD
    assert names(file.parent) == ["list.json"]


def test_a_block_that_writes_nothing_is_an_error(file):
    with pytest.raises(FileNotFoundError), atomic_path(file):
        pass
    assert file.read_bytes() == OLD


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_leaves_the_old_content(file):
    program = (
        "import resource, signal, sys\nfrom darts_utils import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_atomically(sys.argv[1], b'x' * 5000)\nexcept OSError as error:\n    print(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == errno.EFBIG
    assert file.read_bytes() == OLD
    assert names(file.parent) == ["list.json"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_content(file, monkeypatch, failing):
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(*{"fsync": (os, "fsync", fail), "replace": (Path, "replace", fail)}[failing])
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(file, NEW)
    monkeypatch.undo()
    assert file.read_bytes() == OLD
    assert names(file.parent) == ["list.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows syncs no folders")
def test_content_is_synced_before_the_name_and_the_name_afterwards(file, monkeypatch):
    events: list[tuple[str, int]] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        events.append(("sync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        events.append(("replace", path.stat().st_ino))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_atomically(file, NEW)
    content, folder = file.stat().st_ino, file.parent.stat().st_ino
    assert events == [("sync", content), ("replace", content), ("sync", folder)]
    events.clear()
    write_atomically(file, NEW, durable=False)
    assert events == [("replace", file.stat().st_ino)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="every step is killed in a process forked for it")
def test_a_writer_killed_at_any_step_leaves_old_or_new_content(file):
    """A child ends without a word at its n-th event (each file opened, renamed, removed …), for all n there are."""
    program = f"""
import os, sys
from pathlib import Path
from darts_utils import atomic_path, remove_partials, write_atomically
file, contents, last = Path(sys.argv[1]), [], 0
old, new = {OLD!r}, b'new content ' * 5000
events = [1 << 30]
def count(event, _):
    if event.split('.')[0] in ('open', 'os', 'shutil', 'pathlib', 'socket'):
        events[0] -= 1
        if events[0] == 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(count)
killed = True
while killed:
    last += 1
    file.write_bytes(old)
    child = os.fork()
    if child == 0:
        events[0] = last
        with atomic_path(file) as draft:
            with draft.open('wb') as stream:
                stream.write(new[:20000])
                stream.flush()
                os.stat(draft), os.listdir(file.parent)
                stream.write(new[20000:])
        os._exit(0)
    killed = os.waitpid(child, 0)[1] != 0
    there = file.read_bytes()
    left = [path.name for path in file.parent.iterdir() if path != file]
    contents.append('new' if there == new else 'old' if there == old else 'mixed')
    removed = [path.name for path in remove_partials(file.parent)]
    assert removed == left and len(left) <= 1 and list(file.parent.iterdir()) == [file], (left, removed)
    contents[-1] += '+draft' * len(left)
print(*contents)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    contents = done.stdout.split()
    assert set(contents) == {"old", "old+draft", "new"}
    assert contents == sorted(contents, key=["old", "old+draft", "new"].index)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_what_a_killed_writer_leaves_is_removed_once_it_is_dead(file, deadly):
    program = (
        "import sys\nfrom darts_utils import atomic_path\nwith atomic_path(sys.argv[1]) as draft:\n"
        "    draft.write_text('half'); print(draft, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        draft = Path(writer.stdout.readline().strip())
        assert remove_partials(file.parent) == []
        assert draft.read_text() == "half"
        writer.send_signal(deadly)
        writer.wait(timeout=30)
    assert file.read_bytes() == OLD
    assert draft.exists()
    assert remove_partials(file.parent) == [draft]
    assert names(file.parent) == ["list.json"]
    assert remove_partials(file.parent) == []


def test_only_drafts_of_the_scheme_are_removed(file):
    draft = draft_of(file, dead_pid())
    draft.write_text("half")
    pid, code = re.fullmatch(r".*\.(\d+)-(\w+)\.partial", draft.name).groups()
    others = [
        f"list.json.{pid}-{code}.partial",
        f".list.json.{pid}-{code}.part",
        f".list.json.{pid}-{code}.partial~",
        f".list.json.{pid}.partial",
        f".list.json.{pid}-{code[:-1]}.partial",
        f".list.json.{pid}-{code}0.partial",
        f".list.json.0-{code}.partial",
        f".list.json.-1-{code}.partial",
        f"..{pid}-{code}.partial",
        ".partial",
        ".list.json.partial",
    ]
    for name in others:
        (file.parent / name).write_text("not ours")
    (file.parent / "inner").mkdir()
    (file.parent / "inner" / draft.name).write_text("in a folder below")
    assert remove_partials(file.parent) == [draft]
    assert names(file.parent) == sorted([*others, "inner", "list.json"])
    assert names(file.parent / "inner") == [draft.name]
    assert remove_partials(file.parent / "absent") == []


def test_drafts_of_other_machines_and_of_living_processes_stay_for_a_day(file):
    pid = dead_pid()
    elsewhere = draft_of(file, pid)
    machine = re.search(r"-(\w{6})\w{8}\.partial$", elsewhere.name)[1]
    elsewhere = elsewhere.with_name(elsewhere.name.replace(f"-{machine}", f"-{int(machine, 16) ^ 1:06x}"))
    living = [draft_of(file, number) for number in (os.getpid(), os.getppid(), 1)]
    drafts = [elsewhere, *living]
    for draft in drafts:
        draft.write_text("half")
    assert remove_partials(file.parent) == []
    for age, left in ((23.9, drafts), (24.1, [])):
        for draft in drafts:
            os.utime(draft, (time.time() - age * 3600,) * 2)
        remove_partials(file.parent)
        assert names(file.parent) == sorted(["list.json", *(draft.name for draft in left)])


def test_a_process_that_is_asked_whether_it_lives_goes_on(file):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        draft_of(file, process.pid).write_text("half")
        assert remove_partials(file.parent) == []
        process.communicate(b"\n")
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows is asked in another way")
def test_a_process_of_another_user_counts_as_living(file, monkeypatch):
    draft = draft_of(file, dead_pid())
    draft.write_text("half")

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert remove_partials(file.parent) == []
    monkeypatch.undo()
    assert remove_partials(file.parent) == [draft]


def test_readers_see_whole_files_only_while_several_write(file):
    contents = {bytes([65 + number]) * (300_000 + number) for number in range(4)} | {OLD}
    done = threading.Event()
    seen: list[bytes] = []

    def write(content: bytes) -> None:
        for _ in range(25):
            write_atomically(file, content, durable=False)

    def read() -> None:
        while not done.is_set():
            seen.append(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(content,)) for content in contents - {OLD}]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    done.set()
    reader.join(timeout=60)
    assert len(seen) > 10
    assert set(seen) <= contents
    assert file.read_bytes() in contents - {OLD}
    assert names(file.parent) == ["list.json"]


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, ".hidden", "a b\nc"])
def test_files_of_any_name_can_be_written(tmp_path, name):
    path = tmp_path / name
    write_atomically(path, NEW)
    assert path.read_bytes() == NEW
    draft = draft_of(path, dead_pid())
    draft.write_text("half")
    assert remove_partials(tmp_path) == [draft]
    assert names(tmp_path) == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights on Windows")
def test_a_link_stays_a_link(file, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to("../list.json")
    write_atomically(link, NEW)
    assert link.is_symlink()
    assert file.read_bytes() == NEW
    assert names(link.parent) == ["link"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name here")
def test_a_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="neither a file nor a folder"):
        write_atomically(pipe, NEW)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_a_folder_is_put_in_place_as_a_whole_and_never_over_another(tmp_path):
    folder = tmp_path / "area"

    def make(content: bytes) -> None:
        with atomic_path(folder) as draft:
            (draft / "inner").mkdir(parents=True)
            (draft / "inner" / "file").write_bytes(content)

    make(OLD)
    assert (folder / "inner" / "file").read_bytes() == OLD
    with pytest.raises(OSError, match="not empty" if sys.platform != "win32" else ""):
        make(NEW)
    assert (folder / "inner" / "file").read_bytes() == OLD
    assert names(tmp_path) == ["area"]
    draft = draft_of(tmp_path / "file", dead_pid())
    (draft / "inner").mkdir(parents=True)
    assert remove_partials(tmp_path) == [draft]
    assert names(tmp_path) == ["area", "file"]


def test_a_folder_that_another_machine_still_fills_is_not_forgotten(file):
    draft = draft_of(file, 1)
    (draft / "inner").mkdir(parents=True)
    (draft / "inner" / "file").write_text("just now")
    for path in (draft, draft / "inner"):
        os.utime(path, (0, 0))
    assert remove_partials(file.parent) == []
    os.utime(draft / "inner" / "file", (0, 0))
    assert remove_partials(file.parent) == [draft]
