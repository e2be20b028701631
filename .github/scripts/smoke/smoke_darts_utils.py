"""darts-utils alone: the band table, device choice, paths, timing, CPUs and memory, whole files."""

import tempfile
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np

import darts_utils

scaled = darts_utils.normalize_band(np.array([-0.1, 0.2, 9, np.nan], np.float32), "red")
np.testing.assert_allclose(scaled, [0, 0.5, 1, 0], atol=1e-6)
assert darts_utils.get_band("probabilities-tcvis").high == 1
assert isinstance(darts_utils.declared_bands(), tuple)
assert darts_utils.band_attrs("slope") == {"long_name": "slope", "units": "degree"}

with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert darts_utils.resolve_device("cpu") == darts_utils.Device("cpu")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    device = darts_utils.resolve_device("cuda", trial=lambda _: "it does not work", fallback=True)
assert device.type == "cpu"
assert not darts_utils.is_on_gpu(scaled)
assert darts_utils.to_host(scaled) is scaled
assert darts_utils.within_gpu_memory(device, str, "nothing is done") == "cpu"
with suppress(ModuleNotFoundError):  # where cupy is not installed
    darts_utils.free_gpu_memory(darts_utils.Device("cuda"))
stream = MagicMock()
with darts_utils.working_on_gpu(stream, 0):
    assert not stream.cuda.Stream().synchronize.called
assert stream.cuda.Stream().synchronize.called
assert darts_utils.range_sample(np.zeros((1000, 2))).shape == (50, 2)
assert np.isnan(darts_utils.mask_declared(np.float32([1, -9999]), {"nodata": -9999})[1])
array = SimpleNamespace(dims=("x", "y"), transpose=lambda *dims: dims)
assert darts_utils.upright(array, "array") == darts_utils.spatial_dims(array) == ("y", "x")
darts_utils.check_units("dem", {"units": "m"}, taker="the test")
darts_utils.check_even(SimpleNamespace(dims=("y", "x"), indexes={"y": [3, 0, -3]}), "the tile")
darts_utils.check_north_up(SimpleNamespace(dims=("y", "x"), indexes={"y": [3, 0], "x": [0, 3]}), "the tile")
darts_utils.check_quality(np.uint8([0, 1, 2]))
assert darts_utils.quality_fault(np.uint8([[3]]))
assert darts_utils.elevation_fault(np.float32([[5, -9999]]))
assert darts_utils.no_elevation(np.float32([5, 9001])).tolist() == [False, True]
assert darts_utils.time_of(SimpleNamespace(attrs={"time": "2021-08-21"})) == "2021-08-21"
for check in (darts_utils.check_dataset, partial(darts_utils.check_data_array, kernels="kernels")):
    with suppress(darts_utils.InputTypeError, ModuleNotFoundError):  # where xarray is not installed
        check(scaled)
mask = np.array([[True, False, True], [False, True, False]])
starts, ends = darts_utils.find_segments(mask)
assert darts_utils.segment_pixels(starts, ends, 3).tolist() == [0, 2, 4]
pairs = darts_utils.touching_segments(starts, ends, 4)
assert pairs.tolist() == [[0, 2], [1, 2]]
with suppress(ModuleNotFoundError):  # where scipy is not installed
    assert darts_utils.connect_segments(pairs, 3)[1] == 1
assert darts_utils.share_rows(lambda first, end: list(darts_utils.row_blocks(first, end, 3)), (4, 3)) == [[(0, 4)]]
darts_utils.check_range("red", scaled.reshape(2, 2), 0, 1, taker="the test", remedy="nothing")
assert "cupy is not installed (pip install it)" in darts_utils.try_cupy("pip install it")(darts_utils.Device("cuda"))
assert "was asked for, but" in str(caught[0].message)

assert darts_utils.DefaultPaths("/data").arcticdem(2) == Path("/data/aux/arcticdem_2m.darts.icechunk").absolute()
assert darts_utils.tctrend_name(2019) == "tctrend2019.darts.icechunk"

watch = darts_utils.Stopwatch()
with watch.recording(), darts_utils.step("work"):
    pass
assert list(watch.seconds) == ["work"]

assert darts_utils.usable_cpus(environment={"SLURM_CPUS_PER_TASK": "1"}) == 1
with darts_utils.sharing_cpus(1 << 20):
    assert darts_utils.usable_cpus() == 1
assert darts_utils.available_memory() > darts_utils.available_memory(environment={"SLURM_MEM_PER_NODE": "1"}) == 0

with tempfile.TemporaryDirectory() as name:
    file = Path(name) / "file"
    darts_utils.write_atomically(file, b"whole")
    with darts_utils.atomic_path(file) as draft:
        draft.write_bytes(file.read_bytes() + b" again")
    assert file.read_bytes() == b"whole again"
    assert darts_utils.remove_partials(name) == []
    assert list(Path(name).iterdir()) == [file]
with tempfile.TemporaryDirectory() as temporary:
    (Path(temporary) / "manifest.json").write_text('{"files": {"slope.tif": {"size": 3}}}')
    assert darts_utils.read_manifest(temporary)["status"] == "success"
    assert darts_utils.ResultFolder.open(temporary).missing(["slope.tif"]) == ["slope.tif"]

missing = ""
try:
    darts_utils.check_areal_scale("EPSG:32608", 500_000, 7_650_000, "The tile")
except ModuleNotFoundError as error:
    missing = str(error.name)
assert missing == "pyproj"  # which whoever has grids has
