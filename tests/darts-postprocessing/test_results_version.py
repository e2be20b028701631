"""Extent and objects of a synthetic tile, against what RESULTS_VERSION stands for."""

from pathlib import Path

import numpy as np
import xarray as xr

from darts_postprocessing import RESULTS_VERSION, prepare_export
from support.reference import assert_light, check_reference, waves

FILE = Path(__file__).parent / "reference" / "results.npz"
SHAPE = (70, 80)
ERODED = {"mask_erosion_size": 2, "min_object_size": 2}
OPTIONS = {
    "plain": {"quality_level": 0, "min_object_size": 6},
    "clipped": {"quality_level": "high_quality", "mask_erosion_size": 3, "edge_erosion_size": 5, "min_object_size": 6},
    "removed": {"quality_level": 1, "bin_threshold": 0.75, "edge_objects": "remove"} | ERODED,
    "high": {"quality_level": 2, "bin_threshold": 0.75} | ERODED,
}


def make_tile() -> xr.Dataset:
    """Probabilities in steps of 1/128, so that no threshold is met by rounding, and a mask with holes."""
    layers = {}
    for name, right in (("probabilities", 7), ("probabilities-m", 11)):
        base = waves(SHAPE, (6, right, 60), (right, -5, 68))
        layers[name] = np.where(base % 97 == 0, np.nan, base / 128).astype(np.float32)
    quality = np.full(SHAPE, 2, np.uint8)
    quality[20:23, 30:34], quality[50:51, 60:62], quality[:, :4] = 0, 1, 1
    layers["quality_data_mask"] = quality
    return xr.Dataset({name: (("y", "x"), values) for name, values in layers.items()})


def test_reference_results() -> None:
    results = {}
    for key, options in OPTIONS.items():
        tile = prepare_export(make_tile(), ensemble_subsets=["m"], device="cpu", **options)
        for name in ("extent", "binarized_segmentation", "binarized_segmentation-m", "probabilities"):
            results[f"{key}-{name}"] = tile[name].values
        objects = int(tile["binarized_segmentation"].sum())
        assert 0 < objects < SHAPE[0] * SHAPE[1] / 2
    assert len({results[f"{key}-binarized_segmentation"].tobytes() for key in OPTIONS}) == len(OPTIONS)
    declared = make_tile()
    declared["quality_data_mask"][30:34, 10:60] = 255
    declared["quality_data_mask"].attrs["nodata"] = 255
    tile = prepare_export(declared, quality_level=1, device="cpu", **ERODED)
    for name in ("extent", "binarized_segmentation"):
        results[f"declared-{name}"] = tile[name].values
    check_reference(FILE, results, RESULTS_VERSION, "darts_postprocessing.version.RESULTS_VERSION")


def test_the_version_is_read_lightly() -> None:
    assert_light("darts_postprocessing")
