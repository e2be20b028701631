"""Faults at many random moments: every tile once, the files of an undisturbed run, and no harmless tile fails."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from darts.run import exit_code
from darts.run.journal import journals, read_entries
from support import cluster

TILES = 24
MOMENTS = 20
REAL_MOMENTS = 5
SECONDS = 0.02

pytestmark = pytest.mark.slow
at_many_moments = pytest.mark.parametrize("number", range(MOMENTS))


@pytest.fixture(scope="module")
def two_workers() -> Iterator[cluster.Cluster]:
    """A cluster of two workers, which Dask starts again where they die."""
    with cluster.cluster(2, **cluster.SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some images for a real network, and the results of an undisturbed run."""
    return cluster.make_images(tmp_path_factory.mktemp("real"), TILES, SECONDS, real=True)


@pytest.fixture(scope="module")
def real_workers() -> Iterator[cluster.Cluster]:
    """A cluster whose workers have memory for a real network."""
    with cluster.cluster(2, cluster.REAL_MEMORY, **cluster.SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some images, and the results of an undisturbed run."""
    return cluster.make_images(tmp_path_factory.mktemp("faults"), TILES, SECONDS)


def _moment(name: str, number: int) -> tuple[int, float]:
    """Return after how many tiles, and how many seconds more, a fault strikes."""
    chance = random.Random(f"{name} {number}")
    return chance.randrange(TILES - 4), chance.uniform(0, 0.1)


@at_many_moments
@pytest.mark.parametrize("name", cluster.STRIKES)
def test_a_worker_that_is_struck_loses_no_tile(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, name: str, number: int
) -> None:
    cluster.go_through(two_workers, folder, tmp_path, cluster.STRIKES[name], *_moment(name, number))


@at_many_moments
def test_a_worker_beyond_its_memory_is_ended_and_its_tiles_are_done_again(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, number: int
) -> None:
    tile = f"tile-{random.Random(number).randrange(TILES):03}"
    cluster.hog_memory(two_workers, folder, tmp_path, tile, SECONDS)


@at_many_moments
def test_a_lost_scheduler_ends_the_run_and_the_next_completes_it(folder: Path, tmp_path: Path, number: int) -> None:
    with cluster.cluster(2) as made:
        cluster.lose_scheduler(made, folder, tmp_path, *_moment("scheduler", number))


@at_many_moments
def test_a_coordinator_that_was_killed_goes_on_where_it_ended(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, number: int
) -> None:
    cluster.lose_coordinator(two_workers, folder, tmp_path, *_moment("coordinator", number))


@at_many_moments
def test_the_poison_tile_fails_alone_wherever_it_stands(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, number: int
) -> None:
    poison = f"tile-{random.Random(number).randrange(TILES):03}"
    cluster.behave(folder, seconds=SECONDS, poison=[poison])
    try:
        records = cluster.run_on(two_workers, folder, tmp_path)
    finally:
        cluster.behave(folder, seconds=SECONDS)
    assert {tile.tile_id for tile in records.tiles if tile.status == "failed"} == {poison}
    before = cluster.finished(tmp_path)
    assert len(before) == TILES - 1
    assert exit_code(cluster.run_on(two_workers, folder, tmp_path)) == 0
    cluster.check_done(folder, tmp_path, before)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_complete_records(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, signum: int
) -> None:
    values = {"output_data_dir": str(tmp_path), "export_bands": ["probabilities"], "threads": 1}
    values |= {"executor": "dask", "scheduler_address": two_workers.address}
    pid = two_workers.coordinate(folder, values)
    striking = cluster.Striking(tmp_path, lambda: os.kill(pid, signum), 3, 0.0)
    striking.join()
    cluster.wait_until(lambda: bool(list(tmp_path.glob("*.results.parquet"))))
    (journal,) = journals(tmp_path).values()
    told = {entry["tile_id"] for entry in read_entries(journal)}
    assert told == set(cluster.finished(tmp_path))
    assert 3 <= len(told) < TILES
    cluster.run_on(two_workers, folder, tmp_path)
    cluster.check_done(folder, tmp_path, striking.before)


@at_many_moments
def test_a_frozen_worker_that_goes_on_writes_a_tile_a_second_time_and_harms_nothing(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, number: int
) -> None:
    """Without a nanny, nobody ends it while it is frozen."""
    lone = two_workers.add_lone(f"lone-{number}")

    def freeze() -> None:
        os.kill(lone, signal.SIGSTOP)
        cluster.wait_until(lambda: f"lone-{number}" not in two_workers.known())

    striking = cluster.Striking(tmp_path, freeze, *_moment("frozen", number))
    records = cluster.run_on(two_workers, folder, tmp_path)
    striking.join()
    assert exit_code(records) == 0
    cluster.check_done(folder, tmp_path, striking.before, clean=False)
    os.kill(lone, signal.SIGCONT)
    cluster.wait_until(lambda: cluster.has_ended(lone))
    cluster.check_done(folder, tmp_path, {}, clean=False)
    before = cluster.finished(tmp_path)
    assert exit_code(cluster.run_on(two_workers, folder, tmp_path)) == 0
    cluster.check_done(folder, tmp_path, before)


def test_a_run_without_workers_says_so_and_waits_for_others(
    folder: Path, tmp_path: Path, two_workers: cluster.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    def kill_both() -> None:
        for pid in two_workers.pids().values():
            os.kill(pid, signal.SIGKILL)

    striking = cluster.Striking(tmp_path, kill_both, 4, 0.0)
    records = cluster.run_on(two_workers, folder, tmp_path)
    striking.join()
    assert exit_code(records) == 0
    assert caplog.text.count("No worker is left") == 1
    cluster.check_done(folder, tmp_path, striking.before)


# The same with the real networks, at fewer moments.


at_few_moments = pytest.mark.parametrize("number", range(REAL_MOMENTS))


@at_few_moments
@pytest.mark.parametrize("name", cluster.STRIKES)
def test_a_worker_that_is_struck_loses_no_tile_of_a_real_network(
    real_folder: Path, tmp_path: Path, real_workers: cluster.Cluster, name: str, number: int
) -> None:
    cluster.go_through(real_workers, real_folder, tmp_path, cluster.STRIKES[name], *_moment(f"real {name}", number))


@at_few_moments
def test_a_worker_with_a_real_network_is_ended_beyond_its_memory(
    real_folder: Path, tmp_path: Path, real_workers: cluster.Cluster, number: int
) -> None:
    tile = f"tile-{random.Random(f'real {number}').randrange(TILES):03}"
    cluster.hog_memory(real_workers, real_folder, tmp_path, tile, SECONDS)


@at_few_moments
def test_a_lost_scheduler_loses_no_tile_of_a_real_network(real_folder: Path, tmp_path: Path, number: int) -> None:
    with cluster.cluster(2, cluster.REAL_MEMORY) as made:
        cluster.lose_scheduler(made, real_folder, tmp_path, *_moment("real scheduler", number))


@at_few_moments
def test_a_lost_coordinator_loses_no_tile_of_a_real_network(
    real_folder: Path, tmp_path: Path, real_workers: cluster.Cluster, number: int
) -> None:
    cluster.lose_coordinator(real_workers, real_folder, tmp_path, *_moment("real coordinator", number))
