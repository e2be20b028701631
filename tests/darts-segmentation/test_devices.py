"""The device that is chosen: by a network that really ran there, and never in the name of who did not ask for it."""

import contextlib
import warnings

import numpy as np
import pytest
import torch

from darts_segmentation import EnsembleV1, SMPSegmenter, device, save_model
from darts_segmentation.engines import make_engine
from darts_utils import Device, DeviceError, DeviceFallbackWarning, ParameterError
from support.driver import ONE_GPU, show_gpus
from support.lanes import mostly_slow
from support.segmentation import PixelNetwork, card, random_tile, small_unet, unet_card

ASKED_FOR = ("cuda", "cuda:1", 1, torch.device("cuda", 1), Device("cuda", 1))
NOT_ASKED_FOR = (None, "auto", " Auto ")


@pytest.fixture
def visible_gpu(monkeypatch):
    """Two GPUs that the driver's library shows, and nothing behind them."""
    show_gpus(monkeypatch, ONE_GPU, ("GPU-bb", 1, 24))


@contextlib.contextmanager
def counted():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device works here")


def test_devices_are_named_in_every_way():
    for name in ("cpu", torch.device("cpu"), Device("cpu")):
        assert make_engine(name).device == torch.device("cpu")
    with pytest.raises(ParameterError, match="device is 'tpu'"):
        make_engine("tpu")
    with pytest.raises(ParameterError, match="device is 'mps'"):
        make_engine(torch.device("mps"))


@no_gpu
@pytest.mark.parametrize("wanted", mostly_slow(NOT_ASKED_FOR, lambda wanted: wanted is None))
def test_a_gpu_that_torch_cannot_use_is_passed_over_with_one_true_sentence(visible_gpu, tmp_path, wanted):
    paths = {str(seed): save_model(tmp_path / str(seed), small_unet(seed=seed), unet_card()) for seed in range(3)}
    for make in (
        lambda: EnsembleV1(paths, wanted),
        lambda: SMPSegmenter(paths["0"], wanted),
        lambda: SMPSegmenter.from_network(PixelNetwork((1.0, 1.0, 1.0)), card(), wanted),
    ):
        with counted() as caught:
            model = make()
            model.segment_tile(random_tile((20, 20)), 32, 8)
            model.segment_tile(random_tile((20, 20)), 32, 8)
        (warning,) = caught
        assert warning.category is DeviceFallbackWarning
        assert warning.filename == __file__
        said = str(warning.message)
        assert "asked for" not in said
        assert torch.__version__ in said
        assert "Networks run on the CPU" in said
        assert model.device == torch.device("cpu")


@no_gpu
@pytest.mark.parametrize("wanted", ASKED_FOR)
def test_a_gpu_that_was_asked_for_and_does_not_work_is_an_error(visible_gpu, wanted):
    with counted() as caught, pytest.raises(DeviceError) as error:
        make_engine(wanted)
    assert not caught
    asked = "cuda:1" if "1" in str(wanted) else "cuda:0"
    assert f"Device {asked} was asked for, but torch {torch.__version__} cannot use it" in str(error.value)
    assert "Choose another device, or 'cpu'." in str(error.value)


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (AssertionError("Torch not compiled with CUDA enabled"), "(Torch not compiled with CUDA enabled;"),
        (RuntimeError("The NVIDIA driver is too old (found 11040).\nUpdate it."), "is too old (found 11040);"),
        (RuntimeError(""), "(RuntimeError;"),
        (OSError("libcudnn.so.9: cannot open"), "libcudnn.so.9"),
    ],
)
def test_a_gpu_that_fails_is_described_by_what_failed(visible_gpu, monkeypatch, raised, says):
    def ones(shape, device):
        assert device == torch.device("cuda", 0)
        warnings.warn("what torch says twice", UserWarning, stacklevel=1)
        raise raised

    monkeypatch.setattr(torch, "ones", ones)
    with counted() as caught:
        engine = make_engine(None)
    assert says in str(caught[0].message)
    assert len(caught) == 1
    assert engine.device == torch.device("cpu")


@pytest.mark.parametrize(("computes", "works"), [(1.0, True), (2.0, False)])
def test_a_gpu_is_tried_by_a_convolution(visible_gpu, monkeypatch, computes, works):
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda shape, device: ones(shape) * computes)
    with counted() as caught:
        chosen = device.choose_device(None)
    assert chosen == (torch.device("cuda", 0) if works else torch.device("cpu"))
    assert ["it computes 36.0 where 9 is right" in str(one.message) for one in caught] == ([] if works else [True])


def test_an_ensemble_asks_for_its_device_once(monkeypatch, tmp_path):
    from darts_segmentation import ensemble

    asked = []
    make = ensemble.make_engine

    def counting(wanted, _engine):
        asked.append(wanted)
        return make("cpu")

    monkeypatch.setattr(ensemble, "make_engine", counting)
    paths = {str(seed): save_model(tmp_path / str(seed), small_unet(seed=seed), unet_card()) for seed in range(2)}
    model = EnsembleV1(paths, "auto")
    assert asked == ["auto"]
    assert np.isfinite(model.segment_tile(random_tile((20, 20)), 32, 8)["probabilities"].values).all()
