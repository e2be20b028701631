"""A run that is killed at any call to the system, or whose calls fail, is completed by the next one."""

import errno
import random
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import standin
from support.forkserver import KILL, Fault, ForkServer
from support.lanes import mostly_slow

TILES = 2
SLOW_TILES = 4
CHUNKS = 8
SLOW_CHUNKS = 32
ERRORS = [(code, sticky) for code in (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT) for sticky in (False, True)]
ALL_PRODUCTS = ("probabilities", "binarized", "polygonized", "extent")
ONE_OF_A_KIND = ("probabilities", "polygonized")
KINDS = {"fopen": "open", "pwrite": "write", "fwrite": "write", "renameat2": "rename", "unlinkat": "unlink"}

_NAMES = [
    (r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[A-Za-z0-9-]+", "RUN"),
    (r"\.\d+-[0-9a-f]+\.partial", ".PROCESS.partial"),
    (r"\.darts-export-[0-9a-f]{12}-[0-9a-f]{12}", ".darts-export-RANDOM"),
    (r"tile-\d+", "tile-NUMBER"),
    (r"#\d+|tmp\w{8}", "NAMELESS"),
]
_ALIKE = [
    (r"prediction_(segments|extent)", "OBJECTS"),
    (r"(item|collection)\.json|probabilities\.qml|binarized\.(qml|tif\.aux\.xml)", "SMALL"),
    (r"(probabilities|binarized|preview)\.tif", "RASTER.tif"),
    (r"(results|timer|stopwatch)\.parquet", "RECORDS.parquet"),
]
"""Files that the same code writes."""


@dataclass(frozen=True)
class Call:
    """A call to the system: its number in the run, and what it does to which file."""

    number: int
    kind: str
    file: str


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to: its images, its calls, and what it left."""

    inputs: Path
    results: Path
    products: Sequence[str]
    calls: list[Call]
    content: dict[str, Any]
    names: set[str]

    def groups(self, alike: list[tuple[str, str]]) -> list[list[Call]]:
        """Return the calls by what they do and to which file."""
        groups: dict[tuple[str, str], list[Call]] = {}
        for call in self.calls:
            groups.setdefault((call.kind, _general(call.file, alike)), []).append(call)
        return list(groups.values())

    def selected(self) -> list[Call]:
        """Return the first, the last and one random call of each kind on each file."""
        found = set()
        for calls in self.groups([]):
            found |= {calls[0], calls[-1], random.Random(str(calls[0])).choice(calls)}
        return sorted(found, key=lambda call: call.number)


@pytest.fixture(scope="module")
def undisturbed(fault_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A traced run over two tiles, so that there is a first and a last one, with a file of each kind."""
    return _trace(fault_server, tmp_path_factory.mktemp("two"), TILES, ONE_OF_A_KIND)


@pytest.fixture(scope="module")
def undisturbed_four(fault_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A traced run over four tiles."""
    return _trace(fault_server, tmp_path_factory.mktemp("four"), SLOW_TILES)


def _trace(server: ForkServer, folder: Path, tiles: int, products: Sequence[str] = ALL_PRODUCTS) -> Undisturbed:
    inputs = standin.make_folder(folder / "inputs", tiles)
    trace = folder / "trace"
    ended = _run(server, inputs, folder, products, Fault(f"/{folder.name}/results", trace=str(trace)))
    assert (ended.value["code"], ended.signal, ended.error) == (0, 0, "")
    calls = []
    for line in trace.read_text().splitlines():
        number, kind, path = line.split(" ", 2)
        calls.append(Call(int(number), KINDS.get(kind, kind), _general(path.partition("/results")[2], _NAMES)))
    assert {call.kind for call in calls} >= {"open", "write", "rename", "fsync", "unlink", "mkdir"}
    results = folder / "results"
    content = standin.describe(results)
    assert len(content) == tiles
    return Undisturbed(inputs, results, products, calls, content, _names(results))


def _run(server: ForkServer, inputs: Path, folder: Path, products: Sequence[str], fault: Fault | None = None) -> Any:
    values = {"output_data_dir": str(folder / "results"), "executor": "serial", "export_bands": list(products)}
    return server.call("support.standin:run_pipeline", str(inputs), values, fault=fault)


def _general(name: str, patterns: list[tuple[str, str]]) -> str:
    for pattern, word in patterns:
        name = re.sub(pattern, word, name)
    return name


def _names(results: Path) -> set[str]:
    return {_general(path.name, _NAMES) for path in results.iterdir()}


def _manifests(results: Path) -> dict[str, tuple[int, int]]:
    found = {path.parent.name: path.stat() for path in results.glob("tile-*/manifest.json")}
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in found.items()}


def _statuses(results: Path) -> dict[str, str]:
    """Return the statuses of the run that ended last; two of one second may have their processes' numbers reversed."""
    import pyarrow.parquet as pq

    newest = max(results.glob("*.results.parquet"), key=lambda path: path.stat().st_mtime_ns)
    table = pq.read_table(newest).to_pylist()
    return {row["tile_id"]: row["status"] for row in table}


def _complete(server: ForkServer, run: Undisturbed, folder: Path, about: str) -> None:
    """Run once more without faults: what is finished stays, and all is as if nothing had happened."""
    results = folder / "results"
    before = _manifests(results)
    ended = _run(server, run.inputs, folder, run.products)
    assert (ended.signal, ended.error) == (0, ""), about
    assert ended.value["code"] == 0, f"{about}: {ended.value}"
    expected = {name: "skipped" if name in before else "success" for name in run.content}
    assert {name: status for name, status, _ in ended.value["records"]} == expected, about
    assert _statuses(results) == expected, about
    assert _manifests(results) | before == _manifests(results), f"{about}: a finished tile was computed again"
    found = standin.describe(results)
    assert found.keys() == run.content.keys(), about
    for name in found:
        assert found[name] == run.content[name], f"{about}: {name}"
    assert _names(results) == run.names, about
    assert {path.name.partition(".")[0] for path in results.glob("*.journal.jsonl")} == {
        path.name.partition(".")[0] for path in results.glob("*.results.parquet")
    }, f"{about}: a journal is not folded"


def _disturb(server: ForkServer, run: Undisturbed, folder: Path, call: Call, error: int, sticky: bool) -> None:
    what = "killed" if error == KILL else f"{errno.errorcode[error]}{' from then on' if sticky else ''}"
    about = f"{what} at {call}"
    folder.mkdir()
    ended = _run(server, run.inputs, folder, run.products, Fault(f"/{folder.name}/results", call.number, error, sticky))
    if error == KILL:
        assert (ended.signal, ended.error) == (signal.SIGKILL, ""), f"{about}: {ended}"
        done = standin.describe(folder / "results")
        assert done.items() <= run.content.items(), about
    else:
        assert (ended.signal, ended.error) == (0, ""), f"{about}: {ended}"
        done = standin.describe(folder / "results")
        assert done.items() <= run.content.items(), about
        if ended.value["code"] == 0:
            assert done.keys() == run.content.keys(), f"{about}: exit code 0 though not all is done"
        successes = {name for name, status, _ in ended.value["records"] if status == "success"}
        assert successes <= set(done), f"{about}: recorded as done, but is not"
    _complete(server, run, folder, about)
    shutil.rmtree(folder)


@pytest.mark.parametrize("chunk", mostly_slow(range(CHUNKS), lambda chunk: chunk % 3 == 0))
def test_run_killed_at_a_call_is_completed(
    fault_server: ForkServer, undisturbed: Undisturbed, memory_path: Path, chunk: int
) -> None:
    for calls in undisturbed.groups(_ALIKE)[chunk::CHUNKS]:
        call = random.Random(str(calls[0])).choice(calls)
        _disturb(fault_server, undisturbed, memory_path / f"killed-{call.number}", call, KILL, False)


@pytest.mark.parametrize("chunk", mostly_slow(range(CHUNKS), lambda chunk: chunk % 3 == 0))
def test_run_whose_call_fails_says_so_and_is_completed(
    fault_server: ForkServer, undisturbed: Undisturbed, memory_path: Path, chunk: int
) -> None:
    for number, calls in list(enumerate(undisturbed.groups(_ALIKE)))[2 * chunk :: 2 * CHUNKS]:
        error, sticky = ERRORS[number % len(ERRORS)]
        call = calls[number % len(calls)]
        _disturb(fault_server, undisturbed, memory_path / f"failed-{call.number}", call, error, sticky)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(SLOW_CHUNKS))
def test_run_killed_at_every_call_is_completed(
    fault_server: ForkServer, undisturbed_four: Undisturbed, memory_path: Path, chunk: int
) -> None:
    for call in undisturbed_four.calls[chunk::SLOW_CHUNKS]:
        _disturb(fault_server, undisturbed_four, memory_path / f"killed-{call.number}", call, KILL, False)


@pytest.mark.slow
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EROFS", "EDQUOT"])
def test_run_whose_selected_calls_fail_says_so_and_is_completed(
    fault_server: ForkServer, undisturbed_four: Undisturbed, memory_path: Path, error: str, sticky: bool
) -> None:
    for call in undisturbed_four.selected():
        _disturb(
            fault_server, undisturbed_four, memory_path / f"failed-{call.number}", call, getattr(errno, error), sticky
        )
