"""Each kernel is compiled once, for one signature, by whoever comes first; in the background if asked to."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

import darts_preprocessing as dp
from darts_preprocessing import kernels
from darts_preprocessing.backends import compilation, jit, kernel_cache
from darts_utils import Device, DeviceError, ParameterError, Stopwatch

TESTS = Path(__file__).parents[1]

# Counts what numba compiles while four threads compute everything at once, on rasters of all kinds.
EVERYTHING = """
import json, sys, threading, warnings
from collections import Counter
from numba.core import event
import numpy as np
import xarray as xr
from odc.geo.xr import wrap_xr
import darts_preprocessing as dp
from darts_preprocessing.backends import jit
from support.preprocessing import covering, make_dem, make_geobox, make_tile, rough

warnings.simplefilter("ignore", dp.ShortMarginWarning)

def arranged(values, rng):
    '''The same values in another dtype, byte order, layout or alignment.'''
    kind = rng.integers(7)
    if kind == 0:
        return np.asfortranarray(values)
    if kind == 1:
        values = values.copy()
        values.flags.writeable = False
        return values
    if kind == 2:
        return values.astype(">f4")
    if kind == 3:
        return values.astype(np.float64)
    if kind == 4:
        return np.repeat(values, 2, axis=1)[:, ::2]
    if kind == 5:
        unaligned = np.empty(values.nbytes + 1, np.uint8)[1:].view(values.dtype).reshape(values.shape)
        unaligned[:] = values
        return unaligned
    return values

def compute(seed):
    rng = np.random.default_rng(seed)
    for cell, fine, holes in ((3.0, 2.0, 0.0), (10.0, 2.0, 0.05), (3.125, 10.0, 0.0)):
        grid = make_geobox(tuple(map(int, rng.integers(1, 90, 2))), cell)
        ds = make_dem(rough(grid.shape, rng, holes), grid, azimuth=150.0, elevation=20.0)
        ds["dem"] = ds.dem.copy(data=arranged(ds.dem.values, rng))
        for calculate in (
            dp.calculate_slope, dp.calculate_aspect, dp.calculate_hillshade, dp.calculate_curvature,
            dp.calculate_topographic_position_index, dp.calculate_terrain_ruggedness_index,
            dp.calculate_vector_ruggedness_measure, dp.calculate_dissection_index,
        ):
            calculate(ds)
        dp.calculate_topographic_position_index(ds, "7px", "3px")
        tile = make_tile(grid, seed)
        for band in ("red", "nir"):
            tile[band] = tile[band].copy(data=arranged(tile[band].values, rng))
        dp.calculate_ndvi(tile)
        dp.calculate_evi(tile)
        polar = covering(grid, "EPSG:3413", fine, 0.6)
        dem = rough(polar.shape, rng, holes)
        arcticdem = xr.Dataset({
            "dem": wrap_xr(arranged(dem, rng), polar),
            "arcticdem_data_mask": wrap_xr((dem == dem).astype(rng.choice(["u1", "?", "i8"])), polar),
        })
        degrees = covering(grid, "EPSG:4326", 0.00027, 0.6)
        tcvis = xr.Dataset({
            name: wrap_xr(rng.integers(0, 256, degrees.shape).astype(np.uint8), degrees)
            for name in ("tc_brightness", "tc_greenness", "tc_wetness")
        })
        dp.preprocess_v2(tile, arcticdem, tcvis, "9px", device="cpu")
        dp.preprocess_v2(tile.chunk(), arcticdem.chunk(), tcvis.chunk(), "9px", "2px", device="cpu")

