"""darts-training alone: labels become samples, samples a model, and the model is calibrated and runs."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import darts_training as dt
from darts_evaluation import make_labels
from darts_segmentation import Channel, SMPSegmenter

EDGE = 96
rng = np.random.default_rng(0)
grid = GeoBox.from_bbox((500_000, 7_600_000 - 10 * EDGE, 500_000 + 10 * EDGE, 7_600_000), "EPSG:32608", resolution=10)
red = rng.random((EDGE, EDGE)).astype(np.float32) / 10
slumps = []
for row in range(4, EDGE, 16):
    for column in range(4, EDGE, 16):
        red[row : row + 6, column : column + 6] += 0.3
        left, top = 500_000 + 10 * column, 7_600_000 - 10 * row
        slumps.append(shapely.box(left, top - 60, left + 60, top))
tile = xr.Dataset({"red": (("y", "x"), red)}, coords=dict(xr_coords(grid)))
area = gpd.GeoSeries([shapely.box(*grid.boundingbox.bbox)], crs="EPSG:32608")
labels = dt.agreed(make_labels(gpd.GeoDataFrame(geometry=slumps, crs="EPSG:32608"), area))
assert dt.count_outside(labels) == 0
assert len(dt.digest_labels(labels)) == 64
assert (dt.burn_labels(labels, "EPSG:32608", grid.affine, np.ones(red.shape, bool)) == 1).sum() == 36 * len(slumps)

form = dt.SampleFormat(channels=(Channel("red", 0.0, 0.5),), patch_size=64, overlap=16)
options = dt.TrainingOptions(
    encoder="resnet18",
    architecture=(("encoder_depth", 3), ("decoder_channels", [8, 8, 8])),
    epochs=1,
    steps_per_epoch=2,
    batch_size=2,
    crop=32,
    patience=None,
)
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    assert dt.begin_samples(folder / "samples", form) == set()
    assert dt.write_tile_samples(folder / "samples", form, tile, "a", labels) == 4
    samples = dt.finish_samples(folder / "samples")
    assert dt.read_samples(folder / "samples").digest == samples.digest
    folds = dt.make_folds(samples, 2, block_m=240, buffer_m=20)
    trained = dt.train(samples, folder / "model", options, folds=folds, device="cpu")
    assert trained.evaluation is not None
    models, _ = dt.cross_validate(samples, folder / "both", options, folds=folds, device="cpu")
    assert len(models) == 2
    found = dt.calibrate([trained.path], samples, folder / "calibrated", device="cpu")
    assert found.calibration.parameter > 0
    segmenter = SMPSegmenter(found.path, "cpu")
    probabilities = segmenter.segment_tile(tile, 64, 16)["probabilities"]
    assert probabilities.notnull().all()
    if out := os.environ.get("DARTS_SMOKE_OUT"):
        shutil.copytree(found.path, Path(out) / "model")
        np.savez(Path(out) / "tile.npz", red=red, probabilities=probabilities.values)
    assert dt.make_item(segmenter.card, (0, 0, 1, 1), ("a", "b"))["properties"]["mlm:name"] == "model"
truth = rng.random(10_000) < 0.2
told = np.where(truth, 0.9, -0.9) + rng.normal(size=truth.size)
assert 0.1 < dt.fit_temperature(lambda t: 1 / (1 + np.exp(-told / t)), truth) < 10
assert not {"typer", "rich", "pydantic"} & set(sys.modules)
