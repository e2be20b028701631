"""Memory that does not suffice: whatever needed it, the batch is halved and stays so, and what others keep is freed."""

import sys
import warnings

import numpy as np
import pytest
import torch

from darts_segmentation import BatchHalvedWarning, EnsembleV1, GpuMemoryError, SMPSegmenter
from darts_segmentation.blend import Blend
from darts_segmentation.cpu import CpuEngine
from darts_segmentation.cuda import CudaEngine
from darts_segmentation.engine import memory_shortage
from support.cupy_standin import StandInCupy
from support.gpu import StandInCuda
from support.segmentation import BlurNetwork, PixelNetwork, card, directly, random_tile, segmenter

WEIGHTS = (3.0, -2.0, 1.5)
SHORTAGES = {
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cuDNN": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "pinned": lambda: RuntimeError("CUDA error: out of memory\nCompile with more."),
    "host": lambda: MemoryError(),
    "allocator": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 5 bytes"),
}


class Hungry(torch.nn.Module):
    """Has memory for a few patches only, as a GPU may."""

    def __init__(self, network, most, shortage=SHORTAGES["torch"]):
        super().__init__()
        self.network, self.most, self.calls, self.shortage = network, most, [], shortage

    def forward(self, patches):
        self.calls.append(len(patches))
        if len(patches) > self.most:
            raise self.shortage()
        return self.network(patches)


def _segment(model, tile, batch_size=9, **options):
    return model.segment_tile(tile, 32, 0, batch_size=batch_size, **options)["probabilities"].values


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_batch_is_halved_for_this_tile_and_those_to_come(shortage):
    network = BlurNetwork(3, 2)
    tile = random_tile((90, 90), missing=0.1)
    expected = _segment(segmenter(network), tile)
    hungry = Hungry(network, 2, SHORTAGES[shortage])
    model = segmenter(hungry)
    with pytest.warns(BatchHalvedWarning) as caught:
        result = _segment(model, tile)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    # Nine patches: 9 and 4 at a time fail, 2 work from then on, to the end of the tile.
    assert hungry.calls == [9, 4, 2, 2, 2, 2, 1]
    assert ["with 4 at a time" in str(one.message) for one in caught] == [True, False]
    assert "with 2 at a time" in str(caught[1].message)
    hungry.calls.clear()
    np.testing.assert_array_equal(_segment(model, tile), result)  # and no warning, which would be an error
    assert hungry.calls == [2, 2, 2, 2, 1]
    hungry.calls.clear()
    _segment(model, tile, batch_size=1)
    assert hungry.calls == [1] * 9
    # Another format needs another amount.
    hungry.calls.clear()
    with pytest.warns(BatchHalvedWarning):
        _segment(model, tile, precision="bf16")
    assert hungry.calls[0] == 9


