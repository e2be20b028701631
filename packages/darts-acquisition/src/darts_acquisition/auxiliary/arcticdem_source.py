"""ArcticDEM from a STAC API: which GeoTIFFs hold a chunk, and their mosaic."""

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.cube.grid import lonlat_bounds
from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.errors import ServiceError
from darts_acquisition.io.cog import RemoteRaster, mosaic, open_raster
from darts_acquisition.io.settings import ArcticDEMSettings
from darts_acquisition.io.stac import open_api, search_box
from darts_acquisition.io.transfer import Remote

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_MARGIN_M = 5000
"""How far beyond a chunk is searched. In degrees the straight edge of a tile of 100 km lies up to 2.3 km beside its
real one at 85° N, so a search for the chunk alone could miss a tile."""

_MOST_OPEN = 128
"""Files whose directories are kept in memory, about 0.1 MB each."""


class ArcticDEMSource:
    """Fetches ArcticDEM chunk by chunk. Many threads may use one object.

    Args:
        product: What is fetched, see `arcticdem_product`.
        settings: Where it comes from.
    """

    def __init__(self, product: CubeProduct, settings: ArcticDEMSettings) -> None:
        self._product, self._settings = product, settings
        resolution = round(product.geobox.affine.a)
        self._collection = (settings.collections or {}).get(resolution, product.collection)
        self._remote = Remote(settings.limits, settings.s3)
        self._lock = threading.Lock()
        self._client: Any = None
        self._rasters: dict[str, RemoteRaster] = {}

    @property
    def parallel(self) -> int:
        """How many chunks to fetch at the same time."""
        return self._settings.limits.parallel

    def fetch(self, geobox: "GeoBox") -> dict[str, np.ndarray] | None:
        """Fetch a part of the mosaic.

        Args:
            geobox: Pixels of the product's grid.

        Returns:
            `dem` and `arcticdem_data_mask` as the cube keeps them; None if the provider has nothing there.

        Raises:
            ServiceError: If something cannot be read.
        """
        items = self._search(geobox)
        if not items:
            return None
        arrays = {}
        names = (self._settings.dem_asset, self._settings.mask_asset)
        for variable, asset in zip(self._product.variables, names, strict=True):
            rasters = [self._open(item, asset) for item in items]
            arrays[variable.name] = mosaic(self._remote, rasters, geobox, variable.dtype, variable.nodata)
        dem, mask = arrays.values()
        return None if np.isnan(dem).all() and not mask.any() else arrays

    def _search(self, geobox: "GeoBox") -> list[Any]:
        """Return the items that may reach an area, by their names, so that overlaps always come out the same."""
        margin = int(np.ceil(_MARGIN_M / geobox.affine.a))
        west, south, east, north = lonlat_bounds(geobox.pad(margin))
        # Not every service understands a box across the antimeridian, so it is asked twice.
        spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        found = {}
        for left, right in spans:
            found.update(search_box(self._api(), self._collection, (left, south, right, north)))
        return [found[name] for name in sorted(found)]

    def _open(self, item: Any, asset: str) -> RemoteRaster:
        if asset not in item.assets:
            raise ServiceError(
                f"The item {item.id} of {self._collection} has no asset {asset!r}, only {', '.join(item.assets)}."
            )
        url = item.assets[asset].get_absolute_href() or item.assets[asset].href
        with self._lock:
            known = self._rasters.get(url)
        if known is not None:
            return known
        raster = open_raster(self._remote, url)
        with self._lock:
            while len(self._rasters) >= _MOST_OPEN:
                del self._rasters[next(iter(self._rasters))]
            self._rasters[url] = raster
        return raster

    def _api(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = open_api(self._settings.stac_url, self._collection, self._settings.limits)
            return self._client
