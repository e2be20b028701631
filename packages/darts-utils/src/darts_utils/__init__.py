"""What every stage of DARTS shares: errors, band table, devices, paths, timing, whole files, CPUs and memory."""

from darts_utils.atomic import atomic_path, remove_partials, write_atomically
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
from darts_utils.resources import available_memory, usable_cpus
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
    "atomic_path",
    "available_memory",
    "band_attrs",
    "get_band",
    "normalize_band",
    "read_manifest",
    "remove_partials",
    "resolve_device",
    "step",
    "usable_cpus",
    "write_atomically",
]
