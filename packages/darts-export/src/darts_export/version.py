"""Versions that the files carry."""

_LIBRARIES = ("geopandas", "numpy", "pyogrio", "rasterio", "shapely", "xarray")


def software_versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that shape its files, by name."""
    from importlib.metadata import version

    return {name: version(name) for name in ("darts-export", *_LIBRARIES)}
