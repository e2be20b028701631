"""darts-dataset alone: a tile's files become a dataset, which a check finds whole."""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

import darts_dataset as dd

with tempfile.TemporaryDirectory() as name:
    tile = Path(name) / "results" / "scene"
    tile.mkdir(parents=True)
    count = 2
    slumps = [shapely.box(500_000 + 100 * n, 7_600_000, 500_030 + 100 * n, 7_600_030) for n in range(count)]
    columns = {
        "Region_ID": np.arange(1, count + 1),
        **{column: np.full(count, 0.8) for column in ("min", "max", "mean", "median", "std")},
        "npixel": np.full(count, 100),
        "area_m2": np.full(count, 900.0),
        "tile_id": ["scene"] * count,
        "source": ["PlanetScope"] * count,
        "model_names": ["made-up"] * count,
    }
    gpd.GeoDataFrame(columns, geometry=slumps, crs="EPSG:32608").to_parquet(tile / "prediction_segments.parquet")
    seen = [shapely.box(499_000, 7_599_000, 501_000, 7_601_000)]
    gpd.GeoDataFrame({"npixel": [1]}, geometry=seen, crs="EPSG:32608").to_parquet(tile / "prediction_extent.parquet")
    files = {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in tile.iterdir()}
    about = {"tile_id": "scene", "source": "PlanetScope", "time": "2021-08-21T21:00:19Z", "files": files}
    (tile / "manifest.json").write_text(json.dumps(about))
    built = dd.build(Path(name) / "results", Path(name) / "dataset")
    assert (built.scenes, built.detections, built.objects, built.left_out) == (1, 2, 2, {})
    assert dd.check(built.path).failures == ()
    assert dd.info(built.path)["years"]["2021"]["links"]["new"] == 2
    try:
        dd.build(Path(name) / "nothing", Path(name) / "other")
    except dd.DatasetError:
        pass
    else:
        sys.exit("A folder without results makes no dataset.")
assert not {"torch", "typer", "rich", "xarray"} & set(sys.modules)
