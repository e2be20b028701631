"""Features that are computed by the code of the GPU, on a strict stand-in that counts what is moved."""

from functools import partial

import numpy as np
import pytest

import darts_preprocessing as dp
from darts_preprocessing import preprocess
from darts_preprocessing.backends import Interior, Sampling
from darts_preprocessing.backends.arrays import GpuBackend
from darts_preprocessing.nodes import Nodes
from darts_preprocessing.registry import default_features
from darts_utils import Device
from support import preprocessing as oracle
from support.cupy_standin import GpuArray, StandInCupy, on_gpu

# pytest.warns gives other warnings once more, under a module's name that the filter for odc-geo does not know.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

DEFAULT = tuple(default_features())


class _Device(GpuBackend):
    """The code of the GPU on a strict stand-in, which counts what is moved back and forth."""

    def __init__(self):
        super().__init__(StandInCupy())
        self.moved, self.returned = [], []

    def asarray(self, values, dtype=None):
        self.moved.append(values)
        return super().asarray(values, dtype)

    def to_host(self, array):
        self.returned.append(array)
        return super().to_host(array)


@pytest.fixture
def device(monkeypatch):
    """A GPU that is a strict stand-in and takes all the work."""
    device = _Device()
    monkeypatch.setattr(preprocess, "resolve_device", lambda *args, **kwargs: Device("cuda"))
    monkeypatch.setattr(preprocess, "backend_for", lambda chosen, kernels: device)
    return device


def on_host(array):
    return array.data.get() if isinstance(array.data, GpuArray) else array.values


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("given_on_gpu", [False, True])
def test_the_code_of_the_gpu_gives_the_same_tile(tile, arcticdem, tcvis, result, device, keep, given_on_gpu):
    given = [on_gpu(ds) if given_on_gpu else ds for ds in (tile, arcticdem, tcvis)]
    ours = dp.preprocess_v2(*given, oracle.RADIUS, device="cuda", keep_on_device=keep)
    assert len(device.returned) == (0 if keep else len(DEFAULT))
    assert sum(values is given[0].blue.data for values in device.moved) == (1 if keep else 0)
    kinds = {type(ours[name].data) for name in DEFAULT}
    assert kinds == {GpuArray if keep else np.ndarray}
    for name in tile.data_vars:
        np.testing.assert_array_equal(on_host(ours[name]), tile[name])
        assert ours[name].attrs == tile[name].attrs
    for name in DEFAULT:
        assert ours[name].attrs == result[name].attrs
        if result[name].dtype == np.uint8:
            np.testing.assert_array_equal(on_host(ours[name]), result[name])
        else:
            np.testing.assert_allclose(on_host(ours[name]), result[name], rtol=1e-5, atol=1e-5)


EVERY = (*dp.FEATURES, "wdrvi")


@pytest.fixture(scope="module")
def everything(tile, arcticdem, tcvis):
    return dp.preprocess_v2(tile, arcticdem, tcvis, oracle.RADIUS, device="cpu", features=EVERY)


def test_every_feature_has_code_for_the_gpu(everything, tile, arcticdem, tcvis, device):
    """Strictly: an array of the host among those of the device, or a conversion that nobody asked for, is an error."""
    ours = dp.preprocess_v2(tile, arcticdem, tcvis, oracle.RADIUS, device="cuda", features=EVERY)
    assert len(device.returned) == len(EVERY)
    for name in EVERY:
        difference = np.abs(ours[name].astype(np.float64) - everything[name])
        difference = np.minimum(difference, 360 - difference) if name == "aspect" else difference
        assert float((difference / np.maximum(1, np.abs(everything[name]))).max()) < 1e-5, name
        np.testing.assert_array_equal(np.isnan(ours[name]), np.isnan(everything[name]))


@pytest.mark.parametrize("name", [name for name in EVERY if dp.FEATURES[name].kernels])
def test_the_stand_in_catches_a_host_array_where_one_of_the_device_belongs(name):
    feature, shape = dp.FEATURES[name], (9, 11)
    backend = GpuBackend(StandInCupy())
    arrays = {each: backend.asarray(np.full(shape, 0.5, np.float32)) for each in feature.needs}
    request = dp.Request({"azimuth": 9.0, "elevation": 9.0}, {}, 10.0)
    settings = {name: feature.prepare and feature.prepare(request)}
    run = partial(dp.Inputs, backend.xp, interior=Interior.whole(shape), cell=10.0, settings=settings)
    backend.run(feature.kernels, run(arrays=arrays), [name])
    for each in feature.needs:
        with pytest.raises(TypeError, match="Unsupported type"):
            backend.run(feature.kernels, run(arrays=arrays | {each: arrays[each].get()}), [name])


def test_the_stand_in_catches_it_in_resampling():
    sampling = Sampling(Nodes(np.array([[0, 0], [0, 0]], np.complex128), 9), (3, 3), True, 1.0)
    with pytest.raises(TypeError):
        GpuBackend(StandInCupy()).resample(np.zeros((1, 5, 5), np.float32), sampling)


def test_results_stay_where_they_are_on_the_cpu(tile):
    lazy = tile.chunk()
    ours = dp.preprocess_v2(lazy, None, None, device="cpu", keep_on_device=True)
    assert ours.blue.chunks is not None
