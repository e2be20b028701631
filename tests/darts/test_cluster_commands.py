"""The commands of a cluster as an operator uses them, with the real networks, in processes of their own."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest
import tomli_w

from darts.demo import demo_model, make_sample_area
from darts.run import exit_code, run
from darts.run.cluster.connection import find_scheduler
from support import cluster, soak, standin

pytestmark = pytest.mark.slow


@contextmanager
def _process(*words: object, stderr: IO[str] | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, *map(str, words)], env=environment, stderr=stderr) as process:
        try:
            yield process
        finally:
            children = [] if process.poll() is not None else psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for child in children:
                if child.is_running():
                    child.kill()


def _darts(*words: object, stderr: IO[str] | None = None) -> "contextmanager[subprocess.Popen[bytes]]":
    return _process("-c", "from darts.cli import run_command; run_command()", *words, stderr=stderr)


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small scenes, with a datacube of elevation."""
    folder = tmp_path_factory.mktemp("area")
    sample = make_sample_area(folder / "sample", seed=3, size=256)
    soak.make_scenes(sample.scene_dir, folder / "scenes", 5)
    paths = {"scenes_dir": folder / "scenes", "model_files": demo_model()}
    paths |= {"arcticdem_dir": sample.arcticdem_dir, "tcvis_dir": sample.tcvis_dir}
    values = {name: str(path) for name, path in paths.items()}
    values |= {"offline": True, "device": "cpu", "patch_size": 128, "overlap": 32, "mask_erosion_size": 2, "threads": 1}
    (folder / "run.toml").write_text(tomli_w.dumps({"darts": values}))
    return folder


def _map(area: Path, output: Path, *words: object) -> int:
    command = ("inference", "planet-sequential", "--config-file", area / "run.toml", "--output-data-dir", output)
    with _darts(*command, *words) as process:
        return process.wait(300)


@pytest.fixture(scope="module")
def serial(area: Path) -> Path:
    """The results of a serial run with the real networks."""
    assert _map(area, area / "serial", "--executor", "serial") == 0
    return area / "serial"


@pytest.mark.parametrize("executor", [("overlap",), ("dask", 1), ("dask", 2), ("dask", 4)], ids=str)
def test_any_number_of_workers_writes_the_bytes_of_a_serial_run(
    area: Path, serial: Path, tmp_path: Path, executor: tuple
) -> None:
    workers = ("--workers", executor[1]) if len(executor) > 1 else ()
    assert _map(area, tmp_path, "--executor", executor[0], *workers) == 0
    assert soak.describe(tmp_path) == soak.describe(serial)
    assert len(soak.describe(serial)) > 25


def test_another_number_of_threads_gives_nearly_the_same(area: Path, serial: Path, tmp_path: Path) -> None:
    import numpy as np
    import rasterio

    assert _map(area, tmp_path, "--executor", "serial", "--threads", 2) == 0
    for path in serial.glob("*/binarized.tif"):
        with rasterio.open(path) as one, rasterio.open(tmp_path / path.parent.name / path.name) as two:
            assert np.mean(one.read() == two.read()) >= 0.9999
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")}
    assert _map(area, tmp_path, "--executor", "serial", "--threads", 1) == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")}


def test_two_shards_at_once_write_the_bytes_of_a_serial_run(area: Path, serial: Path, tmp_path: Path) -> None:
    command = ("inference", "planet-sequential", "--config-file", area / "run.toml", "--output-data-dir", tmp_path)
    with _darts(*command, "--shard", "0/2") as first, _darts(*command, "--shard", "1/2") as second:
        assert (first.wait(300), second.wait(300)) == (0, 0)
    assert soak.describe(tmp_path) == soak.describe(serial)


