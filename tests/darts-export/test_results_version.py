"""Pixels and statistics that an export gives, and its files, against what the two versions stand for."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from darts_export import EXPORT_BANDS, FILES_VERSION, RESULTS_VERSION, export_tile
from darts_export.preview import make_preview
from darts_export.products import PREVIEW_FILE
from support.reference import assert_light, check_reference, waves

REFERENCE = Path(__file__).parent / "reference"
SHAPE = (60, 70)


def make_tile() -> xr.Dataset:
    """Layers in steps of 1/256, with objects that touch at corners and missing pixels."""
    geobox = GeoBox(SHAPE, Affine(3, 0, 500_001, 0, -3, 7_500_003), "EPSG:32608")
    tile = xr.Dataset(attrs={"tile_id": "tile-1", "time": "2021-08-21T21:00:19Z"})
    extent = np.ones(SHAPE, np.uint8)
    extent[:3], extent[30:35, 20:28] = 0, 0
    for name, right in (("", 7), ("-m", 11)):
        base = waves(SHAPE, (6, right, 120), (right, -5, 136))
        probabilities = np.where(extent == 1, base / 256, np.nan).astype(np.float32)
        tile[f"probabilities{name}"] = wrap_xr(probabilities, geobox)
        tile[f"binarized_segmentation{name}"] = wrap_xr(np.nan_to_num(probabilities) > 0.6, geobox)
    tile["extent"] = wrap_xr(extent, geobox)
    tile["quality_data_mask"] = wrap_xr((waves(SHAPE, (3, 5, 17)) % 3).astype(np.uint8), geobox)
    base = waves(SHAPE, (3, 5, 60), (2, 7, 68))
    for number, name in enumerate(("red", "green", "blue", "nir", "slope", "relative_elevation")):
        tile[name] = wrap_xr((base * (number + 2) % 128 / 256).astype(np.float32), geobox)
    for number, name in enumerate(("tc_brightness", "tc_greenness", "tc_wetness")):
        tile[name] = wrap_xr((base * (number + 2) % 256).astype(np.uint8), geobox)
    tile["red"].attrs["data_source"] = "PlanetScope"
    return tile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "tile"
    metadata = {"models": {"m": {"sha256": "00"}}}
    export_tile(make_tile(), folder, [*EXPORT_BANDS, "slope", "quality_data_mask"], ["m"], metadata)
    return folder


def test_reference_results(folder: Path) -> None:
    results = {"preview": make_preview(make_tile()).picture}
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as raster:
            if path.name != PREVIEW_FILE:  # Which pixels JPEG makes depends on its library.
                results[path.name] = raster.read()
            results[f"{path.name} no-data"] = np.array([str(value) for value in raster.nodatavals])
    for path in sorted(folder.glob("*.parquet")):
        frame = gpd.read_parquet(path)
        assert len(frame) > 0
        for name in frame.select_dtypes("number"):
            results[f"{path.name} {name}"] = frame[name].to_numpy()
        results[f"{path.name} bounds"] = frame.geometry.bounds.to_numpy()
        results[f"{path.name} shape area"] = frame.geometry.area.to_numpy()
    summary = make_summary(folder)
    check_reference(
        REFERENCE / "results.npz", results | summary, RESULTS_VERSION, "darts_export.version.RESULTS_VERSION"
    )


def make_summary(folder: Path) -> dict[str, np.ndarray]:
    from darts_export import read_manifest

    return {f"summary {name}": np.array(value) for name, value in read_manifest(folder)["summary"].items()}


def test_reference_files(folder: Path) -> None:
    files = {"names": np.array(sorted(path.name for path in folder.iterdir()))}
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as raster:
            files[f"{path.name} bands"] = np.array([text or "" for text in raster.descriptions])
            files[f"{path.name} tags"] = np.array(sorted(tag for tag in raster.tags() if tag.startswith("DARTS_")))
    for path in sorted(folder.glob("*.gpkg")):
        info = pyogrio.read_info(path, layer="tile-1")
        files[f"{path.name} columns"] = np.array([*info["fields"], info["geometry_type"]])
    for path in sorted(folder.glob("*.parquet")):
        frame = gpd.read_parquet(path)
        # How texts and times are held in memory depends on pandas.
        kinds = {name: dtype.name if dtype.kind in "iuf" else "" for name, dtype in frame.dtypes.items()}
        files[f"{path.name} columns"] = np.array([f"{name} {kind}".strip() for name, kind in kinds.items()])
    check_reference(REFERENCE / "files.npz", files, FILES_VERSION, "darts_export.version.FILES_VERSION")


def test_the_version_is_read_lightly() -> None:
    assert_light("darts_export")
