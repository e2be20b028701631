"""Planning many tiles: reading their result folders against what the disk and the JSON parser take."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from darts_utils import ResultFolder

FOLDERS, FILES = 715, 13


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of an ensemble's results whose manifests hold two model cards: 25 kB each."""
    root = tmp_path_factory.mktemp("results")
    names = [f"file-{number}" for number in range(FILES)]
    card = {"bands": list("abcdefghijklmn"), "history": [{"epoch": epoch, "loss": epoch / 3} for epoch in range(60)]}
    manifest = {
        "files": {name: {"size": 3, "sha256": "ab" * 32} for name in names},
        "metadata": {"models": {name: {"card": card} for name in ("a", "b")}, "chunks": [["ab" * 32]] * 100},
    }
    made = [root / str(number) for number in range(FOLDERS)]
    for folder in made:
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        for name in names:
            (folder / name).write_bytes(b"abc")
    return made


def best_of(runs: int, work: Callable[[], None]) -> float:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def test_reading_and_checking_many_folders(folders: list[Path], benchmark) -> None:
    names = [f"file-{number}" for number in range(FILES)]

    def parse() -> None:
        for folder in folders:
            json.loads((folder / "manifest.json").read_bytes())

    def check() -> None:
        for folder in folders:
            assert ResultFolder.open(folder).missing(names) == []

    benchmark.pedantic(check, rounds=3, warmup_rounds=1)
    ratio = benchmark.stats.stats.min / best_of(3, parse)
    benchmark.extra_info["times the parsing alone"] = ratio
    benchmark.extra_info["µs per folder"] = benchmark.stats.stats.min / FOLDERS * 1e6
    assert ratio < 2.5
