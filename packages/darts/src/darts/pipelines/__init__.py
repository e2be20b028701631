"""The loop over tiles, and what it needs: options, checks, records, reports.

Attributes:
    PlanetPipeline: That of `darts.pipelines.sequential_v2`, which is loaded when somebody asks for it.
    Sentinel2Pipeline: Likewise.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
