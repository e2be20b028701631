"""Synthetic PlanetScope deliveries and a small datacube."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from darts_acquisition import CubeProduct, CubeVariable, Datacube

SCENE = "20210821_210019_08_2405"
ORTHOTILE = "5790392_4372514_2022-07-16_2459"
GRID = Affine(3, 0, 500_001, 0, -3, 7_600_002)


class Delivery:
    """A folder that looks like one of Planet's, whose files a test can replace by damaged ones."""

    def __init__(self, folder: Path, shape: tuple[int, int] = (6, 5)) -> None:
        self.folder = folder
        self.shape = shape
        self.prefix = folder.name
        folder.mkdir(parents=True)

    def file(self, ending: str) -> Path:
        return self.folder / f"{self.prefix}{ending}"

    def image(self, values: np.ndarray | None = None, ending: str = "_3B_AnalyticMS_SR.tif", **profile: Any) -> Path:
        if values is None:
            values = np.arange(1, 1 + 4 * self.shape[0] * self.shape[1], dtype="uint16").reshape(4, *self.shape)
        return self._write(self.file(ending), values, **profile)

    def mask(self, values: np.ndarray | None = None, ending: str = "_3B_udm2.tif", **profile: Any) -> Path:
        if values is None:
            values = np.zeros((8, *self.shape), "uint8")
            values[0] = 1
        return self._write(self.file(ending), values, **profile)

    def metadata(self, content: Any = None, ending: str = "_metadata.json") -> Path:
        if content is None:
            content = {"id": self.prefix, "properties": {"acquired": "2021-08-21T21:00:19.08Z", "sun_azimuth": 178.5}}
            content["properties"]["sun_elevation"] = 33.25
        text = content if isinstance(content, str) else json.dumps(content)
        self.file(ending).write_text(text, encoding="utf-8")
        return self.file(ending)

    def complete(self) -> "Delivery":
        self.image()
        self.mask()
        self.metadata()
        return self

    @staticmethod
    def _write(
        file: Path,
        values: np.ndarray,
        names: tuple[str | None, ...] | None = None,
        colours: tuple[str, ...] | None = None,
        valid: np.ndarray | None = None,
        **profile: Any,
    ) -> Path:
        """Write bands with their names, colours, and where they are valid as GDAL's mask."""
        settings = {"crs": "EPSG:32608", "transform": GRID} | profile
        settings = {name: value for name, value in settings.items() if value is not None}
        count, height, width = values.shape
        with rasterio.open(
            file, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, **settings
        ) as target:
            if colours is not None:
                target.colorinterp = [ColorInterp[colour] for colour in colours]
            target.write(values)
            if names is not None:
                target.descriptions = names
            if valid is not None:
                target.write_mask(valid)
        return file


@pytest.fixture
def delivery(tmp_path: Path) -> Callable[..., Delivery]:
    """Make a folder of a scene, or one of another name, below the test's folder."""

    def make(name: str = SCENE, shape: tuple[int, int] = (6, 5)) -> Delivery:
        return Delivery(tmp_path / name, shape)

    return make


@pytest.fixture(scope="session")
def product() -> CubeProduct:
    """A product of 5 × 6 chunks, the last of which in each direction are cut off."""
    return CubeProduct(
        name="terrain",
        version="1",
        collection="terrain-100m",
        geobox=GeoBox((70, 90), Affine(100, 0, -2_000_000, 0, -100, 1_000_000), "EPSG:3413"),
        variables=(
            CubeVariable("height", "float32", float("nan"), "height", "m"),
            CubeVariable("kind", "uint8", 0, "kind of ground"),
        ),
        chunk_px=16,
        inner_px=8,
    )


@pytest.fixture
def cube(tmp_path: Path, product: CubeProduct) -> Datacube:
    return Datacube.create(tmp_path / "cube.icechunk", product)
