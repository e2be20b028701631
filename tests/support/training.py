"""Synthetic tiles with labels, and samples of them, small enough to train on within a second."""

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from darts_evaluation import make_labels
from darts_segmentation import Channel
from darts_training import SampleFormat, TrainingOptions, begin_samples, finish_samples, write_tile_samples

EDGE_M = 10
CRS = "EPSG:32608"
CHANNELS = (Channel("red", 0.0, 0.5), Channel("ndvi", -1.0, 1.0))
OPTIONS = TrainingOptions(
    encoder="resnet18",
    architecture=(("encoder_depth", 3), ("decoder_channels", [8, 8, 8])),
    epochs=3,
    steps_per_epoch=3,
    batch_size=2,
    crop=32,
    learning_rate=5e-3,
    patience=2,
    min_object_px=8,
    threads=1,
)


def labelled_tile(seed, size=80, west=500_000, north=7_600_000, slumps=10):
    """Return a tile in which slumps are brighter, with a hole, and its labels."""
    rng = np.random.default_rng(seed)
    geobox = GeoBox((size, size), Affine(EDGE_M, 0, west, 0, -EDGE_M, north), CRS)
    red = rng.random((size, size)).astype(np.float32) * 0.1
    shapes = []
    for _ in range(slumps):
        row, column = rng.integers(0, size - 8, 2)
        red[row : row + 6, column : column + 8] += 0.3
        left, top = west + EDGE_M * column, north - EDGE_M * row
        shapes.append(shapely.box(left, top - 6 * EDGE_M, left + 8 * EDGE_M, top))
    red[:4, :9] = np.nan
    ndvi = np.where(np.isnan(red), np.nan, rng.uniform(-1, 1, red.shape)).astype(np.float32)
    bands = {"red": (("y", "x"), red), "ndvi": (("y", "x"), ndvi)}
    tile = xr.Dataset(bands, coords=dict(xr_coords(geobox)), attrs={"time": f"2021-0{1 + seed % 9}-02T03:04:05Z"})
    area = gpd.GeoSeries([shapely.box(west, north - EDGE_M * size, west + EDGE_M * size, north)], crs=CRS)
    return tile, make_labels(gpd.GeoDataFrame(geometry=shapes, crs=CRS), area)


def make_samples(folder, seeds=(0, 1), form=None, **tiles):
    """Write samples of some tiles, side by side, and return them."""
    form = form or SampleFormat(channels=CHANNELS, patch_size=64, overlap=16)
    begin_samples(folder, form)
    for place, seed in enumerate(seeds):
        tile, labels = labelled_tile(seed, west=500_000 + 2_000 * place, **tiles)
        write_tile_samples(folder, form, tile, f"tile-{seed}", labels)
    return finish_samples(folder)
