"""Sentinel-2 L2A scenes of the Copernicus Data Space and of Google Earth Engine, with one result."""

from darts_acquisition.errors import (
    AreaError,
    ChecksumError,
    RawStoreError,
    RepairedGeometryWarning,
    SceneNotStoredError,
    WideEdgeWarning,
)
from darts_acquisition.io.settings import CDSESettings
from darts_acquisition.scenes.geometry import Area
from darts_acquisition.scenes.names import check_tiles_exist, download_sentinel_2_grid, read_sentinel_2_grid
from darts_acquisition.sentinel2.cdse import (
    download_cdse_s2_sr_scene,
    get_aoi_from_cdse_s2_sr_scene_ids,
    get_cdse_s2_sr_scene_ids_from_geodataframe,
    get_cdse_s2_sr_scene_ids_from_tile_ids,
    load_cdse_s2_sr_scene,
    search_cdse_s2_sr,
)
from darts_acquisition.sentinel2.gee import (
    download_gee_s2_sr_scene,
    get_aoi_from_gee_s2_sr_scene_ids,
    get_gee_s2_sr_scene_ids_from_geodataframe,
    get_gee_s2_sr_scene_ids_from_tile_ids,
    load_gee_s2_sr_scene,
    search_gee_s2_sr,
)
from darts_acquisition.sentinel2.source import Sentinel2Source

__all__ = [
    "Area",
    "AreaError",
    "CDSESettings",
    "ChecksumError",
    "RawStoreError",
    "RepairedGeometryWarning",
    "SceneNotStoredError",
    "Sentinel2Source",
    "WideEdgeWarning",
    "check_tiles_exist",
    "download_cdse_s2_sr_scene",
    "download_gee_s2_sr_scene",
    "download_sentinel_2_grid",
    "get_aoi_from_cdse_s2_sr_scene_ids",
    "get_aoi_from_gee_s2_sr_scene_ids",
    "get_cdse_s2_sr_scene_ids_from_geodataframe",
    "get_cdse_s2_sr_scene_ids_from_tile_ids",
    "get_gee_s2_sr_scene_ids_from_geodataframe",
    "get_gee_s2_sr_scene_ids_from_tile_ids",
    "load_cdse_s2_sr_scene",
    "load_gee_s2_sr_scene",
    "read_sentinel_2_grid",
    "search_cdse_s2_sr",
    "search_gee_s2_sr",
]
