"""Tiles in the memory of a GPU, and the GPU's loader: with strict stand-ins, and with a device where there is one."""

import sys

import numpy as np
import pytest
import torch

from darts_segmentation import EnsembleV1, SMPSegmenter
from darts_segmentation.bands import Channel, TilePatches
from darts_segmentation.blend import Blend
from darts_segmentation.classes import Outputs
from darts_segmentation.cuda import CudaEngine, CudaLoader
from darts_segmentation.forward import class_probabilities
from darts_segmentation.grid import PatchGrid
from darts_segmentation.network import place_network
from darts_segmentation.scaling import Scaler
from darts_utils import Stopwatch, normalize_band
from support.cupy_standin import COUNTS, GpuArray, StandInCupy, on_gpu
from support.gpu import StandInCuda
from support.segmentation import BANDS, UNET, BlurNetwork, PixelNetwork, card, random_tile, segmenter

WEIGHTS = (3.0, -2.0, 1.5)
OPTIONS = ({}, {"batch_size": 3}, {"tta": "d4"}, {"reflection": 7}, {"precision": "bf16"})


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", StandInCupy())
    return StandInCuda(monkeypatch)


def _model(network, fields=None):
    model = SMPSegmenter.__new__(SMPSegmenter)
    model._take_network(network, card(**fields or {}), CudaEngine(torch.device("cpu")), compile_it=False)
    return model


def _mixed_tile(seed=0):
    """A tile whose bands are of several types, one with a mark of its own for missing pixels."""
    tile = random_tile((70, 83), missing=0.1, seed=seed)
    marked = tile["slope"].fillna(-9999).astype(np.int16)
    return tile.assign(slope=marked.assign_attrs(_FillValue=-9999))


@pytest.mark.parametrize("members", [1, 3])
def test_the_host_waits_for_a_tile_on_the_gpu_as_often_as_it_must(stand_in, monkeypatch, members):
    """Before the network for some kB: which patches show data, and of what size. Then once, when all is done."""
    monkeypatch.setattr("darts_segmentation.blend._BLOCK_ROWS", 16)
    monkeypatch.setattr("darts_utils.rows.BLOCK_PIXELS", 500)
    given = on_gpu(random_tile((70, 83), missing=0.1))
    networks = {str(number): _model(PixelNetwork([1.0, 2.0, -1.0])) for number in range(members)}
    model = EnsembleV1.from_segmenters(networks)
    waits = []
    for name in ("cpu", "item", "tolist", "numpy", "__int__", "__float__", "__bool__"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *args, real=real, name=name: waits.append(name) or real(self, *args)
        )
    COUNTS.clear()
    for batch_size, pacing in ((99, 0), (4, 2)):
        before = stand_in.waits, stand_in.pinned
        model.segment_tile(given, 32, 8, batch_size=batch_size, keep_inputs=True)
        # Nobody gets further ahead than a batch: for that the host waits for the batch before the last.
        assert stand_in.waits - before[0] == 2 + pacing
        bands, small = 4 * 3 * 70 * 83, 3 * 8 * 5 * (members + 1) + 16
        assert stand_in.pinned - before[1] <= bands + small  # a tile so small is its own sample
    assert set(waits) == {"numpy"}  # of what came to the host
    assert not COUNTS


def test_no_raster_comes_to_the_host_between_bands_and_probabilities(stand_in):
    given = on_gpu(random_tile((400, 420), missing=0.1))
    COUNTS.clear()
    result = _model(BlurNetwork(3, 2)).segment_tile(given, 128, 32)
    assert type(result["probabilities"].data) is GpuArray
    assert stand_in.pinned < 3 * 4 * 96**2
    assert not COUNTS


@pytest.mark.parametrize("options", OPTIONS)
def test_a_tile_on_the_gpu_gives_what_it_gives_on_the_host(stand_in, options):
    tile = _mixed_tile()
    network = BlurNetwork(3, 2)
    expected = segmenter(network).segment_tile(tile, 32, 8, **options)["probabilities"].values
    model = _model(network)
    from_host = model.segment_tile(tile, 32, 8, **options)["probabilities"]
    assert type(from_host.data) is np.ndarray
    np.testing.assert_array_equal(from_host.values, expected)
    given = on_gpu(tile)
    result = model.segment_tile(given, 32, 8, **options)
    assert {type(variable.data) for variable in result.values()} == {GpuArray}
    np.testing.assert_array_equal(result["probabilities"].data.get(), expected)
    for name, variable in given.items():  # and the tile is as it was
        np.testing.assert_array_equal(variable.data.get(), tile[name].values)
    # The CPU takes what lies on a GPU too, and so does a GPU a tile of which parts lie on the host.
    on_cpu = segmenter(network).segment_tile(given, 32, 8, **options)["probabilities"]
    np.testing.assert_array_equal(on_cpu.values, expected)
    partly = model.segment_tile(given.assign(red=tile["red"]), 32, 8, **options)["probabilities"]
    np.testing.assert_array_equal(partly.data.get(), expected)


