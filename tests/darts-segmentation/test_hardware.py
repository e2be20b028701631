"""Number formats, compilation, inner steps; and on a GPU, that it computes what the CPU computes."""

import shutil
import warnings

import numpy as np
import pytest
import torch

from darts_segmentation import BatchHalvedWarning, CompileError, EnsembleV1, SMPSegmenter, save_model
from darts_segmentation.cpu import CpuEngine
from darts_segmentation.forward import class_probabilities, symmetries
from darts_segmentation.precision import computing
from darts_utils import ParameterError, Stopwatch
from support.segmentation import PixelNetwork, card, directly, random_tile, segmenter, small_unet, unet_card

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
    assert CpuEngine().fastest_format() == ("bf16" if fast else "fp32")


def test_the_cpu_takes_no_more_patches_at_a_time_than_make_one_large_one():
    engine = CpuEngine()
    assert engine.batch_limit(8, 1024) == 1
    assert engine.batch_limit(8, 2048) == 1
    assert engine.batch_limit(8, 512) == 4
    assert engine.batch_limit(8, 64) == 8


def test_batches_for_a_compiled_network_are_filled_up():
    network = PixelNetwork(WEIGHTS)
    patches = torch.rand((3, 3, 8, 8))
    found = class_probabilities(network, card().outputs, patches, fill_to=4)
    assert network.batches == [(4, 3, 8, 8)]
    torch.testing.assert_close(found, torch.sigmoid(PixelNetwork(WEIGHTS)(patches)))


def test_the_eight_symmetries_differ_and_are_undone():
    image = torch.arange(9).reshape(1, 1, 3, 3)
    seen = {tuple(there(image).flatten().tolist()) for there, _ in symmetries()}
    assert len(seen) == 8
    for there, back in symmetries():
        assert torch.equal(back(there(image)), image)


def test_members_share_a_device():
    one, other = segmenter(PixelNetwork(WEIGHTS)), segmenter(PixelNetwork(WEIGHTS))
    other._engine = type("Elsewhere", (), {"device": torch.device("meta")})()
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
        paths = {str(seed): save_model(tmp_path / str(seed), small_unet(seed=seed), unet_card()) for seed in range(2)}
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
