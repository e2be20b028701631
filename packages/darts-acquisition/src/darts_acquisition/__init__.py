"""Load satellite images, ArcticDEM and TCVIS as tiles for DARTS."""

from typing import TYPE_CHECKING

from darts_acquisition.auxiliary.arcticdem import (
    arcticdem_product,
    create_arcticdem_cube,
    download_arcticdem,
    estimate_arcticdem,
    load_arcticdem,
)
from darts_acquisition.auxiliary.tcvis import (
    TRENDS,
    create_tcvis_cube,
    download_tcvis,
    estimate_tcvis,
    load_tcvis,
    tcvis_product,
    tcvis_trend_of_year,
)
from darts_acquisition.cube.datacube import Datacube
from darts_acquisition.cube.ingest import Estimate, FetchReport
from darts_acquisition.cube.inspect import CubeCheck, CubeInfo, inspect_cube, verify_cube
from darts_acquisition.cube.layout import ChunkState
from darts_acquisition.cube.product import Chunk, CubeProduct, CubeVariable, Window
from darts_acquisition.errors import (
    AreaError,
    ChecksumError,
    CubeBusyError,
    CubeConflictError,
    CubeDamagedError,
    CubeError,
    CubeExistsError,
    CubeNotFoundError,
    CubeUnreachableError,
    EmptySceneError,
    ForeignCubeError,
    LoginError,
    MissingAuxiliaryDataError,
    OutsideExtentError,
    RawStoreError,
    RepairedGeometryWarning,
    SceneError,
    SceneGridError,
    SceneNameError,
    SceneNotFoundError,
    SceneNotStoredError,
    SceneReadError,
    ServiceError,
    WideEdgeWarning,
)
from darts_acquisition.imports.importing import ImportReport, import_cube, inspect_origin
from darts_acquisition.io.earthengine import initialize_earth_engine
from darts_acquisition.io.retry import FetchCancellation, RateLimiter, RetryPolicy, StoppedError, cancellable
from darts_acquisition.io.settings import (
    ArcticDEMSettings,
    CDSEMosaicSettings,
    CDSESettings,
    EarthEngineSettings,
    RequestLimits,
    S3Settings,
)
from darts_acquisition.planet import (
    check_planet_scene,
    find_planet_scenes,
    get_planet_geometry,
    list_planet_files,
    load_planet_masks,
    load_planet_scene,
    parse_planet_type,
)
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
from darts_acquisition.sentinel2_mosaics.mosaics import (
    CDSEMosaicSource,
    download_cdse_s2_mosaic,
    load_cdse_s2_mosaic,
    search_cdse_s2_mosaics,
)
from darts_acquisition.version import RESULTS_VERSION
from darts_utils.moved import moved_names
from darts_utils.version import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = moved_names(
        __name__,
        {"load_s2_from_gee": "darts_acquisition.load_gee_s2_sr_scene"},
        others=lazy_version(__name__, "darts-acquisition"),
    )

get_aoi_from_gee_scene_ids = get_aoi_from_gee_s2_sr_scene_ids
"""The name that the original gives it."""

__all__ = [
    "RESULTS_VERSION",
    "TRENDS",
    "ArcticDEMSettings",
    "Area",
    "AreaError",
    "CDSEMosaicSettings",
    "CDSEMosaicSource",
    "CDSESettings",
    "ChecksumError",
    "Chunk",
    "ChunkState",
    "CubeBusyError",
    "CubeCheck",
    "CubeConflictError",
    "CubeDamagedError",
    "CubeError",
    "CubeExistsError",
    "CubeInfo",
    "CubeNotFoundError",
    "CubeProduct",
    "CubeUnreachableError",
    "CubeVariable",
    "Datacube",
    "EarthEngineSettings",
    "EmptySceneError",
    "Estimate",
    "FetchCancellation",
    "FetchReport",
    "ForeignCubeError",
    "ImportReport",
    "LoginError",
    "MissingAuxiliaryDataError",
    "OutsideExtentError",
    "RateLimiter",
    "RawStoreError",
    "RepairedGeometryWarning",
    "RequestLimits",
    "RetryPolicy",
    "S3Settings",
    "SceneError",
    "SceneGridError",
    "SceneNameError",
    "SceneNotFoundError",
    "SceneNotStoredError",
    "SceneReadError",
    "Sentinel2Source",
    "ServiceError",
    "StoppedError",
    "WideEdgeWarning",
    "Window",
    "arcticdem_product",
    "cancellable",
    "check_planet_scene",
    "check_tiles_exist",
    "create_arcticdem_cube",
    "create_tcvis_cube",
    "download_arcticdem",
    "download_cdse_s2_mosaic",
    "download_cdse_s2_sr_scene",
    "download_gee_s2_sr_scene",
    "download_sentinel_2_grid",
    "download_tcvis",
    "estimate_arcticdem",
    "estimate_tcvis",
    "find_planet_scenes",
    "get_aoi_from_cdse_s2_sr_scene_ids",
    "get_aoi_from_gee_s2_sr_scene_ids",
    "get_aoi_from_gee_scene_ids",
    "get_cdse_s2_sr_scene_ids_from_geodataframe",
    "get_cdse_s2_sr_scene_ids_from_tile_ids",
    "get_gee_s2_sr_scene_ids_from_geodataframe",
    "get_gee_s2_sr_scene_ids_from_tile_ids",
    "get_planet_geometry",
    "import_cube",
    "initialize_earth_engine",
    "inspect_cube",
    "inspect_origin",
    "list_planet_files",
    "load_arcticdem",
    "load_cdse_s2_mosaic",
    "load_cdse_s2_sr_scene",
    "load_gee_s2_sr_scene",
    "load_planet_masks",
    "load_planet_scene",
    "load_tcvis",
    "parse_planet_type",
    "read_sentinel_2_grid",
    "search_cdse_s2_mosaics",
    "search_cdse_s2_sr",
    "search_gee_s2_sr",
    "tcvis_product",
    "tcvis_trend_of_year",
    "verify_cube",
]
