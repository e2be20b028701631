"""What every stage of DARTS shares: errors, the band table, device choice, paths, timing."""

from typing import TYPE_CHECKING

from darts_utils.bands import BANDS, Band, band_attrs, get_band, normalize_band
from darts_utils.device import Device, DeviceLike, resolve_device
from darts_utils.errors import (
    DartsError,
    DartsWarning,
    DeviceError,
    DeviceFallbackWarning,
    GridError,
    ManifestError,
    MissingBandError,
    NoDataError,
    ParameterError,
    UnknownBandError,
)
from darts_utils.paths import DefaultPaths
from darts_utils.results import ResultFolder, read_manifest
from darts_utils.timing import Stopwatch, step
from darts_utils.version import RESULTS_VERSION, lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-utils")

__all__ = [
    "BANDS",
    "RESULTS_VERSION",
    "Band",
    "DartsError",
    "DartsWarning",
    "DefaultPaths",
    "Device",
    "DeviceError",
    "DeviceFallbackWarning",
    "DeviceLike",
    "GridError",
    "ManifestError",
    "MissingBandError",
    "NoDataError",
    "ParameterError",
    "ResultFolder",
    "Stopwatch",
    "UnknownBandError",
    "band_attrs",
    "get_band",
    "normalize_band",
    "read_manifest",
    "resolve_device",
    "step",
]
