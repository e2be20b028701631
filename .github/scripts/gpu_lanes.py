"""The step "lanes" of gpu.py: tiles in the lanes of a run, against the network alone."""

import math
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def compare_with_network(device: str, small: Any, inputs: Any, size: int) -> None:
    """Take tiles through the lanes of a run; print their time against that of the bare network, and how busy a GPU is.

    The network is a U-Net with the encoder of a ResNet-34 and weights by chance, in float32, in patches as by default.

    Args:
        device: "cpu" or "cuda".
        small: What :func:`preprocess_v2` takes for a tile that only warms up.
        inputs: What it takes for the tile.
        size: Rows and columns of the tile.
    """
    import segmentation_models_pytorch as smp
    import torch

    from darts_segmentation import ModelCard, SMPSegmenter
    from darts_segmentation.grid import PatchGrid

    bands = ("red", "green", "blue", "nir", "ndvi", "relative_elevation", "slope", "tc_brightness")
    architecture = {"arch": "unet", "encoder_name": "resnet34"}
    torch.manual_seed(0)
    network = smp.create_model(**architecture, encoder_weights=None, in_channels=len(bands), classes=1)
    card = ModelCard(name="lanes", architecture=architecture, bands=bands)
    segmenter = SMPSegmenter.from_network(network, card, device)
    patch, overlap, batch, count = (1024, 256, 8, 8) if device != "cpu" else (256, 64, 1, 2)
    grid = PatchGrid.plan((size, size), patch, overlap, 0)
    patches = len(grid.y.starts) * len(grid.x.starts)
    with ThreadPoolExecutor(1) as thread:  # as in a lane
        bare = thread.submit(seconds_alone, network, device, (batch, len(bands), patch, patch), patches).result()
    take_through_lanes(segmenter, device, small, patch, overlap, batch, 1)
    busy = Busy(device)
    at = time.perf_counter()
    with busy:
        take_through_lanes(segmenter, device, inputs, patch, overlap, batch, count)
    taken = (time.perf_counter() - at) / count
    print(f"{count} tiles of {patches} patches: {taken:.2f} s each; the network alone: {bare:.2f} s")
    print(f"ratio to the bare network: {taken / bare:.2f}")
    print(f"share of time that the GPU computes: {busy.share}")


def seconds_alone(network: Any, device: str, shape: tuple[int, ...], patches: int) -> float:
    """Return the least seconds of three times that a network takes for patches, in batches of a shape."""
    import torch

    from darts_segmentation.precision import computing

    given = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
    batches = math.ceil(patches / shape[0])

    def compute() -> float:
        at = time.perf_counter()
        for _ in range(batches):
            network(given)
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - at

    with computing(device, "fp32"):
        compute()
        return min(compute() for _ in range(3)) * patches / (batches * shape[0])


class Busy:
    """While it is entered, asks the driver how busy the GPU is."""

    def __init__(self, device: str) -> None:
        self.share = "not known without a GPU"
        self._asks = device != "cpu"
        self._done = threading.Event()
        self._seen: list[int] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        if self._seen:
            self.share = f"{sum(self._seen) / len(self._seen):.0f} %, by {len(self._seen)} samples of the driver"

    def _watch(self) -> None:
        import torch

        while self._asks and not self._done.wait(0.2):
            self._seen.append(torch.cuda.utilization())


def take_through_lanes(
    segmenter: Any, device: str, given: Any, patch: int, overlap: int, batch: int, count: int
) -> None:
    """Take the same tile so many times through the lanes of a run; exit where one fails."""
    from darts.run.cancel import CancellationToken
    from darts.run.executors import lane_threads, overlap_executor
    from darts.run.task import Stage, TileTask, TileWork
    from darts_export import export_tile
    from darts_postprocessing import prepare_export
    from darts_preprocessing import preprocess_v2

    features = ["ndvi", "relative_elevation", "slope", "tc_brightness"]

    class Worker:
        def begin(self, task: TileTask) -> TileWork:
            work = TileWork(task)
            work.tile = given[0].assign_attrs(tile_id=task.tile_id, time="2021-08-21T21:00:19Z")
            return work

        def stages(self) -> list[Stage]:
            return [
                Stage("Preprocessing", "load", self.load),
                Stage("Segmenting", "infer", self.infer),
                Stage("Exporting", "write", self.write, writes=True),
            ]

        def load(self, work: TileWork) -> None:
            work.tile = preprocess_v2(work.take(), *given[1:], device=device, features=features, keep_on_device=True)

        def infer(self, work: TileWork) -> None:
            work.tile = segmenter.segment_tile(work.take(), patch, overlap, batch)

        def write(self, work: TileWork) -> None:
            tile = prepare_export(work.take(), bin_threshold=0.9, quality_level=1, device=device)
            export_tile(tile, work.task.output, bands=["probabilities", "binarized", "extent"])

        def fail(self, work: TileWork, stage: Stage, error: Exception) -> None:
            work.record.status, work.record.error = "failed", f"{stage.name}: {error!r}"

    with tempfile.TemporaryDirectory() as folder:
        tasks = [TileTask(number, f"tile-{number}", Path(folder) / str(number)) for number in range(count)]
        loaders, writers = lane_threads()
        executor = overlap_executor(loaders=loaders, writers=writers)
        records = list(executor.run(tasks, Worker(), CancellationToken()))
    failed = [record.error for record in records if record.status == "failed"]
    if failed or len(records) < count:
        sys.exit(f"{len(failed)} of {count} tiles failed: {failed[:1]}")
