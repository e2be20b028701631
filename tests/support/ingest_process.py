"""Processes that fill a datacube, quick to start and meant to be killed.

One process loads the libraries and then forks a child for each filling, so that a child needs little time to start.
What loads icechunk is left to the children: its version 2 starts threads as it is loaded, which a fork leaves behind.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SCRIPT = """
import json, os, sys
import filelock, numpy, odc.geo.xr, pystac_client, rasterio, requests, shapely, tenacity, zarr

def fill(order):
    import darts_acquisition.cube.ingest
    from darts_acquisition import ArcticDEMSettings, Chunk, CubeProduct, Datacube, RequestLimits
    from darts_acquisition.auxiliary.arcticdem import ArcticDEMSource

    product = CubeProduct.from_attrs(order["product"])
    limits = RequestLimits(parallel=order["parallel"])
    source = ArcticDEMSource(product, ArcticDEMSettings(stac_url=order["url"], limits=limits))
    darts_acquisition.cube.ingest._CHUNKS_PER_COMMIT = order["per_commit"]
    cube = Datacube.open_or_create(order["path"], product)
    chunks = [Chunk(*place) for place in order["chunks"]]
    todo = [chunk for chunk in chunks if cube.states_of([chunk])[0] == 0]
    done = darts_acquisition.cube.ingest.ingest(cube, todo, source)
    return [done.filled, done.empty, done.elsewhere]

odc.geo.CRS("EPSG:3413").transformer_to_crs(odc.geo.CRS("EPSG:4326"))(0.0, 0.0)
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            answer = {"done": fill(json.loads(line))}
        except BaseException as error:
            answer = {"error": repr(error)}
        os.write(1, (json.dumps(answer | {"pid": os.getpid()}) + "\\n").encode())
        os._exit("error" in answer)
    os.write(1, (json.dumps({"pid": pid, "started": True}) + "\\n").encode())
"""


class IngestProcess:
    """Starts fillings, each in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lines: list[dict[str, Any]] = []

    def start(self, path: Path | str, product: Any, url: str, chunks: list[Any], **more: int) -> int:
        """Start filling chunks of a cube, which is created where there is none; return the number of the process."""
        order = {"path": str(path), "product": product.to_attrs(), "url": url, "chunks": chunks}
        order |= {"parallel": 2, "per_commit": 2} | more
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._answer("started")["pid"])

    def result(self, pid: int, timeout: float = 60) -> list[int]:
        """Wait for a filling, and return its counts of filled and empty chunks and of those filled elsewhere."""
        answer = self._answer("pid", pid, timeout)
        assert "error" not in answer, answer["error"]
        return list(answer["done"])

    def kill(self, pid: int) -> None:
        """Kill a filling, if it has not ended by itself, and wait until nothing of it is left."""
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while not _has_ended(pid):
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def _answer(self, key: str, value: Any = True, timeout: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while True:
            for line in self._lines:
                if line.get(key) == value and ("started" in line) == (key == "started"):
                    self._lines.remove(line)
                    return line
            assert self._process.stdout is not None
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the process says nothing"
            self._lines.append(json.loads(self._process.stdout.readline()))


def _has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or only its exit code is left."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@contextmanager
def running_ingest() -> Iterator[IngestProcess]:
    """Have a process that starts fillings until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield IngestProcess(process)
    finally:
        process.kill()
        process.communicate()
