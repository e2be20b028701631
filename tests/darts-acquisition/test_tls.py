"""Certificates are verified, whichever library makes the request; there is no way around that."""

import re
import socket
import ssl
from pathlib import Path

import ee
import pytest
import requests
import urllib3
from google.auth.credentials import AnonymousCredentials

import darts_acquisition
from darts_acquisition import (
    EarthEngineSettings,
    RequestLimits,
    RetryPolicy,
    S3Settings,
    ServiceError,
    download_sentinel_2_grid,
    search_cdse_s2_sr,
    search_gee_s2_sr,
)
from darts_acquisition.errors import failure_of
from darts_acquisition.io.raster import Layer, RasterReader
from darts_acquisition.io.store import RemoteFile, Store
from support.arcticdem import small_product
from support.earthengine_server import without_catalogue
from support.sentinel2 import cdse_settings
from support.tls_server import serve_broken_handshakes, serve_tls, write_certificate

NAPS: list[float] = []
LIMITS = RequestLimits(timeout_s=10, retry=RetryPolicy(attempts=3, sleep=NAPS.append))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def url(certificate):
    with serve_tls(*certificate) as address:
        yield address


def ask_stac(url, folder):
    search_cdse_s2_sr(tile_ids=["08WMA"], settings=cdse_settings(url, url, LIMITS.retry))


def ask_storage(url, folder):
    store = Store(LIMITS, S3Settings(endpoint_url=url, region="us-east-1", anonymous=True))
    store.download([RemoteFile("s3://bucket/file")], folder)


def ask_files(url, folder):
    layers = {"dem": Layer([f"{url}/file.tif"], "float32", float("nan"))}
    RasterReader(Store(LIMITS, S3Settings(anonymous=True))).read(layers, small_product().geobox)


def ask_grid(url, folder):
    download_sentinel_2_grid(folder, url=f"{url}/grid.kml", limits=LIMITS)


def ask_earth_engine(url, folder):
    settings = EarthEngineSettings(url=url, project="tests", credentials=AnonymousCredentials(), limits=LIMITS)
    with without_catalogue():
        ee.Reset()
        search_gee_s2_sr(tile_ids=["08WMA"], settings=settings)


@pytest.mark.parametrize("ask", [ask_stac, ask_storage, ask_files, ask_grid, ask_earth_engine])
def test_a_certificate_that_nobody_signed_is_refused_at_once(url, tmp_path, ask):
    NAPS.clear()
    with pytest.raises(ServiceError, match="the certificate of the service cannot be verified, after one attempt"):
        ask(url, tmp_path)
    assert NAPS == []


@pytest.mark.parametrize("ask", [ask_stac, ask_storage, ask_files, ask_grid, ask_earth_engine])
def test_a_handshake_that_breaks_off_is_tried_again(tmp_path, ask):
    with serve_broken_handshakes() as (url, connected):
        with pytest.raises(ServiceError, match=r"connection refused, lost or too slow .* after 3 attempts"):
            ask(url, tmp_path)
        assert len(connected) >= 3


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (urllib3.exceptions.ProxyError("no tunnel", OSError()), True),
        (urllib3.exceptions.LocationParseError("no address"), None),
        (socket.gaierror(-2, "name or service not known"), True),
        (urllib3.exceptions.SSLError("record layer failure"), True),
        (ssl.SSLError(1, "bad record mac"), True),
        (requests.exceptions.InvalidProxyURL("no address"), False),
    ],
)
def test_errors_of_the_connection_are_understood(error, transient):
    failure = failure_of(error)
    assert (None if failure is None else failure.transient) == transient


def test_a_host_without_an_address_is_named_as_such():
    error = requests.ConnectionError("Max retries exceeded")
    error.__cause__ = socket.gaierror(-2, "Name or service not known")
    failure = failure_of(error)
    assert failure is not None
    assert failure.transient
    assert "the name of the host cannot be resolved" in str(failure)


def test_an_authority_that_the_user_names_is_trusted(url, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    with pytest.raises(ServiceError, match="no page of items"):  # the answer came
        ask_stac(url, None)


def test_no_code_switches_verification_off():
    folder = Path(darts_acquisition.__file__).parent
    wrong = re.compile(r"verify\s*=\s*False|CERT_NONE|_create_unverified_context|disable_warnings|use_ssl\s*=\s*False")
    assert [file for file in folder.rglob("*.py") if wrong.search(file.read_text("utf-8"))] == []
