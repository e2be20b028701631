"""Images of trends, and a small product of them."""

import dataclasses
from typing import Any

import numpy as np
from affine import Affine
from google.auth.credentials import AnonymousCredentials
from hypothesis import strategies as st

from darts_acquisition import (
    CubeProduct,
    Datacube,
    EarthEngineSettings,
    RequestLimits,
    RetryPolicy,
    Window,
    tcvis_product,
)
from support.earth_images import EarthImage
from support.local_server import LocalServer

BANDS = {"tc_brightness": "TCB_slope", "tc_greenness": "TCG_slope", "tc_wetness": "TCW_slope"}
WHOLE = Window.of(0, 200, 0, 260)
Placed = tuple[Window, EarthImage]
"""An image and the window of the grid that it lies on."""


def small_product() -> CubeProduct:
    """A piece of TCVIS's own grid, in chunks that are quick to fetch."""
    product = tcvis_product()
    return dataclasses.replace(product, geobox=product.geobox[50_000:50_200, 300_000:300_260], chunk_px=64, inner_px=32)


def image(product: CubeProduct, window: Window, seed: int, masked: float = 0.2) -> EarthImage:
    """An image of random trends on a window of the grid; some of its pixels are masked."""
    random = np.random.default_rng(seed)
    mask = random.random(window.shape) < masked
    bands = {
        name: np.ma.MaskedArray(random.integers(1, 256, window.shape, dtype="uint8"), mask) for name in BANDS.values()
    }
    corner = Affine.translation(window.cols.start, window.rows.start)
    return EarthImage(f"{product.collection}/image{seed:03}", bands, product.geobox.affine * corner)


def mosaic(images: list[Placed], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Lay images over one another in memory, later ones above earlier ones; 0 where none has anything."""
    found = {}
    for name, band in BANDS.items():
        canvas = np.zeros((shape[0] + 400, shape[1] + 400), "uint8")  # room for images beyond the edges
        for window, each in images:
            rows = slice(window.rows.start + 200, window.rows.stop + 200)
            cols = slice(window.cols.start + 200, window.cols.stop + 200)
            values = each.bands[band]
            canvas[rows, cols] = np.where(np.ma.getmaskarray(values), canvas[rows, cols], values.data)
        found[name] = canvas[200:-200, 200:-200]
    return found


def settings_for(server: LocalServer, **limits: Any) -> EarthEngineSettings:
    """Settings that lead to a server, without a login, and never wait."""
    chosen = {"parallel": 3, "retry": RetryPolicy(attempts=4, sleep=lambda seconds: None)} | limits
    return EarthEngineSettings(
        project="tests", url=server.url, credentials=AnonymousCredentials(), limits=RequestLimits(**chosen)
    )


def assert_equals_mosaic(cube: Datacube, images: list[Placed], window: Window = WHOLE) -> None:
    read = cube.read(window)
    for name, expected in mosaic(images, cube.geobox.shape).items():
        np.testing.assert_array_equal(read[name].values, expected[window], err_msg=name)


windows = st.builds(
    lambda top, left, height, width: Window.of(top, top + height, left, left + width),
    st.integers(-50, 180),
    st.integers(-50, 240),
    st.integers(1, 150),
    st.integers(1, 150),
)
