"""Tiles on the workers of a cluster: the same files, each tile once, and honest about what is wrong."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from darts.errors import ConfigurationError, NoWorkersError
from darts.run import exit_code, run
from darts.run.cluster import roster
from darts.run.planning import Planner
from support import cluster, standin
from support.lanes import mostly_slow

TILES = 8
SECONDS = 0.02


@pytest.fixture(scope="module")
def clusters() -> Iterator[Callable[[], cluster.Cluster]]:
    """Gives a cluster of two workers, which tests may harm; where the scheduler was killed, another one."""
    with ExitStack() as held:
        made: list[cluster.Cluster] = []

        def give() -> cluster.Cluster:
            if not made or made[-1].process.poll() is not None:
                made.append(held.enter_context(cluster.cluster(2, **cluster.SETTINGS)))
            return made[-1]

        yield give


@pytest.fixture
def two_workers(clusters: Callable[[], cluster.Cluster]) -> cluster.Cluster:
    """A cluster of two workers."""
    return clusters()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and some images, and the results of an undisturbed run."""
    return cluster.make_images(tmp_path_factory.mktemp("dask"), TILES, SECONDS)


def _statuses(records: Any) -> dict[str, str]:
    return {tile.tile_id: tile.status for tile in records.tiles}


def test_workers_write_what_a_serial_run_writes_and_keep_logs(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster
) -> None:
    records = cluster.run_on(two_workers, folder, tmp_path, precision="auto")
    assert exit_code(records) == 0
    serial = run(cluster.pipeline(folder, tmp_path / "serial", precision="auto"), cluster.open_session)
    assert standin.describe(tmp_path) == standin.describe(tmp_path / "serial")
    assert len(standin.describe(tmp_path)) == TILES
    assert 'precision = "bf16"' in records.path("config.toml").read_text()
    assert sorted(_statuses(records)) == sorted(_statuses(serial))
    logs = [path.read_text() for path in tmp_path.glob(f"{records.name}.worker-*.log")]
    assert len(logs) == 2
    for name in _statuses(records):
        assert sum(f"Tile {name}: Exporting" in log for log in logs) == 1


