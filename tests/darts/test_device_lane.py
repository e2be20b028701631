"""A tile of a run stays on the GPU from preprocessing to objects: on strict stand-ins for cupy and torch's CUDA."""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from darts.run import exit_code, run
from darts.run.session import NetworkSession
from darts_postprocessing.backends import cuda
from darts_segmentation import EnsembleV1, SMPSegmenter
from darts_segmentation.cpu import CpuEngine
from darts_segmentation.cuda import CudaEngine
from support.cupy_standin import COUNTS, GpuArray, StandInCupy, label
from support.driver import ONE_GPU, show_gpus
from support.gpu import StandInCuda
from support.segmentation import BlurNetwork, card
from support.standin import describe, make_pipeline, write_image, write_model

BANDS = ("red", "nir", "ndvi")
SIZE = 160


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.safetensors", bands=BANDS)
    for number in range(2):
        write_image(tmp_path / "images" / f"tile-{number}.tif", number, size=SIZE)
    return tmp_path


def _session(engine_of, device):
    def open_session(pipeline, context):
        model = SMPSegmenter.__new__(SMPSegmenter)
        model._take_network(BlurNetwork(3, 2), card(BANDS), engine_of(), compile_it=False)
        session = NetworkSession(EnsembleV1.from_segmenters({"model": model}), pipeline, "fp32", False)
        return SimpleNamespace(device=device, precision="fp32", segment=session.segment)

    return open_session


def _at_home():
    return CudaEngine(torch.device("cpu"))


def _run(folder, name, session, executor="serial", **values):
    bands = ["probabilities", "binarized", "polygonized", "extent", "optical", "thumbnail", "metadata"]
    output = folder / name
    records = run(
        make_pipeline(
            folder,
            output_data_dir=output,
            patch_size=64,
            overlap=16,
            quality_level=1,
            export_bands=bands,
            executor=executor,
            batch_size=99,
            **values,
        ),
        session,
    )
    assert exit_code(records) == 0, [tile.error for tile in records.tiles]
    return describe(output)


@pytest.fixture
def on_cpu(images):
    return _run(images, "on-cpu", _session(CpuEngine, "cpu"))


@pytest.fixture
def stand_in(monkeypatch):
    """A GPU 0 that is a strict stand-in, for cupy and for torch."""
    cupy = StandInCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "find_label", lambda: label)
    show_gpus(monkeypatch, ONE_GPU)
    COUNTS.clear()
    return SimpleNamespace(cupy=cupy, torch=StandInCuda(monkeypatch))


def _watch(monkeypatch, stand_in):
    """Note for each stage of a tile where its result lies, what came to the host and how often that waited."""
    from darts.run.worker import Worker

    seen = {}

    def watch(name):
        stage = getattr(Worker, name)

        def watched(self, work):
            before = COUNTS["waits"], stand_in.torch.waits, COUNTS["bytes to the host"] + stand_in.torch.pinned
            stage(self, work)
            after = COUNTS["waits"], stand_in.torch.waits, COUNTS["bytes to the host"] + stand_in.torch.pinned
            kinds = {type(each.data) for each in (work.tile or {}).values()}
            seen.setdefault(name, []).append((*np.subtract(after, before).tolist(), kinds))

        monkeypatch.setattr(Worker, name, watched)

    for name in ("_preprocess", "_segment", "_postprocess", "_export"):
        watch(name)
    return seen


def test_a_tile_stays_on_the_gpu_from_preprocessing_to_objects(monkeypatch, images, on_cpu, stand_in):
    seen = _watch(monkeypatch, stand_in)
    session = _session(_at_home, "cuda:0")
    assert _run(images, "on-gpu", session, device="cuda") == on_cpu  # every file, byte by byte
    layer, sample = SIZE * SIZE, 80 * 80
    for name in ("_preprocess", "_segment", "_postprocess"):
        assert {frozenset(each[3]) for each in seen[name]} == {frozenset({GpuArray})}
    # Waits for cupy, waits for torch, bytes that came to the host; the same for each tile. One wait is the end of each
    # stage: what it made is complete, what it read is free.
    assert {each[:3] for each in seen["_preprocess"]} == {(1, 0, 0)}
    (found,) = {each[:3] for each in seen["_segment"]}
    assert found[:2] == (0, 2)  # before: which patches show data, and samples of the bands
    assert found[2] < 3 * 4 * sample + 100
    (found,) = {each[:3] for each in seen["_postprocess"]}
    assert found[:2] == (3, 0)  # before: a sample of the probabilities; within cucim: the number of objects
    assert found[2] <= 4 * sample
    (found,) = {each[:3] for each in seen["_export"]}
    assert found[:2] == (1, 0)
    assert found[2] >= 6 * layer
    assert stand_in.cupy.freed == 0


@pytest.mark.slow
def test_a_tile_comes_back_where_networks_run_elsewhere_or_room_is_scarce(monkeypatch, images, on_cpu, stand_in):
    seen = _watch(monkeypatch, stand_in)
    assert _run(images, "elsewhere", _session(_at_home, "cpu"), device="cuda") == on_cpu
    free = 3 * 4 * 6 * SIZE * SIZE  # blue, green, red, nir, mask and ndvi
    monkeypatch.setattr(stand_in.cupy.cuda.Device, "mem_info", (free, free))
    assert _run(images, "scarce", _session(_at_home, "cuda:0"), device="cuda") == on_cpu
    assert {kind for each in seen["_preprocess"] for kind in each[3]} == {np.ndarray}
    monkeypatch.setattr(stand_in.cupy.cuda.Device, "mem_info", (free + 1, free + 1))
    assert _run(images, "enough", _session(_at_home, "cuda:0"), "overlap", device="cuda") == on_cpu
    assert {kind for each in seen["_preprocess"][4:] for kind in each[3]} == {GpuArray}


def test_memory_that_cupy_lacks_is_a_warning_and_the_same_map(monkeypatch, images, on_cpu, stand_in, caplog):
    class OutOfMemoryError(MemoryError):
        __module__ = "cupy.cuda.memory"

    def fail(*arguments, **options):
        raise OutOfMemoryError("Out of memory allocating 8 bytes (allocated so far: 0 bytes).")

    monkeypatch.setattr(stand_in.cupy, "asarray", fail)
    session = _session(_at_home, "cuda:0")
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert _run(images, "short", session, device="cuda") == on_cpu
    for what in ("Features are computed", "Objects are made"):
        said = f"The memory of cuda:0 does not suffice. {what} on the CPU. (DeviceFallbackWarning)"
        assert caplog.messages.count(said) == 1  # in two tiles
    assert stand_in.cupy.freed == 2 * 2 * 2  # each stage of each tile tries twice
