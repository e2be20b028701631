"""Load satellite images, ArcticDEM and TCVIS as tiles for DARTS."""

from darts_acquisition.arcticdem import arcticdem_product, create_arcticdem_cube, load_arcticdem
from darts_acquisition.bookkeeping import ChunkState
from darts_acquisition.datacube import Datacube
from darts_acquisition.errors import (
    CubeConflictError,
    CubeError,
    CubeExistsError,
    CubeNotFoundError,
    MissingAuxiliaryDataError,
    OutsideExtentError,
    SceneError,
    SceneGridError,
    SceneNameError,
    SceneNotFoundError,
    SceneReadError,
)
from darts_acquisition.grid import Chunk, Window
from darts_acquisition.planet import (
    get_planet_geometry,
    load_planet_masks,
    load_planet_scene,
    parse_planet_type,
)
from darts_acquisition.products import CubeProduct, CubeVariable
from darts_acquisition.tcvis import create_tcvis_cube, load_tcvis, tcvis_product

__all__ = [
    "Chunk",
    "ChunkState",
    "CubeConflictError",
    "CubeError",
    "CubeExistsError",
    "CubeNotFoundError",
    "CubeProduct",
    "CubeVariable",
    "Datacube",
    "MissingAuxiliaryDataError",
    "OutsideExtentError",
    "SceneError",
    "SceneGridError",
    "SceneNameError",
    "SceneNotFoundError",
    "SceneReadError",
    "Window",
    "arcticdem_product",
    "create_arcticdem_cube",
    "create_tcvis_cube",
    "get_planet_geometry",
    "load_arcticdem",
    "load_planet_masks",
    "load_planet_scene",
    "load_tcvis",
    "parse_planet_type",
    "tcvis_product",
]