def test_members_and_their_deviation_stay_on_the_gpu(stand_in):
    tile = random_tile((70, 83), missing=0.1)
    one, other = BlurNetwork(3, 2), BlurNetwork(3, 1, seed=1)
    expected = EnsembleV1.from_segmenters({"a": segmenter(one), "b": segmenter(other)})
    found = EnsembleV1.from_segmenters({"a": _model(one), "b": _model(other)})
    on_host = expected.segment_tile(tile, 32, 8, keep_inputs=True)
    result = found.segment_tile(on_gpu(tile), 32, 8, keep_inputs=True)
    for name in ("probabilities", "probabilities-a", "probabilities-b", "probabilities-std"):
        np.testing.assert_array_equal(result[name].data.get(), on_host[name].values)


def test_an_engine_makes_its_device_the_current_one(stand_in):
    seen = []

    class Watching(torch.nn.Module):
        def forward(self, patches):
            seen.append(stand_in.device_now)
            return patches.sum(dim=1, keepdim=True)

    engine = CudaEngine(torch.device("cpu"))
    model = _model(Watching())
    model.segment_tile(random_tile((20, 20)), 16, 0)
    assert set(seen) == {engine.device}
    assert stand_in.device_now is None


def test_inner_steps_are_timed_on_a_gpu(stand_in):
    watch = Stopwatch()
    with watch.recording():
        _model(BlurNetwork(3, 1)).segment_tile(random_tile((40, 40)), 16, 0, batch_size=2)
    assert "segment: run network" in watch.seconds


def _loader(stand_in, bands, limit=3):
    grid = PatchGrid.plan((20, 20), 8, 2, 0)
    channels = (Channel("red", -0.1, 0.5), Channel("slope", 0, 90))
    here = torch.device("cpu")
    engine = CudaEngine(here)
    return grid, CudaLoader(TilePatches(grid, channels, bands), limit, Scaler(channels, here), here, engine._pool)


def test_the_loader_of_the_gpu_takes_turns_and_waits_where_it_must(stand_in):
    rng = np.random.default_rng(0)
    values = [rng.uniform(low, high, (20, 20)).astype(np.float32) for low, high in ((-0.2, 0.6), (-9, 99))]
    values[0][3, 4] = np.nan
    grid, loader = _loader(stand_in, tuple(values))
    places = [(row, column) for row in range(len(grid.y.starts)) for column in range(len(grid.x.starts))]
    computing = stand_in.stream_now
    loaded, before = [], [None, None]
    for number in range(4):
        batch = places[2 * number : 2 * number + 2]
        buffer = loader._buffers[number % 2]
        used, copied = buffer.used.mark, buffer.copied.mark
        patches = loader.load(batch)
        copying = loader._copying
        if number >= 2:  # the buffer was used before
            assert used == before[number % 2]
            assert used in copying.seen  # copied into only after the GPU has read what was in it
            assert copied in stand_in.host.seen  # written by the host only after it was copied
        assert buffer.copied.mark in computing.seen  # read only after it was copied
        assert buffer.used.mark in buffer.used.seen
        before[number % 2] = buffer.used.mark
        loaded.append((batch, patches))
    names = ("red", "slope")
    for batch, patches in loaded:  # those before are still what they were
        assert patches.is_contiguous(memory_format=torch.channels_last)
        for (row, column), patch in zip(batch, patches, strict=True):
            for band, name, found in zip(values, names, patch, strict=True):
                padded = np.pad(band, 12, mode="reflect")
                top, left = grid.y.starts[row] + 12, grid.x.starts[column] + 12
                expected = normalize_band(padded[top : top + 8, left : left + 8], name)
                np.testing.assert_array_equal(found.numpy(), expected)


