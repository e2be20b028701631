"""Images of trends in a stand-in for Earth Engine, and a cube to fill from it."""

from collections.abc import Iterator

import pytest

from darts_acquisition import CubeProduct, Datacube, Window
from support.earthengine_server import serve_earth_engine
from support.local_server import LocalServer
from support.tcvis_fetching import Placed, image, small_product


@pytest.fixture(scope="module")
def product() -> CubeProduct:
    return small_product()


@pytest.fixture(scope="module")
def images(product) -> list[Placed]:
    windows = [Window.of(10, 120, 20, 150), Window.of(60, 190, 100, 190), Window.of(150, 230, -30, 64)]
    return [(window, image(product, window, seed)) for seed, window in enumerate(windows)]


@pytest.fixture
def server(images) -> Iterator[LocalServer]:
    with serve_earth_engine([each for _, each in images]) as server:
        yield server


@pytest.fixture
def cube(tmp_path, product):
    return Datacube.create(tmp_path / "cube", product)
