"""Shards: each does its own tiles, several write into one folder at once, and none is left out silently."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts.cli.history import show_runs, show_status
from darts.errors import FolderInUseError, IgnoredOptionWarning, NoFileLocksWarning
from darts.run import exit_code, plan, run
from darts.run.history import list_runs, read_run
from darts.run.lock import LOCK_FILE, folder_lock
from darts.run.running import find_state, running_runs
from darts.run.shard_history import ShardGroup, group_shards
from darts.run.shard_lock import TERMS_FILE, shard_lock
from darts.run.shards import Shard, ShardMetadata, ranges, shard_of
from darts.run.status import run_status
from support import standin

TILES = 8
ONE = {"export_bands": ["probabilities"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and some images, and the results of a run without shards."""
    made = standin.make_folder(tmp_path_factory.mktemp("shards"), TILES)
    run(standin.make_pipeline(made, **ONE), standin.open_session)
    return made


def _pipeline(folder: Path, output: Path, shard: str, **values: Any) -> standin.StandInPipeline:
    return standin.make_pipeline(folder, output_data_dir=output, shard=shard, **(ONE | values))


def _run(folder: Path, output: Path, shard: str, **values: Any) -> Any:
    return run(_pipeline(folder, output, shard, **values), standin.open_session)


def _expected(of: int) -> dict[int, set[str]]:
    """Divide the tiles by the rule as it is written."""
    names = [f"tile-{number:03}" for number in range(TILES)]
    numbers = {name: int(hashlib.sha256(name.encode()).hexdigest(), 16) % of for name in names}
    return {number: {name for name in names if numbers[name] == number} for number in range(of)}


def _group(output: Path) -> ShardGroup:
    (group,) = group_shards(list_runs(output))
    return group


class _Held:
    """A session that waits in each tile until it is told to go on."""

    device, precision = "cpu", "fp32"

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, pipeline: Any, context: Any) -> Any:
        self._session = standin.open_session(pipeline, context)
        return self

    def segment(self, tile: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(60)
        return self._session.segment(tile)


@contextmanager
def _going_on(folder: Path, output: Path, shard: str) -> Iterator[list[Any]]:
    """Have a shard wait in its first tile until the block ends, and give its records then."""
    held = _Held()
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(run(_pipeline(folder, output, shard), held)))
    thread.start()
    try:
        assert held.begun.wait(60)
        yield ended
    finally:
        held.go_on.set()
        thread.join(60)
    assert not thread.is_alive()


# Which tiles a shard has.


@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=30), of=st.integers(1, 9))
def test_each_tile_belongs_to_one_shard_whatever_others_there_are(names: list[str], of: int) -> None:
    shards = [Shard(number, of) for number in range(of)]
    for name in names:
        assert [shard.number for shard in shards if shard.holds(name)] == [shard_of(name, of)]
        assert shard_of(name, of) == int(hashlib.sha256(name.encode()).hexdigest(), 16) % of
    facts = ShardMetadata.of_tiles(shards[0], "digest", names, "2026-01-02")
    assert facts.tiles == tuple(sum(shard.holds(name) for name in names) for shard in shards)
    assert ShardMetadata.of_header(json.loads(json.dumps(facts.to_header()))) == facts
    assert facts == ShardMetadata.of_tiles(shards[0], "digest", names[::-1], "2026-01-02")


@pytest.mark.parametrize("text", ["4/4", "1", "-1/4", "0/0", "a/b", "1/2/3", ""])
def test_a_shard_that_cannot_be_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ValueError, match="expected i/n with i from 0 to n-1"):
        standin.make_pipeline(folder, shard=text)


@pytest.mark.parametrize("damage", [None, 5, {}, {"number": 1}, {"number": 4, "of": 2}, {"number": 0, "of": 1}])
def test_a_damaged_header_is_no_shard(damage: Any) -> None:
    assert ShardMetadata.of_header({"shard": damage}) is None


@given(numbers=st.sets(st.integers(0, 20)))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    found: list[int] = []
    for part in filter(None, ranges(numbers).split(", ")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)


# Runs.