def test_an_error_about_something_else_is_no_shortage():
    for error in (
        RuntimeError("shapes differ"),
        ValueError("out of memory"),
        GpuMemoryError("a patch"),
        OSError(12, "x"),
    ):
        assert memory_shortage(error) == ""
    assert memory_shortage(MemoryError()) == "MemoryError"
    model = segmenter(Hungry(PixelNetwork(WEIGHTS), 2, lambda: RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        _segment(model, random_tile((90, 90)))


def test_memory_that_does_not_hold_one_patch_is_an_error():
    with (
        pytest.warns(BatchHalvedWarning),
        pytest.raises(GpuMemoryError, match=r"does not hold one patch of 32 px.*Tried to allocate"),
    ):
        _segment(segmenter(Hungry(PixelNetwork(WEIGHTS), 0)), random_tile((40, 40)), batch_size=2)


def _fail_beyond(monkeypatch, owner, name, most, count_of):
    """Let a method fail where it would handle more than so many patches."""
    method = getattr(owner, name)

    def failing(self, *arguments):
        if count_of(*arguments) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return method(self, *arguments)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize("where", ["buffers", "load", "select", "augment"])
def test_what_runs_out_outside_of_the_network_halves_the_batch_too(monkeypatch, where):
    from darts_segmentation import cpu, forward, predict

    if where == "buffers":
        _fail_beyond(monkeypatch, CpuEngine, "loader", 3, lambda patches, limit: limit)
    elif where == "load":
        _fail_beyond(monkeypatch, cpu.CpuLoader, "load", 3, len)
    else:
        module, name = (predict, "_select") if where == "select" else (forward, "in_order")
        function = getattr(module, name)

        def failing(patches, *arguments):
            if len(patches) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return function(patches, *arguments)

        monkeypatch.setattr(module, name, failing)
    network = PixelNetwork(WEIGHTS)
    tile = random_tile((90, 90))
    with pytest.warns(BatchHalvedWarning, match="with 3 at a time"):
        result = _segment(segmenter(network), tile, batch_size=6, tta="d4" if where == "augment" else None)
    assert {shape[0] for shape in network.batches} == {3}
    np.testing.assert_allclose(result, directly(network, tile), atol=1e-6)


def test_results_that_do_not_fit_at_first_are_tried_again(monkeypatch):
    tile = random_tile((40, 40))
    expected = _segment(segmenter(PixelNetwork(WEIGHTS)), tile)
    fails = {"__init__": 1, "finish": 1}

    def once(name):
        method = getattr(Blend, name)

        def failing(self, *arguments):
            if fails[name]:
                fails[name] -= 1
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return method(self, *arguments)

        monkeypatch.setattr(Blend, name, failing)

    once("__init__")
    once("finish")
    np.testing.assert_array_equal(_segment(segmenter(PixelNetwork(WEIGHTS)), tile), expected)
    assert set(fails.values()) == {0}
    fails["__init__"] = 2
    with pytest.raises(GpuMemoryError, match=r"does not hold the results of a tile of 40 × 40 px .*out of memory"):
        _segment(segmenter(PixelNetwork(WEIGHTS)), tile)


def test_a_network_that_does_not_fit_is_named(monkeypatch):
    def prepare(self, network, *, compile_it):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(CpuEngine, "prepare", prepare)
    with pytest.raises(GpuMemoryError, match="The memory of cpu does not hold the network 'test'"):
        segmenter(PixelNetwork(WEIGHTS))


def _on_stand_in(network):
    model = SMPSegmenter.__new__(SMPSegmenter)
    model._take_network(network, card(), CudaEngine(torch.device("cpu")), compile_it=False)
    return model


@pytest.mark.parametrize("kept", [0, 2**30])
def test_what_cupy_keeps_is_freed_before_the_batch_is_halved(monkeypatch, kept):
    StandInCuda(monkeypatch)
    cupy = StandInCupy(kept)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    tile = random_tile((90, 90))
    network = PixelNetwork(WEIGHTS)

    class Sharing(Hungry):
        """Finds room for all patches once cupy keeps nothing."""

        def forward(self, patches):
            self.most = 4 if kept == 0 or cupy.kept else 9
            return super().forward(patches)

    hungry = Sharing(network, 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = _segment(_on_stand_in(hungry), tile)
    np.testing.assert_allclose(found, directly(network, tile), atol=1e-6)
    assert hungry.calls == ([9, 9] if kept else [9, 4, 4, 1])
    assert len(caught) == (0 if kept else 1)
    assert cupy.kept == 0


def test_what_cupy_keeps_in_vain_is_freed_once_a_batch(monkeypatch):
    """A pool that fills again and again does not make the same batch be tried for ever."""
    StandInCuda(monkeypatch)

    class Refilling(StandInCupy):
        def _free(self):
            self.kept = 5

    monkeypatch.setitem(sys.modules, "cupy", Refilling(5))
    hungry = Hungry(PixelNetwork(WEIGHTS), 4)
    with pytest.warns(BatchHalvedWarning, match="with 4 at a time"):
        _segment(_on_stand_in(hungry), random_tile((90, 90)))
    assert hungry.calls == [9, 9, 4, 4, 1]


def test_cupy_is_not_imported_to_free_its_memory(monkeypatch):
    StandInCuda(monkeypatch)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "path", [])
    assert CudaEngine(torch.device("cpu")).free_memory() is False
    assert "cupy" not in sys.modules


def test_members_of_an_ensemble_share_the_limit():
    one, other = Hungry(PixelNetwork(WEIGHTS), 9), Hungry(PixelNetwork(WEIGHTS), 4)
    ensemble = EnsembleV1.from_segmenters({"a": segmenter(one), "b": segmenter(other)})
    tile = random_tile((90, 90))
    with pytest.warns(BatchHalvedWarning):
        first = _segment(ensemble, tile, keep_inputs=True)
    assert one.calls == [9, 4, 4, 1]
    assert other.calls == [9, 4, 4, 1]
    np.testing.assert_array_equal(_segment(ensemble, tile), first)
    assert one.calls[4:] == [4, 4, 1]
