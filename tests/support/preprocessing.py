"""Oracles of the preprocessing, as obvious as can be, in float64: one cell, or one shift, after the other."""

import math

import numpy as np
import pyproj
import rasterio.warp
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from darts_preprocessing import FEATURES, Inputs
from darts_preprocessing.backends import Interior

ROWS, COLS = 120, 150
RADIUS = 30
"""Metres, 10 cells."""


def make_geobox(shape, cell=3.0, origin=(500_000.0, 7_700_000.0), crs="EPSG:32608"):
    return GeoBox(shape, Affine(cell, 0, origin[0], 0, -cell, origin[1]), crs)


def covering(geobox, crs, cell, margin=0.03):
    """A grid in another CRS that covers this one, with a margin as a part of its extent."""
    west, south, east, north = rasterio.warp.transform_bounds(str(geobox.crs), crs, *geobox.boundingbox, densify_pts=99)
    grow_x, grow_y = (east - west) * margin, (north - south) * margin
    cols, rows = round((east - west + 2 * grow_x) / cell), round((north - south + 2 * grow_y) / cell)
    return GeoBox((rows, cols), Affine(cell, 0, west - grow_x, 0, -cell, north + grow_y), crs)


def make_dem(values, geobox, **attrs):
    """A Dataset with elevations on a grid."""
    ds = wrap_xr(np.asarray(values, dtype=np.float32), geobox).to_dataset(name="dem")
    return ds.assign_attrs(attrs)


def make_tile(geobox, seed=0, **attrs):
    """An optical tile of random reflectance, some of it missing."""
    rng = np.random.default_rng(seed)
    bands = {}
    for name in ("blue", "green", "red", "nir"):
        values = rng.uniform(-0.1, 1.2, geobox.shape).astype(np.float32)
        values[rng.random(geobox.shape) < 0.02] = np.nan
        bands[name] = wrap_xr(values, geobox)
    tile = xr.Dataset(bands)
    tile["quality_data_mask"] = (("y", "x"), rng.integers(0, 3, geobox.shape, dtype=np.uint8))
    return tile.assign_attrs({"azimuth": 150.0, "elevation": 35.0, "tile_id": "test"} | attrs)


