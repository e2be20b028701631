"""Sentinel-2 L2A scenes as the two sources hold them: STAC items with JPEG 2000 files in object storage, and images of
the stand-in for Earth Engine."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from pyproj import Transformer

from darts_acquisition.io.retry import RetryPolicy
from darts_acquisition.io.settings import CDSESettings, RequestLimits, S3Settings
from darts_acquisition.scenes.raw import REFLECTANCE_BANDS, SCL
from support.earth_images import EarthImage
from support.s3_server import S3Server

CDSE_NAME = "S2A_MSIL2A_20210821T210021_N0500_R100_T08WMA_20230201T010203"
GEE_NAME = "20210821T210021_20210821T210020_T08WMA"
BUCKET = "eodata"
LEFT, TOP = 400_020.0, 7_600_020.0
NO_NAPS = RetryPolicy(attempts=3, sleep=lambda seconds: None)
HARMONIZED = "COPERNICUS/S2_SR_HARMONIZED"


@dataclass
class Scene:
    """What a satellite saw: raw integers by band number, and what is known of them.

    Attributes:
        raw: Raw integers by ESA's band number, each at its own resolution; "SCL" among them.
        name: The Data Space's name.
        offset: Offset of the reflectance.
    """

    raw: dict[str, np.ndarray]
    name: str = CDSE_NAME
    gee_name: str = GEE_NAME
    time: str = "2021-08-21T21:00:21.024000Z"
    tile: str = "08WMA"
    crs: str = "EPSG:32608"
    left: float = LEFT
    top: float = TOP
    offset: float = -0.1
    baseline: str = "05.00"
    cloud: float = 3.5
    snow: float = 0.5
    sun: tuple[float, float] = (178.5, 33.25)
    properties: dict[str, Any] = field(default_factory=dict)

    def affine(self, resolution: int) -> Affine:
        return Affine(resolution, 0, self.left, 0, -resolution, self.top)

    @property
    def footprint(self) -> list[list[float]]:
        height, width = self.raw["SCL"].shape
        right, bottom = self.left + 20 * width, self.top - 20 * height
        corners = [
            (self.left, self.top),
            (right, self.top),
            (right, bottom),
            (self.left, bottom),
            (self.left, self.top),
        ]
        transformer = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        return [list(transformer.transform(*corner)) for corner in corners]


def random_scene(edge: int = 60, seed: int = 0, bands: tuple[str, ...] | None = None, **facts: Any) -> Scene:
    """Make a scene of random integers; `edge` in pixels of 10 m is a multiple of 6."""
    rng = np.random.default_rng(seed)
    raw = {}
    for band in REFLECTANCE_BANDS:
        if bands is None or band.number in bands:
            size = edge // band.factor
            raw[band.number] = rng.integers(0, 9000, (size, size), dtype="uint16")
            raw[band.number][rng.random((size, size)) < 0.02] = 0
    raw["SCL"] = rng.integers(0, 12, (edge // 2, edge // 2), dtype="uint8")
    return Scene(raw, **facts)


def write_jp2(file: Path, values: np.ndarray, crs: str, affine: Affine) -> Path:
    """Write a lossless JPEG 2000 file."""
    height, width = values.shape
    profile = {"driver": "JP2OpenJPEG", "count": 1, "height": height, "width": width, "dtype": values.dtype}
    options = {"REVERSIBLE": "YES", "QUALITY": "100", "RESOLUTIONS": "1", "BLOCKXSIZE": 1024, "BLOCKYSIZE": 1024}
    with rasterio.open(file, "w", **profile, **options, crs=crs, transform=affine) as target:
        target.write(values, 1)
    return file


def publish(scene: Scene, s3: S3Server, folder: Path) -> dict[str, Any]:
    """Put a scene's files into object storage, and return its STAC item in the Data Space's layout."""
    key = f"Sentinel-2/MSI/L2A/{scene.time[:10].replace('-', '/')}/{scene.name}.SAFE/GRANULE/IMG_DATA"
    assets = {}
    for band in (*REFLECTANCE_BANDS, SCL):
        if band.number not in scene.raw:
            continue
        values, affine = scene.raw[band.number], scene.affine(band.resolution)
        name = f"T{scene.tile}_{scene.name[11:26]}_{band.cdse_asset}.jp2"
        file = write_jp2(folder / f"{scene.name}-{name}", values, scene.crs, affine)
        content = file.read_bytes()
        height, width = values.shape
        asset = {
            "type": "image/jp2",
            "data_type": band.dtype,
            "nodata": 0,
            "gsd": band.resolution,
            "proj:code": scene.crs,
            "proj:shape": [height, width],
            "proj:transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
            "file:checksum": "1620" + hashlib.sha3_256(content).hexdigest(),
            "file:size": len(content),
            "href": s3.upload(file, BUCKET, f"{key}/{name}"),
        }
        if band is not SCL:
            asset |= {"raster:scale": 0.0001, "raster:offset": scene.offset}
        assets[band.cdse_asset] = asset
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "collection": "sentinel-2-l2a",
        "id": scene.name,
        "properties": {
            "datetime": scene.time,
            "platform": "sentinel-2a",
            "processing:version": scene.baseline,
            "eo:cloud_cover": scene.cloud,
            "eo:snow_cover": scene.snow,
            "grid:code": f"MGRS-{scene.tile}",
            "view:sun_azimuth": scene.sun[0],
            "view:sun_elevation": scene.sun[1],
        }
        | scene.properties,
        "geometry": {"type": "Polygon", "coordinates": [scene.footprint]},
        "links": [],
        "assets": assets,
    }


def earth_image(scene: Scene, collection: str = HARMONIZED) -> EarthImage:
    """Return a scene as an image of the stand-in for Earth Engine; no data is masked there."""
    bands = {}
    for band in (*REFLECTANCE_BANDS, SCL):
        if band.number in scene.raw:
            values = scene.raw[band.number]
            bands[band.gee_band] = np.ma.MaskedArray(values, values == 0)
    start = datetime.fromisoformat(scene.time).timestamp() * 1000
    return EarthImage(
        f"{collection}/{scene.gee_name}",
        bands,
        scene.affine(10),
        scene.crs,
        {
            "system:time_start": round(start),
            "MGRS_TILE": scene.tile,
            "CLOUDY_PIXEL_PERCENTAGE": scene.cloud,
            "SNOW_ICE_PERCENTAGE": scene.snow,
            "MEAN_SOLAR_AZIMUTH_ANGLE": scene.sun[0],
            "MEAN_SOLAR_ZENITH_ANGLE": 90 - scene.sun[1],
            "SPACECRAFT_NAME": "Sentinel-2A",
            "PROCESSING_BASELINE": scene.baseline,
        },
    )


def cdse_settings(stac_url: str, s3_url: str, retry: RetryPolicy = NO_NAPS) -> CDSESettings:
    """Return settings that point to servers of the tests, and never wait."""
    return CDSESettings(
        stac_url=stac_url,
        s3=S3Settings(endpoint_url=s3_url, region="us-east-1"),
        limits=RequestLimits(parallel=4, timeout_s=10, retry=retry),
    )


def expected_reflectance(raw: np.ndarray, offset: float, factor: int = 1) -> np.ndarray:
    """Compute reflectance in float64, brought to 10 m by nearest neighbour."""
    values = raw.astype("float64") * 1e-4 + offset
    values[raw == 0] = np.nan
    return np.kron(values, np.ones((factor, factor)))
