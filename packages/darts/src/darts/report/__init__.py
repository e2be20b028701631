"""A run as pages to look at, without internet: `index.html`, a page per tile, and projects for QGIS."""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-nextgen")
