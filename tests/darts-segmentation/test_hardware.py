"""Number formats, memory that runs out, devices, compilation: on the CPU what can be shown there, the rest on a GPU."""

import contextlib
import shutil
import types
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from darts_segmentation import BatchHalvedWarning, CompileError, EnsembleV1, GpuMemoryError, SMPSegmenter, save_model
from darts_segmentation.bands import Channel
from darts_segmentation.cpu import CpuExecutor
from darts_segmentation.executor import Scaler, make_executor
from darts_segmentation.forward import Forward, symmetries
from darts_segmentation.precision import computing
from darts_utils import DeviceError, ParameterError, Stopwatch, normalize_band
from support.segmentation import BlurNetwork, PixelNetwork, card, directly, random_tile, segmenter, small_unet

WEIGHTS = (3.0, -2.0, 1.5)


def _settings():
    cudnn = torch.backends.cudnn
    names = (("cuda", "matmul"), ("cudnn", "conv"), ("mkldnn", "matmul"), ("mkldnn", "conv"))
    parts = [getattr(getattr(torch.backends, backend), part, None) for backend, part in names]
    return [
        torch.get_float32_matmul_precision(),
        cudnn.deterministic,
        cudnn.benchmark,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        *(getattr(part, "fp32_precision", None) for part in parts),
    ]


@pytest.fixture
def careless_settings():
    """Settings of a program that prefers speed; the defaults again afterwards."""
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize("number_format", ["fp32", "bf16", "fp16"])
def test_settings_are_put_back(careless_settings, number_format):
    before = _settings()
    with computing("cpu", number_format):
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu") == (number_format != "fp32")
        assert torch.backends.cudnn.deterministic == (number_format == "fp32")
    assert _settings() == before
    with pytest.raises(RuntimeError, match="stop"), computing("cpu", number_format):
        raise RuntimeError("stop")
    assert _settings() == before


def test_full_precision_is_full_whatever_the_program_has_set(careless_settings):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand((128, 128), generator=generator) for _ in range(2))
    exact = (first.double() @ second.double()).numpy()
    with computing("cpu", "fp32"):
        found = (first @ second).numpy()
    np.testing.assert_allclose(found, exact, rtol=2e-6)


def test_inference_leaves_settings_as_they_were(careless_settings):
    before = _settings()
    segmenter(PixelNetwork(WEIGHTS)).segment_tile(random_tile((20, 20)), 16, 0, precision="bf16")
    assert _settings() == before


def test_auto_is_what_the_processor_is_good_at():
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert CpuExecutor().fastest_format() == ("bf16" if fast else "fp32")


def test_the_cpu_takes_no_more_patches_at_a_time_than_make_one_large_one():
    executor = CpuExecutor()
    assert executor.batch_limit(8, 1024) == 1
    assert executor.batch_limit(8, 2048) == 1
    assert executor.batch_limit(8, 512) == 4
    assert executor.batch_limit(8, 64) == 8


class Hungry(torch.nn.Module):
    """Has memory for a few patches only, as a GPU may."""

    def __init__(self, network, most):
        super().__init__()
        self.network, self.most, self.calls = network, most, []

    def forward(self, patches):
        self.calls.append(len(patches))
        if len(patches) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.network(patches)


def test_the_batch_is_halved_when_memory_runs_out():
    network = BlurNetwork(3, 2)
    tile = random_tile((90, 90), missing=0.1)
    expected = segmenter(network).segment_tile(tile, 32, 0, batch_size=9)["probabilities"].values
    hungry = Hungry(network, most=2)
    with pytest.warns(BatchHalvedWarning) as caught:
        result = segmenter(hungry).segment_tile(tile, 32, 0, batch_size=9)["probabilities"].values
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    # Nine patches: 9 and 4 at a time fail, 2 work from then on, to the end of the tile.
    assert hungry.calls == [9, 4, 2, 2, 2, 2, 1]
    assert ["4 at a time" in str(one.message) for one in caught] == [True, False]
    assert "2 at a time" in str(caught[1].message)


def test_memory_that_does_not_hold_one_patch_is_an_error():
    with (
        pytest.warns(BatchHalvedWarning),
        pytest.raises(GpuMemoryError, match=r"does not hold one patch of 32 px.*Tried to allocate"),
    ):
        segmenter(Hungry(PixelNetwork(WEIGHTS), most=0)).segment_tile(random_tile((40, 40)), 32, 0, batch_size=2)


def test_buffers_that_do_not_fit_are_halved_too(monkeypatch):
    make = CpuExecutor.stage

    def stage(self, batch_size, patch_size, channels):
        if batch_size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return make(self, batch_size, patch_size, channels)

    monkeypatch.setattr(CpuExecutor, "stage", stage)
    network = PixelNetwork(WEIGHTS)
    tile = random_tile((90, 90))
    with pytest.warns(BatchHalvedWarning, match="3 at a time"):
        result = segmenter(network).segment_tile(tile, 32, 0, batch_size=6)["probabilities"].values
    assert [shape[0] for shape in network.batches] == [3, 3, 3]
    np.testing.assert_allclose(result, directly(network, tile), atol=1e-6)


