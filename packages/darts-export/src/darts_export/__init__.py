"""Write DARTS results as Cloud-Optimized GeoTIFF, GeoPackage, GeoParquet and thumbnail."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-export")
