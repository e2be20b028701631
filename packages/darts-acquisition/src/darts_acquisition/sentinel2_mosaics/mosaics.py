"""Quarterly mosaics of the Copernicus Data Space: search, download, load.

Facts: Copernicus Data Space, "Sentinel-2 Global Mosaics". Names are such as ``Sentinel-2_mosaic_2023_Q3_08WMA_0_0``;
integers are int16, -32768 where there is no data, and reflectance is DN / 10000 without an offset.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.errors import SceneError, SceneGridError, SceneNameError, SceneNotFoundError
from darts_acquisition.io.raster import Layer, RasterReader
from darts_acquisition.io.settings import CDSEMosaicSettings
from darts_acquisition.io.store import Store, find_credentials
from darts_acquisition.scenes.download import Provider, SceneSource
from darts_acquisition.scenes.geometry import Area
from darts_acquisition.scenes.names import Source, as_text, check_scene_id, mgrs_tile_geobox, tile_of_item
from darts_acquisition.scenes.raw import (
    TILE_RESOLUTION,
    RawBand,
    RawGrid,
    S2Band,
    SceneMetadata,
    grid_of,
    scene_metadata,
    select_bands,
    tile_geobox,
    time_of_item,
)
from darts_acquisition.scenes.search import (
    FIRST_YEAR,
    Found,
    Interval,
    Selection,
    Target,
    find_items,
    in_groups,
    interval_of_months,
    scene_table,
    whole_numbers,
)
from darts_acquisition.tile import AnyPath, BandNames
from darts_utils import ParameterError, step

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr

_TIMES = ("start_datetime", "datetime")
"""Properties of an item that say when its quarter begins."""
_LOW_QUALITY_LOOKS = 3
"""Up to so many looks a pixel is of low quality."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_QUARTER = re.compile(r"_(\d{4})_Q[1-4](?:_|$)")
_TILE = re.compile(r"_T?(\d{1,2}[A-Z]{3})(?:_|$)")
_SCENE_SOURCES: tuple[Source, ...] = ("cdse", "gee")
_EXAMPLE = "Sentinel-2_mosaic_2023_Q3_08WMA_0_0"


def quality_from_observations(observations: np.ndarray) -> np.ndarray:
    """Return the data quality (uint8) of numbers of looks: 0 without one, 1 for one to three, 2 for more."""
    quality = (observations > 0).astype(np.uint8)
    quality += observations > _LOW_QUALITY_LOOKS
    return quality


OBSERVATIONS = S2Band(
    "observations", "observations", TILE_RESOLUTION, "int16", "number of looks", quality=quality_from_observations
)
MOSAIC_BANDS = (*(replace(band, dtype="int16", nodata=-32768) for band in select_bands()), OBSERVATIONS)
"""Blue, green, red, nir, and the looks: all that a mosaic has."""


def search_cdse_s2_mosaics(
    *,
    scene_ids: Sequence[str] | None = None,
    tile_ids: Sequence[str] | None = None,
    aoi: "gpd.GeoDataFrame | Area | None" = None,
    quarters: Sequence[int] | None = None,
    years: Sequence[int] | None = None,
    settings: CDSEMosaicSettings | None = None,
) -> "gpd.GeoDataFrame":
    """Find quarterly Sentinel-2 mosaics in the Copernicus Data Space. All conditions that are given hold at once.

    `quarters` are from 1 to 4; alone they mean those of every year, and `years` alone all of their quarters. `settings`
    are `CDSEMosaicSettings.from_environment` if None; for the other arguments see :func:`search_cdse_s2_sr`.

    Returns:
        One row per mosaic, sorted by its name, which is the index `scene_id`, with the columns of `search_cdse_s2_sr`:
        `time` is the begin of the quarter (UTC), `cloud_cover` and `snow_cover` are NaN.

    Raises:
        DartsError: All that `search_cdse_s2_sr` raises.
    """
    intervals = quarter_intervals(quarters, years)
    target = Target.of(check_mosaic_id, scene_ids, tile_ids, aoi, "mosaics")
    return scene_table([row for _, row in _find(target, intervals, settings)])


def download_cdse_s2_mosaic(scene_id: str, store: AnyPath, *, settings: CDSEMosaicSettings | None = None) -> None:
    """Bring a quarterly mosaic of the Copernicus Data Space into the local store; one that is there stays as it is.

    For arguments see :func:`download_cdse_s2_sr_scene`; there are no bands to choose.

    Raises:
        SceneNameError: If the name is none of a mosaic.
        SceneNotFoundError: If the Data Space does not know the mosaic.
        LoginError: If there are no keys for the object storage, or they are refused.
        ServiceError: If a service refuses or fails, or a file is not what the collection's description says.
        SceneError: If the item lacks a band or the grid. The message lists its assets.
    """
    CDSEMosaicSource(settings).download(scene_id, store)


