"""Map retrogressive thaw slumps from PlanetScope and Sentinel-2 images."""

from typing import TYPE_CHECKING

from darts_utils.version import lazy_version

if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = lazy_version(__name__, "darts-nextgen")
