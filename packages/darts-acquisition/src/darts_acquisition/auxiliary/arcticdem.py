"""ArcticDEM: elevation around a tile, from a datacube that fills as it is used, from a STAC API and its GeoTIFFs."""

import math
import re
import threading
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_acquisition.cube.areas import AreaLike, lonlat_bounds
from darts_acquisition.cube.datacube import Datacube
from darts_acquisition.cube.ingest import (
    Estimate,
    FetchReport,
    Progress,
    download_product,
    estimate_product,
    read_product,
)
from darts_acquisition.cube.product import CubeProduct, CubeVariable, Window, check_possible
from darts_acquisition.errors import ServiceError
from darts_acquisition.io.raster import Layer, RasterReader
from darts_acquisition.io.settings import ArcticDEMSettings, S3Settings
from darts_acquisition.io.stac import open_api, search_box
from darts_acquisition.io.store import Store
from darts_acquisition.tile import AnyPath
from darts_utils import BANDS, ParameterError, ValueRangeError

if TYPE_CHECKING:
    import xarray as xr
    from pystac import Item
    from pystac_client import Client

RESOLUTIONS = (2, 10, 32)
"""Pixel sizes in metres in which the ArcticDEM mosaics are published."""
ARCTICDEM_NODATA = -9999.0
"""Elevation where the mosaics have none, in files that do not say so themselves."""
_LEFT, _TOP, _EDGE = -4_000_000, 4_100_000, 8_100_000
"""Corner and edge in metres of the square in EPSG:3413 that holds all tiles of the mosaics (tiles of 100 km)."""
_SOUTH = -4_000_000
"""Lower edge of the southernmost row of tiles in metres; the leftmost column begins at `_LEFT`."""
_TILE_M = 100_000
_MARGIN_M = 5000
"""How far beyond a chunk is searched. In degrees the straight edge of a tile of 100 km lies up to 2.3 km beside its
real one at 85° N, so a search for the chunk alone could miss a tile."""
_BYTES_PER_PX = 2.5
"""What elevation and mask take in the provider's compressed files, about."""


