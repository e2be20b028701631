"""Terrain, land-change and spectral features for DARTS tiles."""

from typing import TYPE_CHECKING

from darts_preprocessing.errors import KernelCacheWarning, SunAngleWarning
from darts_preprocessing.indices import (
    calculate_arvi,
    calculate_bndvi,
    calculate_evi,
    calculate_evi2,
    calculate_exg,
    calculate_gemi,
    calculate_gli,
    calculate_gndvi,
    calculate_grvi,
    calculate_msavi,
    calculate_ndwi,
    calculate_ngrdi,
    calculate_osavi,
    calculate_savi,
    calculate_sr,
    calculate_tgi,
    calculate_tvi,
    calculate_vari,
)
from darts_preprocessing.kernels import compile_kernels
from darts_preprocessing.preprocess import FEATURES, preprocess_v2
from darts_preprocessing.spectral import calculate_ndvi, calculate_spectral_index
from darts_preprocessing.terrain import (
    calculate_aspect,
    calculate_curvature,
    calculate_dissection_index,
    calculate_hillshade,
    calculate_slope,
    calculate_terrain_ruggedness_index,
    calculate_topographic_position_index,
    calculate_vector_ruggedness_measure,
)
from darts_preprocessing.version import RESULTS_VERSION
from darts_utils.version import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-preprocessing")

__all__ = [
    "FEATURES",
    "RESULTS_VERSION",
    "KernelCacheWarning",
    "SunAngleWarning",
    "calculate_arvi",
    "calculate_aspect",
    "calculate_bndvi",
    "calculate_curvature",
    "calculate_dissection_index",
    "calculate_evi",
    "calculate_evi2",
    "calculate_exg",
    "calculate_gemi",
    "calculate_gli",
    "calculate_gndvi",
    "calculate_grvi",
    "calculate_hillshade",
    "calculate_msavi",
    "calculate_ndvi",
    "calculate_ndwi",
    "calculate_ngrdi",
    "calculate_osavi",
    "calculate_savi",
    "calculate_slope",
    "calculate_spectral_index",
    "calculate_sr",
    "calculate_terrain_ruggedness_index",
    "calculate_tgi",
    "calculate_topographic_position_index",
    "calculate_tvi",
    "calculate_vari",
    "calculate_vector_ruggedness_measure",
    "compile_kernels",
    "preprocess_v2",
]
