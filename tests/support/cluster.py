"""A Dask cluster in processes of its own, whose workers start quickly and may be killed, frozen or cut off.

What a tile does beside its work stands in a file, ``behaviour.json`` beside the images.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from support import standin
from support.forkserver import FORKABLE

BEHAVIOUR = "behaviour.json"
REAL = "real-networks"
"""A file beside the images of a model that the stand-in cannot run."""
MEMORY = 600 << 20
REAL_MEMORY = 1500 << 20
"""What a worker may take, with the stand-in and with a real network."""


@dataclass(frozen=True)
class BehavingSession:
    """The stand-in, which takes its time, and for some tiles dies or takes too much memory."""

    inner: Any
    folder: Path
    device: str = "cpu"
    precision: str = "fp32"

    def segment(self, tile: Any) -> Any:
        behaviour = json.loads((self.folder / BEHAVIOUR).read_text())
        time.sleep(behaviour.get("seconds", 0))
        name = tile.attrs["tile_id"]
        if name in behaviour.get("poison", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        if name in behaviour.get("hog", ()) and not (self.folder / f"{name}.hogged").exists():
            (self.folder / f"{name}.hogged").touch()
            held = []
            for _ in range(60):  # Until it is ended.
                held.append(bytearray(os.urandom(1 << 20) * 50))
                time.sleep(0.05)
            time.sleep(60)
        return self.inner.segment(tile)


def open_session(pipeline: Any, context: Any) -> BehavingSession:
    """Open a stand-in that behaves as the file says; where there is a real model, the real networks."""
    from darts.run import session

    real = (pipeline.images_dir.parent / REAL).exists()
    inner = (session.open_session if real else standin.open_session)(pipeline, context)
    return BehavingSession(inner, pipeline.images_dir.parent, precision=inner.precision)


def open_first_or_stay_in_native_code(pipeline: Any, context: Any) -> Any:
    """Open the stand-in in the process that comes first; others are in torch when the run ends."""
    if (pipeline.images_dir.parent / "first").exists():
        import torch

        values = torch.rand(4000, 4000)
        for _ in range(50):
            values @ values
    (pipeline.images_dir.parent / "first").touch()
    return standin.open_session(pipeline, context)


def behave(folder: Path, **behaviour: Any) -> None:
    """Say what tiles do: wait so many `seconds`, and by name be `poison` or `hog` memory (once)."""
    (folder / BEHAVIOUR).write_text(json.dumps(behaviour))


class Cluster:
    """Speaks with the process that holds the cluster."""

    def __init__(self, process: "subprocess.Popen[str]", memory: int) -> None:
        self.process = process
        self._memory = memory
        self.address = str(self._answer()["address"])

    def ask(self, what: str, **values: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **values}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"'):
                return json.loads(line)
        raise RuntimeError(f"The cluster ended with {self.process.wait()}.")

    def add(self, name: str, **options: Any) -> None:
        """Start a worker, and wait until the scheduler knows it."""
        self.ask("add", name=name, options={"memory_limit": self._memory} | options)

    def remove(self, name: str) -> None:
        """End a worker."""
        self.ask("remove", name=name)

    def restore(self) -> None:
        """Wait until both workers are back; one whose nanny has ended as well is started anew."""

        def is_whole() -> bool:
            for name in self.ask("known")["ended"]:
                self.add(name)
            return sorted(self.known()) == ["0", "1"]

        wait_until(is_whole)

    def pids(self) -> dict[str, int]:
        """Return the processes of the workers by name."""
        return self.ask("pids")["pids"]

    def known(self) -> list[str]:
        """Return the names of the workers that the scheduler knows."""
        return self.ask("known")["known"]

    def add_lone(self, name: str) -> int:
        """Start a worker without a nanny, and return its process once the scheduler knows it."""
        pid = int(self.ask("add lone", name=name)["pid"])
        wait_until(lambda: name in self.known())
        return pid

    def coordinate(self, folder: Path, values: dict[str, Any]) -> int:
        """Begin a run of the stand-in over a folder in a process of its own, and return its number."""
        return int(self.ask("coordinate", folder=str(folder), values=values)["pid"])

    def scheduler_bytes(self) -> int:
        """Return the resident bytes of the scheduler's process."""
        return psutil.Process(self.process.pid).memory_info().rss


