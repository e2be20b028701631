"""What every stage of DARTS shares: errors, the band table, device choice, paths, timing."""

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

__all__ = [
    "BANDS",
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
