"""The versions of what this package writes, and those that the files carry."""

from functools import cache
from importlib.metadata import version

RESULTS_VERSION: int = 3
"""Version of the numbers that this package gives, which are values of rasters and statistics of objects.

Raised by hand whenever a number changes by more than rounding, so that finished results count as outdated; a release
that changes none keeps it. A test compares the numbers with reference results, and fails where this was forgotten.
"""

FILES_VERSION: int = 2
"""Version of the files, of what can be made anew from the same numbers (names, columns, tags).

Raised by hand whenever one changes, so that finished results count as "files of an earlier release".
"""

_LIBRARIES = ("geopandas", "numpy", "pyogrio", "rasterio", "shapely", "xarray")


def software_versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that shape its files, by name."""
    return dict(_software_versions())


@cache
def _software_versions() -> dict[str, str]:
    return {name: version(name) for name in ("darts-export", *_LIBRARIES)}
