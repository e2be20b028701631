"""ArcticDEM in object storage, and the functions that load and download it."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest

from darts_acquisition import (
    Chunk,
    LoginError,
    S3Settings,
    ServiceError,
    Window,
    arcticdem_product,
    download_arcticdem,
    estimate_arcticdem,
    load_arcticdem,
)
from darts_acquisition.auxiliary.arcticdem import ArcticDEMSource
from darts_acquisition.cube.ingest import ingest
from support.arcticdem import NODATA, Provider
from support.arcticdem_fetching import all_chunks, assert_equals_mosaic, source_of
from support.s3_server import S3Server, environment_of, serve_s3

# Object storage


def move_to(storage: S3Server, provider: Provider, **options: str) -> None:
    """Put the files into a bucket, and let the items name them there."""
    bucket = storage.bucket("tiles")
    for item in provider.items:
        for asset, content in item["assets"].items():
            name = f"{item['id']}_{asset}.tif"
            storage.client().upload_file(str(provider.folder / name), bucket, name, ExtraArgs=options)
            content["href"] = f"s3://{bucket}/{name}"


@pytest.mark.slow
def test_files_in_object_storage_with_keys(provider, service, cube):
    with serve_s3() as storage, environment_of(storage):
        move_to(storage, provider)
        settings = dataclasses.replace(service.settings(), s3=S3Settings())
        ingest(cube, all_chunks(cube)[:7], ArcticDEMSource(provider.product, settings))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))
    assert service.files.requests == []


@pytest.mark.slow
def test_public_files_in_object_storage_need_no_keys(provider, service, cube):
    """ArcticDEM's bucket is public, so by default no keys are looked for and none are sent."""
    with serve_s3() as storage, environment_of(storage, keys=False):
        move_to(storage, provider, ACL="public-read")
        ingest(cube, all_chunks(cube)[:9], source_of(provider, service))
    assert_equals_mosaic(cube, provider, Window.of(0, 64, 0, 400))


@pytest.mark.slow
def test_files_in_object_storage_that_are_not_public_are_refused(provider, service, cube):
    with serve_s3() as storage, environment_of(storage):
        move_to(storage, provider)
        with pytest.raises(ServiceError, match=r"s3://tiles/\w+\.tif: HTTP status 403, Forbidden"):
            ingest(cube, [Chunk(0, 0)], source_of(provider, service))
    assert cube.known() == {}


def test_object_storage_without_keys(provider, service, cube):
    with serve_s3() as storage, environment_of(storage, keys=False):
        for item in provider.items:
            item["assets"]["dem"]["href"] = "s3://bucket/key"
        settings = dataclasses.replace(service.settings(), s3=S3Settings(region="us-east-1"))
        with pytest.raises(LoginError, match=r"no keys for http.*AWS_PROFILE"):
            ingest(cube, [Chunk(0, 0)], ArcticDEMSource(provider.product, settings))


# The public functions, with the real grid


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterable[tuple[Provider, object]]:
    """One tile of the 32 m mosaic, which lies in one of its chunks."""
    product = arcticdem_product(32)
    provider = Provider(tmp_path_factory.mktemp("real") / "files", product)
    provider.add("31_32_32m_v4.1", Window.of(108_200, 108_600, 54_300, 54_900), seed=5)
    with provider.serving() as service:
        yield provider, service


def test_load_creates_and_fills_the_cube(real, tmp_path):
    provider, service = real
    window = Window.of(108_250, 108_300, 54_350, 54_420)
    tile = provider.product.geobox[
        window.rows.start + 5 : window.rows.stop - 5, window.cols.start + 5 : window.cols.stop - 5
    ]
    told = []
    ds = load_arcticdem(
        tile, tmp_path / "new" / "cube", 32, buffer=5, settings=service.settings(), progress=lambda *at: told.append(at)
    )
    assert told == [(1, 1)]
    truth = provider.truth(window)
    np.testing.assert_array_equal(ds.dem, truth["dem"])
    np.testing.assert_array_equal(ds.arcticdem_data_mask, truth["arcticdem_data_mask"])
    before = service.requests()
    again = load_arcticdem(tile, tmp_path / "new" / "cube", 32, buffer=5, settings=service.settings())
    offline = load_arcticdem(tile, tmp_path / "new" / "cube", 32, buffer=5, offline=True)
    assert service.requests() == before
    assert ds.identical(again)
    assert ds.identical(offline)


def test_download_says_before_what_it_takes(real, tmp_path):
    provider, service = real
    area = provider.product.geobox[108_250:108_300, 54_350:54_420].extent
    estimate = estimate_arcticdem(area, tmp_path / "cube", 32)
    assert (estimate.area_chunks, estimate.missing_chunks, estimate.megabytes) == (1, 1, 33)
    assert str(estimate) == "1 of 1 chunks are missing, at most about 33 MB to download"
    assert not (tmp_path / "cube").exists()
    report = download_arcticdem(area, tmp_path / "cube", 32, settings=service.settings())
    assert (report.filled, report.empty) == (1, 0)
    assert estimate_arcticdem(area, tmp_path / "cube", 32).megabytes == 0
    assert download_arcticdem(area, tmp_path / "cube", 32, settings=service.settings()).filled == 0


def test_the_environment_may_name_another_service(real, tmp_path, monkeypatch):
    provider, service = real
    monkeypatch.setenv("DARTS_ARCTICDEM_STAC_URL", service.api.url)
    ds = load_arcticdem(provider.product.geobox[108_250:108_260, 54_350:54_360], tmp_path / "cube", 32)
    assert ds.dem.shape == (10, 10)


def test_nodata_of_the_provider_is_nan(real, tmp_path):
    provider, service = real
    ds = load_arcticdem(
        provider.product.geobox[108_190:108_210, 54_290:54_310], tmp_path / "c", 32, settings=service.settings()
    )
    assert np.isnan(ds.dem.values).any()
    assert not (ds.dem.values == NODATA).any()
