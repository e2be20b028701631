"""Map retrogressive thaw slumps from PlanetScope and Sentinel-2 images."""

from importlib.metadata import version

__version__ = version("darts-nextgen")
