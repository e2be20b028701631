"""What belongs to a cluster and needs none: options, the file of a scheduler, times and amounts."""

import asyncio
import contextlib
import importlib.util
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from darts.errors import ConfigurationError, IgnoredOptionWarning, SchedulerGoneError
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline
from darts.run import plan
from darts.run.cluster import connection
from darts.run.cluster.connection import (
    SchedulerLocation,
    find_scheduler,
    make_certificate,
    make_security,
    refuse_taken,
    write_scheduler_file,
)
from darts.run.cluster.launch import lifetime, parse_duration, published
from support import standin
from support.cluster import pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and an image."""
    return standin.make_folder(tmp_path_factory.mktemp("cluster"), 1)


# What is wrong is said before anything begins.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"nothing says which cluster.*--scheduler-file.*--scheduler-address.*--workers"),
        ({"workers": 2, "scheduler_address": "tcp://a:1"}, "scheduler_address and workers says which"),
    ],
)
def test_a_cluster_has_to_be_named_once(folder: Path, tmp_path: Path, values: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan(pipeline(folder, tmp_path, executor="dask", **values))


def test_a_cluster_that_is_not_used_is_a_warning(folder: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts.run.fetching.warnings_once", contextlib.ExitStack)
        with pytest.warns(IgnoredOptionWarning, match="workers is ignored: executor is 'overlap'"):
            plan(pipeline(folder, tmp_path, workers=2))


def test_what_is_not_installed_is_said_with_what_brings_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distributed" else find(name))
    with pytest.raises(ConfigurationError, match=r'needs distributed.*pip install "darts-nextgen\[cluster\]"'):
        plan(pipeline(folder, tmp_path, executor="dask", workers=1))


def test_a_pipeline_is_sent_without_its_lists_of_scenes(tmp_path: Path) -> None:
    planet = PlanetPipeline(scenes_dir=tmp_path, image_ids=["a"] * 1000, overlap=128)
    sentinel2 = Sentinel2Pipeline(scene_ids=["a"] * 1000, tile_ids=["08WMA"])
    assert planet._for_workers() == replace(planet, image_ids=None)
    assert sentinel2._for_workers() == replace(sentinel2, scene_ids=None)


# The file of a scheduler.


def test_the_file_of_a_scheduler_leads_to_it_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scheduler.json"
    previous = os.umask(0)
    try:
        certificate, key = make_certificate(path)
        place = SchedulerLocation("tls://10.0.0.1:8786", certificate, key)
        write_scheduler_file(path, place, {"id": "Scheduler-1"})
    finally:
        os.umask(previous)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert len(list(path.parent.iterdir())) == 3
    assert find_scheduler(path, None) == place
    security = place.security()
    assert security is not None
    assert security.require_encryption
    assert json.loads(path.read_text())["address"] == "tls://10.0.0.1:8786"  # As other tools of Dask read it.


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "tcp://0.0.0.0:1", "ucx://10.0.0.1:1"])
def test_a_scheduler_that_others_reach_without_tls_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigurationError, match="without TLS"):
        write_scheduler_file(tmp_path / "scheduler.json", SchedulerLocation(address), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"address": 5}', '{"address"'])
def test_a_file_that_does_not_appear_or_is_none_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(connection, "FILE_SECONDS", 0.1)
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"scheduler\.json.*correct --scheduler-file"):
        find_scheduler(path, None)


def test_a_file_of_dask_itself_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"type": "Scheduler", "address": "tcp://127.0.0.1:8786", "workers": {}}))
    place = find_scheduler(path, None)
    assert (place.address, place.security()) == ("tcp://127.0.0.1:8786", None)


def test_the_file_of_a_scheduler_that_answers_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 1.0)
    path = tmp_path / "scheduler.json"

    async def go() -> None:
        from distributed import Scheduler

        await refuse_taken(path)  # There is none.
        files = make_certificate(path)
        async with Scheduler(
            host="127.0.0.1", protocol="tls", security=make_security(*files), dashboard_address="127.0.0.1:0"
        ) as scheduler:
            with published(path, SchedulerLocation(scheduler.address, *files), scheduler.identity(0)):
                own = path.read_bytes()
                with pytest.raises(ConfigurationError, match=r"answers at tls://127\.0\.0\.1:\d+ of .*scheduler\.json"):
                    await refuse_taken(path)
                assert path.read_bytes() == own
            assert not list(tmp_path.iterdir())
            make_certificate(path)
            path.write_bytes(own)
        monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.1)
        await refuse_taken(path)  # It was left over, and may be replaced.

    asyncio.run(go())


def test_what_another_scheduler_wrote_stays(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    with published(path, SchedulerLocation("tcp://127.0.0.1:1"), {}):
        write_scheduler_file(path, SchedulerLocation("tcp://127.0.0.1:2"), {})
    assert find_scheduler(path, None).address == "tcp://127.0.0.1:2"


def test_a_file_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[darts]\n")
    with pytest.raises(ConfigurationError, match=r"run\.toml is no file of a scheduler, and is left as it is"):
        asyncio.run(refuse_taken(tmp_path / "run.toml"))


def test_a_scheduler_that_does_not_answer_is_named_with_its_file(tmp_path: Path) -> None:
    place = SchedulerLocation("tls://10.0.0.1:8786", file=tmp_path / "scheduler.json")
    error = RuntimeError("Nanny failed to start.")
    error.__cause__ = OSError("Connection refused")
    said = place.silence(error)
    assert "tls://10.0.0.1:8786 does not answer (Connection refused)" in said
    error.__cause__.__cause__ = asyncio.CancelledError()
    assert place.silence(error) == said, "a class without words says nothing"
    assert "scheduler.json may be left over from one that was killed" in said


@pytest.mark.parametrize("text", ["", "soon", "4x", "1:2:3:4", "0", "-4h"])
def test_a_walltime_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="walltime"):
        parse_duration(text)


@pytest.mark.parametrize("walltime", [60, 600, 3600, 14400, 86400])
def test_a_job_has_time_for_its_last_tile(walltime: float) -> None:
    assert walltime / 2 < lifetime(walltime) <= walltime - min(20, walltime / 3)


def test_a_scheduler_that_is_gone_is_a_connection_error() -> None:
    assert issubclass(SchedulerGoneError, ConnectionError)
