"""The loop over tiles, and what it needs: options, checks, records, reports.

Attributes:
    PlanetPipeline: That of `darts.pipelines.sequential_v2`, which is loaded when somebody asks for it.
    Sentinel2Pipeline: Likewise.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline

__all__ = ["PlanetPipeline", "Sentinel2Pipeline"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from darts.pipelines import sequential_v2

    return getattr(sequential_v2, name)
