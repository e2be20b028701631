"""darts-segmentation alone runs a model that darts-training made elsewhere, and says the same, bit by bit.

Takes the folder in which smoke_darts_training.py left the model and a tile with its probabilities.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import xarray as xr

import darts_segmentation

made = Path(sys.argv[1])
present = {
    name for name in ("darts_training", "darts_evaluation", "rasterio", "geopandas") if importlib.util.find_spec(name)
}
assert not present, f"{', '.join(sorted(present))} should not be here."
stored = np.load(made / "tile.npz")
tile = xr.Dataset({"red": (("y", "x"), stored["red"])})
for segmenter in (
    darts_segmentation.SMPSegmenter(made / "model", "cpu"),
    darts_segmentation.EnsembleV1({"a": made / "model"}, "cpu"),
):
    found = segmenter.segment_tile(tile, 64, 16)["probabilities"].values
    np.testing.assert_array_equal(found, stored["probabilities"])
assert darts_segmentation.model_info(made / "model").card.metrics
