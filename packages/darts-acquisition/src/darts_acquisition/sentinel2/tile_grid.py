"""Where an MGRS tile lies: its name alone says it, without ESA's list of tiles and without asking a service."""

from typing import TYPE_CHECKING

from darts_acquisition.scenes.selection import check_tile_id
from darts_acquisition.sentinel2.bands import TILE_RESOLUTION

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_SQUARE_M = 100_000
"""Edge of an MGRS square, which a tile begins with and reaches beyond."""
_EDGE_PX = 10_980
"""Edge of a tile in pixels of 10 m."""
_SNAP_M = 60
"""Corners of tiles are multiples of it, so that pixels of 10, 20 and 60 m share them."""
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
"""Letters of the squares of a zone from west to east; zones repeat them by threes. The first begins at 100 km."""
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
"""Letters of the squares from south to north; they begin again every 2000 km, in even zones with F."""
_FIRST_ROWS = dict(zip("CDEFGHJKLM", (11, 20, 28, 37, 46, 55, 64, 73, 82, 91), strict=True)) | dict(
    zip("NPQRSTUVWX", (0, 8, 17, 26, 35, 44, 53, 62, 70, 79), strict=True)
)
"""Northing in squares at which a latitude band begins, south of the equator with a false northing of 10,000 km."""
_FIRST_NORTHERN = "N"


def mgrs_tile_geobox(tile_id: str) -> "GeoBox":
    """Return the grid of 10 m that all Sentinel-2 scenes of an MGRS tile share.

    A tile begins at the north-western corner of its square of 100 km, moved outwards to a multiple of 60 m, and is
    109.8 km wide and high; it lies in the UTM zone that its name begins with. Letters: NGA.STND.0037, "Universal Grids
    and Grid Reference Systems".

    Args:
        tile_id: MGRS tile, for example "33UVP".

    Returns:
        The grid. That a tile of that name exists is not checked.

    Raises:
        ParameterError: If the name is none of an MGRS tile.

    Examples:
        >>> mgrs_tile_geobox("13VEK").boundingbox.bbox
        (499980.0, 6890220.0, 609780.0, 7000020.0)
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    name = check_tile_id(tile_id)
    zone, band, column, row = int(name[:2]), name[2], name[3], name[4]
    easting = (1 + _COLUMNS[(zone - 1) % 3].find(column)) * _SQUARE_M
    northing = _row_in_band(_ROWS.index(row) - (5 if zone % 2 == 0 else 0), _FIRST_ROWS[band]) * _SQUARE_M
    left = easting // _SNAP_M * _SNAP_M
    top = -(-(northing + _SQUARE_M) // _SNAP_M) * _SNAP_M
    epsg = (32600 if band >= _FIRST_NORTHERN else 32700) + zone
    affine = Affine(TILE_RESOLUTION, 0, left, 0, -TILE_RESOLUTION, top)
    return GeoBox((_EDGE_PX, _EDGE_PX), affine, f"EPSG:{epsg}")


def _row_in_band(row: int, first: int) -> int:
    """Return the row of squares that has a letter, counted from the equator: the first one from `first` on."""
    return first + (row - first) % len(_ROWS)