def load_cdse_s2_mosaic(
    scene_id: str, store: AnyPath | None = None, *, offline: bool = False, settings: CDSEMosaicSettings | None = None
) -> "xr.Dataset":
    """Load a quarterly mosaic of the Copernicus Data Space as a tile; what is not in the store is fetched first.

    For arguments see :func:`load_cdse_s2_sr_scene`; there are no bands to choose.

    Returns:
        Dataset with dimensions (y, x) at 10 m in the mosaic's UTM zone: `blue`, `green`, `red` and `nir` as float32
        surface reflectance (1, DN / 10000, NaN where there is no data), and `quality_data_mask` (uint8): 0 without a
        look or without data in a band, 1 for one to three looks, 2 for more. Attributes: `tile_id` (the mosaic's name),
        `time` (begin of the quarter, ISO 8601 UTC), `azimuth` and `elevation` of the sun (NaN, as a mosaic shows
        many), and the source's own as `s2_*`.

    Raises:
        EmptySceneError: If no pixel of any band has data.
        SceneNotStoredError: If the mosaic is not in the store, offline.
        RawStoreError: If the stored mosaic is damaged.
        DartsError: All that `download_cdse_s2_mosaic` raises.
    """
    return CDSEMosaicSource(settings).load(scene_id, store, offline=offline)


class MosaicProvider:
    """The Copernicus Data Space as a provider of raw mosaics."""

    name = "cdse-mosaic"
    data_source = "Sentinel-2 L3 quarterly mosaic"

    def __init__(self, settings: CDSEMosaicSettings | None = None) -> None:
        self._settings = settings or CDSEMosaicSettings.from_environment()

    def grid(self, scene_id: str) -> RawGrid:
        """Return the grid as the catalogue says it, see `Provider`."""
        return _grid_of_mosaic(self._item(scene_id))

    def fetch(self, scene_id: str, bands: Sequence[S2Band], _folder: Path) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Read the files of bands together, all of one version; nothing is kept half-way."""
        with step("search scene"):
            item = self._item(scene_id)
        grid, tile = _grid_of_mosaic(item), _tile_of_mosaic(scene_id, item["properties"]) or None
        metadata = scene_metadata(self.name, str(item["id"]), time_of_item(item, *_TIMES), s2_mgrs_tile=tile)
        geobox = tile_geobox({band.name: (band, grid) for band in bands}, f"Mosaic {scene_id}")
        layers = {band.number: _layer(str(_asset_of(item, band)["href"]), band) for band in bands}
        with step("download"), closing(Store(self._settings.limits, self._settings.s3)) as store:
            arrays = RasterReader(store).read(layers, geobox)
        if arrays is None:
            raise SceneGridError(f"Mosaic {scene_id}: its files lie elsewhere than its item says.")
        return metadata, (RawBand(band, grid, _as_int16(arrays.pop(band.number))) for band in bands)

    def _item(self, scene_id: str) -> dict[str, Any]:
        found = _find(Target.of(check_mosaic_id, [scene_id]), (Interval(None, None),), self._settings)
        if not found:
            raise SceneNotFoundError(f"The Copernicus Data Space has no quarterly mosaic {scene_id}.")
        return found[0][0]


class CDSEMosaicSource(MosaicProvider, SceneSource):
    """The quarterly mosaics of the Copernicus Data Space, used as :class:`Sentinel2Source` is.

    Args:
        settings: Where the service is; None for `CDSEMosaicSettings.from_environment`.
    """

    _quality = OBSERVATIONS

    def check_scene_id(self, scene_id: str) -> str:
        """Return a mosaic's name as the source writes it; SceneNameError if it is none."""
        return check_mosaic_id(scene_id)

    def year(self, scene_id: str) -> int | None:
        """Return the year that a mosaic's name holds; None where it holds none."""
        match = _QUARTER.search(scene_id)
        return int(match[1]) if match else None

    def search(self, **conditions: Any) -> "gpd.GeoDataFrame":
        """Find mosaics; conditions, result and errors are those of `search_cdse_s2_mosaics`."""
        return search_cdse_s2_mosaics(**conditions, settings=self._settings)

    def newest(self, scene_ids: Iterable[str]) -> list[str]:
        """Return all names: of a mosaic there is one processing."""
        return list(scene_ids)

    def check_login(self) -> None:
        """Check that there are keys for the object storage; LoginError if there are none."""
        if not self._settings.s3.anonymous:
            find_credentials(self._settings.s3)

    def _bands(self, bands: BandNames) -> tuple[S2Band, ...]:
        if bands is not None:
            raise ParameterError(f"bands is {bands!r}; a mosaic has blue, green, red and nir, and is stored whole.")
        return MOSAIC_BANDS

    def _provider(self) -> Provider:
        return self

    def _tile_of(self, scene_id: str) -> str:
        return _tile_of_mosaic(scene_id)