failures = []
threading.excepthook = failures.append
warnings.simplefilter("ignore", DeprecationWarning)
with event.install_recorder("numba:compile") as recorder:
    for _ in range(3):
        dp.compile_kernels()
    threads = [threading.Thread(target=compute, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert not failures, failures
compiled = Counter(
    f"{function.__module__}.{function.__name__}"
    for _, recorded in recorder.buffer
    if recorded.is_start
    for function in [recorded.data["dispatcher"].py_func]
    if function.__module__.startswith("darts_preprocessing")
)
modules = [module for name, module in list(sys.modules.items()) if name.startswith("darts_preprocessing.")]
kernels = {k.function for module in modules for k in vars(module).values() if isinstance(k, jit.Kernel)}
print(json.dumps([compiled, [f"{function.__module__}.{function.__name__}" for function in kernels]]))
"""


def python(code, folder):
    """Run code in a new process that keeps machine code in a folder, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=TESTS,
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


LOADED = """
import json
from numba.core import event
from darts_preprocessing import FEATURES, needs_of
needs = needs_of(FEATURES.values())
with event.install_recorder("numba:compile") as recorder:
    for kernel in needs.every_kernel:
        kernel.compile()
print(json.dumps(len(recorder.buffer)))
"""


@pytest.mark.slow
def test_each_kernel_is_compiled_once_whatever_it_is_given_and_loaded_by_the_next_process(tmp_path):
    compiled, every_kernel = json.loads(python(EVERYTHING, tmp_path))
    assert len(every_kernel) == len(set(every_kernel)) >= 12
    assert set(every_kernel) <= set(compiled)
    assert set(compiled.values()) == {1}
    assert json.loads(python(LOADED, tmp_path)) == 0


def test_a_kernel_takes_nothing_but_its_signature():
    @jit.kernel(jit.array_in(jit.FLOAT32, 1), jit.array_out(jit.FLOAT32, 1))
    def double(values, out):
        for i in range(out.shape[0]):
            out[i] = 2 * values[i]

    out = np.zeros(3, dtype=np.float32)
    double(np.float32([1, 2, 3]), out)
    np.testing.assert_array_equal(out, [2, 4, 6])
    for wrong in (np.ones(3), np.ones(6, np.float32)[::2], np.ones((3, 1), np.float32), np.ones(3, np.int32)):
        with pytest.raises(TypeError, match="No matching definition"):
            double(wrong, out)
    assert len(double.compile().signatures) == 1


def test_helpers_lie_beside_their_kernels():
    """numba takes machine code for stale when the file of the kernel changes, not when that of a helper does."""
    modules = [module for name, module in sys.modules.items() if name.startswith("darts_preprocessing.")]
    kinds = (jit.Helper, CPUDispatcher)
    helpers = [(module, value) for module in modules for value in vars(module).values() if isinstance(value, kinds)]
    assert len(helpers) > 5
    for module, value in helpers:
        function = value.function if isinstance(value, jit.Helper) else value.py_func
        assert function.__module__ == module.__name__


class Slow:
    """In the place of the compiler: waits until it may go on, then fails or gives the number of its calls."""

    def __init__(self, monkeypatch, error=None):
        self.calls, self.error = 0, error
        self.entered, self.may_go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(kernel_cache, "compile_and_keep", self)

    def __call__(self, function, arguments, options):
        self.calls += 1
        self.entered.set()
        assert self.may_go_on.wait(30)
        if self.error is not None:
            raise self.error
        number = self.calls
        return lambda results: results.append(number)


@pytest.fixture
def kernel():
    """A new kernel."""
    return jit.Kernel(lambda results: None, ())


def test_whoever_needs_a_kernel_that_is_being_compiled_waits(monkeypatch, kernel):
    compiler, state, results = Slow(monkeypatch), compilation._Compilation(), []
    for _ in range(3):
        state.begin([kernel])
    assert compiler.entered.wait(30)

    def use():
        state.finish({kernel})
        kernel(results)

    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    state.finish([])  # waits for nothing
    assert results == []
    compiler.may_go_on.set()
    for thread in threads:
        thread.join()
    assert results == [1] * 5
    assert compiler.calls == 1


def test_the_wait_is_a_step_of_its_own_and_only_the_first_time(monkeypatch, kernel):
    Slow(monkeypatch).may_go_on.set()
    state = compilation._Compilation()
    with Stopwatch().recording() as first:
        state.finish([kernel])
    with Stopwatch().recording() as second:
        state.finish([kernel])
    assert list(first.seconds) == ["compile kernels"]
    assert second.seconds == {}


def test_an_error_in_the_background_shows_at_use(monkeypatch, kernel, caplog):
    compiler, state = Slow(monkeypatch, error=ValueError("no compiler")), compilation._Compilation()
    compiler.may_go_on.set()
    died = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    with caplog.at_level("DEBUG", logger=compilation.__name__):
        state.begin([kernel])
        deadline = monotonic() + 30
        while not caplog.records and monotonic() < deadline:
            threading.Event().wait(0.01)
    assert died == []
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    for _ in range(2):
        with pytest.raises(ValueError, match="no compiler"):
            state.finish([kernel])
    compiler.error = None
    state.finish([kernel])
    kernel(results := [])
    assert results == [4]


def test_a_cache_that_cannot_be_kept_is_told_once(monkeypatch, kernel):
    Slow(monkeypatch).may_go_on.set()
    monkeypatch.setattr(kernel_cache, "get_trouble", lambda: "/tmp/x belongs to another user")
    state = compilation._Compilation()
    with pytest.warns(dp.KernelCacheWarning, match="NUMBA_CACHE_DIR .* belongs to another user") as record:
        state.finish([kernel])
    assert len(record) == 1
    for each in (kernel, jit.Kernel(lambda results: None, ())):
        state.finish([each])  # warnings are errors in these tests


def test_such_a_warning_as_an_error_stops_each_use(monkeypatch, kernel):
    Slow(monkeypatch).may_go_on.set()
    monkeypatch.setattr(kernel_cache, "get_trouble", lambda: "disk full")
    state = compilation._Compilation()
    for _ in range(2):
        with pytest.raises(dp.KernelCacheWarning, match="disk full"):  # warnings are errors in these tests
            state.finish([kernel])


@pytest.fixture
def begun(monkeypatch):
    """What is asked of the background, which does nothing."""
    calls = []
    monkeypatch.setattr(kernels, "begin_compilation", calls.append)
    return calls


def names_of(kernels):
    return [kernel.function.__name__ for kernel in kernels]


def test_the_kernels_are_those_that_the_features_need(begun):
    dp.compile_kernels(device="cpu")
    dp.compile_kernels("slope", device="cpu")
    dp.compile_kernels(["ndvi", "dissection_index", "wdrvi"], device="cpu")
    default, slope, others = map(names_of, begun)
    assert slope == ["interpolate_block", "cubic_block", "gradient_block"]
    assert set(default) == {*slope, "ndvi_rows", "nearest_block", "add_up", "add_disks", "subtract_means"}
    assert others == ["interpolate_block", "cubic_block", "ndvi_rows", "dissection_rows"]
    with pytest.raises(
        ParameterError,
        match=r"features names slop, which is unknown\. Did you mean .slope.\? Known features: ndvi, .*",
    ):
        dp.compile_kernels(["slop", "slope"])
    with pytest.raises(ParameterError, match="device is 'gpu'"):
        dp.compile_kernels(device="gpu")
    assert len(begun) == 3


def test_nothing_is_compiled_for_a_gpu_that_works(monkeypatch, begun):
    monkeypatch.setattr(kernels, "resolve_device", lambda *args, **kwargs: Device("cuda"))
    dp.compile_kernels(device="cuda")
    assert begun == []

    def refuse(*args, **kwargs):
        raise DeviceError("no driver")

    monkeypatch.setattr(kernels, "resolve_device", refuse)
    dp.compile_kernels(["ndvi"], device="cuda")
    assert [names_of(kernels) for kernels in begun] == [["ndvi_rows"]]


AT_EXIT = """
import sys, threading
import darts_preprocessing as dp
dp.compile_kernels()
(thread,) = [thread for thread in threading.enumerate() if thread.name == "darts-kernels"]
assert "torch" not in sys.modules
thread.join({seconds})
assert thread.is_alive() or {seconds} > 0.5
"""


@pytest.mark.parametrize("seconds", [0.5, pytest.param(2.0, marks=pytest.mark.slow)])
def test_the_interpreter_exits_cleanly_meanwhile(tmp_path, seconds):
    python(AT_EXIT.format(seconds=seconds), tmp_path)
