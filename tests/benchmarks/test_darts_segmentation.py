"""How fast and how lean inference is: U-Net with ResNet-34, patches of 1024 px with an overlap of 256 px, two threads.

Each figure is a ratio of two measurements in the same process, or the memory of a process of its own.
"""

import inspect
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import xarray as xr

from darts_segmentation import ModelCard, SMPSegmenter
from darts_utils import get_band

BANDS = ("red", "green", "blue", "nir", "ndvi", "tc_brightness", "tc_greenness", "tc_wetness", "slope", "hillshade")
SIZE, PATCH_SIZE, OVERLAP = 4000, 1024, 256

pytestmark = pytest.mark.timeout(3600)


def random_tile(size):
    """Make a square tile row by row, so that nothing larger than the tile is in memory at any time."""
    rng = np.random.default_rng(0)
    variables = {}
    for name in BANDS:
        band = get_band(name)
        values = np.empty((size, size), band.dtype)
        for row in values:
            row[:] = rng.uniform(band.low, band.high, size)
        variables[name] = (("y", "x"), values)
    return xr.Dataset(variables)


def unet(seed=0):
    import segmentation_models_pytorch as smp

    torch.manual_seed(seed)
    return smp.create_model("unet", "resnet34", encoder_weights=None, in_channels=len(BANDS), classes=1).eval()


def card():
    return ModelCard(name="unet", architecture={"arch": "unet", "encoder_name": "resnet34"}, bands=BANDS)