def check_mosaic_id(name: str) -> str:
    """Return a mosaic's name as the Data Space writes it; SceneNameError if it is that of a scene, or none at all."""
    name = as_text(name).strip()
    for source in _SCENE_SOURCES:
        try:
            check_scene_id(name, source)
        except SceneNameError:
            continue
        raise SceneNameError(f"{name!r} is a scene (raw_data_source {source!r}); expected a mosaic such as {_EXAMPLE}.")
    if not _PLAIN_NAME.fullmatch(name):
        raise SceneNameError(f"{name!r} is no name of a quarterly mosaic; expected one such as {_EXAMPLE}.")
    return name


def quarter_intervals(quarters: Sequence[int] | None, years: Sequence[int] | None) -> tuple[Interval, ...]:
    """Return the spans of time of quarters, one without limits where neither is given.

    ParameterError if a quarter or a year cannot be, or a list is empty.
    """
    if quarters is None and years is None:
        return (Interval(None, None),)
    last = datetime.now(UTC).year
    chosen = whole_numbers("quarters", quarters, 1, 4) or range(1, 5)
    every = whole_numbers("years", years, FIRST_YEAR, last, "Sentinel-2 has images from") or range(FIRST_YEAR, last + 1)
    return tuple(interval_of_months(year, 3 * quarter - 2, 3) for year in every for quarter in chosen)


def _find(target: Target, intervals: tuple[Interval, ...], settings: CDSEMosaicSettings | None) -> list[Found]:
    """Find items by quarter, so many names at once, and ground: not every catalogue knows the names of MGRS tiles."""
    queries = [target.query] if target.tiles is None else (_ground_of(tile).query() for tile in target.tiles)
    searches = (
        {"datetime": interval.to_stac(), "intersects": query, "ids": names}
        for interval, query, names in itertools.product(intervals, queries, in_groups(target.names))
    )
    return find_items(settings or CDSEMosaicSettings.from_environment(), target, Selection(intervals), searches, _row)


def _ground_of(tile: str) -> Area:
    import geopandas as gpd

    extent = mgrs_tile_geobox(tile).extent
    return Area(gpd.GeoSeries([extent.geom], crs=str(extent.crs)))


def _row(item: Mapping[str, Any]) -> dict[str, object]:
    try:
        download_bytes = sum(int(_asset_of(item, band)["file:size"]) for band in MOSAIC_BANDS)
    except (LookupError, ValueError):
        download_bytes = None
    return {
        "time": time_of_item(item, *_TIMES),
        "tile_id": _tile_of_mosaic(str(item["id"]), item["properties"]),
        "download_bytes": download_bytes,
    }


def _tile_of_mosaic(name: str, properties: Mapping[str, Any] | None = None) -> str:
    """Return the MGRS tile of a mosaic, which its item or its name says; empty where neither does."""
    match = _TILE.search(name)
    return tile_of_item(properties or {}) or (match[1].zfill(5) if match else "")


def _asset_of(item: Mapping[str, Any], band: S2Band) -> Mapping[str, Any]:
    """Return the asset that bears a band's name (``B02``, ``B02_10m``), or says so; SceneError unless it is one."""
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


def _grid_of_mosaic(item: Mapping[str, Any]) -> RawGrid:
    """Return the grid that all bands share; SceneError if the item does not say it, SceneGridError if several."""
    grids = {}
    for band in MOSAIC_BANDS:
        where = f"Mosaic {item['id']}, asset {band.number}"
        grids[band.number] = grid_of(_asset_of(item, band), item["properties"], where, (1e-4, 0.0))
    if len(set(grids.values())) > 1:
        listed = "; ".join(f"{number}: {grid.crs}, {grid.transform}, {grid.shape}" for number, grid in grids.items())
        raise SceneGridError(f"Mosaic {item['id']}: its bands lie on different grids: {listed}.")
    return grids[OBSERVATIONS.number]


def _layer(uri: str, band: S2Band) -> Layer:
    if band is OBSERVATIONS:  # Nobody says what type it has; in this one there is room for all of them.
        return Layer([uri], "int32", 0, ("uint8", "int16", "uint16"))
    return Layer([uri], band.dtype, band.nodata)


def _as_int16(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.int16 else values.clip(0, np.iinfo(np.int16).max).astype(np.int16)
