"""Sentinel-2 L2A scenes of the Copernicus Data Space: search, download, load."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import rasterio
import rasterio.crs
import rasterio.errors

from darts_acquisition.errors import SceneError, SceneGridError, SceneNotFoundError, SceneReadError
from darts_acquisition.io.settings import CDSESettings
from darts_acquisition.io.store import RemoteFile, Store
from darts_acquisition.scenes.download import download_scene, load_scene
from darts_acquisition.scenes.geometry import Area
from darts_acquisition.scenes.names import check_scene_id, is_official, parse_baseline, tile_of_item
from darts_acquisition.scenes.raw import (
    SCL,
    RawBand,
    RawGrid,
    S2Band,
    SceneMetadata,
    bands_of_scene,
    grid_of,
    read_angle,
    scene_metadata,
    time_of_item,
)
from darts_acquisition.scenes.search import (
    Conditions,
    Found,
    Selection,
    Target,
    check_all_found,
    find_items,
    in_groups,
    make_selection,
    read_percent,
    scene_table,
)
from darts_acquisition.scenes.store import RawStore
from darts_acquisition.tile import AnyPath, BandNames
from darts_utils import step, usable_cpus

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr

_check_name = partial(check_scene_id, source="cdse")
_SCALE = 1e-4
_OFFSET_SINCE = (4, 0)
"""First processing baseline whose reflectance has an offset: −0.1 (ESA, "Sentinel-2 Products Specification Document",
BOA_ADD_OFFSET)."""


def search_cdse_s2_sr(
    *,
    scene_ids: Sequence[str] | None = None,
    tile_ids: Sequence[str] | None = None,
    aoi: "gpd.GeoDataFrame | Area | None" = None,
    start_date: str | None = None,
    end_date: str | None = None,
    max_cloud_cover: float | None = None,
    max_snow_cover: float | None = None,
    months: Sequence[int] | None = None,
    years: Sequence[int] | None = None,
    settings: CDSESettings | None = None,
) -> "gpd.GeoDataFrame":
    """Find Sentinel-2 L2A scenes in the Copernicus Data Space. All conditions that are given hold at once.

    Args:
        scene_ids: Names of scenes. Names that the Data Space does not know are not found, without an error.
        tile_ids: MGRS tiles, for example "33UVP".
        aoi: Area of interest in any CRS; a scene is found if its footprint shares a point with it.
        start_date: First day (UTC), YYYY-MM-DD; YYYY-MM means the first of the month.
        end_date: Last day, included; YYYY-MM means the last of the month.
        max_cloud_cover: Percent; 100 or None for any, 0 means zero.
        max_snow_cover: Percent, likewise.
        months: Months from 1 to 12, where no date is given; one query per month.
        years: Years, likewise.
        settings: Where the service is; None for `CDSESettings.from_environment`.

    Returns:
        One row per scene, sorted by its name, which is the index `scene_id`: `time` (UTC), `tile_id`, `cloud_cover`,
        `snow_cover` (percent), `download_bytes` (size of the files of blue, green, red, nir and the scene
        classification; NaN where the catalogue does not say), and the footprint in EPSG:4326.

    Raises:
        ParameterError: If a condition cannot be, or there is none of names, tiles and area.
        SceneNameError: If a name is none of the Data Space.
        AreaError: If the area is empty or has no CRS.
        ServiceError: If the service refuses or fails.
    """
    selection = make_selection(start_date, end_date, max_cloud_cover, max_snow_cover, months, years)
    target = Target.of(_check_name, scene_ids, tile_ids, aoi)
    return scene_table([row for _, row in _find(target, selection, settings)])


class _Conditions(Conditions, total=False):
    settings: CDSESettings | None


def get_cdse_s2_sr_scene_ids_from_tile_ids(tile_ids: Sequence[str], **conditions: Unpack[_Conditions]) -> list[str]:
    """Name the scenes of MGRS tiles; errors are those of :func:`search_cdse_s2_sr`.

    Args:
        tile_ids: MGRS tiles, for example "33UVP".
        **conditions: As for :func:`search_cdse_s2_sr`.

    Returns:
        The names, sorted.
    """
    return list(search_cdse_s2_sr(tile_ids=tile_ids, **conditions).index)


def get_cdse_s2_sr_scene_ids_from_geodataframe(
    aoi: "gpd.GeoDataFrame | Area", **conditions: Unpack[_Conditions]
) -> list[str]:
    """Name the scenes that touch an area; errors are those of :func:`search_cdse_s2_sr`.

    `aoi` may be in any CRS; for `conditions` and result see :func:`get_cdse_s2_sr_scene_ids_from_tile_ids`.
    """
    return list(search_cdse_s2_sr(aoi=aoi, **conditions).index)


def get_aoi_from_cdse_s2_sr_scene_ids(
    scene_ids: Sequence[str], *, settings: CDSESettings | None = None
) -> "gpd.GeoDataFrame":
    """Return the footprints of scenes; for arguments see :func:`search_cdse_s2_sr`.

    Returns:
        As `search_cdse_s2_sr`, every scene being there.

    Raises:
        SceneNotFoundError: If the Data Space does not know one of them. The message names them.
        DartsError: All that `search_cdse_s2_sr` raises.
    """
    names = [_check_name(name) for name in scene_ids]
    return check_all_found(names, search_cdse_s2_sr(scene_ids=names, settings=settings))


def download_cdse_s2_sr_scene(
    scene_id: str, store: AnyPath, bands: BandNames = None, *, settings: CDSESettings | None = None
) -> None:
    """Bring a scene of the Copernicus Data Space into the local store; bands that are there are not fetched again.

    Whole JPEG 2000 files are fetched, several at once. A part that an earlier attempt left is continued. A file whose
    size or checksum differs from the catalogue's is fetched again and never decoded.

    Args:
        scene_id: Name of the scene.
        store: Folder of the raw scenes; created where absent.
        bands: Names of bands ("blue", "B02"); None for blue, green, red and nir; "all" for every reflectance band. The
            scene classification always comes along.
        settings: Where the service is; None for `CDSESettings.from_environment`.

    Raises:
        SceneNameError: If the name is none of the Data Space.
        ParameterError: If a band is unknown.
        SceneNotFoundError: If the Data Space does not know the scene, or one of its files is absent.
        LoginError: If there are no keys for the object storage, or they are refused.
        ChecksumError: If a file does not verify after several fetches.
        ServiceError: If a service refuses or fails.
        SceneError: If the item or a file is not what the provider's format says.
    """
    download_scene(CDSEProvider(settings), _check_name(scene_id), RawStore(store), bands_of_scene(bands))


def load_cdse_s2_sr_scene(
    scene_id: str,
    store: AnyPath | None = None,
    bands: BandNames = None,
    *,
    offline: bool = False,
    settings: CDSESettings | None = None,
) -> "xr.Dataset":
    """Load a scene of the Copernicus Data Space as a tile; what is not in the store is fetched into it first.

    Args:
        scene_id: Name of the scene.
        store: Folder of the raw scenes; None to keep the scene in memory only.
        bands: As for `download_cdse_s2_sr_scene`; those of 20 m and 60 m are brought to 10 m by nearest neighbour.
        offline: Never fetch anything.
        settings: Where the service is; None for `CDSESettings.from_environment`.

    Returns:
        Dataset with dimensions (y, x) at 10 m in the scene's UTM zone: the bands as float32 surface reflectance (1, NaN
        where DN is 0), `s2_scl` (uint8, 0 no data) and `quality_data_mask` (uint8, 0 invalid, 1 low, 2 high).
        Attributes: `tile_id` (the scene's name), `time` (ISO 8601 UTC), `azimuth` and `elevation` of the sun
        (degrees, NaN where unknown), and the source's own as `s2_*`.

    Raises:
        EmptySceneError: If the scene holds no data: every pixel of its reflectance bands is 0.
        SceneNotStoredError: If the scene or a band is not in the store, offline.
        RawStoreError: If the stored scene is damaged.
        DartsError: All that `download_cdse_s2_sr_scene` raises.
    """
    return load_scene(CDSEProvider(settings), _check_name(scene_id), store, bands_of_scene(bands), offline)


class CDSEProvider:
    """The Copernicus Data Space as a provider of raw scenes."""

    name = "cdse"
    data_source = "Sentinel-2 L2A"

    def __init__(self, settings: CDSESettings | None) -> None:
        self._settings = settings or CDSESettings.from_environment()

    def grid(self, scene_id: str) -> RawGrid:
        """Return the grid as the catalogue says it, see `Provider`."""
        return asset_of(self._item(scene_id), SCL).grid

    def fetch(self, scene_id: str, bands: Sequence[S2Band], folder: Path) -> tuple[SceneMetadata, Iterator[RawBand]]:
        """Fetch bands, see `Provider`."""
        with step("search scene"):
            item = self._item(scene_id)
        assets, metadata = [asset_of(item, band) for band in bands], metadata_of(item)
        with step("download"), contextlib.closing(Store(self._settings.limits, self._settings.s3)) as store:
            files = store.download(assets, folder)
        return metadata, map(decode, files, assets)

    def _item(self, scene_id: str) -> dict[str, object]:
        found = _find(Target.of(_check_name, [scene_id]), Selection(), self._settings)
        if not found:
            raise SceneNotFoundError(
                f"The Copernicus Data Space has no scene {scene_id}; it may have been processed again and renamed."
            )
        return found[0][0]


def _find(target: Target, selection: Selection, settings: CDSESettings | None) -> list[Found]:
    groups = itertools.product(selection.intervals, in_groups(target.names), in_groups(target.tiles))
    searches = (
        {"datetime": span.to_stac(), "ids": names, "intersects": target.query, "filter": _condition(tiles, selection)}
        for span, names, tiles in groups
    )
    return find_items(settings or CDSESettings.from_environment(), target, selection, searches, _row)


def _condition(tiles: list[str] | None, selection: Selection) -> dict[str, Any] | None:
    """Return in CQL2 what holds of scenes besides names, time and place; None for nothing."""
    conditions: list[dict[str, Any]] = []
    if tiles is not None:
        # Of zones below 10, catalogues differ in whether they write the leading zero.
        codes = dict.fromkeys(f"MGRS-{code}" for tile in tiles for code in (tile, tile.lstrip("0")))
        equal = [{"op": "=", "args": [{"property": "grid:code"}, code]} for code in codes]
        conditions.append(equal[0] if len(equal) == 1 else {"op": "or", "args": equal})
    for name, limit in (("eo:cloud_cover", selection.max_cloud_cover), ("eo:snow_cover", selection.max_snow_cover)):
        if limit is not None:
            conditions.append({"op": "<=", "args": [{"property": name}, limit]})
    return {"op": "and", "args": conditions} if len(conditions) > 1 else next(iter(conditions), None)


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    properties, assets = item["properties"], item.get("assets", {})
    sizes = [assets.get(band.cdse_asset, {}).get("file:size") for band in bands_of_scene()]
    return {
        "time": time_of_item(item, "datetime", "start_datetime"),
        "tile_id": tile_of_item(properties),
        "cloud_cover": read_percent(properties.get("eo:cloud_cover")),
        "snow_cover": read_percent(properties.get("eo:snow_cover")),
        "download_bytes": None if None in sizes else sum(map(int, sizes)),
    }


def metadata_of(item: Mapping[str, Any]) -> SceneMetadata:
    """Return what an item says of a scene besides its files; SceneError if a property has a value that cannot be."""
    scene_id, properties = str(item["id"]), item["properties"]
    return scene_metadata(
        CDSEProvider.name,
        scene_id,
        time_of_item(item, "datetime", "start_datetime"),
        azimuth=read_angle(properties, "view:sun_azimuth", 0, 360, f"Scene {scene_id}"),
        elevation=read_angle(properties, "view:sun_elevation", -90, 90, f"Scene {scene_id}"),
        s2_mgrs_tile=tile_of_item(properties) or None,
        s2_cloud_cover=properties.get("eo:cloud_cover"),
        s2_snow_cover=properties.get("eo:snow_cover"),
        s2_platform=properties.get("platform"),
        s2_processing_baseline=properties.get("processing:version"),
    )


@dataclass(frozen=True, kw_only=True)
class Asset(RemoteFile):
    """A file of a scene, its band and its grid."""

    band: S2Band
    grid: RawGrid


def asset_of(item: Mapping[str, Any], band: S2Band) -> Asset:
    """Return the file of a band; SceneError if the item has none, or does not say where its pixels lie."""
    scene_id, assets = item["id"], item.get("assets", {})
    if band.cdse_asset not in assets:
        raise SceneError(f"Scene {scene_id} has no asset {band.cdse_asset}; it has {', '.join(sorted(assets))}.")
    asset = assets[band.cdse_asset]
    where, properties = f"Scene {scene_id}, asset {band.cdse_asset}", item["properties"]
    of_all = {name: properties.get(name) for name in ("proj:code", "proj:epsg")}
    scaling = (1.0, 0.0) if band.quality else _scaling(asset, properties, where)
    size = asset.get("file:size")
    return Asset(
        href=str(asset["href"]),
        size=None if size is None else int(size),
        checksum=asset.get("file:checksum"),
        folder=band.number,
        band=band,
        grid=grid_of(asset, of_all, where, scaling),
    )


def _scaling(asset: Mapping[str, Any], properties: Mapping[str, Any], where: str) -> tuple[float, float]:
    """Return scale and offset as the item says them; an item that says nothing follows its processing baseline."""
    scale = _said_of_band(asset, "scale", where)
    offset = _said_of_band(asset, "offset", where)
    scale = _SCALE if scale is None else scale
    if offset is None:
        version = str(properties.get("processing:version", ""))
        baseline = parse_baseline(version)
        if baseline is None:
            raise SceneError(f"{where}: the item has neither raster:offset nor processing:version.")
        if not is_official(baseline):
            raise SceneError(
                f"{where}: the item has no raster:offset, which does not follow from its processing:version {version}, "
                "as that is none of ESA's own; take another processing of the scene."
            )
        offset = -0.1 if baseline >= _OFFSET_SINCE else 0.0
    if not (isinstance(scale, int | float) and isinstance(offset, int | float) and scale > 0):
        raise SceneError(f"{where}: raster:scale is {scale!r} and raster:offset {offset!r}; expected numbers.")
    return float(scale), float(offset)


def _said_of_band(asset: Mapping[str, Any], name: str, where: str) -> object:
    """Return what an asset says of its band, itself or in one of the lists of bands of STAC; None if nothing.

    SceneError if they differ.
    """
    told = [asset.get(f"raster:{name}")]
    for listed, key in (("bands", f"raster:{name}"), ("raster:bands", name)):
        bands = asset.get(listed) or []
        told += [band.get(key) for band in bands[:1] if isinstance(band, dict)]
    said = [value for value in told if value is not None]
    if any(value != said[0] for value in said):
        raise SceneError(f"{where}: the item says of {name} {' and '.join(map(repr, said))}; expected one number.")
    return said[0] if said else None


@step("decode")
def decode(file: Path, asset: Asset) -> RawBand:
    """Decode a verified file with all processors; SceneReadError or SceneGridError if it is not what its item says."""
    try:
        with rasterio.open(file, num_threads=usable_cpus()) as source:
            if source.count != 1 or source.dtypes[0] not in ("uint8", "uint16"):
                expected = f"{asset.band.number}: expected 1 band of integers"
                raise SceneReadError(f"{file.name} is no {expected}, found {source.count} of {source.dtypes[0]}.")
            _check_grid(source, asset.grid, file.name)
            values = source.read(1)
    except rasterio.errors.RasterioError as error:
        raise SceneReadError(f"{file.name} cannot be decoded: {str(error).rstrip('.')}.") from error
    if asset.band.dtype == "uint8" and values.max() > 255:
        raise SceneReadError(f"{file.name} holds {values.max()}, which is no class.")
    return RawBand(asset.band, asset.grid, values.astype(asset.band.dtype, copy=False))


def _check_grid(source: rasterio.DatasetReader, grid: RawGrid, name: str) -> None:
    """Compare the grid of a file with that of the item; a file without one of its own takes the item's."""
    if source.shape != grid.shape:
        raise SceneGridError(f"{name} has {source.shape} pixels; the catalogue says {grid.shape}.")
    if source.crs is None:
        return
    if not np.allclose(tuple(source.transform)[:6], grid.transform, rtol=0, atol=1e-3):
        raise SceneGridError(f"{name} lies at {tuple(source.transform)[:6]}; the catalogue says {grid.transform}.")
    if source.crs != rasterio.crs.CRS.from_user_input(grid.crs):
        raise SceneGridError(f"{name} is in {source.crs}; the catalogue says {grid.crs}.")
