"""darts-export alone: a tile becomes files that other libraries read."""

import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import darts_export

GRID = GeoBox.from_bbox((500_000, 7_500_000, 500_096, 7_500_060), crs="EPSG:32608", resolution=3, tight=True)


def make_tile() -> xr.Dataset:
    probabilities = np.zeros(GRID.shape, np.float32)
    probabilities[4:8, 5:15] = 0.75
    probabilities[0, :] = np.nan
    variables = {
        "probabilities": probabilities,
        "binarized_segmentation": probabilities > 0.5,
        "extent": np.isfinite(probabilities).astype(np.uint8),
        **{name: np.full(GRID.shape, 0.1, np.float32) for name in ("blue", "green", "red", "nir")},
    }
    attrs = {"tile_id": "a tile", "time": "2021-08-21T21:00:19Z"}
    return xr.Dataset({name: (("y", "x"), each) for name, each in variables.items()}, xr_coords(GRID), attrs)


tile = make_tile()
bands = ["probabilities", "binarized", "polygonized", "extent", "thumbnail", "optical"]
darts_export.check_export_bands(bands, tile.data_vars)
assert darts_export.export_variables(["optical"]) == {"red", "green", "blue", "nir"}

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary) / "tile"
    darts_export.check_export_target(folder, bands)
    assert darts_export.missing_outputs(folder, bands) == "all"
    manifest = darts_export.export_tile(tile, folder, bands, fingerprint="abc")
    assert darts_export.missing_outputs(folder, bands, fingerprint="abc") == "none"
    assert darts_export.read_manifest(folder) == manifest

    with rasterio.open(folder / "probabilities.tif") as raster:
        assert (raster.crs.to_epsg(), raster.nodata) == (32608, 255)
        assert raster.transform == GRID.transform
        percent = raster.read(1)
    assert (percent[5, 6], percent[0, 0], percent[12, 12]) == (75, 255, 0)
    objects = gpd.read_parquet(folder / "prediction_segments.parquet")
    assert len(objects) == 1
    assert objects.crs.to_epsg() == 32608
    assert int(objects["npixel"].iloc[0]) == 40
    assert abs(objects["area_m2"].iloc[0] / 360 - 1) < 1e-3
    assert abs(objects.geometry.area.iloc[0] - 360) < 1e-6
    extent = gpd.read_file(folder / "prediction_extent.gpkg", layer="a tile")
    assert abs(extent.geometry.area.sum() - 32 * 19 * 9) < 1e-6

    area = float(objects["area_m2"].iloc[0])
    expected = {
        "objects": 1,
        "area_m2": area,
        "reliable_share": 19 / 20,
        "cloudy_share": None,
        "mean_probability": 0.75,
    }
    assert {name: manifest["summary"][name] for name in expected} == expected
    darts_export.remove_interrupted(Path(temporary))
    assert darts_export.find_exports(temporary) == [folder]
    assert darts_export.verify_export(folder).failures == {}
    darts_export.export_empty(folder, "the scene holds no data", tile_id="a tile", fingerprint="abc")
    assert darts_export.missing_outputs(folder, bands, fingerprint="abc") == "none"
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