def test_no_more_than_one_batch_is_under_way(stand_in):
    _, loader = _loader(stand_in, (np.zeros((20, 20), np.float32), np.zeros((20, 20), np.float32)))
    launched = []
    for _ in range(3):
        loader.keep_pace()
        assert all(mark in stand_in.host.seen for mark in launched)
        launched.append(loader._launched.mark)
        assert launched[-1] not in stand_in.host.seen


def test_a_stream_that_waits_for_nothing_sees_nothing(stand_in):
    """The stand-in itself: only an event that was recorded carries anything."""
    event, stream = torch.cuda.Event(), torch.cuda.Stream(None)
    stream.wait_event(event)
    assert not stream.seen
    event.record()
    stream.wait_event(event)
    assert stream.seen == {event.mark}


class TestFakeTensors:
    """torch's own stand-in for tensors of a GPU, which holds no numbers, and refuses to mix devices."""

    @pytest.fixture
    def gpu(self, monkeypatch):
        from torch._subclasses import fake_tensor  # the only name under which torch has them

        if not hasattr(fake_tensor, "FakeTensorDeviceMismatchError"):
            pytest.skip("fake tensors of this torch ask the driver for a device")
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # which needs a driver
        with fake_tensor.FakeTensorMode():
            yield torch.device("cuda", 0)

    def test_the_path_of_a_network_stays_on_the_gpu(self, gpu):
        import segmentation_models_pytorch as smp

        with torch.device(gpu):
            network = smp.create_model(**UNET, encoder_weights=None, in_channels=3, classes=2)
        network.eval().requires_grad_(False)
        patches = torch.zeros((2, 3, 32, 32), device=gpu)
        Scaler([Channel(name, 0, 1) for name in BANDS], gpu).scale(patches)
        for tta, fill_to in ((None, 0), ("d4", 0), (None, 4)):
            outputs = Outputs(("background", "slump"), ("slump",), "softmax")
            classes = class_probabilities(network, outputs, patches, tta, fill_to)
            assert (classes.device, tuple(classes.shape)) == (gpu, (2, 2, 32, 32))
            Blend(PatchGrid.plan((40, 50), 32, 8, 0), gpu).add([(0, 0), (0, 1)], classes[:, 1])

    def test_tensors_of_the_host_do_not_pass(self, gpu):
        from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

        on_host = torch.zeros((1, 3, 32, 32))
        network = torch.nn.Conv2d(3, 1, 1, device=gpu)
        scaler = Scaler([Channel(name, 0, 1) for name in BANDS], gpu)
        blend = Blend(PatchGrid.plan((40, 50), 32, 8, 0), gpu)
        for attempt in (
            lambda: scaler.scale(on_host),
            lambda: class_probabilities(network, Outputs(("slump",), ("slump",), "sigmoid"), on_host),
            lambda: blend.add([(0, 0)], on_host[:, 0]),
        ):
            with pytest.raises((FakeTensorDeviceMismatchError, RuntimeError), match=r"same device|two devices"):
                attempt()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device works here")
class TestGpu:
    @pytest.mark.parametrize("options", OPTIONS[:-1])
    def test_a_tile_of_cupy_gives_what_it_gives_on_the_host(self, options):
        cupy = pytest.importorskip("cupy")
        tile = _mixed_tile()
        model = SMPSegmenter.from_network(BlurNetwork(3, 2), card(), "cuda")
        expected = model.segment_tile(tile, 32, 8, **options)["probabilities"].values
        given = tile.assign(
            {name: variable.copy(data=cupy.asarray(variable.values)) for name, variable in tile.items()}
        )
        result = model.segment_tile(given, 32, 8, **options)["probabilities"]
        assert isinstance(result.data, cupy.ndarray)
        np.testing.assert_array_equal(result.data.get(), expected)
        on_cpu = segmenter(BlurNetwork(3, 2)).segment_tile(given, 32, 8, **options)["probabilities"]
        np.testing.assert_allclose(on_cpu.values, expected, rtol=0, atol=1e-5)

    def test_memory_of_cupy_is_freed_for_torch(self):
        cupy = pytest.importorskip("cupy")
        free, _ = torch.cuda.mem_get_info()
        held = cupy.empty(int(free * 0.9), cupy.uint8)
        del held
        assert cupy.get_default_memory_pool().free_bytes() > free / 2
        network = torch.nn.Conv2d(3, 1, 1)
        place_network(network, torch.device("cuda", 0))
        engine = CudaEngine(torch.device("cuda", 0))
        assert engine.free_memory()
        assert torch.cuda.mem_get_info()[0] > free / 2
        assert not engine.free_memory()
