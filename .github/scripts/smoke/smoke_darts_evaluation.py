"""darts-evaluation alone: a map is compared with labels, and the report opens."""

import json
import math
import sys
import tempfile
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine

import darts_evaluation as de
from darts_utils import ResultFolder

TRANSFORM = Affine(10, 0, 500_000, 0, -10, 7_600_000)

mapped = np.zeros((100, 100), bool)
mapped[10:20, 10:30] = mapped[60:80, 60:80] = True
seen = np.ones(mapped.shape, bool)
slumps = [shapely.box(500_100, 7_599_800, 500_300, 7_599_900), shapely.box(500_800, 7_599_100, 500_900, 7_599_200)]
wrong = shapely.box(500_600, 7_599_200, 500_800, 7_599_400)
objects = gpd.GeoDataFrame({"mean": [0.9, 0.6]}, geometry=[slumps[0], wrong], crs="EPSG:32608")
crs = rasterio.crs.CRS.from_epsg(32608).to_wkt()
probability = np.where(mapped, 90, 5).astype(np.uint8)
tile = de.TileMap("a tile", crs, TRANSFORM, mapped, seen, objects, probability)
area = gpd.GeoSeries([shapely.box(500_000, 7_599_000, 501_000, 7_600_000)], crs="EPSG:32608")
labels = de.make_labels(gpd.GeoDataFrame(geometry=slumps, crs="EPSG:32608"), area)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", de.FewBlocksWarning)
    found = de.evaluate([tile], labels, block_m=100)
assert found.figures["objects"]["recall@0.5"].value == 0.5
assert found.figures["objects"]["precision@0.5"].value == 0.5
assert math.isclose(found.figures["pixels"]["iou"].value, 200 / 700, rel_tol=1e-6)  # pixels of UTM are not quite alike
assert de.match(de.Overlaps.of([slumps[0]], slumps), 0.5).tolist() == [0]

with tempfile.TemporaryDirectory() as name:
    files = de.write_report(found, Path(name) / "report")
    assert json.loads((Path(name) / "report" / "evaluation.json").read_text()) == de.to_json(found)
    assert all(path.stat().st_size for path in files)
    two = gpd.GeoDataFrame({"expert": ["a", "b"]}, geometry=[slumps[0], slumps[0]], crs="EPSG:32608")
    two.to_file(Path(name) / "labels.gpkg")
    area.to_frame("geometry").to_file(Path(name) / "area.gpkg")
    drawn = de.read_labels(Path(name) / "labels.gpkg", Path(name) / "area.gpkg")
    assert de.measure_agreement(drawn).median_iou == 1
    assert len(de.majority(drawn).outlines) == 1
    assert len(de.mapped_objects(mapped, TRANSFORM, crs)) == 2
    (Path(name) / "manifest.json").write_text('{"files": {}}')
    try:
        de.read_tile_map(ResultFolder.open(name))
    except de.PredictionsError:
        pass
    else:
        sys.exit("A folder without rasters holds no map.")
    (Path(name) / "manifest.json").unlink()
    try:
        de.find_results(name)
    except de.PredictionsError:
        pass
    else:
        sys.exit("An empty folder holds no results.")
assert not {"torch", "typer", "rich"} & set(sys.modules)