def has_ended(pid: int) -> bool:
    """Say whether a process holds nothing any more: its first thread may end before others let go of their locks."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


@contextmanager
def cluster(workers: int = 2, memory: int = MEMORY, **settings: Any) -> Iterator[Cluster]:
    """Have a cluster with workers "0", "1" and so on until the block ends.

    Args:
        workers: How many.
        memory: Bytes beyond which a worker is ended.
        settings: Configuration of Dask.
    """
    environment = os.environ | FORKABLE | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "support.cluster_process", json.dumps(settings)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        children: list[psutil.Process] = []
        try:
            made = Cluster(process, memory)
            for number in range(workers):
                made.add(str(number))
            yield made
            if process.poll() is None:
                children = psutil.Process(process.pid).children(recursive=True)
        finally:
            with suppress(psutil.NoSuchProcess):
                children = children or psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something, which must come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def cut_sockets() -> None:
    """End all connections of this process to others, as a cut network would."""
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            if str(descriptor.readlink()).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(descriptor.name))) as found:
                    found.getpeername()  # Fails for those that only listen.
                    if found.family != socket.AF_UNIX:
                        found.shutdown(socket.SHUT_RDWR)


OWN_FOLDER = Path("/proc/self/cwd")
"""A path that leads each process elsewhere, as one that is not mounted on all machines."""


def dask_setup(worker: Any) -> None:
    """Prepare a worker, as Dask's preload does: cut it off on SIGUSR1.

    Where told to, it has other versions, or another folder at :data:`OWN_FOLDER`.
    """
    os.chdir(os.environ.get("DARTS_TEST_FOLDER", "."))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, cut_sockets)
    if "DARTS_TEST_OTHER_VERSION" in os.environ:
        from darts.run import fingerprint

        fingerprint.package_versions()["darts-export"] = os.environ["DARTS_TEST_OTHER_VERSION"]


SETTINGS = {"distributed.scheduler.worker-ttl": "4s"}
"""A scheduler gives up a worker after that time, or a little longer."""


def strike_kill(made: Cluster) -> None:
    """Kill a worker."""
    os.kill(made.pids()["0"], signal.SIGKILL)


def strike_freeze(made: Cluster) -> None:
    """Freeze a worker until the scheduler has given it up, and let it go on then."""
    pid = made.pids()["0"]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: "0" not in made.known())
    with suppress(ProcessLookupError):  # A nanny that is told so kills it meanwhile.
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: made.pids()["0"] not in (pid, None))


def strike_cut(made: Cluster) -> None:
    """Cut a worker's connections."""
    os.kill(made.pids()["0"], signal.SIGUSR1)


def strike_others(made: Cluster) -> None:
    """Add a worker with other packages, for a while."""
    made.add("other", env={"DARTS_TEST_OTHER_VERSION": "9.9.9"})
    made.remove("other")


STRIKES = {"kill": strike_kill, "freeze": strike_freeze, "cut": strike_cut, "other versions": strike_others}


def make_images(path: Path, count: int, seconds: float, *, real: bool = False) -> Path:
    """Make images whose tiles take so many seconds, for the stand-in or a real network, and undisturbed results."""
    from darts.run import run

    made = standin.make_folder(path, count)
    behave(made, seconds=seconds)
    if real:
        write_real_model(made / "model.safetensors")
        (made / REAL).touch()
    run(pipeline(made, made / "undisturbed"), open_session)
    return made


def write_real_model(path: Path) -> None:
    """Write a small network with weights by chance."""
    import segmentation_models_pytorch as smp
    import torch

    from darts_segmentation import ModelCard, save_model

    torch.manual_seed(1)
    unet = {"arch": "unet", "encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    card = ModelCard(name=path.stem, architecture=unet, bands=["red", "green", "nir"])
    path.unlink()
    path.with_suffix(".json").unlink()
    save_model(path, smp.create_model(**card.architecture, encoder_weights=None), card)


def pipeline(folder: Path, output: Path, **values: Any) -> standin.StandInPipeline:
    """Return the stand-in over a folder, which writes as little as it can."""
    shared = {"export_bands": ["probabilities"], "threads": 1}
    return standin.make_pipeline(folder, output_data_dir=output, **(shared | values))


def run_on(made: Cluster, folder: Path, output: Path, **values: Any) -> Any:
    """Run the stand-in on a cluster."""
    from darts.run import run

    return run(pipeline(folder, output, executor="dask", scheduler_address=made.address, **values), open_session)


def finished(output: Path) -> dict[str, tuple[int, int]]:
    """Return what tells the manifest of each finished tile from one that is written again."""
    found = {path.parent.name: path.stat() for path in output.glob("tile-*/manifest.json")}
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in found.items()}


