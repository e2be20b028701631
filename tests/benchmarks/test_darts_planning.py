"""How long it takes to find out that there is nothing to do."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from darts.run import plan, run
from support import standin


def make_finished(folder: Path, count: int) -> standin.StandInPipeline:
    """Make one finished tile, and so many more of it by links."""
    standin.make_folder(folder, 1)
    values = {"export_bands": ["probabilities"]}
    run(standin.make_pipeline(folder, **values), standin.open_session)
    image, results = folder / "images" / "tile-000.tif", folder / "results" / "tile-000"
    manifest = json.loads((results / "manifest.json").read_text())
    described = manifest["metadata"]["depends_on"]["inputs"].pop("tile-000.tif")
    for number in range(1, count):
        name = f"tile-{number:06}"
        copy = os.link if number % 10_000 else shutil.copy  # a file has no more than some 65,000 links
        image = _add(copy, image, folder / "images" / f"{name}.tif")
        target = folder / "results" / name
        target.mkdir()
        for path in results.iterdir():
            if path.name != "manifest.json":
                _add(copy, path, target / path.name)
        results = target
        manifest["metadata"]["depends_on"]["inputs"] = {f"{name}.tif": described}
        (target / "manifest.json").write_text(json.dumps(manifest))
    return standin.make_pipeline(folder, **values)


def _add(copy: Callable[[Path, Path], object], source: Path, target: Path) -> Path:
    copy(source, target)
    return target


def seconds_per_tile(pipeline: standin.StandInPipeline, count: int) -> float:
    start = time.perf_counter()
    decisions = plan(pipeline).decisions
    elapsed = time.perf_counter() - start
    assert [decision.action for decision in decisions] == ["skip"] * count
    return elapsed / count


def test_deciding_costs_the_same_for_each_of_many_tiles(benchmark, tmp_path):
    few = make_finished(tmp_path / "few", 100)
    many = make_finished(tmp_path / "many", int(os.environ.get("DARTS_BENCHMARK_TILES", "3000")))
    for pipeline in (few, many):
        run(pipeline, standin.open_session)  # remembers the digests of the images
    count = len(list(many.images_dir.iterdir()))
    few_seconds = min(seconds_per_tile(few, 100) for _ in range(3))
    many_seconds = benchmark.pedantic(seconds_per_tile, args=(many, count), rounds=1)
    benchmark.extra_info["milliseconds per tile"] = (1000 * few_seconds, 1000 * many_seconds)
    print(f"\n{1000 * few_seconds:.2f} ms a tile of few, {1000 * many_seconds:.2f} ms a tile of {count}")
    assert many_seconds < 1.5 * few_seconds


@pytest.mark.slow
def test_a_hundred_thousand_decisions(benchmark, tmp_path):
    pipeline = make_finished(tmp_path, 100_000)
    run(pipeline, standin.open_session)
    seconds = benchmark.pedantic(seconds_per_tile, args=(pipeline, 100_000), rounds=1)
    print(f"\n{100_000 * seconds:.0f} s for 100,000 decisions")
