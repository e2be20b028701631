"""Write a landscape as Planet would deliver it."""

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.warp import transform

from darts_demo.landscape import Landscape
from darts_utils import OPTICAL_BANDS

UDM_NAMES = ("clear", "snow", "shadow", "haze_light", "haze_heavy", "cloud", "confidence", "udm1")
_SCALE = 10_000


def scene_id(landscape: Landscape) -> str:
    """Return the name that Planet would give the image: time, hundredths, satellite."""
    return f"{landscape.time:%Y%m%d_%H%M%S}_{landscape.seed % 100:02d}_{landscape.seed % 0x10000:04x}"


def write_planet_scene(landscape: Landscape, scenes_dir: Path) -> Path:
    """Write a landscape's image in PlanetScope's file layout.

    Returns:
        The scene's folder, with ``*_3B_AnalyticMS_SR.tif`` (uint16, reflectance × 10000, 0 where there is no data),
        ``*_3B_udm2.tif`` (eight bands, uint8) and ``*_metadata.json``.
    """
    name = scene_id(landscape)
    folder = scenes_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.nan_to_num(np.round(landscape.reflectance * _SCALE)).clip(0, 65535).astype(np.uint16)
    _write(folder / f"{name}_3B_AnalyticMS_SR.tif", landscape, numbers, OPTICAL_BANDS, nodata=0)
    _write(folder / f"{name}_3B_udm2.tif", landscape, landscape.udm, UDM_NAMES)
    text = json.dumps(_metadata(landscape, name), indent=1) + "\n"
    (folder / f"{name}_metadata.json").write_text(text, encoding="utf-8")
    return folder


def _write(
    path: Path, landscape: Landscape, bands: np.ndarray, names: tuple[str, ...], nodata: float | None = None
) -> None:
    geobox = landscape.geobox
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1}
    if bands.dtype == np.uint16:
        layout["predictor"] = 2
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=landscape.size,
        height=landscape.size,
        count=len(bands),
        dtype=bands.dtype,
        crs=str(geobox.crs),
        transform=geobox.affine,
        nodata=nodata,
        **layout,
    ) as file:
        file.write(bands)
        file.descriptions = names


def _metadata(landscape: Landscape, name: str) -> dict:
    """Planet's GeoJSON feature."""
    shares = landscape.udm[[0, 5]].reshape(2, -1).mean(axis=1)
    geobox = landscape.geobox
    left, bottom, right, top = geobox.boundingbox.bbox
    corners = [left, left, right, right, left], [top, bottom, bottom, top, top]
    outline = zip(*transform(str(geobox.crs), "EPSG:4326", *corners), strict=True)
    return {
        "id": name,
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[round(x, 6), round(y, 6)] for x, y in outline]]},
        "properties": {
            "acquired": f"{landscape.time:%Y-%m-%dT%H:%M:%S}Z",
            "clear_percent": round(100 * float(shares[0])),
            "cloud_cover": round(float(shares[1]), 2),
            "gsd": 3,
            "instrument": "PS2.SD",
            "item_type": "PSScene",
            "pixel_resolution": 3,
            "provider": "made up by darts.demo",
            "quality_category": "test",
            "satellite_id": f"{landscape.seed % 0x10000:04x}",
            "strip_id": str(landscape.seed),
            "sun_azimuth": round(landscape.azimuth, 1),
            "sun_elevation": round(landscape.elevation, 1),
            "view_angle": 0.0,
        },
    }
