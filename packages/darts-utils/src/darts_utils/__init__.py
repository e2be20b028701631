"""What every stage of DARTS shares: errors, band table, devices, paths, timing, whole files, CPUs and memory."""

from typing import TYPE_CHECKING

from darts_utils.atomic import atomic_path, remove_partials, write_atomically
from darts_utils.bands import (
    BANDS,
    OPTICAL_BANDS,
    TREND_BANDS,
    Band,
    BandTable,
    band_attrs,
    class_of,
    declared_bands,
    get_band,
    normalize_band,
)
from darts_utils.crs import check_areal_scale
from darts_utils.device import Device, DeviceLike, resolve_device
from darts_utils.errors import (
    ArealScaleWarning,
    BandDeclarationWarning,
    DartsError,
    DartsWarning,
    DeviceError,
    DeviceFallbackWarning,
    GridError,
    InputTypeError,
    ManifestError,
    MissingBandError,
    MovedFolderWarning,
    NoDataError,
    ParameterError,
    UnknownBandError,
    ValueRangeError,
)
from darts_utils.gpu import free_gpu_memory, is_on_gpu, to_host, try_cupy, within_gpu_memory, working_on_gpu
from darts_utils.labelled import (
    check_data_array,
    check_dataset,
    check_even,
    check_north_up,
    spatial_dims,
    time_of,
    to_utc,
    upright,
)
from darts_utils.lazy import lazy_version
from darts_utils.paths import CubeOrigin, DefaultPaths, FoundCube, original_cube, tctrend_name
from darts_utils.resources import available_memory, sharing_cpus, usable_cpus
from darts_utils.results import ResultFolder, read_manifest
from darts_utils.rows import row_blocks, share_rows
from darts_utils.segments import connect_segments, find_segments, segment_pixels, touching_segments
from darts_utils.timing import Stopwatch, step
from darts_utils.units import check_units
from darts_utils.values import (
    check_quality,
    check_range,
    elevation_fault,
    mask_declared,
    no_elevation,
    quality_fault,
    range_sample,
)
from darts_utils.version import RESULTS_VERSION

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-utils")

__all__ = [
    "BANDS",
    "OPTICAL_BANDS",
    "RESULTS_VERSION",
    "TREND_BANDS",
    "ArealScaleWarning",
    "Band",
    "BandDeclarationWarning",
    "BandTable",
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
    "InputTypeError",
    "ManifestError",
    "MissingBandError",
    "MovedFolderWarning",
    "NoDataError",
    "ParameterError",
    "ResultFolder",
    "Stopwatch",
    "UnknownBandError",
    "ValueRangeError",
    "atomic_path",
    "available_memory",
    "band_attrs",
    "check_areal_scale",
    "check_data_array",
    "check_dataset",
    "check_even",
    "check_north_up",
    "check_quality",
    "check_range",
    "check_units",
    "class_of",
    "connect_segments",
    "declared_bands",
    "elevation_fault",
    "find_segments",
    "free_gpu_memory",
    "get_band",
    "is_on_gpu",
    "mask_declared",
    "no_elevation",
    "normalize_band",
    "original_cube",
    "quality_fault",
    "range_sample",
    "read_manifest",
    "remove_partials",
    "resolve_device",
    "row_blocks",
    "segment_pixels",
    "share_rows",
    "sharing_cpus",
    "spatial_dims",
    "step",
    "tctrend_name",
    "time_of",
    "to_host",
    "to_utc",
    "touching_segments",
    "try_cupy",
    "upright",
    "usable_cpus",
    "within_gpu_memory",
    "working_on_gpu",
    "write_atomically",
]
