"""The services of the auxiliary data around a tile: ArcticDEM at 10 m from a STAC API, TCVIS as an image for the
stand-in of Earth Engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_acquisition import Window, arcticdem_product, tcvis_product
from darts_acquisition.cube.areas import product_windows
from support.arcticdem import Provider, Service
from support.earth_images import EarthImage

TRENDS = ("TCB_slope", "TCG_slope", "TCW_slope")


@contextmanager
def serve_arcticdem(folder: Path, tile: GeoBox, margin_px: int = 120) -> Iterator[Service]:
    """Serve two overlapping tiles of heights with holes around a tile; the environment names the STAC API meanwhile."""
    product = arcticdem_product(10)
    (window,) = product_windows(product, tile, margin_px)
    rows, cols = window.rows, window.cols
    middle = (cols.start + cols.stop) // 2
    provider = Provider(folder, product)
    provider.add("east", Window(rows, slice(middle - 20, cols.stop)), seed=1)
    provider.add("west", Window(rows, slice(cols.start, middle + 20)), seed=2)
    with provider.serving() as service, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARTS_ARCTICDEM_STAC_URL", service.api.url)
        yield service


def trend_image(tile: GeoBox, margin_px: int = 40) -> EarthImage:
    """Return a TCVIS image of random trends around a tile."""
    product = tcvis_product()
    (window,) = product_windows(product, tile, margin_px)
    random = np.random.default_rng(3)
    bands = {name: random.integers(1, 256, window.shape, dtype="uint8") for name in TRENDS}
    corner = Affine.translation(window.cols.start, window.rows.start)
    return EarthImage(f"{product.collection}/trends", bands, product.geobox.affine * corner)