@pytest.fixture(scope="module", autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return SMPSegmenter.from_network(unet(), card(), "cpu")


@pytest.fixture(scope="module")
def tile():
    return random_tile(SIZE)


def seconds(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def plainly(network, tile, batch_size=8):
    """Segment a tile the plain way: scale it all, pad it, cut all patches, predict in NCHW, blend with rasters."""
    layers = []
    for name in BANDS:
        band = get_band(name)
        scaled = (torch.from_numpy(tile[name].values).float() - band.low) / (band.high - band.low)
        layers.append(scaled.clamp(0, 1).nan_to_num(0))
    image = torch.nn.functional.pad(torch.stack(layers)[None], (1, 1, 1, 1), mode="reflect")[0]
    edge = image.shape[1]
    starts = list(range(0, edge - PATCH_SIZE, PATCH_SIZE - OVERLAP))
    starts.append(edge - PATCH_SIZE)
    windows = [np.s_[y : y + PATCH_SIZE, x : x + PATCH_SIZE] for y in starts for x in starts]
    patches = torch.stack([image[:, *window] for window in windows])
    with torch.inference_mode():
        parts = [torch.sigmoid(network(batch)[:, 0]) for batch in patches.split(batch_size)]
    ramp = torch.ones(PATCH_SIZE)
    ramp[:OVERLAP] = torch.linspace(0, 1, OVERLAP)
    ramp[-OVERLAP:] = torch.linspace(1, 0, OVERLAP)
    weight = torch.outer(ramp, ramp)
    total, weights = torch.zeros((edge, edge)), torch.zeros((edge, edge))
    for window, part in zip(windows, torch.cat(parts), strict=True):
        total[window] += part * weight
        weights[window] += weight
    return (total / weights)[1:-1, 1:-1].numpy()


def test_streaming_is_faster_than_the_plain_way(benchmark, model, tile):
    took, result = benchmark.pedantic(
        lambda: seconds(lambda: model.segment_tile(tile, PATCH_SIZE, OVERLAP)), rounds=1, iterations=1
    )
    plain, expected = seconds(lambda: plainly(unet(), tile))
    benchmark.extra_info |= {"plain_s": plain, "streaming_s": took, "ratio": plain / took}
    print(f"\nplain {plain:.0f} s, streaming {took:.0f} s: {plain / took:.2f} times as fast")
    np.testing.assert_allclose(result["probabilities"].values, expected, rtol=0, atol=1e-4)
    assert plain / took >= 1.3


def test_reduced_precision_is_faster(benchmark, model, tile):
    part = tile.isel(y=slice(0, 2048), x=slice(0, 2048))
    took, _ = benchmark.pedantic(
        lambda: seconds(lambda: model.segment_tile(part, PATCH_SIZE, OVERLAP, precision="bf16")), rounds=1, iterations=1
    )
    plain, _ = seconds(lambda: plainly(unet(), part))
    benchmark.extra_info |= {"plain_s": plain, "bf16_s": took, "ratio": plain / took}
    print(f"\nplain {plain:.0f} s, bf16 {took:.0f} s: {plain / took:.2f} times as fast")
    if not torch.cpu._is_amx_tile_supported():
        pytest.skip(f"the processor has no AMX; bf16 was {plain / took:.2f} times as fast as the plain way")
    assert plain / took >= 3.5


def test_half_a_tile_takes_as_long_as_its_patches(benchmark, model, tile):
    """Cut in the middle, 15 of the tile's 25 patches show something: three fifths of the work remain, and no less.

    Half the rows of the tile have no valid pixel in any band. The fastest of three turns each, one after the other; in
    whole percent, since 60 % is what the patches alone leave.
    """
    half_empty = tile.copy()
    for name in BANDS:
        half_empty[name] = tile[name].copy()
        half_empty[name][: SIZE // 2] = np.nan if tile[name].dtype.kind == "f" else 0

    def turns():
        return [
            [seconds(lambda each=each: model.segment_tile(each, PATCH_SIZE, OVERLAP))[0] for each in (tile, half_empty)]
            for _ in range(3)
        ]

    full, half = np.min(benchmark.pedantic(turns, rounds=1, iterations=1), axis=0)
    benchmark.extra_info |= {"full_s": full, "half_s": half, "ratio": half / full}
    print(f"\nfull {full:.0f} s, half empty {half:.0f} s: {half / full:.3f}")
    assert round(100 * half / full) <= 60


MEMORY = """
import sys
from pathlib import Path

import numpy as np
import xarray as xr

from darts_utils import get_band

def resident(key):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

BANDS = {bands!r}
{functions}
tile = random_tile({size})
before = resident("VmRSS")

import torch

from darts_segmentation import ModelCard, SMPSegmenter

torch.set_num_threads(2)
model = SMPSegmenter.from_network(unet(), card(), "cpu")
model.segment_tile(tile, {patch_size}, {overlap}, batch_size=1)
print(resident("VmHWM") - before)
"""


def peak_above_tile(size):
    """Bytes by which a process that does nothing else grows beyond the tile, torch and the network included."""
    functions = "\n".join(inspect.getsource(function) for function in (random_tile, unet, card))
    code = MEMORY.format(bands=BANDS, functions=functions, size=size, patch_size=PATCH_SIZE, overlap=OVERLAP)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process from /proc, which only Linux has")
def test_memory_grows_by_the_result_and_little_more(benchmark):
    small = benchmark.pedantic(lambda: peak_above_tile(SIZE), rounds=1, iterations=1)
    large = peak_above_tile(2 * SIZE)
    per_pixel = (large - small) / (3 * SIZE**2)
    benchmark.extra_info |= {"small_bytes": small, "large_bytes": large, "bytes_per_pixel": per_pixel}
    print(f"\n{small / 1e9:.2f} GB above a tile of {SIZE} px, {large / 1e9:.2f} GB above one of {2 * SIZE} px")
    print(f"{per_pixel:.1f} bytes per further pixel")
    assert small <= 2.2e9
    assert per_pixel <= 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device works here")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_gpu_is_kept_busy(benchmark, precision):
    from darts_segmentation.precision import computing

    size, batch_size = 8000, 8
    tile = random_tile(size)
    network = unet().to("cuda", memory_format=torch.channels_last).requires_grad_(False)
    patches = torch.rand((batch_size, len(BANDS), PATCH_SIZE, PATCH_SIZE), device="cuda")
    patches = patches.contiguous(memory_format=torch.channels_last)

    def resident(batches=15):
        with computing("cuda", precision):
            for _ in range(batches):
                network(patches)
            torch.cuda.synchronize()
        return batches * batch_size

    resident(3)
    bare, count = seconds(resident)
    model = SMPSegmenter.from_network(unet(), card(), "cuda")

    def whole(part):
        model.segment_tile(part, PATCH_SIZE, OVERLAP, batch_size, precision=precision)

    whole(tile.isel(y=slice(0, 2000)))
    took, _ = benchmark.pedantic(lambda: seconds(lambda: whole(tile)), rounds=1, iterations=1)
    edge = len(range(0, size + 2 - PATCH_SIZE, PATCH_SIZE - OVERLAP)) + 1
    share = (edge**2 / took) / (count / bare)
    name = torch.cuda.get_device_name()
    benchmark.extra_info |= {"gpu": name, "bare_patches_per_s": count / bare, "share": share}
    print(
        f"\n{name}, {precision}: {edge**2 / took:.0f} patches/s, {share:.0%} of the bare network's {count / bare:.0f}"
    )
    assert share >= 0.85
