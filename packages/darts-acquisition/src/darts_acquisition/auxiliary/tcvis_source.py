"""TCVIS from Earth Engine: the mosaic of a collection, chunk by chunk."""

import io
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.errors import ServiceError
from darts_acquisition.io.earthengine import EarthEngineClient
from darts_acquisition.io.settings import EarthEngineSettings

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_BANDS = {"tc_brightness": "TCB_slope", "tc_greenness": "TCG_slope", "tc_wetness": "TCW_slope"}
"""Earth Engine's name of each variable."""


class TCVISSource:
    """Fetches TCVIS chunk by chunk. Many threads may use one object.

    Args:
        product: What is fetched, see `tcvis_product`.
        settings: How Earth Engine is asked.
    """

    def __init__(self, product: CubeProduct, settings: EarthEngineSettings) -> None:
        self._product = product
        self._client = EarthEngineClient(settings)
        self._lock = threading.Lock()
        self._has_images = False

    @property
    def parallel(self) -> int:
        """How many chunks to fetch at the same time."""
        return self._client.settings.limits.parallel

    def fetch(self, geobox: "GeoBox") -> dict[str, np.ndarray] | None:
        """Fetch a part of the mosaic; where images overlap, the last one counts, as Earth Engine's mosaics have it.

        Args:
            geobox: Pixels of the product's grid.

        Returns:
            The three trends, 0 where pixels are missing; None if the provider has nothing there.

        Raises:
            ServiceError: If they cannot be fetched.
        """
        where = f"Fetching TCVIS around {geobox.boundingbox.bbox[:2]}"
        if not self._count(geobox):
            self._check_collection()
            return None
        table = self._client.ask(lambda: self._pixels(geobox), where)
        arrays = {name: np.ascontiguousarray(table[band]) for name, band in _BANDS.items()}
        return arrays if any(values.any() for values in arrays.values()) else None

    def _count(self, geobox: "GeoBox | None" = None) -> int:
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

    def _check_collection(self) -> None:
        """Check that there are images at all, before nothing is taken for the provider having nothing."""
        with self._lock:
            self._has_images = self._has_images or self._count() > 0
            if not self._has_images:
                raise ServiceError(f"The collection {self._product.collection} is empty; expected at least one image.")

    def _pixels(self, geobox: "GeoBox") -> np.ndarray:
        import ee

        affine = geobox.affine
        height, width = geobox.shape
        grid = {
            "dimensions": {"width": width, "height": height},
            "affineTransform": {
                "scaleX": affine.a,
                "shearX": 0,
                "translateX": affine.c,
                "shearY": 0,
                "scaleY": affine.e,
                "translateY": affine.f,
            },
            "crsCode": "EPSG:4326",
        }
        image = ee.ImageCollection(self._product.collection).select(list(_BANDS.values())).mosaic().unmask(0).toUint8()
        answer = ee.data.computePixels({"expression": image, "fileFormat": "NPY", "grid": grid})
        try:
            table = np.load(io.BytesIO(answer), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ConnectionError(f"the pixels are incomplete: {error}") from error
        expected = [(band, "|u1") for band in _BANDS.values()]
        if table.shape != (height, width) or table.dtype.descr != expected:
            raise ServiceError(
                f"Earth Engine sent {table.dtype.descr} of shape {table.shape}; "
                f"expected {expected} of shape {(height, width)}."
            )
        return table