def test_a_worker_decides_again_before_it_begins(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tiles are handed out as if they were to be computed, and are finished meanwhile."""
    outdated = Planner(cluster.pipeline(folder, tmp_path), writes=False).plan()
    run(cluster.pipeline(folder, tmp_path), cluster.open_session)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")}
    monkeypatch.setattr(Planner, "plan", lambda self: outdated)
    records = cluster.run_on(two_workers, folder, tmp_path)
    assert set(_statuses(records).values()) == {"skipped"}
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")}


def test_the_poison_tile_fails_alone_and_all_others_are_done(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster
) -> None:
    cluster.behave(folder, seconds=SECONDS, poison=["tile-001"])
    records = cluster.run_on(two_workers, folder, tmp_path)
    cluster.behave(folder, seconds=SECONDS)
    assert exit_code(records) == 1
    assert {name for name, status in _statuses(records).items() if status == "failed"} == {"tile-001"}
    (failed,) = [tile for tile in records.tiles if tile.status == "failed"]
    assert "died" in failed.error
    log = Path(failed.error.rpartition("Its log: ")[2])
    assert log.read_text().splitlines()[-1].endswith("Tile tile-001: Segmenting.")
    assert standin.describe(tmp_path).items() <= standin.describe(folder / "undisturbed").items()
    assert len(standin.describe(tmp_path)) == TILES - 1


def test_a_worker_with_other_packages_is_refused_by_name(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    two_workers.add("other", env={"DARTS_TEST_OTHER_VERSION": "9.9.9"})
    try:
        with caplog.at_level(logging.ERROR, "darts"):
            records = cluster.run_on(two_workers, folder, tmp_path)
    finally:
        two_workers.remove("other")
    assert exit_code(records) == 0
    (message,) = caplog.messages
    assert "Worker other on 127.0.0.1 is refused: darts-export is 9.9.9 there and" in message
    assert len(list(tmp_path.glob(f"{records.name}.worker-*.log"))) == 2


def test_a_run_ends_where_every_worker_is_refused(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "REFUSED_SECONDS", 0.1)
    describe = roster.describe_code
    monkeypatch.setattr(roster, "describe_code", lambda models: {**describe(models), "SHA-256 of model x": "1"})
    with pytest.raises(NoWorkersError, match=r"No worker .*0 on 127\.0\.0\.1: SHA-256 of model x is None there and 1"):
        cluster.run_on(two_workers, folder, tmp_path)


@contextmanager
def _worker_in(made: cluster.Cluster, name: str, folder: Path) -> Iterator[None]:
    made.add(name, env={"DARTS_TEST_FOLDER": str(folder)})
    try:
        yield
    finally:
        made.remove(name)


OWN_IMAGES = cluster.OWN_FOLDER / "images"


@pytest.fixture
def blind_workers(two_workers: cluster.Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> cluster.Cluster:
    """The two workers, who have no images where a run in this folder looks for them; those with a folder may."""
    if not cluster.OWN_FOLDER.exists():
        pytest.skip("no /proc on this machine, by which a path leads each process elsewhere")
    monkeypatch.chdir(folder)
    return two_workers


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_images_is_refused_by_name_and_others_do_its_tiles(
    folder: Path, tmp_path: Path, blind_workers: cluster.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "images").mkdir()
    with _worker_in(blind_workers, "empty", tmp_path), _worker_in(blind_workers, "seeing", folder):
        records = cluster.run_on(blind_workers, folder, tmp_path / "out", images_dir=OWN_IMAGES)
    assert exit_code(records) == 0
    assert set(_statuses(records).values()) == {"success"}
    why = {"0": OWN_IMAGES, "1": OWN_IMAGES, "empty": OWN_IMAGES / "tile-000.tif"}
    others = "its tiles go to others."
    assert sorted(line for line in caplog.messages if "refused" in line) == [
        f"Worker {name} on 127.0.0.1 is refused: it does not see {path}, which the run sees; {others}"
        for name, path in why.items()
    ]


def test_a_run_ends_where_no_worker_sees_the_images(
    folder: Path, tmp_path: Path, blind_workers: cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "REFUSED_SECONDS", 0.1)
    with pytest.raises(NoWorkersError, match=r"No worker of the cluster .*0 on 127\.0\.0\.1: it does not see /proc"):
        cluster.run_on(blind_workers, folder, tmp_path, images_dir=OWN_IMAGES)


@pytest.mark.slow
def test_a_worker_takes_part_again_once_it_sees_the_images(
    folder: Path,
    tmp_path: Path,
    blind_workers: cluster.Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A folder is gone from the only worker that sees, in the middle of the run, and comes back."""
    monkeypatch.setattr(roster, "LOOK_AGAIN_SECONDS", 0.5)
    place, output = tmp_path / "node", tmp_path / "out"
    place.mkdir()
    (place / cluster.BEHAVIOUR).symlink_to(folder / cluster.BEHAVIOUR)
    (place / "images").symlink_to(folder / "images")

    def lose() -> None:
        (place / "images").unlink()
        cluster.wait_until(lambda: "No worker is left" in caplog.text)
        (place / "images").symlink_to(folder / "images")

    with caplog.at_level(logging.INFO, "darts"), _worker_in(blind_workers, "seeing", place):
        striking = cluster.Striking(output, lose, 2, 0.0)
        records = cluster.run_on(blind_workers, folder, output, images_dir=OWN_IMAGES)
        striking.join()
    assert exit_code(records) == 0
    cluster.check_done(folder, output, striking.before)
    assert sum("Worker seeing on 127.0.0.1 is refused: it does not see" in line for line in caplog.messages) == 1
    assert "Worker seeing on 127.0.0.1 sees now what the run sees." in caplog.messages


def test_an_image_that_is_gone_for_all_fails_as_anywhere(
    tmp_path: Path, two_workers: cluster.Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = cluster.make_images(tmp_path, 3, 0)
    outdated = Planner(cluster.pipeline(made, made / "out"), writes=False).plan()
    (made / "images" / "tile-001.tif").unlink()
    monkeypatch.setattr(Planner, "plan", lambda self: outdated)
    records = cluster.run_on(two_workers, made, made / "out")
    assert exit_code(records) == 1
    assert _statuses(records) == {"tile-000": "success", "tile-001": "failed", "tile-002": "success"}
    assert "refused" not in caplog.text


def test_an_error_in_opening_the_session_is_that_of_the_run(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster
) -> None:
    pipeline = cluster.pipeline(folder, tmp_path, executor="dask", scheduler_address=two_workers.address)
    with pytest.raises(ConfigurationError, match="no such network"):
        run(pipeline, refuse_session)


def refuse_session(pipeline: Any, context: Any) -> Any:
    raise ConfigurationError("There is no such network.")


def test_a_scheduler_that_is_not_there_is_a_failure_of_a_service(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts.run.cluster.executor._CONNECT_SECONDS", 0.5)
        pipeline = cluster.pipeline(folder, tmp_path, executor="dask", scheduler_address="tcp://127.0.0.1:9")
        records = run(pipeline, cluster.open_session)
    assert time.monotonic() - started < 30
    assert (exit_code(records), records.undone) == (75, TILES)
    assert "tcp://127.0.0.1:9 does not answer (Timed out trying to connect" in caplog.text or "refused" in caplog.text
    assert "CancelledError" not in caplog.text


# One moment of each fault; tests/darts/test_dask_faults.py has many.


@pytest.mark.parametrize("name", mostly_slow(["kill", "freeze", "cut"], lambda name: name == "kill"))
def test_a_worker_that_is_struck_loses_no_tile(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, name: str
) -> None:
    cluster.go_through(two_workers, folder, tmp_path, cluster.STRIKES[name], 2, 0.01)


@pytest.mark.slow
def test_a_worker_beyond_its_memory_is_ended_and_its_tiles_are_done_again(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster
) -> None:
    cluster.hog_memory(two_workers, folder, tmp_path, "tile-003", SECONDS)


def test_a_coordinator_that_was_killed_goes_on_where_it_ended(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster
) -> None:
    cluster.lose_coordinator(two_workers, folder, tmp_path, 2, 0.01)


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_run_with_75_and_the_next_completes_it(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster
) -> None:
    cluster.lose_scheduler(two_workers, folder, tmp_path, 2, 0.01)