class Striking(threading.Thread):
    """Strikes after so many tiles and seconds.

    Attributes:
        before: What was finished then.
    """

    def __init__(self, output: Path, strike: Callable[[], object], done: int, delay: float) -> None:
        super().__init__()
        self.before: dict[str, tuple[int, int]] = {}
        self._output, self._strike, self._moment = output, strike, (done, delay)
        self.start()

    def run(self) -> None:
        wait_until(lambda: len(finished(self._output)) >= self._moment[0])
        time.sleep(self._moment[1])
        self.before.update(finished(self._output))
        self._strike()


def check_done(folder: Path, output: Path, before: dict[str, tuple[int, int]], *, clean: bool = True) -> None:
    """Check that all is done as in the undisturbed run, nothing twice that was finished before, and no folder left."""
    now = finished(output)
    assert before.items() <= now.items(), "a tile that was finished before was computed again"
    assert standin.describe(output) == standin.describe(folder / "undisturbed")
    assert len(now) == len(list((folder / "images").iterdir()))
    if clean:  # A session that was superseded may just be writing the tile that it had.
        wait_until(lambda: not list(output.glob(".darts-export-*")), 30)


def go_through(made: Cluster, folder: Path, output: Path, strike: Callable[[Cluster], None], *moment: Any) -> None:
    """Run while something strikes a worker: all tiles are done by that very run."""
    from darts.run import exit_code

    striking = Striking(output, lambda: strike(made), *moment)
    records = run_on(made, folder, output)
    striking.join()
    tiles = {tile.tile_id: tile for tile in records.tiles}
    failed = {name: tile.error for name, tile in tiles.items() if tile.status == "failed"}
    assert (exit_code(records), failed) == (0, {})
    assert len(tiles) == len(list((folder / "images").iterdir()))
    check_done(folder, output, striking.before)
    made.restore()


def hog_memory(made: Cluster, folder: Path, output: Path, tile: str, seconds: float) -> None:
    """Run while one tile takes too much memory, the first time."""
    from darts.run import exit_code

    behave(folder, seconds=seconds, hog=[tile])
    for path in folder.glob("*.hogged"):
        path.unlink()
    try:
        records = run_on(made, folder, output)
    finally:
        behave(folder, seconds=seconds)
    assert (folder / f"{tile}.hogged").exists()
    assert exit_code(records) == 0
    check_done(folder, output, {})


def lose_scheduler(made: Cluster, folder: Path, output: Path, *moment: Any) -> None:
    """Run while the scheduler is killed, and complete the run without it."""
    from darts.run import exit_code, run

    died: list[float] = []
    striking = Striking(output, lambda: (made.process.kill(), died.append(time.monotonic())), *moment)
    records = run_on(made, folder, output)
    ended = time.monotonic()
    striking.join()
    print(f"{ended - died[0]:.1f} s after its scheduler the run had ended")
    assert ended - died[0] < 30
    done = {tile.tile_id for tile in records.tiles if tile.status == "success"}
    about = [(tile.tile_id, tile.status, tile.error) for tile in records.tiles]
    assert exit_code(records) == (75 if records.undone else 0), (about, records.undone, records.scheduler_gone)
    assert done <= set(finished(output))
    assert records.path("results.parquet").exists()
    assert exit_code(run(pipeline(folder, output), open_session)) == 0
    check_done(folder, output, striking.before)


def lose_coordinator(made: Cluster, folder: Path, output: Path, *moment: Any) -> None:
    """Kill the coordinator of a run, and start the run again."""
    from darts.run import exit_code

    values = {"output_data_dir": str(output), "export_bands": ["probabilities"], "threads": 1}
    pid = made.coordinate(folder, values | {"executor": "dask", "scheduler_address": made.address})
    striking = Striking(output, lambda: os.kill(pid, signal.SIGKILL), *moment)
    striking.join()
    records = run_on(made, folder, output)
    assert exit_code(records) == 0
    assert len(records.tiles) == len(list((folder / "images").iterdir()))
    check_done(folder, output, striking.before)