def test_all_shards_in_any_order_give_what_one_run_gives(folder: Path, tmp_path: Path) -> None:
    expected = _expected(4)
    for number in (2, 0, 3, 1):
        records = _run(folder, tmp_path, f"{number}/4")
        assert {tile.tile_id for tile in records.tiles} == expected[number]
        assert records.planned == len(expected[number])
        assert records.name.endswith(f"-s{number}of4")
        assert exit_code(records) == 0
        assert read_run(tmp_path)[2] == sum(map(len, expected.values()))
        group = _group(tmp_path)
        assert group.missing == [other for other, names in expected.items() if names and other not in group.runs]
    assert standin.describe(tmp_path) == standin.describe(folder / "results")
    assert (group.missing, group.outdated, group.unfinished) == ([], [], [])
    tables = [pd.read_parquet(path) for path in tmp_path.glob("*.results.parquet")]
    assert sorted(pd.concat(tables)["tile_id"]) == sorted(set().union(*expected.values()))
    _, table, planned = read_run(tmp_path)
    assert sorted(table["tile_id"]) == sorted(set().union(*expected.values()))
    assert planned == len(table)
    assert not (tmp_path / "report").exists()
    hidden = {path.name for path in tmp_path.glob(".darts-run*")}
    assert hidden == {LOCK_FILE, *(f".darts-run.s{number}of4.lock" for number in range(4))}


def test_a_shard_without_tiles_ends_well(folder: Path, tmp_path: Path) -> None:
    number = next(number for number, names in _expected(50).items() if not names)
    records = _run(folder, tmp_path, f"{number}/50")
    assert (exit_code(records), records.planned) == (0, 0)
    assert number not in _group(tmp_path).missing


def test_shards_are_decided_before_anything_is_skipped(folder: Path) -> None:
    planned = [plan(_pipeline(folder, folder / "results", f"{number}/2")).decisions for number in range(2)]
    assert [{decision.task.tile_id for decision in part} for part in planned] == list(_expected(2).values())
    assert {decision.action for part in planned for decision in part} == {"skip"}


@pytest.mark.slow
def test_two_at_once_one_missing_and_one_restarted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = [number for number, names in _expected(4).items() if names]
    first, second, missing = numbers[0], numbers[1], numbers[2:]
    with _going_on(folder, tmp_path, f"{first}/4") as ended:
        (going,) = running_runs(tmp_path)
        reserve = tmp_path / f".{going}.reserve"
        assert reserve.exists()
        for expected in ("success", "skipped"):  # The second time it is restarted.
            records = _run(folder, tmp_path, f"{second}/4")
            assert {tile.status for tile in records.tiles} == {expected}
        assert reserve.exists(), "a shard took what another had set aside"
        assert not (tmp_path / f"{going}.results.parquet").exists(), "a shard folded the journal of another"
        group = _group(tmp_path)
        assert (group.running, group.missing) == ([first], missing)
        status = run_status(tmp_path)
        assert status.shards == {"running": [first], "done": [second], "missing": missing}
        assert (status.state, status.planned, status.done) == ("running", TILES, len(_expected(4)[second]))
        show_runs(tmp_path)
        show_status(tmp_path, None)
        said = capsys.readouterr().out
        assert f"missing, never ran: {ranges(missing)}" in said
        assert f"missing {ranges(missing)}" in said
        with pytest.raises(FolderInUseError, match=rf"Shard {first}/4 runs already.*process {os.getpid()}"):
            _run(folder, tmp_path, f"{first}/4")
    assert exit_code(ended[0]) == 0
    for number in missing:
        _run(folder, tmp_path, f"{number}/4")
    assert standin.describe(tmp_path) == standin.describe(folder / "results")
    assert _group(tmp_path).missing == []
    assert run_status(tmp_path).shards == {"done": numbers}


