"""A provider of ArcticDEM on this machine, and a cube to fill from it."""

import pytest

from darts_acquisition import Datacube, Window
from support.arcticdem import Provider, small_product


@pytest.fixture
def provider(tmp_path):
    provider = Provider(tmp_path / "files", small_product())
    provider.add("a", Window.of(20, 150, 30, 200), seed=1)
    provider.add("b", Window.of(20, 170, 190, 330), seed=2)
    provider.add("c", Window.of(140, 260, 30, 195), seed=3)
    return provider


@pytest.fixture
def service(provider):
    with provider.serving() as service:
        yield service


@pytest.fixture
def cube(tmp_path, provider):
    return Datacube.create(tmp_path / "cube", provider.product)
