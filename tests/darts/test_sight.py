"""What a worker of a cluster is asked to see before its first tile."""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from darts.run.cluster.remote import RemoteRun
from darts.run.cluster.sight import find_unseen, sights_of
from darts.run.planning import Planner
from darts.run.trends import TrendCubes
from support import standin


@dataclass
class ZippedPipeline(standin.StandInPipeline):
    """Reads images that lie in an archive."""

    def _tile_inputs(self, tilekey: Path) -> list[Path]:
        return [self.images_dir.parent / "order.zip" / tilekey.name]


@dataclass
class MuddledPipeline(standin.StandInPipeline):
    """Cannot say what its tiles are made of."""

    def _tile_inputs(self, tilekey: Path) -> list[Path]:
        raise KeyError(tilekey)


@pytest.fixture
def remote(tmp_path: Path) -> RemoteRun:
    """A run over two images, with datacubes that are there, empty, absent and elsewhere."""
    made = standin.make_pipeline(standin.make_folder(tmp_path, 2))
    cubes = {name: tmp_path / name for name in ("dem", "trend", "empty", "absent")}
    for name in ("dem", "trend"):
        (cubes[name] / "refs").mkdir(parents=True)
        (cubes[name] / ".lock").touch()
    cubes["empty"].mkdir()
    trends = TrendCubes(
        "by-year", {name: str(cubes[name]) for name in ("trend", "empty", "absent")} | {"s3": "s3://a/b"}
    )
    context = replace(Planner(made, writes=False).context, arcticdem=str(cubes["dem"]), tcvis=trends)
    output = tmp_path / "results"
    output.mkdir()
    (output / "run.journal.jsonl").touch()
    return RemoteRun("run", made, context, standin.open_session, output)


def _tasks(remote: RemoteRun) -> Any:
    return Planner(remote.pipeline, writes=False).tasks


def test_sights_are_the_files_of_a_run_that_are_there(remote: RemoteRun, tmp_path: Path) -> None:
    seen = {str(sight.path.relative_to(tmp_path)): sight.size for sight in sights_of(remote, _tasks(remote))}
    files = {
        name: (tmp_path / name).stat().st_size
        for name in ("model.safetensors", *map("images/tile-{:03}.tif".format, (0, 1)))
    }
    folders = dict.fromkeys(("results/run.journal.jsonl", "dem/refs", "trend/refs", "empty"))
    assert seen == files | folders
    assert find_unseen(sights_of(remote, _tasks(remote)), remote.output) == ""
    assert [path.name for path in remote.output.iterdir()] == ["run.journal.jsonl"]


def test_an_archive_stands_for_the_images_in_it(remote: RemoteRun, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "order.zip", "w") as archive:
        archive.write(tmp_path / "images" / "tile-000.tif", "tile-000.tif")
    zipped = replace(remote, pipeline=ZippedPipeline(**vars(remote.pipeline)))
    assert tmp_path / "order.zip" in [sight.path for sight in sights_of(zipped, _tasks(remote))]


def test_a_source_that_cannot_say_what_it_reads_is_taken_as_it_is(remote: RemoteRun) -> None:
    muddled = replace(remote, pipeline=MuddledPipeline(**vars(remote.pipeline)))
    assert sights_of(muddled, _tasks(remote)) == sights_of(remote, [])


@pytest.mark.parametrize("name", ["images", "images/tile-001.tif", "model.safetensors", "dem", "trend/refs", "results"])
def test_what_is_not_there_is_named_by_the_highest_folder(remote: RemoteRun, tmp_path: Path, name: str) -> None:
    sights = sights_of(remote, _tasks(remote))
    (tmp_path / name).rename(tmp_path / "elsewhere")
    assert find_unseen(sights, remote.output) == f"it does not see {tmp_path / name}, which the run sees"


def test_a_file_of_another_size_is_another(remote: RemoteRun, tmp_path: Path) -> None:
    sights = sights_of(remote, _tasks(remote))
    path = tmp_path / "images" / "tile-000.tif"
    size = path.stat().st_size
    path.write_bytes(b"else")
    assert find_unseen(sights, remote.output) == f"{path} has 4 bytes there, and {size} where the run is"


def test_results_that_cannot_be_written_are_named() -> None:
    assert "it cannot write into /proc/self" in find_unseen([], Path("/proc/self"))
