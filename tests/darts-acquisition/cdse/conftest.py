"""A STAC API and an object storage that stand for the Copernicus Data Space, and a scene in them."""

import copy

import pytest

from support.cdse import catalogue
from support.s3_server import serve_s3
from support.sentinel2 import BUCKET, publish, random_scene


@pytest.fixture(scope="module")
def s3():
    with serve_s3() as server:
        server.bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def scene():
    return random_scene(60)


@pytest.fixture(scope="module")
def published(s3, scene, tmp_path_factory):
    return publish(scene, s3, tmp_path_factory.mktemp("jp2"))


@pytest.fixture
def service(s3, published):
    with catalogue(s3, [copy.deepcopy(published)]) as (stac, settings):
        yield stac, settings
