"""Two Sentinel-2 scenes with the pixels of Peel Plateau, and what the results of runs over them must share."""

import dataclasses
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import xarray as xr
from geopandas.testing import assert_geodataframe_equal
from odc.geo.geobox import GeoBox

from support.sentinel2 import Scene

JULY = "S2A_MSIL2A_20210721T210021_N0500_R100_T08WMA_20230201T010203"
AUGUST = "S2A_MSIL2A_20210821T210021_N0500_R100_T08WMA_20230201T010203"
UNKNOWN = JULY.replace("R100", "R101")
GEE_JULY = "20210721T210021_20210721T210020_T08WMA"
GEE_AUGUST = "20210821T210021_20210821T210020_T08WMA"
EDGE_PX = 240


def peel_scenes(shared_data: Path) -> tuple[Scene, Scene]:
    """Return the scenes as the Data Space delivers them; the second is cloudier."""
    with rasterio.open(next((shared_data / "peel").glob("S2_*.tif"))) as source:
        pixels, affine = source.read()[:, :EDGE_PX, :EDGE_PX], source.transform
    raw = {number: pixels[index] + 1000 for number, index in (("B02", 0), ("B03", 1), ("B04", 2), ("B08", 6))}
    raw["SCL"] = np.full((EDGE_PX // 2, EDGE_PX // 2), 4, "uint8")
    raw["SCL"][:20, :30] = 9
    place = {"left": affine.c, "top": affine.f}
    july = Scene(raw, name=JULY, gee_name=GEE_JULY, time="2021-07-21T21:00:21.024000Z", cloud=1.0, **place)
    later = {"name": AUGUST, "gee_name": GEE_AUGUST, "time": "2021-08-21T21:00:21.024000Z", "cloud": 8.0}
    return july, dataclasses.replace(july, **later)


def harmonised(scene: Scene) -> Scene:
    """Return a scene as Earth Engine's harmonised collection holds it: with the offset taken off."""
    raw = {number: values if number == "SCL" else values - 1000 for number, values in scene.raw.items()}
    return dataclasses.replace(scene, raw=raw)


def grid_of(scene: Scene) -> GeoBox:
    return GeoBox((EDGE_PX, EDGE_PX), scene.affine(10), scene.crs)


def statuses(records: Any) -> dict[str, str]:
    return {record.tile_id: record.status for record in records.tiles}


def assert_same_results(one: Path, other: Path) -> None:
    """Compare two folders of results file by file, and each file by what it holds."""
    names = {file.name for file in one.iterdir()}
    assert names == {file.name for file in other.iterdir()}
    assert "probabilities.tif" in names
    for name in names:
        if name.endswith(".tif"):
            with rasterio.open(one / name) as left, rasterio.open(other / name) as right:
                assert (left.transform, left.crs) == (right.transform, right.crs)
                np.testing.assert_array_equal(left.read(), right.read())
        elif name.endswith(".parquet"):
            tables = [gpd.read_parquet(folder / name) for folder in (one, other)]
            same = [table.drop(columns=["tile_id", "object_uid"], errors="ignore") for table in tables]
            assert_geodataframe_equal(*same)
        elif name.endswith(".nc"):
            with xr.open_dataset(one / name) as left, xr.open_dataset(other / name) as right:
                xr.testing.assert_equal(left, right)


@contextmanager
def no_network() -> Iterator[None]:
    """Let every attempt to reach another process over the network fail until the block ends."""

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"somebody asked {address} for something")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        yield
