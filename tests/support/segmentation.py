"""Networks whose results are known, tiles for them, and the plain way to segment a tile."""

import numpy as np
import torch
import xarray as xr

from darts_segmentation import ModelCard, SMPSegmenter
from darts_utils import get_band

BANDS = ("red", "ndvi", "slope")


class PixelNetwork(torch.nn.Module):
    """Weighs the channels of each pixel; looks at no other pixel."""

    def __init__(self, weights, bias=0.1):
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32).view(1, -1, 1, 1))
        self.bias = bias
        self.batches = []

    def forward(self, patches):
        self.batches.append(tuple(patches.shape))
        return (patches * self.weights).sum(dim=1, keepdim=True) + self.bias


class BlurNetwork(torch.nn.Module):
    """Looks at the square of 2 · radius + 1 px around each pixel, zero outside of the patch; weighs it by chance."""

    def __init__(self, bands, radius, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        size = 2 * radius + 1
        kernel = torch.randn((1, bands, size, size), generator=generator) / size
        self.register_buffer("kernel", kernel)
        self.radius = radius

    def forward(self, patches):
        return torch.nn.functional.conv2d(patches, self.kernel, padding=self.radius)


def card(bands=BANDS, **fields):
    return ModelCard(name="test", architecture={"arch": "unet", "encoder_name": "resnet18"}, bands=bands, **fields)


def segmenter(network, bands=BANDS, **fields):
    return SMPSegmenter.from_network(network, card(bands, **fields), "cpu")


def random_tile(shape, bands=BANDS, seed=0, missing=0.0, beyond=0.1):
    """Make a tile with values all over the bands' ranges and a little beyond, some of them missing."""
    rng = np.random.default_rng(seed)
    variables = {}
    for name in bands:
        band = get_band(name)
        span = band.high - band.low
        values = rng.uniform(band.low - beyond * span, band.high + beyond * span, shape)
        if band.dtype == "float32":
            values[rng.random(shape) < missing] = np.nan
            variables[name] = (("y", "x"), values.astype(np.float32))
        else:
            variables[name] = (("y", "x"), np.clip(values, band.low, band.high).astype(band.dtype))
    coords = {"y": 3.0 * np.arange(shape[0], 0, -1), "x": 3.0 * np.arange(shape[1])}
    return xr.Dataset(variables, coords, {"tile_id": "random"})


def normalized(tile, bands=BANDS):
    """Scale bands in float64; (bands, y, x)."""
    layers = []
    for name in bands:
        band = get_band(name)
        scaled = np.clip((tile[name].values.astype(np.float64) - band.low) / (band.high - band.low), 0, 1)
        layers.append(np.nan_to_num(scaled))
    return np.stack(layers)


def logistic(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def directly(network, tile, bands=BANDS):
    """Probabilities of the whole tile at once, without patches, in float64; NaN where no band is valid."""
    patches = torch.from_numpy(normalized(tile, bands)[None]).to(torch.float64)
    with torch.no_grad():
        logits = network.to(torch.float64)(patches)[0, 0].numpy()
    network.to(torch.float32)
    valid = np.any([~np.isnan(tile[name].values) for name in bands], axis=0)
    return np.where(valid, logistic(logits), np.nan)


def plainly(network, tile, patch_size, overlap, reflection=0, bands=BANDS):
    """Segment a tile the plain way: pad it, cut all patches, predict, blend with two rasters, divide, crop."""
    image = normalized(tile, bands).astype(np.float32)
    _, height, width = image.shape
    border = 1 + reflection
    pads = []
    for size in (height, width):
        extra = max(0, patch_size - size - 2 * border)
        pads.append((border + extra // 2, border + extra - extra // 2))
    padded = np.pad(image, [(0, 0), *pads], mode="reflect")
    step = patch_size - overlap

    def starts(length):
        found = [start for start in range(0, length, step) if start + patch_size <= length]
        return found if found[-1] + patch_size == length else [*found, length - patch_size]

    ramp = np.ones(patch_size)
    if overlap > 1:
        ramp[:overlap] = np.linspace(0, 1, overlap)
        ramp[patch_size - overlap :] = np.linspace(1, 0, overlap)
    weight = np.outer(ramp, ramp)
    total = np.zeros(padded.shape[1:])
    weights = np.zeros(padded.shape[1:])
    for y in starts(padded.shape[1]):
        for x in starts(padded.shape[2]):
            window = np.s_[y : y + patch_size, x : x + patch_size]
            patch = torch.from_numpy(padded[:, *window][None].copy())
            with torch.no_grad():
                logits = network(patch)[0, 0].numpy()
            total[window] += logistic(logits) * weight
            weights[window] += weight
    crop = np.s_[pads[0][0] : pads[0][0] + height, pads[1][0] : pads[1][0] + width]
    valid = np.any([~np.isnan(tile[name].values) for name in bands], axis=0)
    return np.where(valid, total[crop] / weights[crop], np.nan)


UNET = {"arch": "unet", "encoder_name": "mobilenet_v2", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}


def unet_card(**fields):
    """The card of :func:`small_unet`."""
    return ModelCard(name="test", architecture=UNET, bands=BANDS, **fields)


def small_unet(bands=BANDS, seed=0):
    """A U-Net with random weights, and running statistics that are not those of a fresh one."""
    import segmentation_models_pytorch as smp

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = smp.create_model(**UNET, encoder_weights=None, in_channels=len(bands), classes=1)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
    return network.eval().requires_grad_(False)
