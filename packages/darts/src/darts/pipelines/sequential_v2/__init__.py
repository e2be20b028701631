"""Pipelines that process one tile after the other with `preprocess_v2` and an ensemble of networks."""

from darts.pipelines.sequential_v2.base import _BasePipeline
from darts.pipelines.sequential_v2.images import ImageSelection
from darts.pipelines.sequential_v2.planet import PlanetPipeline
from darts.pipelines.sequential_v2.sentinel2 import Sentinel2MosaicPipeline, Sentinel2Pipeline
from darts_utils.moved import moved_names

__all__ = ["ImageSelection", "PlanetPipeline", "Sentinel2MosaicPipeline", "Sentinel2Pipeline", "_BasePipeline"]

__getattr__ = moved_names(
    __name__,
    {"LandsatPipeline": "a subclass of ImageSelection and _BasePipeline, as the page “Your own images” shows,"},
)
