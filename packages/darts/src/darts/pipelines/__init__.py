"""The loop over tiles, and what it needs: options, checks, records, reports.

Attributes:
    PlanetPipeline: That of `darts.pipelines.sequential_v2`, which is loaded when somebody asks for it.
    Sentinel2Pipeline: Likewise.
"""

from darts_utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "darts-nextgen")
