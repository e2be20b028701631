"""A run as pages to look at, without internet: `index.html`, a page per tile, and projects for QGIS."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
