"""STAC items of quarterly mosaics: their names, their grid and their files.

Facts: Copernicus Data Space, "Sentinel-2 Global Mosaics". Names are such as ``Sentinel-2_mosaic_2023_Q3_08WMA_0_0``;
integers are int16, -32768 where there is no data, and reflectance is DN / 10000 without an offset.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from darts_acquisition.errors import SceneError, SceneGridError, SceneNameError
from darts_acquisition.scenes.bands import TILE_RESOLUTION, S2Band, select_bands
from darts_acquisition.scenes.metadata import in_utc, read_time
from darts_acquisition.scenes.raw import RawGrid, SceneMetadata
from darts_acquisition.scenes.selection import Source, check_scene_id
from darts_acquisition.sentinel2.item import grid_of, tile_of

SOURCE = "cdse-mosaic"
NODATA = -32768
SCALE = 1e-4
_LOW_QUALITY_LOOKS = 3
"""Up to so many looks a pixel is of low quality."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_QUARTER = re.compile(r"_(\d{4})_Q[1-4](?:_|$)")
_TILE = re.compile(r"_T?(\d{2}[A-Z]{3})(?:_|$)")
_SCENE_SOURCES: tuple[Source, ...] = ("cdse", "gee")
_EXAMPLE = "Sentinel-2_mosaic_2023_Q3_08WMA_0_0"


def check_mosaic_id(name: str) -> str:
    """Return the name of a mosaic as the Data Space writes it.

    Raises:
        SceneNameError: If it is none: it could be no folder's name, or it is that of a scene.
    """
    name = name.strip()
    for source in _SCENE_SOURCES:
        try:
            check_scene_id(name, source)
        except SceneNameError:
            continue
        raise SceneNameError(
            f"{name!r} is a scene (raw_data_source {source!r}); expected a mosaic, such as {_EXAMPLE}."
        )
    if not _PLAIN_NAME.fullmatch(name):
        raise SceneNameError(f"{name!r} is no name of a quarterly mosaic; expected one such as {_EXAMPLE}.")
    return name


def year_of_mosaic(name: str) -> int | None:
    """Return the year that a mosaic's name holds, None where it holds none.

    Examples:
        >>> year_of_mosaic("Sentinel-2_mosaic_2023_Q3_08WMA_0_0")
        2023
    """
    match = _QUARTER.search(name)
    return int(match[1]) if match else None


def tile_of_mosaic(name: str, properties: Mapping[str, Any] | None = None) -> str:
    """Return the MGRS tile of a mosaic, which its item or its name says; empty where neither does."""
    match = _TILE.search(name)
    return tile_of(properties or {}) or (match[1] if match else "")


def metadata_of(item: Mapping[str, Any]) -> SceneMetadata:
    """Return what an item says of a mosaic besides its files. Where the sun stood is not known.

    Raises:
        SceneError: If it does not say when the quarter begins.
    """
    name, properties = str(item["id"]), item["properties"]
    attrs = {
        "time": in_utc(begin_of(item)),
        "s2_source": SOURCE,
        "s2_scene_id": name,
    }
    tile = tile_of_mosaic(name, properties)
    return SceneMetadata(SOURCE, name, attrs | ({"s2_mgrs_tile": tile} if tile else {}))


def begin_of(item: Mapping[str, Any]) -> Any:
    """Return when the quarter of a mosaic begins, a datetime in UTC.

    Raises:
        SceneError: If the item does not say it.
    """
    properties = item["properties"]
    return read_time(properties.get("start_datetime") or properties.get("datetime"), f"Scene {item['id']}")


def asset_of(item: Mapping[str, Any], band: S2Band) -> Mapping[str, Any]:
    """Return the asset of a band: the one that bears its name (``B02``, ``B02_10m``), or says so of its band.

    Raises:
        SceneError: If there is none, or several. The message lists what there is.
    """
    assets, number = item.get("assets", {}), band.number.lower()
    exact = [name for name in assets if name.lower() == number]
    longer = [name for name in assets if name.lower().startswith(f"{number}_")]
    described = [name for name, asset in assets.items() if number in _named_bands(asset)]
    found = exact or longer or described
    if len(found) != 1 or not isinstance(assets[found[0]].get("href"), str):
        have = ", ".join(sorted(assets)) or "none"
        raise SceneError(f"Mosaic {item['id']}: expected one asset {band.number} with an address; it has {have}.")
    asset: Mapping[str, Any] = assets[found[0]]
    return asset


def _named_bands(asset: Mapping[str, Any]) -> set[str]:
    bands = asset.get("bands") or asset.get("eo:bands") or []
    return {str(band.get("name", "")).lower() for band in bands if isinstance(band, dict)} if len(bands) == 1 else set()


def grid_of_mosaic(item: Mapping[str, Any]) -> RawGrid:
    """Return the grid that all bands of a mosaic share, as the item says it.

    Raises:
        SceneError: If the item does not say it.
        SceneGridError: If it says several.
    """
    grids = {
        band.number: grid_of(
            asset_of(item, band), item["properties"], f"Mosaic {item['id']}, asset {band.number}", (SCALE, 0.0)
        )
        for band in MOSAIC_BANDS
    }
    if len(set(grids.values())) > 1:
        listed = "; ".join(f"{number}: {grid.crs}, {grid.transform}, {grid.shape}" for number, grid in grids.items())
        raise SceneGridError(f"Mosaic {item['id']}: its bands lie on different grids: {listed}.")
    return grids[OBSERVATIONS.number]


def quality_from_observations(observations: np.ndarray) -> np.ndarray:
    """Return the data quality that follows from how often the satellites saw a pixel.

    Args:
        observations: Number of looks, any shape, integers; 0 and less for none.

    Returns:
        uint8 of the same shape: 0 without a look, 1 for one to three, 2 for more.
    """
    quality = (observations > 0).astype(np.uint8)
    quality += observations > _LOW_QUALITY_LOOKS
    return quality


OBSERVATIONS = S2Band(
    "observations", "observations", TILE_RESOLUTION, "int16", "number of looks", quality=quality_from_observations
)
OPTICAL = tuple(replace(band, dtype="int16", nodata=NODATA) for band in select_bands())
"""Blue, green, red and nir: all that a mosaic has."""
MOSAIC_BANDS = (*OPTICAL, OBSERVATIONS)
