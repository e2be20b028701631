"""A journal keeps whole lines, and is read whatever became of it."""

import errno
import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts.run.journal import Journal, TileRecord, by_age, journals, latest, read_entries, read_header, utc_now


def _line(name: str, **changed: object) -> dict:
    return TileRecord(name, Path("/results") / name).to_entry() | {"ended": utc_now()} | changed


def _write(path: Path, lines: list[bytes]) -> Path:
    header = json.dumps({"darts_journal": 1, "run": "r"}).encode() + b"\n"
    path.write_bytes(header + b"".join(lines))
    return path


def _bytes(entry: dict) -> bytes:
    return json.dumps(entry).encode() + b"\n"


DAMAGED = [
    b"\0" * 50 + b"\n",
    b"\xff\xfe\n",
    b"{\n",
    b"[1, 2]\n",
    b"[" * 100_000 + b"\n",
    b'{"tile_id": "x"}\n',
    _bytes(_line("x", status="well")),
    _bytes(_line("x", status=["success"])),
    _bytes(_line("x", stages=[1])),
    _bytes(_line("x", steps={"a": "long"})),
    _bytes(_line("x", objects=2**70)),
    _bytes(_line("x", objects=1.5)),
    _bytes(_line("x", attempt=None)),
    _bytes(_line("x", retryable=1)),
    _bytes(_line("x", error=None)),
    _bytes(_line("x", ended=5)),
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=map(str, range(len(DAMAGED))))
def test_a_damaged_line_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: bytes) -> None:
    path = _write(tmp_path / "r.journal.jsonl", [_bytes(_line("a")), damaged, b"\n", _bytes(_line("b"))])
    with caplog.at_level(logging.WARNING, "darts"):
        assert [entry["tile_id"] for entry in read_entries(path)] == ["a", "b"]
    assert caplog.messages == [f"Line 3 of {path} is damaged and left out."]


def test_many_damaged_lines_are_summed_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _write(tmp_path / "r.journal.jsonl", [b"{\n"] * 50 + [_bytes(_line("b"))])
    with caplog.at_level(logging.WARNING, "darts"):
        assert len(list(read_entries(path))) == 1
    assert len(caplog.messages) == 6
    assert caplog.messages[-1] == f"50 lines of {path} are damaged and left out."
    caplog.clear()
    path = _write(tmp_path / "five.journal.jsonl", [b"{\n"] * 5)
    with caplog.at_level(logging.WARNING, "darts"):
        assert list(read_entries(path)) == []
    assert len(caplog.messages) == 5


@given(data=st.data())
def test_bytes_that_are_overwritten_cost_no_line_but_their_own(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = [_bytes(_line(f"tile {number}")) for number in range(6)]
    number = data.draw(st.integers(0, 5))
    place = data.draw(st.integers(0, len(lines[number]) - 2))
    noise = data.draw(st.binary(min_size=1, max_size=20)).replace(b"\n", b"\0")
    line = lines[number]
    lines[number] = (line[:place] + noise + line[place + len(noise) :])[: len(line) - 1] + b"\n"
    path = _write(tmp_path_factory.mktemp("journal") / "r.journal.jsonl", lines)
    kept = [entry["output_path"] for entry in read_entries(path, warn=False)]
    others = [f"/results/tile {other}" for other in range(6) if other != number]
    assert [output for output in kept if output in others] == others
    assert len(kept) <= 6


def test_a_header_that_is_damaged_leaves_the_lines_readable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "r.journal.jsonl"
    path.write_bytes(b"\0\0\n" + _bytes(_line("a")))
    assert read_header(path) == {}
    with caplog.at_level(logging.WARNING, "darts"):
        assert [entry["tile_id"] for entry in read_entries(path)] == ["a"]
    assert caplog.messages == [f"Line 1 of {path} is damaged and left out."]


def test_a_journal_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.journal.jsonl"
    path.write_text('{"darts_journal": 2}\n')
    with pytest.raises(ValueError, match="another release"):
        read_header(path)


def test_what_is_no_file_is_refused_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.journal.jsonl")
    (tmp_path / "b.journal.jsonl").mkdir()
    for path in journals(tmp_path).values():
        with pytest.raises(OSError, match="no file"):
            read_header(path)


def test_an_existing_journal_is_never_written_into(tmp_path: Path) -> None:
    path = tmp_path / "r.journal.jsonl"
    path.write_text("kept")
    with pytest.raises(FileExistsError):
        Journal(path, {})
    assert path.read_text() == "kept"


class _FullDisk:
    """The file of a journal on a disk that takes only so many bytes more."""

    def __init__(self, file, room: int, *, truncates: bool = True) -> None:
        self._file, self.room, self._truncates = file, room, truncates

    def write(self, content) -> int:
        if not self.room:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        taken = min(self.room, len(content), 7)  # In pieces, as a file system may.
        self.room -= taken
        return self._file.write(content[:taken])

    def truncate(self, size: int) -> None:
        if not self._truncates:
            raise OSError(errno.EIO, "Input/output error")
        self._file.truncate(size)

    def __getattr__(self, name: str):
        return getattr(self._file, name)


@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize("room", [0, 1, 40, 100])
def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, room: int, truncates: bool) -> None:
    journal = Journal(tmp_path / "r.journal.jsonl", {"run": "r"})
    journal.append(_line("a"))
    file = journal._file
    journal._file = _FullDisk(file, room, truncates=truncates)
    whole = journal.path.read_bytes()
    with pytest.raises(OSError, match="quota"):
        journal.append(_line("b"))
    assert journal.path.read_bytes().startswith(whole)
    if truncates:
        assert journal.path.read_bytes() == whole
    journal._file.room = 10_000
    journal.append(_line("c"))
    file.close()
    assert [entry["tile_id"] for entry in read_entries(journal.path, warn=False)] == ["a", "c"]


def test_the_last_line_about_a_tile_counts() -> None:
    lines = [_line("a", status="failed"), _line("b"), _line("a", attempt=2)]
    assert [(entry["tile_id"], entry["status"]) for entry in latest(iter(lines))] == [
        ("b", "success"),
        ("a", "success"),
    ]


def test_runs_are_sorted_by_start_and_number() -> None:
    names = ["2026-01-01_00-00-00", "2026-01-01_00-00-00-2", "2026-01-01_00-00-00-10", "2026-01-01_00-00-01"]
    assert list(by_age(dict.fromkeys(reversed(names), Path()))) == names
