"""darts-preprocessing alone: features of a slope, spectral indices, and a tile on another grid than its DEM."""

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import darts_preprocessing

RISE = np.tan(np.radians(30))
"""A plane that falls to the grid's west by 30 degrees."""


def on_grid(grid: GeoBox, **variables: np.ndarray) -> xr.Dataset:
    return xr.Dataset({name: (("y", "x"), values) for name, values in variables.items()}, xr_coords(grid))


def try_terrain() -> None:
    grid = GeoBox.from_bbox((499_900, 7_500_000, 500_100, 7_500_200), crs="EPSG:32608", resolution=2, tight=True)
    plane = on_grid(grid, dem=(np.arange(100, dtype=np.float32) * 2 * RISE)[None, :].repeat(100, axis=0).astype("f4"))
    plane.attrs |= {"azimuth": 270.0, "elevation": 60.0}
    middle = {"y": 50, "x": 50}
    expected = {
        "slope": 30,
        "aspect": 270,  # the middle lies on the meridian of the zone, where grid north is true north
        "hillshade": 1,  # the sun stands upright over the plane
        "curvature": 0,
        "relative_elevation": 0,
    }
    calculations = {
        "slope": darts_preprocessing.calculate_slope,
        "aspect": darts_preprocessing.calculate_aspect,
        "hillshade": darts_preprocessing.calculate_hillshade,
        "curvature": darts_preprocessing.calculate_curvature,
        "relative_elevation": darts_preprocessing.calculate_topographic_position_index,
    }
    for name, calculate in calculations.items():
        value = float(calculate(plane)[name].isel(middle))
        assert abs(value - expected[name]) < 0.01, (name, value)
    for name, feature in darts_preprocessing.FEATURES.items():
        if feature.function is not None and darts_preprocessing.needs_of([feature]).auxiliary == {"arcticdem"}:
            plane = feature.function(plane)
            assert np.isfinite(plane[name].isel(middle)), name
    assert abs(float(plane["northness"].isel(middle))) < 1e-3
    assert abs(float(plane["vector_ruggedness_measure"].isel(middle))) < 1e-5


def try_indices() -> None:
    grid = GeoBox.from_bbox((0, 7_500_000, 30, 7_500_030), crs="EPSG:32608", resolution=3, tight=True)
    reflectance = {"blue": 0.04, "green": 0.06, "red": 0.1, "nir": 0.3}
    tile = on_grid(grid, **{name: np.full(grid.shape, value, np.float32) for name, value in reflectance.items()})
    expected = {"ndvi": 0.5, "gndvi": 0.24 / 0.36, "sr": 3}
    for index, feature in darts_preprocessing.FEATURES.items():
        if feature.function is None or darts_preprocessing.needs_of([feature]).auxiliary:
            continue
        values = feature.function(tile)[index]
        assert np.isfinite(values).all(), index
        np.testing.assert_allclose(values, expected.get(index, values), rtol=1e-5)
    savi = darts_preprocessing.calculate_spectral_index(tile, "SAVI", L=0.5)["savi"]
    np.testing.assert_allclose(savi, 1.5 * 0.2 / 0.9, rtol=1e-5)


def try_tile() -> None:
    """A plane stays a plane on another grid: the DEM is in the CRS of ArcticDEM, the tile in UTM."""
    grid = GeoBox.from_bbox((500_000, 7_500_000, 500_150, 7_500_120), crs="EPSG:32608", resolution=3, tight=True)
    optical = {name: np.full(grid.shape, 0.2, np.float32) for name in ("blue", "green", "red", "nir")}
    tile = on_grid(grid, **optical)
    tile.attrs |= {"azimuth": 180.0, "elevation": 30.0}
    dem_grid = grid.to_crs("EPSG:3413", resolution=2).pad(150)
    x, y = (dem_grid.coordinates[axis].values for axis in ("x", "y"))
    heights = (500 + 0.1 * (x - x.mean())[None, :] + 0.2 * (y - y.mean())[:, None]).astype(np.float32)
    arcticdem = on_grid(dem_grid, dem=heights, arcticdem_data_mask=np.ones(dem_grid.shape, np.uint8))
    darts_preprocessing.compile_kernels("slope", device="cpu")
    result = darts_preprocessing.preprocess_v2(tile, arcticdem, None, device="cpu")
    assert result.odc.geobox == grid
    np.testing.assert_allclose(result["ndvi"], 0, atol=1e-6)
    # EPSG:3413 stretches lengths by a few percent here, and so the slope.
    np.testing.assert_allclose(result["slope"], np.degrees(np.arctan(np.hypot(0.1, 0.2))), rtol=0.05)
    np.testing.assert_allclose(result["relative_elevation"], 0, atol=0.05)


try_tile()
try_terrain()
try_indices()
