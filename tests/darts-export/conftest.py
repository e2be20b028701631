"""Tiles to export: small, deterministic, with objects of every awkward shape."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from scipy.ndimage import gaussian_filter

CRS = "EPSG:32608"
MakeTile = Callable[..., xr.Dataset]


def smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float = 3) -> np.ndarray:
    """A smooth random field that spans 0…1."""
    field = gaussian_filter(rng.random(shape).astype(np.float32), sigma)
    return (field - field.min()) / max(field.max() - field.min(), np.float32(1e-6))


def _make_tile(
    shape: tuple[int, int] = (150, 170),
    seed: int = 0,
    mask: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    crs: str = CRS,
    affine: Affine | None = None,
    models: tuple[str, ...] = (),
    **attrs: Any,
) -> xr.Dataset:
    if mask is not None:
        shape = mask.shape
    rng = np.random.default_rng(seed)
    geobox = GeoBox(shape, affine or Affine(3, 0, 500_001, 0, -3, 7_500_003), crs)
    extent = np.ones(shape, np.uint8)
    if mask is None:
        extent[:7] = 0
        extent[40:50, 60:90] = 0
    data = {}
    for name in ("", *(f"-{model}" for model in models)):
        values = smooth(rng, shape) if probabilities is None else probabilities.copy()
        objects = values > 0.65 if mask is None else mask
        values[extent == 0] = np.nan
        data[f"probabilities{name}"] = values.astype(np.float32)
        data[f"binarized_segmentation{name}"] = objects & (extent == 1)
    data["extent"] = extent
    for name in ("red", "green", "blue", "nir"):
        data[name] = (smooth(rng, shape) * 0.3).astype(np.float32)
    data["slope"] = smooth(rng, shape) * np.float32(90)
    data["relative_elevation"] = smooth(rng, shape) * np.float32(100) - np.float32(50)
    for name in ("tc_brightness", "tc_greenness", "tc_wetness"):
        data[name] = rng.integers(0, 256, shape, dtype=np.uint8)
    defaults = {"tile_id": "tile-1", "time": "2021-08-21T21:00:19Z", "azimuth": 132.8, "elevation": np.nan}
    tile = xr.Dataset(attrs=defaults | attrs)
    for name, values in data.items():
        tile[name] = wrap_xr(values, geobox)
    tile["red"].attrs = {"data_source": "PlanetScope", "units": "1"}
    tile["slope"].attrs = {"units": "degree"}
    return tile


@pytest.fixture(scope="session")
def make_tile() -> MakeTile:
    """Make a tile with every variable that an export may need; keywords change shape, seed, mask, grid, attributes."""
    return _make_tile