def test_the_local_cluster_is_found_by_its_file_and_ends_on_a_signal(area: Path, serial: Path, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    with _darts("cluster", "local", "--workers", 2, "--scheduler-file", file) as process:
        cluster.wait_until(file.exists)
        assert file.stat().st_mode & 0o777 == 0o600
        assert _map(area, tmp_path / "out", "--executor", "dask", "--scheduler-file", file) == 0
        assert _listens_beyond_loopback(process.pid) == []
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not file.exists()
    assert soak.describe(serial) == soak.describe(tmp_path / "out")


@pytest.mark.parametrize(
    ("strike", "told"),
    [
        (signal.SIGTERM, "The scheduler was ended."),
        (signal.SIGKILL, "to the scheduler is lost|does not answer any more"),
    ],
    ids=["ended", "killed"],
)
def test_a_run_says_in_a_sentence_that_its_scheduler_is_gone(
    area: Path, tmp_path: Path, strike: signal.Signals, told: str
) -> None:
    file, output, log = tmp_path / "scheduler.json", tmp_path / "out", tmp_path / "log"
    words = ("--config-file", area / "run.toml", "--output-data-dir", output, "--executor", "dask")
    words = ("inference", "planet-sequential", *words, "--scheduler-file", file)
    worker, ended = ("cluster", "worker", "--scheduler-file", file), tmp_path / "worker.log"
    with (
        _darts("cluster", "local", "--workers", 0, "--scheduler-file", file) as process,
        ended.open("w") as told_there,
        _darts(*worker, stderr=told_there) as working,
    ):
        cluster.wait_until(file.exists)
        with log.open("w") as written, _darts(*words, stderr=written) as running:
            cluster.wait_until(lambda: any(output.glob("*/manifest.json")))
            process.send_signal(strike)
            assert running.wait(60) == 75
        working.wait(60)
    assert "Registered to" in ended.read_text()
    assert "Traceback" not in ended.read_text()
    said = log.read_text()
    (stops,) = re.findall("The run stops: (.*)", said)
    assert re.search(rf"({told}).*Start the scheduler again .*: finished tiles are skipped", stops), said
    assert not [word for word in ("Traceback", "No worker is left", "distributed.") if word in said], said


def _listens_beyond_loopback(pid: int) -> list[str]:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = [connection for each in processes for connection in each.net_connections("inet")]
    listening = [connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN]
    assert listening
    return [address for address in listening if address not in ("127.0.0.1", "::1")]


def test_a_worker_with_tls_ends_on_sigterm_after_the_tile_that_is_being_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = cluster.make_images(tmp_path, 30, 0.1)
    file, output = tmp_path / "scheduler.json", tmp_path / "out"
    worker = ("cluster", "worker", "--scheduler-file", file)
    scheduler = ("cluster", "local", "--workers", 0, "--host", "127.0.0.1", "--scheduler-file", file)
    with _darts(*scheduler) as serving, _darts(*worker) as first, _darts(*worker) as second:
        striking = cluster.Striking(output, lambda: os.kill(first.pid, signal.SIGTERM), 5, 0.0)
        started = time.monotonic()
        pipeline = cluster.pipeline(folder, output, executor="dask", scheduler_file=file)
        records = run(pipeline, cluster.open_session)
        striking.join()
        assert first.wait(60) == 0
        assert _listens_beyond_loopback(second.pid) == []
        assert _listens_beyond_loopback(serving.pid) == []
        assert '"tls://' in file.read_text()
        with pytest.raises(OSError, match=r"."):
            asyncio.run(_connect_openly(file))
    assert time.monotonic() - started < 120
    assert exit_code(records) == 0
    cluster.check_done(folder, output, striking.before)
    assert "is gone, with" not in caplog.text, "the worker ended before its tiles were dropped or written"


async def _connect_openly(file: Path) -> None:
    from distributed import Client

    address = find_scheduler(file, None).address.replace("tls://", "tcp://")
    async with Client(address, asynchronous=True, timeout=3, set_as_default=False):
        pass


def test_a_worker_whose_session_opens_when_the_run_ends_is_not_aborted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Python unwinds threads that come back from native code after its end, and C++ then aborts the process."""
    folder = standin.make_folder(tmp_path, 1)
    for number in range(4):
        (folder / "first").unlink(missing_ok=True)
        made = cluster.pipeline(folder, tmp_path / f"out-{number}", executor="dask", workers=2)
        assert exit_code(run(made, cluster.open_first_or_stay_in_native_code)) == 0
    said = capfd.readouterr().err
    assert [word for word in ("terminate called", "Fatal Python error", "CommClosedError") if word in said] == []


PAGE = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"


def _block(language: str, containing: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return found


def test_the_page_leads_to_results(area: Path, serial: Path, tmp_path: Path) -> None:
    """Follow the page: its configuration, its job script for an array, and its run on Dask."""
    environment = Path(sys.executable).parent
    path = os.pathsep.join([str(environment), os.environ["PATH"]])
    (tmp_path / "scenes").symlink_to(area / "scenes")
    for name in ("safetensors", "json"):
        (tmp_path / f"my-model.{name}").symlink_to(demo_model().with_suffix(f".{name}"))
    own = tomllib.loads((area / "run.toml").read_text())["darts"]
    kept = {name: value for name, value in own.items() if name not in ("scenes_dir", "model_files", "offline")}
    options = _block("toml", 'model_files = ["my-model.safetensors"]\noutput_data_dir')  # Not that of the practice.
    (tmp_path / "run.toml").write_text(options + tomli_w.dumps(kept))
    script = _block("bash", "#SBATCH --array").replace("/project/me/darts/bin", str(environment)).replace("/16", "/4")
    (tmp_path / "darts.sbatch").write_text(script)

    def call(*command: str, **variables: str) -> str:
        variables = os.environ | {"PATH": path} | variables
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for number in (3, 0, 2):
        call("bash", "darts.sbatch", SLURM_ARRAY_TASK_ID=str(number))
    missing = [line for line in call("darts", "runs", "results").splitlines() if "missing" in line]
    call("bash", "darts.sbatch", SLURM_ARRAY_TASK_ID="1")
    assert not missing or missing[0].endswith(": 1")
    assert "missing" not in call("darts", "runs", "results")
    assert "5 of 5 done (100 %)" in call("darts", "status", "results")
    # A model of another name leaves its name in the files.
    assert soak.describe(tmp_path / "results").keys() == soak.describe(serial).keys()
    block = _block("bash", "darts cluster local --workers 2")
    (tmp_path / "run.toml").write_text((tmp_path / "run.toml").read_text().replace('"results"', '"again"'))
    call("bash", "-c", f"set -m\n{block}wait")
    assert soak.describe(tmp_path / "again") == soak.describe(tmp_path / "results")
    assert not (tmp_path / "scheduler.json").exists()
