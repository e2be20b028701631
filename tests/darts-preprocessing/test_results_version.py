"""The features of a synthetic tile, against what RESULTS_VERSION stands for."""

from pathlib import Path

import numpy as np
import xarray as xr
from odc.geo.xr import wrap_xr

import darts_preprocessing as dp
from support import preprocessing as oracle
from support.reference import assert_light, check_reference, waves

FILE = Path(__file__).parent / "reference" / "results.npz"
SHAPE = (26, 30)


def make_inputs() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """A tile, a DEM with holes in another CRS, and trends in degrees, all made of integers."""
    geobox = oracle.make_geobox(SHAPE, origin=(503_000.25, 7_700_001.0))
    base = waves(SHAPE, (3, 5, 17), (2, 7, 29))
    tile = xr.Dataset(attrs={"azimuth": 150.0, "elevation": 35.0})
    for name, factor in (("blue", 311), ("green", 523), ("red", 701), ("nir", 997)):
        values = (base * factor % 1024).astype(np.float32) / 1024 - np.float32(0.125)
        tile[name] = wrap_xr(np.where(base % 13 == 0, np.nan, values).astype(np.float32), geobox)
    tile["quality_data_mask"] = wrap_xr((base % 3).astype(np.uint8), geobox)
    polar = oracle.covering(geobox, "EPSG:3413", 10.0, margin=0.6)
    base = waves(polar.shape, (3, 5, 16), (7, -2, 24))
    # Low ground: float32 has room for the second differences of a curvature.
    dem = base / 32
    row, column = (size // 2 for size in polar.shape)
    dem[row : row + 2, column], dem[row - 3, column - 2] = np.nan, np.nan
    arcticdem = wrap_xr(dem.astype(np.float32), polar).to_dataset(name="dem")
    arcticdem["arcticdem_data_mask"] = wrap_xr((~np.isnan(dem)).astype(np.uint8), polar)
    degrees = oracle.covering(geobox, "EPSG:4326", 0.00026949458523585647, margin=0.6)
    base = waves(degrees.shape, (3, 5, 50), (7, 2, 90))
    names = ("tc_brightness", "tc_greenness", "tc_wetness")
    trends = {name: wrap_xr((base * (3 + len(name)) % 256).astype(np.uint8), degrees) for name in names}
    return tile, arcticdem, xr.Dataset(trends)


def reference_results(*inputs: xr.Dataset) -> dict[str, np.ndarray]:
    result = dp.preprocess_v2(*inputs, tpi_outer_radius=20, device="cpu")
    results = {name: result[name].values for name, feature in dp.FEATURES.items() if feature.by_default}
    # Where the ground is almost flat, a rounding turns its aspect: compare it as a vector as long as the slope.
    aspect, slope = np.radians(results.pop("aspect")), results["slope"]
    return results | {"aspect east": slope * np.sin(aspect), "aspect north": slope * np.cos(aspect)}


def test_reference_results() -> None:
    results = reference_results(*make_inputs())
    for name in ("dem", "slope", "relative_elevation"):
        assert 0 < np.isnan(results[name]).sum() < results[name].size / 2
    check_reference(FILE, results, dp.RESULTS_VERSION, "darts_preprocessing.version.RESULTS_VERSION")


def test_the_version_is_read_lightly() -> None:
    assert_light("darts_preprocessing")
