"""Map retrogressive thaw slumps from PlanetScope and Sentinel-2 images."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        # Not by darts_utils, which loads numpy, for every command begins here.
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("darts-nextgen")
