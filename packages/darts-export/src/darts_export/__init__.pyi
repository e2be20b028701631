"""Write DARTS results as Cloud-Optimized GeoTIFF, GeoPackage, GeoParquet and thumbnail."""

from .empty import export_empty as export_empty
from .empty import remove_interrupted as remove_interrupted
from .errors import ExportError as ExportError
from .errors import ExportTargetError as ExportTargetError
from .errors import ManifestError as ManifestError
from .export import export_tile as export_tile
from .manifest import missing_outputs as missing_outputs
from .manifest import read_manifest as read_manifest
from .products import DEFAULT_EXPORT_BANDS as DEFAULT_EXPORT_BANDS
from .products import EXPORT_BANDS as EXPORT_BANDS
from .products import check_export_bands as check_export_bands
from .products import export_variables as export_variables
from .target import check_export_target as check_export_target
from .verify import ExportCheck as ExportCheck
from .verify import find_exports as find_exports
from .verify import verify_export as verify_export
from .version import FILES_VERSION as FILES_VERSION
from .version import RESULTS_VERSION as RESULTS_VERSION

__version__: str
