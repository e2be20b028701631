"""The probabilities that a small fixed ensemble gives for a synthetic tile, against what RESULTS_VERSION stands for."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr

from darts_segmentation import RESULTS_VERSION, EnsembleV1
from darts_utils import get_band
from support.reference import assert_light, check_reference, waves
from support.segmentation import BANDS, segmenter

FILE = Path(__file__).parent / "reference" / "results.npz"
SHAPE = (45, 53)


class FixedNetwork(torch.nn.Module):
    """Two convolutions whose weights are fractions of small integers; looks 3 px around each pixel."""

    def __init__(self, bands: int, factor: int, classes: int = 1) -> None:
        super().__init__()
        for name, shape in (("first", (4, bands, 5, 5)), ("second", (classes, 4, 3, 3))):
            count = int(np.prod(shape))
            numbers = (np.arange(count) * factor) % 31 - 15
            self.register_buffer(name, torch.tensor(numbers.reshape(shape) / 16, dtype=torch.float32))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(torch.nn.functional.conv2d(patches, self.first, padding=2))
        return torch.nn.functional.conv2d(hidden, self.second, padding=1)


def make_tile() -> xr.Dataset:
    variables = {}
    for number, name in enumerate(BANDS, start=1):
        base = waves(SHAPE, (3 + number, 5, 32), (2, 7 - number, 64))
        band = get_band(name)
        values = (band.low + (band.high - band.low) * (base / 80 - 0.1)).astype(np.float32)
        values[base % 7 == 0] = np.nan
        values[4:9, 10:16] = np.nan
        values[30:33, 20:24] = np.inf  # of which a division by zero leaves some
        variables[name] = (("y", "x"), values)
    coords = {"y": 3.0 * np.arange(SHAPE[0], 0, -1), "x": 3.0 * np.arange(SHAPE[1])}
    return xr.Dataset(variables, coords)


def test_reference_results() -> None:
    networks = {"a": FixedNetwork(3, 7), "b": FixedNetwork(3, 11)}
    ensemble = EnsembleV1.from_segmenters({name: segmenter(network) for name, network in networks.items()})
    options = {"plain": {}, "mirrored": {"reflection": 4, "tta": "d4"}, "small": {"overlap": 0}}
    results = {}
    for key, extra in options.items():
        arguments = {"patch_size": 24, "overlap": 8, "batch_size": 3} | extra
        tile = ensemble.segment_tile(make_tile(), keep_inputs=True, **arguments)
        for name in ("probabilities", "probabilities-a", "probabilities-std"):
            results[f"{key}-{name}"] = tile[name].values
    several = {"classes": ["ground", "slump", "scar"], "activation": "softmax"}
    members = {
        "part": segmenter(FixedNetwork(3, 7, 3), target=["slump"], **several),
        "sum": segmenter(FixedNetwork(3, 11, 3), target=["slump", "scar"], **several),
    }
    mixed = EnsembleV1.from_segmenters(members)
    tile = mixed.segment_tile(make_tile(), patch_size=24, overlap=8, keep_classes=True)
    for name in ("probabilities_ground", "probabilities_slump"):
        results[f"mixed-{name}"] = tile[name].values[::3, ::3]
    assert 0 < np.isnan(results["plain-probabilities"]).sum() < SHAPE[0] * SHAPE[1] / 10
    assert np.nanstd(results["plain-probabilities"]) > 0.05
    check_reference(FILE, results, RESULTS_VERSION, "darts_segmentation.version.RESULTS_VERSION")


def test_the_version_is_read_lightly() -> None:
    assert_light("darts_segmentation")
