"""A provider of ArcticDEM-like mosaics on 127.0.0.1: a STAC API, GeoTIFFs over HTTP, and what they hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.merge import merge
from rasterio.shutil import copy

from darts_acquisition import ArcticDEMSettings, CubeProduct, CubeVariable, RequestLimits, RetryPolicy, Window
from support.file_server import serve_files
from support.local_server import LocalServer

NODATA = -9999.0


def small_product(rows: int = 300, cols: int = 400, chunk_px: int = 64, inner_px: int = 32) -> CubeProduct:
    """A piece of the mosaic at 32 m, in chunks that are quick to fetch."""
    return CubeProduct(
        name="arcticdem",
        version="v4.1",
        collection="arcticdem-mosaics-v4.1-32m",
        geobox=GeoBox((rows, cols), Affine(32, 0, -2_400_000, 0, -32, 200_000), "EPSG:3413"),
        variables=(
            CubeVariable("dem", "float32", float("nan"), "elevation", "m"),
            CubeVariable("arcticdem_data_mask", "uint8", 0, "data mask"),
        ),
        chunk_px=chunk_px,
        inner_px=inner_px,
    )


class Provider:
    """Tiles on a grid, as files and as STAC items.

    Attributes:
        items: The STAC items; their addresses begin with `address`.
    """

    def __init__(self, folder: Path, product: CubeProduct) -> None:
        self.folder, self.product = folder, product
        self.items: list[dict[str, Any]] = []
        self.address = ""
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        name: str,
        window: Window,
        seed: int = 0,
        holes: bool = True,
        shift_px: float = 0.0,
        crs: str = "EPSG:3413",
        **options: Any,
    ) -> None:
        """Make a tile of random heights on a window of the product's grid, which may reach beyond its edges."""
        random = np.random.default_rng(seed)
        dem = random.normal(300, 50, window.shape).astype("float32")
        mask = (random.random(window.shape) < 0.8).astype("uint8")
        if holes:
            dem[random.random(window.shape) < 0.1] = NODATA
            dem[: window.shape[0] // 3, : window.shape[1] // 3] = NODATA
            mask[: window.shape[0] // 3, : window.shape[1] // 3] = 0
        grid = self.product.geobox.affine * Affine.translation(window.cols.start + shift_px, window.rows.start)
        self._write(f"{name}_dem.tif", dem, NODATA, grid, crs, options)
        self._write(f"{name}_datamask.tif", mask, 0, grid, crs, options)
        self.items.append(self._item(name, grid, window.shape))

    def _write(
        self, file: str, values: np.ndarray, nodata: float, grid: Affine, crs: str, options: dict[str, Any]
    ) -> None:
        profile = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", crs=crs, transform=grid, nodata=nodata, **profile) as target:
                target.write(values, 1)
            settings = {"compress": "LZW", "blocksize": 128, "predictor": "YES"} | options
            copy(memory.name, self.folder / file, driver="COG", **settings)

    def _item(self, name: str, grid: Affine, shape: tuple[int, int]) -> dict[str, Any]:
        """Make an item like the provider's: the footprint has the tile's corners and no point more."""
        corners = [grid * corner for corner in ((0, 0), (0, shape[0]), (shape[1], shape[0]), (shape[1], 0), (0, 0))]
        lon, lat = Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(*np.transpose(corners))
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "stac_extensions": [],
            "id": name,
            "collection": self.product.collection,
            "geometry": {"type": "Polygon", "coordinates": [np.column_stack([lon, lat]).tolist()]},
            "bbox": [lon.min(), lat.min(), lon.max(), lat.max()],
            "properties": {"datetime": "2022-01-01T00:00:00Z"},
            "links": [],
            "assets": {
                asset: {"href": f"{self.address}/{name}_{asset}.tif", "type": "image/tiff; application=geotiff"}
                for asset in ("dem", "datamask")
            },
        }

    def truth(self, window: Window) -> dict[str, np.ndarray]:
        """Mosaic the files of a window with rasterio: where several have data, the first by name counts."""
        grid = self.product.geobox
        right, bottom = grid.affine * (window.cols.stop, window.rows.stop)
        left, top = grid.affine * (window.cols.start, window.rows.start)
        found = {}
        for variable, asset in zip(self.product.variables, ("dem", "datamask"), strict=True):
            files = sorted(self.folder.glob(f"*_{asset}.tif"))
            nodata = NODATA if asset == "dem" else 0
            mosaic, _ = merge(files, bounds=(left, bottom, right, top), nodata=nodata, method="first", res=32)
            values = mosaic[0].astype(variable.dtype)
            if asset == "dem":
                values[values == NODATA] = np.nan
            found[variable.name] = values
        return found

    @contextmanager
    def serving(self) -> Iterator["Service"]:
        """Serve what was added and will be added until the block ends."""
        from support.stac_server import serve_stac  # needs cql2, which not all tests have

        with serve_files(self.folder) as files, serve_stac(self.items, page_size=2) as api:
            self.address = files.url
            for item in self.items:
                for asset, content in item["assets"].items():
                    content["href"] = f"{files.url}/{item['id']}_{asset}.tif"
            yield Service(files, api)


class Service:
    """The running servers of a provider."""

    def __init__(self, files: LocalServer, api: LocalServer) -> None:
        self.files, self.api = files, api

    def settings(self, **limits: Any) -> ArcticDEMSettings:
        """Return settings that lead here, and never wait."""
        chosen = {
            "parallel": 4,
            "timeout_s": 5.0,
            "retry": RetryPolicy(attempts=4, sleep=lambda seconds: None),
        } | limits
        return ArcticDEMSettings(stac_url=self.api.url, limits=RequestLimits(**chosen))

    def requests(self) -> int:
        return len(self.files.requests) + len(self.api.requests)
