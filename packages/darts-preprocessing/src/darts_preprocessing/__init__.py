"""Terrain, land-change and spectral features for DARTS tiles."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from darts_preprocessing.errors import KernelCacheWarning, ShortMarginWarning, SunAngleWarning
from darts_preprocessing.feature import Feature, Inputs, Kernels, Request
from darts_preprocessing.features.spectral_indices import calculate_spectral_index
from darts_preprocessing.kernels import compile_kernels
from darts_preprocessing.preprocess import preprocess_v2
from darts_preprocessing.registry import FEATURES, Needs, needs_of
from darts_preprocessing.version import RESULTS_VERSION
from darts_utils.lazy import lazy_version

if TYPE_CHECKING:
    import xarray as xr

_FUNCTIONS = {each.function.__name__: each.function for each in FEATURES.own.values() if each.function is not None}
"""The functions of single features, ``calculate_*``."""

if TYPE_CHECKING:
    __version__: str

    def __getattr__(name: str) -> Callable[..., xr.Dataset]:
        """Return the function of a feature."""
else:
    __getattr__ = lazy_version(__name__, "darts-preprocessing")
    globals().update(_FUNCTIONS)

__all__ = [
    "FEATURES",
    "RESULTS_VERSION",
    "Feature",
    "Inputs",
    "KernelCacheWarning",
    "Kernels",
    "Needs",
    "Request",
    "ShortMarginWarning",
    "SunAngleWarning",
    "calculate_spectral_index",
    "compile_kernels",
    "needs_of",
    "preprocess_v2",
]
__all__.extend(_FUNCTIONS)
__all__.sort(key=lambda name: (not name.isupper(), not name[0].isupper(), name))
