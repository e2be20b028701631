"""A provider of quarterly mosaics on 127.0.0.1: a STAC API and COGs over HTTP, and an independent reading of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.shutil import copy

from support.file_server import serve_files
from support.local_server import LocalServer
from support.s3_server import KEYS
from support.stac_server import serve_stac

SUMMER, AUTUMN = (f"Sentinel-2_mosaic_{quarter}_08WMA_0_0" for quarter in ("2023_Q3", "2023_Q4"))
CRS, GRID = "EPSG:32608", Affine(10, 0, 500_000, 0, -10, 7_600_000)
BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
HOLE = -32768


@dataclass
class Mosaics:
    """Mosaics in a folder, and their STAC items.

    Attributes:
        folder: Where the files lie.
        items: The items; their addresses begin with `address`.
    """

    folder: Path
    items: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        name: str = SUMMER,
        size: int = 64,
        seed: int = 0,
        tag: int | None = HOLE,
        looks: str = "int16",
        looks_tag: int | None = None,
    ) -> dict[str, Any]:
        """Make a mosaic of random integers with holes and looks, and return its item.

        Args:
            name: Its name.
            size: Edge in pixels.
            seed: Of the random numbers.
            tag: Value of no data that the files name; the holes hold it, and -32768 as well.
            looks: Data type of the observations.
            looks_tag: Value of no data that the file of the observations names.
        """
        random = np.random.default_rng(seed)
        assets = {}
        for band in (*BANDS, "observations"):
            values = random.integers(-200, 9000, (size, size)).astype("int16")
            values[random.random(values.shape) < 0.02] = 0
            for hole in {HOLE, HOLE if tag is None else tag}:
                values[random.random(values.shape) < 0.03] = hole
            values[10:30, 30:50] = 9000 if band == "B08" else 800
            values[:5, :7] = HOLE if tag is None else tag
            named = tag
            if band == "observations":
                values, named = random.integers(0, 8, (size, size)).astype(looks), looks_tag
                values[10:30, 30:50] = 9
                if looks_tag is not None:
                    values[40:44, :9] = looks_tag
            file = self.write(f"{name}_{band}.tif", values, named)
            assets[band] = {"href": file.name, "type": "image/tiff", "file:size": file.stat().st_size}
        corners = [GRID * corner for corner in ((0, 0), (0, size), (size, size), (size, 0), (0, 0))]
        lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(*np.transpose(corners))
        year, month = name.split("_")[2], 3 * int(name.split("_Q")[1][0]) - 2
        item = {
            "type": "Feature",
            "stac_version": "1.1.0",
            "collection": "sentinel-2-global-mosaics",
            "id": name,
            "geometry": {"type": "Polygon", "coordinates": [np.column_stack([lon, lat]).tolist()]},
            "properties": {
                "datetime": f"{year}-{month:02}-01T00:00:00Z",
                "proj:code": CRS,
                "proj:shape": [size, size],
                "proj:transform": list(GRID)[:6],
            },
            "links": [],
            "assets": assets,
        }
        self.items.append(item)
        return item

    def write(self, file: str, values: np.ndarray, nodata: int | None) -> Path:
        """Write a COG, also in the place of one."""
        profile = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", crs=CRS, transform=GRID, nodata=nodata, **profile) as target:
                target.write(values, 1)
            options = {"compress": "DEFLATE", "predictor": "YES", "blocksize": 128}
            copy(memory.name, self.folder / file, driver="COG", **options)
        return self.folder / file

    def truth(self, name: str = SUMMER) -> dict[str, np.ndarray]:
        """Read a mosaic with rasterio: reflectance by name of the band, and quality."""
        truth, holes = {}, []
        for band, variable in BANDS.items():
            with rasterio.open(self.folder / f"{name}_{band}.tif") as source:
                values, nodata = source.read(1), source.nodata
            empty = (values == HOLE) | (values == (HOLE if nodata is None else nodata))
            truth[variable] = np.where(empty, np.nan, values.astype("float64") / 10_000).astype("float32")
            holes.append(empty)
        with rasterio.open(self.folder / f"{name}_observations.tif") as source:
            looks = source.read(1, masked=True).astype("int64").filled(0)
        quality = np.select([(looks <= 0) | np.any(holes, axis=0), looks <= 3], [0, 1], 2)
        return truth | {"quality_data_mask": quality.astype("uint8")}

    @contextmanager
    def serving(self) -> Iterator[tuple[LocalServer, LocalServer]]:
        """Serve files and items until the block ends; the environment names the STAC API meanwhile."""
        with serve_files(self.folder) as files, serve_stac(self.items) as stac, pytest.MonkeyPatch.context() as patch:
            for item in self.items:
                for asset in item["assets"].values():
                    asset["href"] = f"{files.url}/{Path(asset['href']).name}"
            patch.setenv("DARTS_CDSE_STAC_URL", stac.url)
            for key, value in KEYS.items():
                patch.setenv(key.upper(), value)
            yield files, stac
