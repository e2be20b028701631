"""Datacubes as smart-geocubes lays them out, and tiles of ArcticDEM as files, both with random content."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import rasterio
import zarr
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec

from darts_acquisition import CubeProduct, Window

NAMES = {
    "dem": "dem",
    "arcticdem_data_mask": "datamask",
    "tc_brightness": "TCB_slope",
    "tc_greenness": "TCG_slope",
    "tc_wetness": "TCW_slope",
}


def random_content(product: CubeProduct, shape: tuple[int, int], seed: int = 1) -> dict[str, np.ndarray]:
    """Return values for each variable of a product: elevations with holes, 0 and 1, or trends from 1 on."""
    random = np.random.default_rng(seed)
    if product.name == "tcvis":
        return {each.name: random.integers(1, 256, shape).astype("uint8") for each in product.variables}
    dem = random.normal(200, 90, shape).astype("float32")
    dem[random.random(shape) < 0.1] = np.nan
    return {"dem": dem, "arcticdem_data_mask": (np.isfinite(dem) & (random.random(shape) < 0.8)).astype("uint8")}


def write_smart_geocube(
    folder: Path,
    geobox: GeoBox,
    content: dict[str, np.ndarray],
    loaded: Sequence[str],
    *,
    title: str,
    chunk_px: int = 3600,
    fill_value: float = np.nan,
    listed_as: str = "loaded_patches",
    codecs: dict[str, Any] | None = None,
) -> Path:
    """Write a cube that was filled wholly, whatever is listed as loaded; `codecs` are options of zarr's arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr, about data types that are of no matter here
        repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)))
        session = repository.writable_session("main")
        group = zarr.create_group(session.store, attributes={"title": title, listed_as: list(loaded)})
        for axis, coordinate in zip(("y", "x"), geobox.coordinates.values(), strict=True):
            group.create_array(axis, data=coordinate.values)
        group.create_array("spatial_ref", shape=(), dtype="int32", attributes={"crs_wkt": geobox.crs.to_wkt()})
        for name, values in content.items():
            stored = values.astype(bool) if name == "arcticdem_data_mask" else values
            options = {"fill_value": fill_value} if name == "dem" else {}
            array = group.create_array(
                NAMES[name],
                shape=stored.shape,
                dtype=stored.dtype,
                chunks=(chunk_px, chunk_px),
                **({"compressors": [BloscCodec()]} if codecs is None else codecs),
                **options,
            )
            array[...] = stored
        session.commit("by another program")
    return folder


def write_tile(folder: Path, name: str, product: CubeProduct, window: Window, content: dict[str, np.ndarray]) -> Path:
    """Write a tile of the mosaic as two files; return that of the elevations."""
    folder.mkdir(parents=True, exist_ok=True)
    part = {key: values[window] for key, values in content.items()}
    files = {"dem": (part["dem"], -9999.0), "datamask": (part["arcticdem_data_mask"], None)}
    for kind, (values, nodata) in files.items():
        stored = np.where(np.isnan(values), np.float32(-9999), values) if kind == "dem" else values
        profile = {"driver": "GTiff", "count": 1, "dtype": stored.dtype, "nodata": nodata, "crs": "EPSG:3413"}
        profile |= {"height": stored.shape[0], "width": stored.shape[1], "transform": product.geobox[window].affine}
        with rasterio.open(folder / f"{name}_{kind}.tif", "w", **profile) as target:
            target.write(stored, 1)
    return folder / f"{name}_dem.tif"