def rough(shape, rng, holes=0.0):
    """A rough float32 landscape, some cells of it missing."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    dem = 100 + 9 * np.sin(cols / 7) + 14 * np.cos(rows / 11) + rng.normal(0, 1, shape)
    dem[rng.random(shape) < holes] = np.nan
    return dem.astype(np.float32)


def run_kernels(backend, names, arrays, interior=None, cell=3.0, settings=None, north=None):
    """What the kernels of some features give on a backend, in one pass, brought back to the host."""
    shape = next(iter(arrays.values())).shape
    there = {name: backend.asarray(values) for name, values in arrays.items()}
    interior = interior or Interior.whole(shape)
    inputs = Inputs(backend.xp, there, interior, cell, settings or {}, north and (lambda: north))
    found = backend.run(FEATURES[names[0]].kernels, inputs, names)
    return {name: backend.to_host(values) for name, values in found.items()}


def framed(dem):
    """Float64 with one cell more on each side, gone on linearly."""
    z = np.asarray(dem, dtype=np.float64)
    for axis in (0, 1):
        z = np.moveaxis(z, axis, 0)
        first, last = (z[0], z[-1]) if len(z) == 1 else (2 * z[0] - z[1], 2 * z[-1] - z[-2])
        z = np.moveaxis(np.concatenate([first[None], z, last[None]]), 0, axis)
    return z


def gradient(dem, cell):
    """Horn's gradient to the grid's east and north, NaN where a cell of 3 × 3 is."""
    z = framed(dem)
    east, north = np.full(dem.shape, np.nan), np.full(dem.shape, np.nan)
    for i, j in np.ndindex(dem.shape):
        a, b, c, d, e, f, g, h, k = z[i : i + 3, j : j + 3].ravel()
        east[i, j] = ((c + 2 * f + k) - (a + 2 * d + g)) / (8 * cell) + 0 * e
        north[i, j] = ((a + 2 * b + c) - (g + 2 * h + k)) / (8 * cell) + 0 * e
    return east, north


def slope(dem, cell):
    return np.degrees(np.arctan(np.hypot(*gradient(dem, cell))))


def aspect(dem, cell, convergence=0.0):
    """Clockwise from true north; the convergence in degrees."""
    east, north = gradient(dem, cell)
    angle = np.degrees(np.arctan2(-east, -north)) + convergence
    return np.where((east == 0) & (north == 0), -1.0, angle % 360)


def hillshade(dem, cell, azimuth, elevation, convergence=0.0):
    """The textbook form: zenith, slope, and the angle between the sun and the aspect."""
    zenith, to_sun = np.radians(90 - elevation), np.radians(azimuth - convergence)
    steep = np.radians(slope(dem, cell))
    east, north = gradient(dem, cell)
    downhill = np.arctan2(-east, -north)
    lit = np.cos(zenith) * np.cos(steep) + np.sin(zenith) * np.sin(steep) * np.cos(to_sun - downhill)
    return np.clip(lit, 0, 1)


def curvature(dem, cell):
    z = framed(dem)
    c = z[1:-1, 1:-1]
    d = ((z[1:-1, :-2] + z[1:-1, 2:]) / 2 - c) / cell**2
    e = ((z[:-2, 1:-1] + z[2:, 1:-1]) / 2 - c) / cell**2
    return -2 * (d + e) * 100


def neighbourhoods(dem, offsets):
    """For each cell, the values at the offsets, NaN where there are none: (offsets, y, x) float64."""
    reach = max(max(abs(i), abs(j)) for i, j in offsets)
    z = np.pad(np.asarray(dem, dtype=np.float64), reach, constant_values=np.nan)
    rows, cols = dem.shape
    return np.stack([z[reach + i : reach + i + rows, reach + j : reach + j + cols] for i, j in offsets])


def relative_elevation(dem, outer, inner=0):
    """Elevation minus the mean of the valid cells of a disk or ring."""
    span = range(-outer, outer + 1)
    inside = [(i, j) for i in span for j in span if math.hypot(i, j) <= outer]
    offsets = [(i, j) for i, j in inside if inner == 0 or math.hypot(i, j) > inner]
    around = neighbourhoods(dem, offsets)
    count = np.sum(~np.isnan(around), axis=0)
    mean = np.nansum(around, axis=0) / np.where(count == 0, np.nan, count)
    return dem - mean


def window_offsets(window):
    span = range(-(window // 2), window // 2 + 1)
    return [(i, j) for i in span for j in span]


def ruggedness(dem, window):
    squared = (neighbourhoods(dem, window_offsets(window)) - np.asarray(dem, np.float64)) ** 2
    others = np.sum(~np.isnan(squared), axis=0) - 1
    return np.sqrt(np.nansum(squared, axis=0) / np.where(others > 0, others, np.nan) * (window**2 - 1))


def vector_ruggedness(dem, cell, window):
    east, north = gradient(dem, cell)
    normals = np.stack([-east, -north, np.ones_like(east)])
    normals /= np.linalg.norm(normals, axis=0)
    missing = np.isnan(east + north)
    around = np.stack([neighbourhoods(np.where(missing, np.nan, part), window_offsets(window)) for part in normals])
    count = np.sum(~np.isnan(around[0]), axis=0)
    length = np.linalg.norm(np.nansum(around, axis=1), axis=0)
    return 1 - length / np.where(missing, np.nan, count)


def dissection(dem, window):
    around = neighbourhoods(dem, window_offsets(window))
    highest = np.where(np.isnan(around), -np.inf, around).max(axis=0)
    lowest = np.where(np.isnan(around), np.inf, around).min(axis=0)
    valid = ~np.isnan(dem) & (highest > 0)
    return (highest - np.maximum(lowest, 0)) / np.where(valid, highest, np.nan)


def positions(grid, source_grid):
    """Column and row of each pixel on another grid, computed for every pixel by PROJ."""
    rows, cols = grid.shape
    x = grid.affine.c + grid.affine.a * (np.arange(cols) + 0.5)
    y = grid.affine.f + grid.affine.e * (np.arange(rows) + 0.5)
    transformer = pyproj.Transformer.from_crs(str(grid.crs), str(source_grid.crs), always_xy=True)
    east, north = transformer.transform(*np.meshgrid(x, y))
    affine = source_grid.affine
    return (east - affine.c) / affine.a, (north - affine.f) / affine.e


def keys(t):
    """The kernel of cubic convolution with a = −1/2."""
    t = abs(t)
    if t < 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def resample(source, col, row, stretch):
    """Cubic convolution, linear interpolation where a cell is missing, NaN where the nearest one is."""
    out = np.full(col.shape, np.nan)
    height, width = source.shape
    reach = math.ceil(2 * stretch)
    for place in np.ndindex(col.shape):
        x, y = col[place], row[place]
        left, top = math.floor(x - 0.5) - reach + 1, math.floor(y - 0.5) - reach + 1
        cells, cubic, linear = [], [], []
        for i in range(top, top + 2 * reach):
            for j in range(left, left + 2 * reach):
                exists = 0 <= i < height and 0 <= j < width
                cells.append(float(source[i, j]) if exists else math.nan)
                v, u = (i + 0.5 - y) / stretch, (j + 0.5 - x) / stretch
                cubic.append(keys(v) * keys(u))
                linear.append(max(0, 1 - abs(v)) * max(0, 1 - abs(u)))
        weights = linear if np.isnan(cells).any() else cubic
        i, j = math.floor(y), math.floor(x)
        if 0 <= i < height and 0 <= j < width and not np.isnan(source[i, j]):
            out[place] = np.nansum(np.multiply(cells, weights)) / np.sum(np.array(weights)[~np.isnan(cells)])
    return out


def make_tcvis(geobox):
    """TCVIS of random values around a grid."""
    grid = covering(geobox, "EPSG:4326", 0.00026949458523585647, 0.4)
    rng = np.random.default_rng(9)
    names = ("tc_brightness", "tc_greenness", "tc_wetness")
    return xr.Dataset({name: wrap_xr(rng.integers(0, 256, grid.shape, dtype=np.uint8), grid) for name in names})


def make_arcticdem(geobox, crs="EPSG:3413", cell=2.0, margin=0.6, holes=True):
    """Make elevations around a tile with the mask that says where they were measured."""
    grid = covering(geobox, crs, cell, margin)
    dem = rough(grid.shape, np.random.default_rng(8))
    if holes:
        dem[200:230, 150:180] = np.nan
    ds = make_dem(dem, grid)
    ds.dem.attrs["data_source"] = "a test"
    ds["arcticdem_data_mask"] = (ds.dem.dims, (~np.isnan(dem)).astype(np.uint8))
    return ds
