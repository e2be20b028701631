"""Where a tile lies on the globe, for the records of a run."""

from typing import TYPE_CHECKING

import numpy as np
from pyproj import Transformer

from darts_utils import GridError, check_areal_scale

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

_DECIMALS = 5  # of a degree: a metre


def footprint_of(tile: "xr.Dataset") -> str | None:
    """Return the corners of a tile's grid as a polygon in longitude and latitude (WGS 84, degrees), as WKT.

    Longitudes go on across the antimeridian, to 181° or to −181°, so that it is one polygon everywhere.

    Returns:
        The polygon; None where the tile has no readable grid, or its corners have no place on the globe.
    """
    geobox = _geobox_of(tile)
    if geobox is None or geobox.crs is None:
        return None
    rows, columns = geobox.shape
    corners = [geobox.affine @ corner for corner in ((0, 0), (0, rows), (columns, rows), (columns, 0), (0, 0))]
    x, y = np.transpose(corners)
    longitude, latitude = Transformer.from_crs(geobox.crs.proj, "EPSG:4326", always_xy=True).transform(x, y)
    if not np.isfinite([longitude, latitude]).all():
        return None
    longitude = np.unwrap(longitude, period=360)
    points = (f"{lon:.{_DECIMALS}f} {lat:.{_DECIMALS}f}" for lon, lat in zip(longitude, latitude, strict=True))
    return f"POLYGON (({', '.join(points)}))"


def check_grid(tile: "xr.Dataset") -> None:
    """Pass a tile that lies on a grid in metres, before anything is fetched for its place.

    Raises:
        GridError: If it has no grid or no CRS, or its CRS is in degrees.
    """
    geobox = _geobox_of(tile)
    if geobox is None or geobox.crs is None:
        raise GridError("The tile has no grid with a CRS; give it one with `tile.odc.assign_crs(...)` in _load_tile.")
    if geobox.crs.geographic:
        rows, columns = geobox.shape
        x, y = geobox.affine @ (columns / 2, rows / 2)
        check_areal_scale(geobox.crs.proj, x, y, "The tile")


def _geobox_of(tile: "xr.Dataset") -> "GeoBox | None":
    import odc.geo.xr  # noqa: F401 - registers the accessor, with dask behind it

    return tile.odc.geobox
