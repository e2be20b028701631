"""Landsat trends (TCVIS) from a local datacube: land change around a tile."""

import math
import os
from typing import TYPE_CHECKING

from darts_acquisition.auxiliary import read_product
from darts_acquisition.datacube import Datacube
from darts_acquisition.products import CubeProduct, CubeVariable
from darts_utils import BANDS, ParameterError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

TRENDS = ("2000-2019", "2001-2020", "2003-2022")
"""Periods for which the trends are published."""

_DEGREES = 0.00026949458523585647
"""Pixel size of the published images in degrees: 30 m at the equator."""
_SOUTH, _NORTH = 45, 84
"""The images end south of the permafrost region, and north where Landsat's orbit does (82.7°)."""
_MARGIN_PX = 2
"""What a cubic interpolation reaches beyond a tile's edge."""
_HOW_TO_FILL = "Fetch them with `darts inference prep-data planet --aux`."


def tcvis_product(trend: str = "2000-2019") -> CubeProduct:
    """Describe a TCVIS collection as a datacube.

    Args:
        trend: Period of the trend: "2000-2019", "2001-2020" or "2003-2022".

    Returns:
        The product: EPSG:4326 at 0.00026949458523585647°, all longitudes, 45 to 84° N, `tc_brightness`,
        `tc_greenness` and `tc_wetness` (uint8, 0 where pixels are missing). Pixel edges are multiples of the pixel
        size, as Earth Engine exports them.

    Raises:
        ParameterError: If there is no such collection.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    if trend not in TRENDS:
        raise ParameterError(f"trend is {trend!r}; TCVIS is published for {', '.join(TRENDS)}.")
    half = math.ceil(180 / _DEGREES)
    top, bottom = math.ceil(_NORTH / _DEGREES), math.floor(_SOUTH / _DEGREES)
    affine = Affine(_DEGREES, 0, -half * _DEGREES, 0, -_DEGREES, top * _DEGREES)
    bands = [BANDS[f"tc_{name}"] for name in ("brightness", "greenness", "wetness")]
    return CubeProduct(
        name="tcvis",
        version=trend,
        collection=f"users/ingmarnitze/TCTrend_SR_{trend}_TCVIS",
        geobox=GeoBox((top - bottom, 2 * half), affine, "EPSG:4326"),
        variables=tuple(CubeVariable(band.name, band.dtype, 0, band.long_name, band.units) for band in bands),
    )


def create_tcvis_cube(path: "str | os.PathLike[str]", trend: str = "2000-2019") -> Datacube:
    """Create a TCVIS datacube in which everything is missing; `Datacube.write` fills it.

    Args:
        path: Folder to create.
        trend: Period of the trend: "2000-2019", "2001-2020" or "2003-2022".

    Returns:
        The new cube, on the grid of `tcvis_product`.

    Raises:
        ParameterError: If there is no such collection.
        CubeExistsError: If there is something at the path.
    """
    return Datacube.create(path, tcvis_product(trend))


def load_tcvis(
    geobox: "GeoBox",
    data_dir: "str | os.PathLike[str]",
    offline: bool = False,  # noqa: ARG001 - nothing is fetched as yet, see the docstring
    trend: str = "2000-2019",
) -> "xr.Dataset":
    """Read the Landsat trends of an area from a local datacube.

    Args:
        geobox: Grid of the tile, in any CRS.
        data_dir: Folder of the datacube, see `create_tcvis_cube`.
        offline: Never fetch anything. Nothing is fetched as yet, so both values do the same.
        trend: Period of the trend; that of the cube.

    Returns:
        Dataset in EPSG:4326 with the smallest window of the cube's grid that holds the area and, for interpolation,
        two pixels around it: `tc_brightness`, `tc_greenness`, `tc_wetness` (uint8, missing pixels 0). For a tile
        that crosses the antimeridian, longitudes run on beyond ±180°, and the pixels east of it are moved by 0.11 of a
        pixel, because the world is not a whole number of pixels wide.

    Raises:
        MissingAuxiliaryDataError: If a part of the area is neither in the cube nor known to be empty, or there is no
            cube. The message says which part, and which command fetches it.
        OutsideExtentError: If the area lies wholly outside the cube's grid.
        CubeError: If there is something else at the path, or a cube of another product or period.
        ParameterError: If there is no such period.
        GridError: If the area has no CRS.
    """
    return read_product(
        geobox,
        data_dir,
        tcvis_product(trend),
        buffer=_MARGIN_PX,
        data_source=f"TCVIS {trend}",
        how_to_fill=_HOW_TO_FILL,
    )
