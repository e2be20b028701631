"""What every stage of DARTS shares: errors, the band table, device choice, paths, timing."""

from darts_utils.bands import BANDS, Band, band_attrs, get_band, normalize_band
from darts_utils.device import Device, DeviceLike, resolve_device
from darts_utils.errors import (
    DartsError,
    DartsWarning,
    DeviceError,
    DeviceFallbackWarning,
    GridError,
    MissingBandError,
    ParameterError,
    UnknownBandError,
)
from darts_utils.paths import DefaultPaths
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
    "MissingBandError",
    "ParameterError",
    "Stopwatch",
    "UnknownBandError",
    "band_attrs",
    "get_band",
    "normalize_band",
    "resolve_device",
    "step",
]
