"""The loop over tiles, and what it needs: options, checks, records, reports."""

from .sequential_v2 import PlanetPipeline as PlanetPipeline
from .sequential_v2 import Sentinel2Pipeline as Sentinel2Pipeline