def test_batches_for_a_compiled_network_are_filled_up():
    network = PixelNetwork(WEIGHTS)
    forward = Forward(CpuExecutor(), 4)
    patches = torch.rand((3, 3, 8, 8))
    found = forward(network, patches, fill_up=True)
    assert network.batches == [(4, 3, 8, 8)]
    torch.testing.assert_close(found, torch.sigmoid(PixelNetwork(WEIGHTS)(patches))[:, 0])


def test_the_eight_symmetries_differ_and_are_undone():
    image = torch.arange(9).reshape(1, 1, 3, 3)
    seen = {tuple(there(image).flatten().tolist()) for there, _ in symmetries()}
    assert len(seen) == 8
    for there, back in symmetries():
        assert torch.equal(back(there(image)), image)


def test_devices_are_named_in_every_way():
    for device in ("cpu", torch.device("cpu")):
        assert make_executor(device).device == torch.device("cpu")
    with pytest.raises(ParameterError, match="device is 'tpu'"):
        make_executor("tpu")
    with pytest.raises(ParameterError, match="device is 'mps'"):
        make_executor(torch.device("mps"))


def test_a_gpu_that_torch_cannot_use_is_named(monkeypatch):
    from darts_segmentation import executor
    from darts_utils import Device

    monkeypatch.setattr(executor, "resolve_device", lambda device: Device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"this torch .* cannot use it"):
        make_executor("cuda")
    assert make_executor(None).device.type == "cpu"
    assert make_executor("auto").device.type == "cpu"


def test_members_share_a_device():
    one, other = segmenter(PixelNetwork(WEIGHTS)), segmenter(PixelNetwork(WEIGHTS))
    other._executor = type("Elsewhere", (), {"device": torch.device("meta")})()
    with pytest.raises(ParameterError, match="are on cpu and meta; expected one device"):
        EnsembleV1.from_segmenters({"a": one, "b": other})


def test_inner_steps_are_timed():
    watch = Stopwatch()
    with watch.recording():
        segmenter(PixelNetwork(WEIGHTS)).segment_tile(random_tile((20, 20)), 16, 0)
    assert set(watch.seconds) == {
        "segment: find valid pixels",
        "segment: cut patches",
        "segment: run network",
        "segment: blend",
        "segment: finish",
    }


class FakeCuda:
    """What the GPU's stage asks of torch.cuda, as a log of who waits for whom; the copies happen at once on the CPU."""

    def __init__(self, monkeypatch):
        self.log, self.stream_now = [], "computing"
        empty = torch.empty
        fakes = {"Event": self.event, "Stream": lambda device: self.stream_named("copying"), "stream": self.use}
        fakes |= {"current_stream": lambda: self.stream_named(self.stream_now), "device": contextlib.nullcontext}
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **options: empty(*shape, **options))

    def event(self):
        number = sum(entry[0] == "event" for entry in self.log)
        self.log.append(("event", number))
        return types.SimpleNamespace(
            number=number,
            record=lambda: self.log.append(("record", self.stream_now, number)),
            synchronize=lambda: self.log.append(("host waits", number)),
        )

    def stream_named(self, name):
        return types.SimpleNamespace(name=name, wait_event=lambda event: self.log.append(("wait", name, event.number)))

    @contextlib.contextmanager
    def use(self, stream):
        before, self.stream_now = self.stream_now, stream.name
        yield
        self.stream_now = before


def test_the_stage_of_the_gpu_takes_turns_and_waits_where_it_must(monkeypatch):
    from darts_segmentation.cuda import CudaStage

    fake = FakeCuda(monkeypatch)
    channels = (Channel("red", -0.1, 0.5), Channel("slope", 0, 90))
    here = torch.device("cpu")
    with ThreadPoolExecutor(2) as pool:
        stage = CudaStage((3, 2, 4, 4), Scaler(channels, here), here, pool)
        fake.log.clear()
        raw = np.random.default_rng(0).uniform(-1, 100, (3, 3, 2, 4, 4)).astype(np.float32)
        raw[0, 0, 0, 0, 0] = np.nan
        loaded = []
        for batch in raw:
            loaded.append(stage.load(3, lambda number, patch, batch=batch: np.copyto(patch, batch[number])))
            fake.log.append("loaded")
    for batch, patches in zip(raw, loaded, strict=True):  # those before are still what they were
        assert patches.is_contiguous(memory_format=torch.channels_last)
        expected = np.stack([normalize_band(batch[:, 0], "red"), normalize_band(batch[:, 1], "slope")], axis=1)
        np.testing.assert_array_equal(patches.numpy(), expected)

    def turn(copied, used):
        return [
            ("host waits", copied),  # before it writes into memory that the last copy may still read
            ("wait", "copying", used),  # before a copy overwrites what the last batch is read from
            ("record", "copying", copied),
            ("wait", "computing", copied),  # before it reads what is being copied
            ("record", "computing", used),
            "loaded",
        ]

    assert fake.log == turn(0, 1) + turn(2, 3) + turn(0, 1)


needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: no g++ here"
)


@pytest.mark.slow
@needs_compiler
def test_a_compiled_network_computes_the_same():
    network = small_unet()
    tile = random_tile((90, 70), missing=0.1)
    model = SMPSegmenter.from_network(network, card(), "cpu", compile=True)
    plain = SMPSegmenter.from_network(network, card(), "cpu")
    for options in ({}, {"batch_size": 2}):
        found = model.segment_tile(tile, 32, 8, **options)["probabilities"].values
        expected = plain.segment_tile(tile, 32, 8, **options)["probabilities"].values
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_network_that_cannot_be_compiled_is_named(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def fail(*arguments, **options):
        raise TorchDynamoException("no C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", lambda network, **options: fail)
    model = SMPSegmenter.from_network(PixelNetwork(WEIGHTS), card(), "cpu", compile=True)
    with pytest.raises(CompileError, match=r"cannot compile the network here.*C\+\+ compiler"):
        model.segment_tile(random_tile((8, 8)), 8, 0)


# On a GPU


def _gpu_missing():
    if not torch.cuda.is_available():
        return "no CUDA device works here"
    return ""


on_gpu = [pytest.mark.gpu, pytest.mark.skipif(bool(_gpu_missing()), reason=_gpu_missing() or "a CUDA device works")]


class TestGpu:
    pytestmark = on_gpu

    @pytest.fixture
    def tile(self):
        return random_tile((300, 330), missing=0.1)

    @pytest.mark.parametrize("options", [{}, {"batch_size": 3}, {"tta": "d4"}, {"reflection": 7}])
    def test_gpu_and_cpu_agree(self, tile, options):
        network = small_unet()
        on_cpu = SMPSegmenter.from_network(network, card(), "cpu").segment_tile(tile, 128, 32, **options)
        found = SMPSegmenter.from_network(small_unet(), card(), "cuda").segment_tile(tile, 128, 32, **options)
        np.testing.assert_allclose(found["probabilities"].values, on_cpu["probabilities"].values, rtol=0, atol=1e-5)

    def test_full_precision_is_the_same_each_time(self, tile):
        model = SMPSegmenter.from_network(small_unet(), card(), "cuda")
        first = model.segment_tile(tile, 128, 32)["probabilities"].values
        for _ in range(3):
            np.testing.assert_array_equal(model.segment_tile(tile, 128, 32)["probabilities"].values, first)

    @pytest.mark.parametrize("precision", ["bf16", "fp16", "auto"])
    def test_reduced_precision_is_near(self, tile, precision):
        model = SMPSegmenter.from_network(small_unet(), card(), "cuda")
        full = model.segment_tile(tile, 128, 32)["probabilities"].values
        found = model.segment_tile(tile, 128, 32, precision=precision)["probabilities"].values
        np.testing.assert_allclose(found, full, rtol=0, atol=0.05)

    def test_buffers_are_not_overwritten_while_they_are_read(self):
        """Many small batches in a row: a copy that came too early or too late would show."""
        network = PixelNetwork(WEIGHTS)
        tile = random_tile((1000, 1000), missing=0.1)
        expected = directly(network, tile)
        model = SMPSegmenter.from_network(PixelNetwork(WEIGHTS), card(), "cuda")
        for batch_size in (1, 2, 5):
            found = model.segment_tile(tile, 64, 16, batch_size=batch_size)["probabilities"].values
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)

    def test_members_share_patches(self, tile, tmp_path):
        paths = {str(seed): save_model(tmp_path / str(seed), small_unet(seed=seed), card()) for seed in range(2)}
        found = EnsembleV1(paths, "cuda").segment_tile(tile, 128, 32, keep_inputs=True)
        expected = EnsembleV1(paths, "cpu").segment_tile(tile, 128, 32, keep_inputs=True)
        for name in ("probabilities", "probabilities-0", "probabilities-1", "probabilities-std"):
            np.testing.assert_allclose(found[name].values, expected[name].values, rtol=0, atol=1e-5)

    def test_memory_that_runs_out_halves_the_batch(self, tile):
        model = SMPSegmenter.from_network(small_unet(), card(), "cuda")
        peaks = []
        for batch_size in (1, 9):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            expected = model.segment_tile(tile, 128, 0, batch_size=batch_size)["probabilities"].values
            peaks.append(torch.cuda.max_memory_reserved())
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(np.mean(peaks) / total)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = model.segment_tile(tile, 128, 0, batch_size=9)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert [one.category for one in caught if one.category is BatchHalvedWarning]
        np.testing.assert_allclose(found["probabilities"].values, expected, rtol=0, atol=1e-5)
