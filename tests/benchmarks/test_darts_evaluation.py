"""How long an evaluation takes, and how much memory."""

import resource
import time
import warnings

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine

from darts_evaluation import FewBlocksWarning, TileMap, evaluate, make_labels, measure_agreement, read_labels

SIDE = 316
"""Objects along each side of the tile, 100 m apart."""


def make_tile() -> tuple[TileMap, gpd.GeoDataFrame]:
    transform = Affine(10, 0, 500_000, 0, -10, 7_600_000)
    rng = np.random.default_rng(1)
    x, y = (each.ravel() * 100.0 for each in np.meshgrid(np.arange(SIDE), np.arange(SIDE)))
    x, y = 500_020 + x, 7_600_000 - 70 - y
    shift = rng.integers(-1, 3, (2, SIDE * SIDE)) * 10.0
    objects = shapely.box(x + shift[0], y + shift[1], x + shift[0] + 50, y + shift[1] + 40)
    labels = shapely.box(x, y, x + 50, y + 40)
    shape = (SIDE * 10, SIDE * 10)
    mapped = np.zeros(shape, bool)
    rows = np.round((7_600_000 - shapely.bounds(objects)[:, 3]) / 10).astype(int)
    cols = np.round((shapely.bounds(objects)[:, 0] - 500_000) / 10).astype(int)
    for down in range(4):
        for right in range(5):
            mapped[np.clip(rows + down, 0, shape[0] - 1), np.clip(cols + right, 0, shape[1] - 1)] = True
    probability = np.where(mapped, 80, 3).astype(np.uint8)
    table = gpd.GeoDataFrame({"mean": rng.random(len(objects))}, geometry=objects, crs="EPSG:32608")
    crs = table.crs.to_wkt()
    tile = TileMap("tile", crs, transform, mapped, np.ones(shape, bool), table, probability)
    return tile, gpd.GeoDataFrame(geometry=labels, crs="EPSG:32608")


def test_a_hundred_thousand_objects(benchmark):
    tile, outlines = make_tile()
    area = gpd.GeoSeries([shapely.box(*outlines.total_bounds)], crs=outlines.crs)
    labels = make_labels(outlines, area)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def work() -> float:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewBlocksWarning)
            found = evaluate([tile], labels)
        assert found.figures["objects"]["labels"].value == SIDE * SIDE
        return time.perf_counter() - start

    seconds = benchmark.pedantic(work, rounds=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    benchmark.extra_info["MB above the tile"] = (peak - before) / 1024
    used = f"{peak / 1024:.0f} MB at most, {before / 1024:.0f} MB before"
    print(f"\n{SIDE**2} objects and labels: {seconds:.1f} s, {used}")


def test_twelve_experts(benchmark, shared_data):
    labels = read_labels(shared_data / "peel" / "experts.gpkg", shared_data / "peel" / "aoi.geojson")
    benchmark.pedantic(measure_agreement, args=(labels,), rounds=1)
