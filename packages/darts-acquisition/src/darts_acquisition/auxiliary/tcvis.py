"""Landsat trends (TCVIS) from a datacube that fills as it is used: land change around a tile."""

import io
import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_acquisition.auxiliary import TRENDS
from darts_acquisition.cube.areas import AreaLike
from darts_acquisition.cube.datacube import Datacube
from darts_acquisition.cube.ingest import (
    Estimate,
    FetchReport,
    Progress,
    download_product,
    estimate_product,
    read_product,
)
from darts_acquisition.cube.product import CubeProduct, CubeVariable
from darts_acquisition.errors import ServiceError, lost
from darts_acquisition.io.earthengine import EarthEngineClient, pixel_grid
from darts_acquisition.io.settings import EarthEngineSettings, S3Settings
from darts_acquisition.tile import AnyPath
from darts_utils import BANDS, TREND_BANDS, ParameterError

if TYPE_CHECKING:
    import xarray as xr

_DEGREES = 0.00026949458523585647
"""Pixel size of the published images in degrees: 30 m at the equator."""
_SOUTH, _NORTH = 45, 84
"""The images end south of the permafrost region, and north where Landsat's orbit does (82.7°)."""
_MARGIN_PX = 2
"""What a cubic interpolation reaches beyond a tile's edge."""
_BANDS = dict(zip(TREND_BANDS, ("TCB_slope", "TCG_slope", "TCW_slope"), strict=True))
"""Earth Engine's name of each variable."""
_BYTES_PER_PX = 3.0
"""Earth Engine sends pixels as they are."""


def tcvis_product(trend: str = "2000-2019") -> CubeProduct:
    """Describe a TCVIS collection as a datacube.

    Args:
        trend: Period of the trend, one of `TRENDS`.

    Returns:
        The product: EPSG:4326 at 0.00026949458523585647°, all longitudes, 45 to 84° N, `tc_brightness`,
        `tc_greenness` and `tc_wetness` (uint8, 0 where pixels are missing). Pixel edges are multiples of the pixel
        size, as Earth Engine exports them.

    Raises:
        ParameterError: If there is no such collection.
    """
    if trend not in TRENDS:
        raise ParameterError(f"trend is {trend!r}; TCVIS is published for {', '.join(TRENDS)}.")
    half = math.ceil(180 / _DEGREES)
    top, bottom = math.ceil(_NORTH / _DEGREES), math.floor(_SOUTH / _DEGREES)
    affine = Affine(_DEGREES, 0, -half * _DEGREES, 0, -_DEGREES, top * _DEGREES)
    bands = [BANDS[name] for name in TREND_BANDS]
    return CubeProduct(
        name="tcvis",
        version=trend,
        collection=TRENDS[trend],
        geobox=GeoBox((top - bottom, 2 * half), affine, "EPSG:4326"),
        variables=tuple(CubeVariable(band.name, band.dtype, 0, band.long_name, band.units) for band in bands),
    )


def tcvis_trend_of_year(year: int) -> str:
    """Return the period of the trend that suits an image: the first one that ends after the image's year.

    Args:
        year: Year in which the image was taken.

    Returns:
        One of `TRENDS`, the newest where none ends after the year.

    Examples:
        >>> [tcvis_trend_of_year(year) for year in (2018, 2019, 2021, 2022, 2024)]
        ['2000-2019', '2001-2020', '2003-2022', '2005-2024', '2005-2024']
    """
    return next((trend for trend in TRENDS if int(trend[-4:]) > year), list(TRENDS)[-1])


def create_tcvis_cube(path: AnyPath, trend: str = "2000-2019", *, s3: S3Settings | None = None) -> Datacube:
    """Create a TCVIS datacube, on the grid of `tcvis_product`, in which everything is missing; `load_tcvis` fills it.

    `trend` is one of `TRENDS`; for the other arguments and errors see :func:`create_arcticdem_cube`.
    """
    return Datacube.create(path, tcvis_product(trend), s3=s3)


