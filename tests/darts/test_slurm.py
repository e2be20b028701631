"""A real Slurm: arrays of shards, and workers in jobs that are killed, end in time, or take too much memory."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from darts.run import exit_code
from darts.run.history import list_runs
from darts.run.shard_history import group_shards
from support import cluster
from support.slurm import GOING, Slurm, running_slurm

pytestmark = pytest.mark.slow

_FAULTS = ("Traceback", "ERROR", "WARNING - Worker", "died", "handshake")
_SERVE = [sys.executable, "-c", "from darts.cli import run_command; run_command()", "cluster", "slurm"]
_SHARD = """#!{python}
import os, sys
from pathlib import Path
from darts.run import exit_code, run
from support import cluster
folder, output = map(Path, sys.argv[1:])
shard = os.environ["SLURM_ARRAY_TASK_ID"] + "/4"
sys.exit(exit_code(run(cluster.pipeline(folder, output, shard=shard), cluster.open_session)))
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm of one node with two stand-ins for GPUs."""
    with running_slurm(tmp_path_factory.mktemp("slurm")) as made:
        made.environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        yield made


@contextmanager
def _workers(slurm: Slurm, folder: Path, **options: object) -> Iterator[Path]:
    """Have `darts cluster slurm` run, and give the file of its scheduler."""
    file = folder / "scheduler.json"
    values = {"jobs": 2, "gpus": 1, "cpus": 1, "mem": "2G", "host": "127.0.0.1", "log-dir": folder / "logs"}
    values |= {"scheduler-file": file} | options
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    with (folder / "window").open("w") as window:
        process = subprocess.Popen(
            [*_SERVE, *words], env=slurm.environment, cwd=folder, stdout=window, stderr=subprocess.STDOUT
        )
        try:
            cluster.wait_until(file.exists)
            yield file
        finally:
            process.terminate()
            process.wait(90)
    assert not slurm.jobs("PENDING,RUNNING")
    assert not file.exists()
    assert not list(folder.glob("*.pem"))
    said = (folder / "window").read_text()
    assert "Traceback" not in said, said
    assert process.returncode == 0


def _images(folder: Path, count: int, seconds: float) -> Path:
    made = cluster.make_images(folder, count, 0)
    cluster.behave(made, seconds=seconds)
    return made


def _run(folder: Path, output: Path, file: Path) -> object:
    from darts.run import run

    values = {"executor": "dask", "scheduler_file": file}
    return run(cluster.pipeline(folder, output, **values), cluster.open_session)


def test_an_array_of_shards_does_every_tile_once(slurm: Slurm, tmp_path: Path) -> None:
    folder, output, script = _images(tmp_path, 16, 0), tmp_path / "out", tmp_path / "shard.py"
    script.write_text(_SHARD.format(python=sys.executable))
    submit = ["sbatch", "--array=0-3", "--mem=1500M", f"--output={tmp_path}/%a.log", str(script)]
    slurm.call(*submit, str(folder), str(output))
    cluster.wait_until(lambda: not slurm.jobs(GOING), 180)
    cluster.check_done(folder, output, {})
    (group,) = group_shards(list_runs(output))
    assert (sorted(group.runs), group.missing, group.unfinished) == ([0, 1, 2, 3], [], [])
    assert sum(run.succeeded for run in group.runs.values()) == 16


def test_a_shard_is_told_before_its_time_is_over_and_ends_between_tiles(slurm: Slurm, tmp_path: Path) -> None:
    """Slurm sends the signal up to a minute early; without `B:` it would spare the script, and the job be killed."""
    folder, output, script = _images(tmp_path, 120, 6.0), tmp_path / "out", tmp_path / "shard.py"
    script.write_text(_SHARD.format(python=sys.executable))
    submit = ["sbatch", "--array=0-3", "--mem=1500M", "--time=3", "--signal=B:TERM@40"]
    submit += [f"--output={tmp_path}/%A-%a.log", str(script), str(folder), str(output)]
    slurm.call(*submit)
    cluster.wait_until(lambda: not slurm.jobs(GOING), 300)
    runs = list_runs(output)
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert logs.count("interrupted by SIGTERM") == 4, logs
    assert "DUE TO TIME LIMIT" not in logs
    assert [run.failed for run in runs] == [0] * 4
    done = cluster.finished(output)
    assert sum(run.succeeded for run in runs) == len(done) < 120
    (group,) = group_shards(runs)
    assert group.unfinished == [0, 1, 2, 3]
    cluster.behave(folder, seconds=0)
    slurm.call(*submit)
    cluster.wait_until(lambda: not slurm.jobs(GOING), 180)
    cluster.check_done(folder, output, done)


def test_a_job_that_is_killed_loses_no_tile_and_another_follows(slurm: Slurm, tmp_path: Path) -> None:
    folder, output = _images(tmp_path, 40, 0.5), tmp_path / "out"
    killed: list[str] = []

    def kill() -> None:
        killed.extend(slurm.jobs()[:1])
        slurm.call("scancel", "--signal=KILL", "--full", *killed)

    with _workers(slurm, tmp_path, walltime="10m") as file:
        striking = cluster.Striking(output, kill, 6, 0.1)
        records = _run(folder, output, file)
        striking.join()
    assert killed
    assert exit_code(records) == 0
    cluster.check_done(folder, output, striking.before)


def test_jobs_end_between_tiles_by_their_walltime_and_others_follow(slurm: Slurm, tmp_path: Path) -> None:
    """A job of one minute begins no tile after 40 s; the run takes longer, so that there is a chain of jobs."""
    folder, output = _images(tmp_path, 60, 2.0), tmp_path / "out"
    with _workers(slurm, tmp_path, walltime="1m") as file:
        started = time.monotonic()
        records = _run(folder, output, file)
        assert time.monotonic() - started > 50
    assert exit_code(records) == 0
    cluster.check_done(folder, output, {})
    assert {tile.attempt for tile in records.tiles} == {1}
    said = (tmp_path / "window").read_text()
    for number in (1, 2):
        assert f"{number} of 2." in said
    assert said.count("is running on") == said.count("is submitted") > 2
    assert said.count("another follows") == said.count("is submitted") - 2
    outputs = list((tmp_path / "logs").iterdir())
    assert len(outputs) > 2
    for path in outputs:
        assert not [word for word in _FAULTS if word in path.read_text()], path.read_text()
    logs = list(output.glob("*.worker-*.log"))
    assert len(logs) > 2
    begun = [line for log in logs for line in log.read_text().splitlines() if line.endswith(": Segmenting.")]
    assert len(begun) == 60, "a tile was cut off by the end of its job"


def test_a_tile_that_takes_more_memory_than_its_job_has_is_done_again(slurm: Slurm, tmp_path: Path) -> None:
    folder, output = _images(tmp_path, 8, 0.1), tmp_path / "out"
    cluster.behave(folder, seconds=0.1, hog=["tile-003"])
    with _workers(slurm, tmp_path, mem="700M", walltime="10m") as file:
        records = _run(folder, output, file)
    assert (folder / "tile-003.hogged").exists()
    assert exit_code(records) == 0
    cluster.check_done(folder, output, {})


def test_the_file_of_the_scheduler_is_closed(slurm: Slurm, tmp_path: Path) -> None:
    with _workers(slurm, tmp_path, walltime="10m") as file:
        files = [file, *tmp_path.glob("*.pem")]
        assert len(files) == 3
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        assert '"tls://' in file.read_text()


def test_refused_jobs_are_a_sentence_and_those_that_wait_are_told_of(slurm: Slurm, tmp_path: Path) -> None:
    words = ["--jobs", "1", "--gpus", "0", "--host", "127.0.0.1", "--mem", "1G"]
    refused = {"--partition": "gpu", "--mem": "900G"}
    for option, value in refused.items():
        command = [*_SERVE, *words, option, value]
        done = subprocess.run(
            command, env=slurm.environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("Error: Slurm refuses the jobs: "), done.stderr
        assert done.stderr.endswith(f"Correct {option}.\n"), done.stderr
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("scheduler.json*"))


def test_a_run_says_why_slurm_lets_its_workers_wait(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from darts.run.cluster import roster

    monkeypatch.setattr(roster, "TELL_SECONDS", 1.0)
    caplog.set_level(logging.INFO, "darts")
    folder, output = _images(tmp_path, 2, 0), tmp_path / "out"
    told = "No worker yet: 1 job in Slurm (JobHeldUser)."

    def release() -> None:
        cluster.wait_until(lambda: told in caplog.text, 120)
        slurm.call("scontrol", "release", *slurm.jobs("PENDING"))

    with _workers(slurm, tmp_path, jobs=1, gpus=0, directive="--hold") as file, ThreadPoolExecutor(1) as pool:
        released = pool.submit(release)
        records = _run(folder, output, file)
        released.result()
    assert exit_code(records) == 0
    assert told in (tmp_path / "window").read_text()
