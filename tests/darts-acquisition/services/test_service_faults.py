"""Services that answer wrongly in every way: each ends in data or in its own error, in bounded time and memory."""

import contextlib
import functools
import gzip
import itertools
import re
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest

from darts_acquisition import EarthEngineSettings, RequestLimits, RetryPolicy, S3Settings, ServiceError
from darts_acquisition.auxiliary.tcvis import TCVISSource, tcvis_product
from darts_acquisition.errors import ChecksumError
from darts_acquisition.io.http import HttpClient
from darts_acquisition.io.raster import Layer, RasterReader
from darts_acquisition.io.stac import open_api
from darts_acquisition.io.store import RemoteFile, Store
from support.arcticdem import small_product
from support.lanes import mostly_slow
from support.local_server import Answer, LocalServer
from support.raw_server import endless, head, serve_raw
from support.service_faults import LIMITS, ask_search, silence

HASTY = RequestLimits(timeout_s=0.06, retry=RetryPolicy(attempts=1))
"""For services that never answer well, so that nothing good can come too late."""
MOST_MB = 64
pytestmark = pytest.mark.timeout(60)


def ask_api(url, folder, limits=LIMITS):
    return open_api(url, "tiles", limits)


def ask_download(url, folder, limits=LIMITS):
    return Store(limits, S3Settings(endpoint_url=url, anonymous=True)).download(
        [RemoteFile("s3://bucket/file.jp2", 100, None)], folder
    )


def ask_raster(url, folder, limits=LIMITS):
    layers = {"dem": Layer([f"{url}/a.tif"], "float32", float("nan"))}
    return RasterReader(Store(limits, S3Settings(anonymous=True))).read(layers, small_product().geobox)


def ask_whole(url, folder, limits=LIMITS):
    with contextlib.closing(HttpClient(limits)) as client:
        return client.fetch(f"{url}/grid.kml", "the grid", bytes)


def ask_earth_engine(url, folder, limits=LIMITS):
    import ee
    from google.auth.credentials import AnonymousCredentials

    ee.Reset()
    settings = EarthEngineSettings(url=url, project="tests", credentials=AnonymousCredentials(), limits=limits)
    try:
        return TCVISSource(tcvis_product(), settings).fetch(tcvis_product().geobox[:10, :10])
    finally:
        ee.Reset()


ALL = [ask_search, ask_api, ask_download, ask_raster, ask_whole, ask_earth_engine]


def endless_body(server, connection, request):
    connection.sendall(head(Content_Type="application/octet-stream"))
    endless(server, connection, bytes(1 << 16))


def endless_part(server, connection, request):
    connection.sendall(head("206 Partial Content", Content_Range="bytes 0-3/1000", Content_Type="image/tiff"))
    endless(server, connection, b"II*\0" * (1 << 14))


def endless_head(server, connection, request):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    endless(server, connection, b"X-More: more\r\n", 0.01)


def endless_chunks(server, connection, request):
    connection.sendall(head(Transfer_Encoding="chunked", Content_Type="application/json"))
    endless(server, connection, b"10000\r\n" + bytes(1 << 16) + b"\r\n")


def endless_error(server, connection, request):
    connection.sendall(head("503 Service Unavailable"))
    endless(server, connection, bytes(1 << 16))


def endless_redirect_body(server, connection, request):
    connection.sendall(head("302 Found", Location="/elsewhere"))
    endless(server, connection, bytes(1 << 16))


def bytes_that_drip(server, connection, request):
    connection.sendall(head(Content_Length=10**6, Content_Type="application/json"))
    endless(server, connection, b" ", 0.02)


@functools.cache
def gigabyte_of_zeros():
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    return b"".join([*(packer.compress(block) for _ in range(1024)), packer.flush()])


def compressed_zeros(server, connection, request):
    """A gigabyte, from a megabyte."""
    body = gigabyte_of_zeros()
    connection.sendall(head(Content_Encoding="gzip", Content_Length=len(body), Content_Type="application/json") + body)


def resets(server, connection, request):
    connection.sendall(head(Content_Length=1000, Content_Type="application/json") + b"{")


FAULTS = [
    endless_body,
    endless_part,
    endless_head,
    endless_chunks,
    endless_error,
    endless_redirect_body,
    bytes_that_drip,
    silence,
    compressed_zeros,
    resets,
]