def test_others_are_refused_while_a_shard_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts.run.shard_lock._WAIT_SECONDS", 0.1)
    number = next(number for number, names in _expected(4).items() if names)
    with _going_on(folder, tmp_path, f"{number}/4"):
        with pytest.raises(FolderInUseError, match=f"Another run writes.*shard {number}/4 on host {platform.node()}"):
            run(standin.make_pipeline(folder, output_data_dir=tmp_path, **ONE), standin.open_session)
        with pytest.raises(FolderInUseError, match="Shards of another number of shards") as refused:
            _run(folder, tmp_path, "0/3")
        assert "shard 0/3" not in str(refused.value), "it is not one of those that are in the way"
        with pytest.raises(FolderInUseError, match="Shards of another configuration"):
            _run(folder, tmp_path, f"{(number + 1) % 4}/4", binarization_threshold=0.3)
    assert not (tmp_path / TERMS_FILE).exists()
    with folder_lock(tmp_path) as tell:
        tell("whole")
        with pytest.raises(FolderInUseError, match=f"Another run writes.*process {os.getpid()}"):
            _run(folder, tmp_path, "0/3")
    _run(folder, tmp_path, "0/3")


def test_a_scene_that_arrives_between_two_shards_is_told_of(tmp_path: Path) -> None:
    folder, output = standin.make_folder(tmp_path, 4), tmp_path / "out"
    late = next(f"tile-{number:03}" for number in range(4, 100) if shard_of(f"tile-{number:03}", 2) == 0)
    _run(folder, output, "0/2")
    standin.write_image(folder / "images" / f"{late}.tif", 50)
    _run(folder, output, "1/2")
    group = _group(output)
    assert (group.outdated, group.missing) == ([0], [])
    assert run_status(output).shards == {"done": [1], "to run again": [0]}
    assert any("tiles came or went since: 0" in line for line in group.lines())
    assert "4 of 5 tiles are done" in group.lines()[0]
    records = _run(folder, output, "0/2")
    assert {tile.tile_id for tile in records.tiles if tile.status == "success"} == {late}
    assert _group(output).outdated == []


