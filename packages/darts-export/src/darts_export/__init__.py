"""Write DARTS results as Cloud-Optimized GeoTIFF, GeoPackage, GeoParquet and thumbnail."""

from typing import TYPE_CHECKING

from darts_export.empty import export_empty
from darts_export.errors import ExportError, ExportTargetError, ManifestError
from darts_export.export import export_tile
from darts_export.manifest import missing_outputs
from darts_export.products import DEFAULT_EXPORT_BANDS, EXPORT_BANDS, check_export_bands, export_variables
from darts_export.target import check_export_target
from darts_export.verify import ExportCheck, find_exports, verify_export
from darts_export.version import FILES_VERSION, RESULTS_VERSION
from darts_utils import read_manifest
from darts_utils.staging import remove_interrupted
from darts_utils.version import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-export")

__all__ = [
    "DEFAULT_EXPORT_BANDS",
    "EXPORT_BANDS",
    "FILES_VERSION",
    "RESULTS_VERSION",
    "ExportCheck",
    "ExportError",
    "ExportTargetError",
    "ManifestError",
    "check_export_bands",
    "check_export_target",
    "export_empty",
    "export_tile",
    "export_variables",
    "find_exports",
    "missing_outputs",
    "read_manifest",
    "remove_interrupted",
    "verify_export",
]