def load_tcvis(
    geobox: GeoBox,
    data_dir: AnyPath,
    offline: bool = False,
    trend: str = "2000-2019",
    *,
    settings: EarthEngineSettings | None = None,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> "xr.Dataset":
    """Read the Landsat trends of an area from a datacube, after fetching what the cube lacks of it.

    `trend`, one of `TRENDS`, is the period of the cube, and `settings` say how Earth Engine is asked, None for the
    defaults; for the other arguments see :func:`load_arcticdem`.

    Returns:
        Dataset in EPSG:4326 with the smallest window of the cube's grid that holds the area and, for interpolation,
        two pixels around it: `tc_brightness`, `tc_greenness`, `tc_wetness` (uint8, missing pixels 0). For a tile
        that crosses the antimeridian, longitudes run on beyond ±180°, and the pixels east of it are moved by 0.11 of a
        pixel, because the world is not a whole number of pixels wide.

    Raises:
        LoginError: If something must be fetched, and Earth Engine refuses the login or there is none.
        DartsError: All that :func:`load_arcticdem` raises.
    """
    product = tcvis_product(trend)
    source, name = None if offline else partial(TCVISSource, product, settings), f"TCVIS {trend}"
    return read_product(
        geobox, data_dir, product, source, buffer=_MARGIN_PX, data_source=name, s3=s3, progress=progress
    )


def download_tcvis(
    aoi: AreaLike,
    data_dir: AnyPath,
    *,
    trend: str = "2000-2019",
    settings: EarthEngineSettings | None = None,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> FetchReport:
    """Fetch what a datacube lacks of an area and of the two pixels around it, so that it can be used offline.

    `trend`, `settings` and LoginError are those of :func:`load_tcvis`; for `aoi`, the result and errors see
    :func:`download_arcticdem`, for the other arguments see :func:`load_arcticdem`.
    """
    product = tcvis_product(trend)
    source = partial(TCVISSource, product, settings)
    return download_product(aoi, data_dir, product, source, buffer=_MARGIN_PX, s3=s3, progress=progress)


def estimate_tcvis(
    aoi: AreaLike, data_dir: AnyPath, *, trend: str = "2000-2019", s3: S3Settings | None = None
) -> Estimate:
    """Say what a download of an `aoi` and a `trend` would fetch, without fetching or creating anything.

    For the other arguments see :func:`load_arcticdem`, for errors and areas :func:`download_arcticdem`.

    Returns:
        Numbers of chunks, and megabytes.
    """
    product = tcvis_product(trend)
    return estimate_product(aoi, data_dir, product, buffer=_MARGIN_PX, bytes_per_px=_BYTES_PER_PX, s3=s3)


class TCVISSource:
    """Fetches TCVIS chunk by chunk. Threads may share one."""

    def __init__(self, product: CubeProduct, settings: EarthEngineSettings | None = None) -> None:
        self._product = product
        self._client = EarthEngineClient(settings)
        self.parallel = self._client.settings.limits.parallel
        self._lock = threading.Lock()
        self._has_images = False

    def fetch(self, geobox: GeoBox) -> dict[str, np.ndarray] | None:
        """Fetch a part of the mosaic, None if there is nothing, 0 where pixels are missing.

        Where images overlap, the last one counts, as in Earth Engine's own mosaics. ServiceError if it cannot be read.
        """
        where = f"Fetching TCVIS around {geobox.boundingbox.bbox[:2]}"
        if not self._count(geobox):
            with self._lock:  # See that there are images at all, before nothing is taken for there being nothing.
                self._has_images = self._has_images or self._count() > 0
            if not self._has_images:
                raise ServiceError(f"The collection {self._product.collection} is empty; expected at least one image.")
            return None
        table = self._client.ask(lambda: self._pixels(geobox), where)
        arrays = {name: np.ascontiguousarray(table[band]) for name, band in _BANDS.items()}
        return arrays if any(values.any() for values in arrays.values()) else None

    def _count(self, geobox: GeoBox | None = None) -> int:
        """Return how many images reach an area, or how many there are."""

        def request() -> Any:
            import ee

            images = ee.ImageCollection(self._product.collection)
            if geobox is not None:
                box = geobox.boundingbox
                # The grid begins and ends a part of a pixel beyond the antimeridian.
                corners = [max(box.left, -180), box.bottom, min(box.right, 180), box.top]
                images = images.filterBounds(ee.Geometry.Rectangle(corners, "EPSG:4326", False))
            return images.size().getInfo()

        return int(self._client.ask(request, f"Searching {self._product.collection}"))

    def _pixels(self, geobox: GeoBox) -> np.ndarray:
        import ee

        image = ee.ImageCollection(self._product.collection).select(list(_BANDS.values())).mosaic().unmask(0).toUint8()
        answer = ee.data.computePixels({"expression": image, "fileFormat": "NPY", "grid": pixel_grid(geobox)})
        try:
            table = np.load(io.BytesIO(answer), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise lost(f"the pixels are incomplete ({error})") from None
        expected = [(band, "|u1") for band in _BANDS.values()]
        if table.shape != tuple(geobox.shape) or table.dtype.descr != expected:
            raise ServiceError(
                f"Earth Engine sent {table.dtype.descr} of shape {table.shape}; "
                f"expected {expected} of shape {tuple(geobox.shape)}."
            )
        return table