def test_a_shard_that_was_killed_is_not_done_and_is_folded_by_the_next_look(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        _run(folder, tmp_path, f"{number}/2")
    killed = next(tmp_path.glob("*-s1of2.journal.jsonl"))
    lines = killed.read_bytes().splitlines(keepends=True)
    killed.write_bytes(b"".join(lines[:-1]))
    for path in tmp_path.glob("*-s1of2.*.parquet"):
        path.unlink()
    _run(folder, tmp_path, "0/2")
    assert not list(tmp_path.glob("*-s1of2.results.parquet")), "a shard folds its own journal only"
    assert _group(tmp_path).unfinished == [1]
    show_runs(tmp_path)
    assert len(list(tmp_path.glob("*-s1of2.results.parquet"))) == 1
    assert _group(tmp_path).unfinished == [1]
    assert run_status(tmp_path).shards == {"done": [0], "to run again": [1]}
    show_status(tmp_path, None)
    said = capsys.readouterr().out
    assert " was killed, " in next(line for line in said.splitlines() if "-s1of2" in line)
    assert "was killed with 1 to go; run the shards below that are not done" in said
    assert "done 0; to run again 1" in said
    run(standin.make_pipeline(folder, output_data_dir=tmp_path, **ONE), standin.open_session)
    (line,) = _group(tmp_path).lines()
    assert line.startswith("2 shards (since ")
    (whole,) = [past.name for past in list_runs(tmp_path) if past.shards is None]
    assert line.endswith(f"whose tiles {whole} finished.")


@pytest.mark.slow
def test_another_division_is_told_of_and_counted_by_itself(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        _run(folder, tmp_path, f"{number}/2")
    assert "The last shards of this run" not in caplog.text
    records = _run(folder, tmp_path, "0/3")
    assert {tile.status for tile in records.tiles} == {"skipped"}
    assert "The last shards of this run were 2, and this is one of 3" in caplog.text
    two, three = sorted(group_shards(list_runs(tmp_path)), key=lambda group: group.of)
    assert (two.missing, two.unfinished, three.missing) == ([], [], [1, 2])
    caplog.clear()
    _run(folder, tmp_path, "0/3", binarization_threshold=0.3)
    assert "The last shards of this run" not in caplog.text, "it is another run"


def test_data_are_prepared_for_the_tiles_of_all_shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(standin.StandInPipeline, "_download_tile", lambda self, key: seen.append(key.stem))
    pipeline = _pipeline(folder, folder / "other", "0/4", offline=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts.run.warnings_once", ExitStack)
        with pytest.warns(IgnoredOptionWarning, match="shard 0/4 is ignored"):
            pipeline.prepare_data(optical=True)
    assert len(seen) == TILES


# File systems without locks, and other machines.


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses locks."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@contextmanager
def _held(folder: Path, shard: Shard, digest: str = "digest") -> Iterator[None]:
    with shard_lock(folder, shard, digest) as tell:
        tell(f"run{shard.suffix}")
        yield


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_shard_says_so(tmp_path: Path) -> None:
    with pytest.warns(NoFileLocksWarning, match=r"\.darts-run\.s0of2\.owner keeps other runs out"):
        shard_lock(tmp_path, Shard(0, 2), "digest").__enter__()


@pytest.mark.filterwarnings("ignore::darts.errors.NoFileLocksWarning")
@pytest.mark.usefixtures("no_locks")
def test_without_locks_files_keep_the_same_rules(tmp_path: Path) -> None:
    with _held(tmp_path, Shard(0, 2)), _held(tmp_path, Shard(1, 2)):
        for shard, digest in ((Shard(0, 2), "digest"), (Shard(0, 3), "digest"), (Shard(0, 2), "other")):
            with pytest.raises(FolderInUseError, match=f"process {os.getpid()}"), _held(tmp_path, shard, digest):
                pass
        with pytest.raises(FolderInUseError, match="Another run writes"):
            folder_lock(tmp_path).__enter__()
        (tmp_path / "run-s0of2.journal.jsonl").touch()
        facts = ShardMetadata.of_tiles(Shard(0, 2), "digest", [], "2026")
        assert find_state(tmp_path, "run-s0of2", facts) == "running"
        assert running_runs(tmp_path) == ["run-s0of2"]
    assert find_state(tmp_path, "run-s0of2", facts) == "ended"
    assert list(tmp_path.glob(".darts-run*")) == []
    with folder_lock(tmp_path):
        with pytest.raises(FolderInUseError, match="Another run writes"), _held(tmp_path, Shard(0, 2)):
            pass
        assert not list(tmp_path.glob("*.s0of2.owner"))


@pytest.mark.filterwarnings("ignore::darts.errors.NoFileLocksWarning")
@pytest.mark.usefixtures("no_locks")
def test_without_locks_what_a_dead_shard_left_is_taken_over_and_that_of_another_machine_is_not(tmp_path: Path) -> None:
    owner = tmp_path / Shard(1, 2).owner_file
    facts = {"host": platform.node(), "process": os.getpid(), "process_start": 0.0, "digest": "other", "run": "run"}
    owner.write_text(json.dumps(facts))
    with _held(tmp_path, Shard(0, 2)):
        assert not owner.exists()
    owner.write_text(json.dumps(facts | {"host": "another"}))
    with pytest.raises(FolderInUseError, match="host another"), _held(tmp_path, Shard(0, 2)):
        pass
    known = ShardMetadata.of_tiles(Shard(1, 2), "digest", [], "2026")
    assert find_state(tmp_path, "run", known) == "unknown"


def test_a_shard_of_another_machine_whose_lock_does_not_reach_here_is_unknown(tmp_path: Path) -> None:
    known = ShardMetadata.of_tiles(Shard(1, 2), "digest", [], "2026")
    (tmp_path / "run.journal.jsonl").touch()
    for host, state in (("another", "unknown"), (platform.node(), "ended")):
        (tmp_path / Shard(1, 2).lock_file).write_text(json.dumps({"host": host, "run": "run"}))
        assert find_state(tmp_path, "run", known) == state


def test_shards_that_begin_at_the_same_time_agree(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    barrier, inside = threading.Barrier(12), threading.Barrier(12)

    def hold(number: int) -> None:
        try:
            barrier.wait(30)
            with shard_lock(tmp_path, Shard(number, 12), "digest") as tell:
                tell("run")
                inside.wait(30)  # All are in at once.
        except BaseException as error:  # noqa: BLE001 - for the main thread
            errors.append(error)

    threads = [threading.Thread(target=hold, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