def arcticdem_product(resolution: int) -> CubeProduct:
    """Describe an ArcticDEM mosaic v4.1 as a datacube.

    Args:
        resolution: Pixel size in metres: 2, 10 or 32.

    Returns:
        The product: EPSG:3413, `dem` (float32, m, NaN outside the data) and `arcticdem_data_mask` (uint8, 1 where the
        elevation was measured, else 0).

    Raises:
        ParameterError: If there is no mosaic of that resolution.
    """
    if resolution not in RESOLUTIONS:
        raise ParameterError(f"resolution is {resolution!r}; ArcticDEM is published at 2, 10 and 32 m.")
    resolution = int(resolution)  # 2.0 is 2, but would be another name.
    size = -(-_EDGE // resolution)
    dem, mask = BANDS["dem"], BANDS["arcticdem_data_mask"]
    return CubeProduct(
        name="arcticdem",
        version="v4.1",
        collection=f"arcticdem-mosaics-v4.1-{resolution}m",
        geobox=GeoBox((size, size), Affine(resolution, 0, _LEFT, 0, -resolution, _TOP), "EPSG:3413"),
        variables=(
            CubeVariable("dem", dem.dtype, float("nan"), dem.long_name, dem.units),
            CubeVariable("arcticdem_data_mask", mask.dtype, 0, mask.long_name, mask.units),
        ),
    )


def tile_window(name: str, product: CubeProduct) -> Window | None:
    """Return what a tile of the mosaic covers of the product's grid, by the tile's name; None for another name.

    Tiles of 100 km are named by row and column from the south-west corner on, both from 1 (``36_24_10m_v4.1``). Those
    of 2 m are quarters, of which the first number is the southern (1) or northern (2) half, the second the western (1)
    or eastern (2) one (``14_52_2_1_2m_v4.1``). The 100 m by which tiles overlap their neighbours are left out.
    """
    affine = product.geobox.affine
    metres = round(affine.a)
    quarter = "_([12])_([12])" if metres == 2 else ""
    match = re.fullmatch(rf"(\d\d)_(\d\d){quarter}_{metres}m_{re.escape(product.version)}", name)
    if match is None:
        return None
    row, col, upper, right = (int(number) - 1 for number in (*match.groups(), "1", "1")[:4])
    edge = _TILE_M // 2 if quarter else _TILE_M
    south, west = row * _TILE_M + upper * edge, col * _TILE_M + right * edge
    bottom = round((affine.f - _SOUTH - south) / metres)
    left = round((_LEFT + west - affine.c) / metres)
    return Window.of(bottom - edge // metres, bottom, left, left + edge // metres)


def create_arcticdem_cube(path: AnyPath, resolution: int, *, s3: S3Settings | None = None) -> Datacube:
    """Create an ArcticDEM datacube, on the grid of `arcticdem_product`, in which everything is missing.

    Args:
        path: Folder to create, or ``s3://bucket/prefix``.
        resolution: Pixel size in metres: 2, 10 or 32.
        s3: Which object storage; None for what the environment names.

    Returns:
        The new cube. `load_arcticdem` fills it as it is used.

    Raises:
        ParameterError: If there is no mosaic of that resolution.
        CubeExistsError: If there is something at the path.
    """
    return Datacube.create(path, arcticdem_product(resolution), s3=s3)


def load_arcticdem(
    geobox: GeoBox,
    data_dir: AnyPath,
    resolution: int,
    buffer: int = 0,
    offline: bool = False,
    *,
    settings: ArcticDEMSettings | None = None,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> "xr.Dataset":
    """Read the elevation of an area from a datacube, after fetching what the cube lacks of it.

    Args:
        geobox: Grid of the tile, in any CRS.
        data_dir: Folder of the datacube, or ``s3://bucket/prefix``; it is created where there is none.
        resolution: Pixel size in metres: 2, 10 or 32; that of the cube.
        buffer: Pixels of the DEM to add on every side.
        offline: Never fetch or create anything.
        settings: Where ArcticDEM comes from; None for `ArcticDEMSettings.from_environment`.
        s3: Which object storage holds the cube; None for what the environment names.
        progress: Called with the number of chunks that are done and the number of those to fetch.

    Returns:
        Dataset in EPSG:3413 with the smallest window of the DEM's grid that holds the area, plus the buffer: `dem`
        (float32, m, clipped to −100…3000, NaN outside the data) and `arcticdem_data_mask` (uint8, 1 where the
        elevation was measured). The window ends where the mosaic's grid ends.

    Raises:
        InputTypeError: If `geobox` is none, but a Dataset for example.
        MissingAuxiliaryDataError: Offline, if a part of the area is neither in the cube nor known to be empty, or there
            is no cube. The message says which part, and what fetches it.
        ServiceError: If a part cannot be fetched; what was fetched is in the cube.
        OutsideExtentError: If the area lies wholly outside ArcticDEM.
        CubeError: If there is something else at the path, or the cube of another product or resolution.
        CubeDamagedError: If the storage has damaged the cube.
        ParameterError: If the resolution or the buffer cannot be.
        GridError: If the area has no CRS.
    """
    product = arcticdem_product(resolution)
    source = None if offline else partial(ArcticDEMSource, product, settings)
    name = f"ArcticDEM mosaic {product.version}, {resolution} m"
    ds = read_product(geobox, data_dir, product, source, buffer=buffer, data_source=name, s3=s3, progress=progress)
    dem = ds["dem"].values
    np.clip(dem, BANDS["dem"].low, BANDS["dem"].high, out=dem)  # The array is ours, and NaN stays NaN.
    return ds


def download_arcticdem(
    aoi: AreaLike,
    data_dir: AnyPath,
    resolution: int,
    *,
    buffer: int = 0,
    settings: ArcticDEMSettings | None = None,
    s3: S3Settings | None = None,
    progress: Progress | None = None,
) -> FetchReport:
    """Fetch what a datacube lacks of an area, so that it can be used offline.

    `aoi`, the area, is a GeoDataFrame, a geometry of odc.geo, a geobox, or several of these, in any CRS. For the other
    arguments and errors see :func:`load_arcticdem`; a ParameterError also if the area is none, or empty.

    Returns:
        How many chunks were filled, and how many the provider does not cover.
    """
    product = arcticdem_product(resolution)
    source = partial(ArcticDEMSource, product, settings)
    return download_product(aoi, data_dir, product, source, buffer=buffer, s3=s3, progress=progress)


def estimate_arcticdem(
    aoi: AreaLike, data_dir: AnyPath, resolution: int, *, buffer: int = 0, s3: S3Settings | None = None
) -> Estimate:
    """Say what a download of an `aoi` would fetch, without fetching or creating anything.

    For the other arguments see :func:`load_arcticdem`, for errors and areas :func:`download_arcticdem`.

    Returns:
        Numbers of chunks, and megabytes.
    """
    product = arcticdem_product(resolution)
    return estimate_product(aoi, data_dir, product, buffer=buffer, bytes_per_px=_BYTES_PER_PX, s3=s3)


class ArcticDEMSource:
    """Fetches ArcticDEM chunk by chunk. Threads may share one."""

    def __init__(self, product: CubeProduct, settings: ArcticDEMSettings | None = None) -> None:
        self._product = product
        self._settings = settings = settings or ArcticDEMSettings.from_environment()
        self.parallel = settings.limits.parallel
        resolution = round(product.geobox.affine.a)
        self._collection = (settings.collections or {}).get(resolution, product.collection)
        self._reader = RasterReader(Store(settings.limits, settings.s3))
        self._lock = threading.Lock()
        self._client: Client | None = None

    def fetch(self, geobox: GeoBox) -> dict[str, np.ndarray] | None:
        """Fetch a part of the mosaic, None if there is nothing; where tiles overlap, the first one by name counts.

        ServiceError if something cannot be read.
        """
        items = self._search(geobox)
        if not items:
            return None
        assets = (self._settings.dem_asset, self._settings.mask_asset)
        layers = {
            variable.name: Layer([self._uri(item, asset) for item in items], variable.dtype, variable.nodata)
            for variable, asset in zip(self._product.variables, assets, strict=True)
        }
        arrays = self._reader.read(layers, geobox)
        if arrays is None or (np.isnan(arrays["dem"]).all() and not arrays["arcticdem_data_mask"].any()):
            return None
        try:
            check_possible(arrays)
        except ValueRangeError as error:
            names = ", ".join(item.id for item in items)
            raise ServiceError(f"What {names} of {self._collection} hold cannot be used: {error}") from error
        return arrays

    def _search(self, geobox: GeoBox) -> "list[Item]":
        """Return the items that may reach an area, by their names, so that overlaps always come out the same."""
        margin = math.ceil(_MARGIN_M / geobox.affine.a)
        west, south, east, north = lonlat_bounds(geobox.pad(margin))
        # Not every service understands a box across the antimeridian, so it is asked twice.
        spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        found = {}
        for left, right in spans:
            found.update(search_box(self._api(), self._collection, (left, south, right, north)))
        return [found[name] for name in sorted(found)]

    def _uri(self, item: "Item", asset: str) -> str:
        if asset not in item.assets:
            raise ServiceError(
                f"The item {item.id} of {self._collection} has no asset {asset!r}, only {', '.join(item.assets)}."
            )
        href = item.assets[asset].href
        if not isinstance(href, str):
            raise ServiceError(f"The asset {asset} of {item.id} lies at {href!r}; expected an address.")
        return item.assets[asset].get_absolute_href() or href

    def _api(self) -> "Client":
        with self._lock:
            if self._client is None:
                self._client = open_api(self._settings.stac_url, self._collection, self._settings.limits)
            return self._client
