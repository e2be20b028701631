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
    MovedFolderWarning,
    ParameterError,
    UnknownBandError,
)
from darts_utils.paths import CubeOrigin, DefaultPaths, FoundCube, original_cube
from darts_utils.timing import Stopwatch, step

__all__ = [
    "BANDS",
    "Band",
    "CubeOrigin",
    "DartsError",
    "DartsWarning",
    "DefaultPaths",
    "Device",
    "DeviceError",
    "DeviceFallbackWarning",
    "DeviceLike",
    "FoundCube",
    "GridError",
    "MissingBandError",
    "MovedFolderWarning",
    "ParameterError",
    "Stopwatch",
    "UnknownBandError",
    "band_attrs",
    "get_band",
    "normalize_band",
    "original_cube",
    "resolve_device",
    "step",
]