@pytest.mark.parametrize(
    ("ask", "talk"),
    mostly_slow(itertools.product(ALL, FAULTS), lambda case: (ALL.index(case[0]) + FAULTS.index(case[1])) % 4 == 0),
    ids=lambda function: function.__name__,
)
def test_a_wrong_answer_ends_in_an_error_of_bounded_size(tmp_path, ask, talk):
    with serve_raw(talk) as server:
        tracemalloc.start()
        try:
            with pytest.raises((ServiceError, ChecksumError)) as caught:
                ask(server.url, tmp_path, HASTY)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert re.search(r"127\.0\.0\.1|Earth Engine|TCTrend|file\.jp2|the grid", str(caught.value))
        assert len(server.heads) <= 14
    assert peak < MOST_MB << 20
    assert [file for file in tmp_path.rglob("*") if file.suffix != ".part"] == []
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.part")) < MOST_MB << 20


GDAL_SCRIPT = """
import resource, sys
sys.path.insert(0, sys.argv[2])
import numpy, rasterio, odc.stac, requests
from darts_acquisition import RequestLimits, RetryPolicy, S3Settings, ServiceError
from darts_acquisition.io.raster import Layer, RasterReader
from darts_acquisition.io.store import Store
from support.arcticdem import small_product
limits = RequestLimits(timeout_s=0.3, retry=RetryPolicy(attempts=2, sleep=lambda seconds: None))
reader = RasterReader(Store(limits, S3Settings(anonymous=True)))
layers = {name: {"dem": Layer([f"{sys.argv[1]}/{name}.tif"], "float32", float("nan"))} for name in sys.argv[3:]}
reader.read(layers["good"], small_product().geobox)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[4:]:
    try:
        reader.read(layers[name], small_product().geobox)
    except ServiceError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
def test_pixels_without_end_are_an_error_of_bounded_size(tmp_path):
    """GDAL's memory is not that of Python, so the process is measured.

    Where the length is said, GDAL keeps to it, whatever comes. A server that does not say it is found out before.
    """
    from darts_acquisition import Window
    from support.arcticdem import Provider

    provider = Provider(tmp_path, small_product())
    provider.add("x", Window.of(0, 300, 0, 400), holes=False, compress="NONE")
    content = (tmp_path / "x_dem.tif").read_bytes()

    def talk(server, connection, request):
        line, _, rest = request.partition(b"\r\n")
        method, path, _ = line.split()
        first, last = 0, len(content) - 1
        for field in rest.split(b"\r\n"):
            if field.lower().startswith(b"range: bytes="):
                first, last = (int(part) for part in field[13:].split(b"-"))
        last = min(last, len(content) - 1)
        told = {"Accept_Ranges": "bytes", "ETag": '"1"', "Content_Type": "image/tiff", "Connection": "close"}
        if method == b"HEAD":
            connection.sendall(head(Content_Length=len(content), **told))
            return
        told["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
        if path == b"/silent.tif" or (path == b"/said.tif" and first):
            if path == b"/said.tif":
                told["Content_Length"] = last - first + 1
            connection.sendall(head("206 Partial Content", **told))
            endless(server, connection, bytes(1 << 18), 0.005)
        connection.sendall(
            head("206 Partial Content", Content_Length=last - first + 1, **told) + content[first : last + 1]
        )

    with serve_raw(talk) as server:
        support = Path(__file__).parents[2]
        found = subprocess.run(
            [sys.executable, "-c", GDAL_SCRIPT, server.url, str(support), "good", "said", "silent"],
            capture_output=True,
            text=True,
            timeout=300,
        )
    error, megabytes = found.stdout.splitlines()
    assert int(megabytes) < MOST_MB, found.stdout
    assert "silent.tif is served without a length" in error


# Redirections


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_followed(status, tmp_path):
    with LocalServer(lambda request: Answer(b"there")).running() as target:
        answer = Answer(b"", status, {"Location": f"{target.url}/there"})
        with LocalServer(lambda request: answer).running() as server:
            assert ask_whole(server.url, tmp_path) == b"there"
    assert target.paths() == ["/there"]


def test_redirections_without_end_are_an_error(tmp_path):
    with LocalServer(lambda request: Answer(b"", 302, {"Location": request.path + "x"})).running() as server:
        with pytest.raises(ServiceError, match="redirected more than 5 times, after one attempt"):
            ask_whole(server.url, tmp_path)
        assert len(server.requests) == 5


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1/", "http://", "//"])
def test_a_redirection_leads_to_http_only(tmp_path, location):
    with LocalServer(lambda request: Answer(b"", 302, {"Location": location})).running() as server:
        with pytest.raises(ServiceError, match=r"the grid: (the request failed|redirected)"):
            ask_whole(server.url, tmp_path)
        assert len(server.requests) <= 5 * LIMITS.retry.attempts  # One may come too late, and is retried.


def test_a_signature_stays_with_its_host(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with LocalServer(lambda request: Answer(b"content")).running() as target:
        answer = Answer(b"", 307, {"Location": f"{target.url}/there"})
        with LocalServer(lambda request: answer).running() as server:
            store = Store(LIMITS, S3Settings(endpoint_url=server.url, region="us-east-1"))
            (file,) = store.download([RemoteFile("s3://bucket/file.jp2")], tmp_path)
    assert file.read_bytes() == b"content"
    assert server.requests[0].headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
    assert "Authorization" not in target.requests[0].headers


# Web pages


@pytest.mark.parametrize("ask", ALL[:-1], ids=lambda ask: ask.__name__)
def test_a_login_page_is_named_and_not_retried(tmp_path, ask):
    page = Answer(b"<!DOCTYPE html><title>Sign in</title>", 200, {"Content-Type": "text/html"})
    with LocalServer(lambda request: page).running() as server:
        with pytest.raises(ServiceError, match="sends a web page, no data"):
            ask(server.url, tmp_path)
        assert len(server.requests) == 1


# Lengths


@pytest.mark.parametrize("announced", [50, 150])
def test_a_wrong_length_never_becomes_a_file(tmp_path, announced):
    with serve_raw(
        lambda server, connection, _: connection.sendall(head(Content_Length=announced) + bytes(100))
    ) as server:
        store = Store(LIMITS, S3Settings(endpoint_url=server.url, anonymous=True))
        with pytest.raises((ServiceError, ChecksumError)):
            store.download([RemoteFile("s3://bucket/file.jp2", 100, "1620" + "00" * 32)], tmp_path)
    assert not (tmp_path / "file.jp2").exists()


def test_another_part_than_was_asked_for_is_not_appended(tmp_path):
    import hashlib

    content = bytes(range(200)) * 5
    told = {"ETag": '"1"'}

    def respond(request):
        if "Range" in request.headers:
            return Answer(content[:100], 206, told | {"Content-Range": "bytes 0-99/1000"})
        return Answer(content, 200, told)

    with LocalServer(respond).running() as server:
        server.inject(truncate_to=300)
        store = Store(LIMITS, S3Settings(endpoint_url=server.url, anonymous=True))
        remote = RemoteFile("s3://bucket/file.jp2", 1000, "1220" + hashlib.sha256(content).hexdigest())
        with pytest.raises(ServiceError, match="another part came than the one from byte 300"):
            store.download([remote], tmp_path)
    assert (tmp_path / "file.jp2.part").read_bytes() == content[:300]


@pytest.mark.parametrize("coding", ["br", "gzip"])
def test_a_file_in_another_coding_is_refused(tmp_path, coding):
    body = gzip.compress(bytes(100)) if coding == "gzip" else b"x" * 20
    with LocalServer(lambda request: Answer(body, 200, {"Content-Encoding": coding})).running() as server:
        with pytest.raises(ServiceError, match=f"is encoded as {coding}"):
            ask_download(server.url, tmp_path)
        if coding == "gzip":
            assert ask_whole(server.url, tmp_path) == bytes(100)
        else:
            with pytest.raises(ServiceError, match="is encoded as br; expected gzip or nothing"):
                ask_whole(server.url, tmp_path)


@pytest.mark.parametrize("damage", [lambda body: body[:-6], lambda body: b"\x1f\x8b" + bytes(60)])
def test_a_compressed_answer_that_is_damaged_is_retried(tmp_path, damage):
    body, answers = gzip.compress(bytes(range(250))), []

    def respond(request):
        answers.append(body if answers else damage(body))
        return Answer(answers[-1], 200, {"Content-Encoding": "gzip"})

    with LocalServer(respond).running() as server:
        assert ask_whole(server.url, tmp_path) == bytes(range(250))
    assert len(answers) == 2
