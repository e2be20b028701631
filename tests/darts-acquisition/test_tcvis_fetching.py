"""TCVIS fetched through a stand-in for Earth Engine, against plain mosaics of the images that it serves."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from affine import Affine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import support.earthengine_server
from darts_acquisition import (
    Chunk,
    ChunkState,
    CubeProduct,
    Datacube,
    EarthEngineSettings,
    LoginError,
    RequestLimits,
    RetryPolicy,
    ServiceError,
    Window,
    download_tcvis,
    estimate_tcvis,
    load_tcvis,
    tcvis_product,
    verify_cube,
)
from darts_acquisition.auxiliary.tcvis import TCVISSource
from darts_acquisition.cube.areas import product_windows
from darts_acquisition.cube.ingest import fill
from support.earthengine_server import MOST_BYTES, EarthImage, serve_earth_engine
from support.lanes import mostly_slow
from support.local_server import Answer, LocalServer

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


def all_chunks(cube: Datacube) -> list[Chunk]:
    return [Chunk(int(row), int(col)) for row, col in np.ndindex(cube.states(cube.geobox).shape)]


def settings_for(server: LocalServer, **limits: Any) -> EarthEngineSettings:
    """Settings that lead to a server, without a login, and never wait."""
    chosen = {"parallel": 3, "retry": RetryPolicy(attempts=4, sleep=lambda seconds: None)} | limits
    return EarthEngineSettings(
        project="tests", url=server.url, credentials=AnonymousCredentials(), limits=RequestLimits(**chosen)
    )


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


def assert_equals_mosaic(cube: Datacube, images: list[Placed], window: Window = WHOLE) -> None:
    read = cube.read(window)
    for name, expected in mosaic(images, cube.geobox.shape).items():
        np.testing.assert_array_equal(read[name].values, expected[window], err_msg=name)


# Equal to the mosaic


windows = st.builds(
    lambda top, left, height, width: Window.of(top, top + height, left, left + width),
    st.integers(-50, 180),
    st.integers(-50, 240),
    st.integers(1, 150),
    st.integers(1, 150),
)


@settings(max_examples=4)
@given(places=st.lists(windows, min_size=1, max_size=3))
def test_what_is_fetched_equals_the_mosaic(tmp_path_factory, places):
    product = small_product()
    images = [(window, image(product, window, seed, masked=0.5)) for seed, window in enumerate(places)]
    cube = Datacube.create(tmp_path_factory.mktemp("cubes") / "cube", product)
    with serve_earth_engine([each for _, each in images]) as server:
        report = fill(cube, all_chunks(cube), TCVISSource(product, settings_for(server)))
    assert_equals_mosaic(cube, images)
    truth = mosaic(images, product.geobox.shape)
    states = cube.states(cube.geobox)
    for chunk in all_chunks(cube):
        part = cube.window(cube.chunk_geobox(chunk))
        has_data = any(values[part].any() for values in truth.values())
        assert states[chunk] == (ChunkState.FILLED if has_data else ChunkState.EMPTY), chunk
    assert (report.filled, report.empty) == ((states == 1).sum(), (states == 2).sum())


def test_where_no_image_is_no_pixel_is_asked_for(server, cube, images, product):
    fill(cube, all_chunks(cube), TCVISSource(product, settings_for(server)))
    asked = [request.json["grid"]["affineTransform"] for request in server.requests if "computePixels" in request.path]
    corners = {(round(each["translateX"], 9), round(each["translateY"], 9)) for each in asked}
    reached = set()
    for chunk in all_chunks(cube):
        part = cube.window(cube.chunk_geobox(chunk))
        if any(part.intersection(window) for window, _ in images):
            box = cube.geobox[part].boundingbox
            reached.add((round(box.left, 9), round(box.top, 9)))
    assert corners == reached
    assert len(asked) == len(reached) < len(all_chunks(cube))


def test_nothing_is_fetched_twice_and_requests_are_bounded(server, cube, product):
    server.inject(path="*computePixels", times=1000, delay_s=0.03)
    told = []
    source = TCVISSource(product, settings_for(server))
    fill(cube, all_chunks(cube), source, lambda *at: told.append(at))
    assert told == [(number, 20) for number in range(1, 21)]
    assert server.most_at_once == 3
    before = len(server.requests)
    fill(cube, cube.missing(WHOLE), source)
    assert len(server.requests) == before


def test_a_whole_chunk_of_the_real_grid_in_one_request(tmp_path, monkeypatch):
    """A chunk of 3600 × 3600 pixels stays below what Earth Engine computes at once."""
    product = tcvis_product()
    tile = GeoBox((251, 251), Affine(10, 0, 470_890, 0, -10, 7_550_020), "EPSG:32608")
    (window,) = product_windows(product, tile, 2)
    wider = Window.of(window.rows.start - 9, window.rows.stop + 9, window.cols.start - 9, window.cols.stop + 9)
    trends = image(product, wider, 3)
    with serve_earth_engine([trends]) as server:
        chosen = settings_for(server)
        estimate = estimate_tcvis(tile, tmp_path / "cube")
        assert (estimate.missing_chunks, estimate.megabytes) == (1, 39)
        assert server.requests == []
        assert not (tmp_path / "cube").exists()
        ds = load_tcvis(tile, tmp_path / "cube", settings=chosen)
        (request,) = [each for each in server.requests if "computePixels" in each.path]
        assert request.json["grid"]["dimensions"] == {"width": 3600, "height": 3600}
        before = len(server.requests)
        assert download_tcvis(tile, tmp_path / "cube", settings=chosen).filled == 0
        assert ds.identical(load_tcvis(tile, tmp_path / "cube", settings=chosen))
        assert len(server.requests) == before
    assert ds.identical(load_tcvis(tile, tmp_path / "cube", offline=True))
    for name, band in BANDS.items():
        expected = trends.bands[band].filled(0)[window.relative_to(wider)]
        np.testing.assert_array_equal(ds[name], expected)
    assert 3 * product.chunk_px**2 < MOST_BYTES


def test_a_request_beyond_the_limit_is_reported(server, cube, product, monkeypatch):
    monkeypatch.setattr(support.earthengine_server, "MOST_BYTES", 3 * 64 * 64 - 1)
    with pytest.raises(ServiceError, match=r"Total request size \(12288 bytes\) must be less") as caught:
        fill(cube, [Chunk(1, 1), Chunk(0, 1)], TCVISSource(product, settings_for(server)))
    assert "2 of 2 chunks" in str(caught.value)
    assert cube.known() == {}


# Faults


FAULTS = {
    "too many requests": {"status": 429},
    "too many requests, with a time": {"status": 429, "retry_after": "7"},
    "unavailable": {"status": 503},
    "server error": {"status": 500},
    "reset in the middle": {"reset_after": 700},
    "reset at once": {"reset_after": 0},
    "ends early": {"truncate_to": 700},
    "shorter than announced": {"announce": 10**7},
    "slow": {"delay_s": 0.6},
}


@pytest.mark.parametrize(
    ("where", "name"),
    mostly_slow(
        [
            *(("*computePixels", name) for name in FAULTS),
            *(("*value:compute", name) for name in ("too many requests", "unavailable", "reset in the middle", "slow")),
        ],
        lambda case: case[1] in ("unavailable", "reset in the middle") or case[1].endswith("with a time"),
    ),
)
def test_what_passes_leaves_no_trace(server, cube, images, product, where, name):
    fault = dict(FAULTS[name])
    if where == "*value:compute" and {"reset_after", "truncate_to"} & fault.keys():
        fault = {key: min(value, 5) for key, value in fault.items()}  # the answer is a number
    for after in (0, 1):
        server.inject(path=where, times=2, after=after, **fault)
    patient = RetryPolicy(attempts=5, sleep=lambda seconds: None)  # all four faults may strike one request
    chosen = settings_for(server, timeout_s=0.25 if name == "slow" else 5, parallel=2, retry=patient)
    fill(cube, [Chunk(0, 0), Chunk(1, 1), Chunk(1, 2)], TCVISSource(product, chosen))
    assert_equals_mosaic(cube, images, Window.of(64, 128, 64, 192))
    check = verify_cube(cube.path)
    assert (check.checked, check.damaged) == (3, {})


def test_the_time_that_the_service_asks_for_is_waited_for(server, cube, product):
    """One request is told to wait; the whole process waits that long, once, and nothing else waits."""
    now = [0.0]
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    server.inject(path="*computePixels", status=429, retry_after="30")
    chosen = settings_for(server, parallel=1, retry=RetryPolicy(sleep=sleep, clock=lambda: now[0]))
    fill(cube, [Chunk(0, 0), Chunk(1, 1)], TCVISSource(product, chosen))
    assert len(waits) == 1
    assert 30 <= waits[0] <= 31


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ({"status": 401}, LoginError, r"Earth Engine refuses the login .*renew it with `earthengine authenticate`"),
        ({"status": 403}, LoginError, r"Earth Engine refuses the login .*the project \(ee_project\) may use"),
        ({"status": 503}, ServiceError, "HTTP status 503, Service Unavailable, after 4 attempts"),
        ({"body": b"<html>maintenance</html>"}, ServiceError, "pixels are incomplete|after 4 attempts"),
    ],
)
def test_what_lasts_is_reported_and_the_rest_is_kept(server, cube, images, product, fault, error, message):
    source = TCVISSource(product, settings_for(server, parallel=1))
    injected = server.inject(path="*computePixels", after=2, times=1000, **fault)
    chunks = [Chunk(0, 0), Chunk(1, 1), Chunk(1, 2), Chunk(2, 2)]
    with pytest.raises(error, match=message) as caught:
        fill(cube, chunks, source)
    assert "\n" not in str(caught.value)
    assert cube.missing(WHOLE)[:1] == [Chunk(0, 1)]
    assert set(cube.known()) == set(chunks[:2])
    assert not verify_cube(cube.path).damaged
    injected.times = 0
    fill(cube, chunks[2:], source)
    assert_equals_mosaic(cube, images, Window.of(64, 128, 64, 192))


def test_a_service_that_is_down_is_asked_as_often_as_the_policy_says(server, cube, images, product):
    """By the first chunk that needs it, and not once more by each of those that wait for the same."""
    ee.Reset()
    down = server.inject(status=503, times=1000)
    source = TCVISSource(product, settings_for(server, parallel=8, retry=RetryPolicy(attempts=5, first_wait_s=0.05)))
    with pytest.raises(ServiceError, match=r"HTTP status 503, .* after 5 attempts"):
        fill(cube, all_chunks(cube)[:8], source)
    assert 5 <= len(server.requests) <= 7
    down.times = 0
    fill(cube, [Chunk(1, 1)], source)
    assert_equals_mosaic(cube, images, Window.of(64, 128, 64, 128))


@pytest.mark.parametrize("empty", [True, False])
def test_a_collection_without_images_is_not_taken_for_no_data(cube, product, empty):
    collections = (product.collection,) if empty else ()
    message = "is empty" if empty else "not found"
    with serve_earth_engine([], collections) as server, pytest.raises(ServiceError, match=message):
        fill(cube, [Chunk(0, 0)], TCVISSource(product, settings_for(server)))
    assert cube.known() == {}


def test_pixels_of_another_shape_are_no_data(server, cube, product, monkeypatch):
    respond = server.respond

    def smaller(request):
        if request.path.endswith("computePixels"):
            body = request.json
            body["grid"]["dimensions"]["width"] -= 1
            request = dataclasses.replace(request, body=json.dumps(body).encode())
        return respond(request)

    monkeypatch.setattr(server, "respond", smaller)
    with pytest.raises(ServiceError, match=r"of shape \(64, 63\); expected .* of shape \(64, 64\)"):
        fill(cube, [Chunk(1, 1)], TCVISSource(product, settings_for(server)))
    assert cube.known() == {}


# Logins


def test_requests_are_made_in_the_project(server, cube, product):
    chosen = dataclasses.replace(settings_for(server), project="my-project")
    fill(cube, [Chunk(1, 1)], TCVISSource(product, chosen))
    paths = [path for path in server.paths() if path.startswith("/v1")]
    assert paths
    assert [path for path in paths if "/projects/my-project/" not in path] == []


@pytest.fixture
def initialized(monkeypatch) -> list[dict[str, Any]]:
    """What `ee.Initialize` is asked for, instead of initialising."""
    asked: list[dict[str, Any]] = []
    ee.Reset()
    monkeypatch.setattr(ee, "Initialize", lambda **options: asked.append(options))
    monkeypatch.setattr(ee.data, "setDeadline", lambda milliseconds: None)
    yield asked
    ee.Reset()


@pytest.mark.parametrize(
    ("highvolume", "environment", "url"),
    [
        (True, None, "https://earthengine-highvolume.googleapis.com"),
        (False, None, None),
        (True, "http://127.0.0.1:9/", "http://127.0.0.1:9/"),
    ],
)
def test_the_endpoint_is_a_setting(initialized, monkeypatch, product, highvolume, environment, url):
    monkeypatch.delenv("DARTS_EARTHENGINE_URL", raising=False)
    if environment:
        monkeypatch.setenv("DARTS_EARTHENGINE_URL", environment)
    credentials = AnonymousCredentials()
    source = TCVISSource(product, EarthEngineSettings(project="p", use_highvolume=highvolume, credentials=credentials))
    source._client.ask(lambda: 0, "Asking")
    assert initialized[0].pop("http_transport") is not None
    assert initialized == [{"credentials": credentials, "url": url, "project": "p"}]


@pytest.fixture
def tokens() -> Iterator[LocalServer]:
    """Google's authorisation server, which gives every service account a token."""

    def respond(request):
        assert b"grant_type=urn" in request.body
        return Answer.of_json({"access_token": "the-token", "expires_in": 3600, "token_type": "Bearer"})

    with LocalServer(respond).running() as server:
        yield server


@pytest.fixture
def account_file(tmp_path, tokens):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    content = {
        "type": "service_account",
        "client_email": "maps@my-project.iam.gserviceaccount.com",
        "token_uri": f"{tokens.url}/token",
        "private_key": text,
        "private_key_id": "1",
        "project_id": "my-project",
    }
    file = tmp_path / "account.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def account_settings(server: LocalServer, file) -> EarthEngineSettings:
    return dataclasses.replace(settings_for(server), credentials=None, service_account_file=file)


def test_a_service_account_logs_in(server, tokens, account_file, cube, images, product):
    fill(cube, [Chunk(1, 1)], TCVISSource(product, account_settings(server, account_file)))
    assert len(tokens.requests) == 1
    computed = [request for request in server.requests if "compute" in request.path]
    assert computed
    sent = [{name.lower(): value for name, value in request.headers.items()} for request in computed]
    assert {headers["authorization"] for headers in sent} == {"Bearer the-token"}
    assert_equals_mosaic(cube, images, Window.of(64, 128, 64, 128))


def test_a_login_that_has_expired_is_one_sentence(server, tokens, account_file, cube, product):
    tokens.inject(status=400, times=100, body=json.dumps({"error": "invalid_grant"}).encode())
    with pytest.raises(LoginError, match="renew it with `earthengine authenticate`") as caught:
        fill(cube, [Chunk(1, 1)], TCVISSource(product, account_settings(server, account_file)))
    message = str(caught.value)
    assert "\n" not in message
    assert "PRIVATE KEY" not in message
    assert cube.known() == {}


def test_a_damaged_key_file_is_a_login_error(server, tmp_path, cube, product):
    (tmp_path / "account.json").write_text("{}")
    with pytest.raises(LoginError, match="refuses the login"):
        fill(cube, [Chunk(1, 1)], TCVISSource(product, account_settings(server, tmp_path / "account.json")))
    with pytest.raises(LoginError, match=r"absent\.json"):
        fill(cube, [Chunk(1, 1)], TCVISSource(product, account_settings(server, tmp_path / "absent.json")))


def test_a_missing_login_is_one_sentence_that_says_what_to_do(server, tmp_path, cube, product, monkeypatch):
    def find_nothing(*_: Any, **__: Any) -> None:
        raise DefaultCredentialsError("no default credentials")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("google.auth.default", find_nothing)
    source = TCVISSource(product, dataclasses.replace(settings_for(server), credentials=None))
    with pytest.raises(LoginError) as caught:
        fill(cube, [Chunk(1, 1)], source)
    assert str(caught.value) == (
        "Earth Engine needs a login: run `earthengine authenticate` once, or name the key file of a service account "
        "in GOOGLE_APPLICATION_CREDENTIALS."
    )
    assert server.requests == []


def test_a_missing_project_is_one_sentence_that_says_what_to_do(server, cube, product):
    chosen = dataclasses.replace(settings_for(server), project=None)
    with pytest.raises(LoginError, match=r"^Earth Engine needs a Cloud project: .*\(--ee-project\)\.$"):
        fill(cube, [Chunk(1, 1)], TCVISSource(product, chosen))


def test_earth_engine_is_initialised_only_when_something_must_be_fetched(tmp_path, monkeypatch):
    def fail(**_: Any) -> None:
        raise AssertionError("Earth Engine was initialised.")

    monkeypatch.setattr(ee, "Initialize", fail)
    product = tcvis_product()
    cube = Datacube.create(tmp_path / "cube", product)
    tile = product.geobox[50_400:50_440, 300_000:300_030]
    window = cube.window(tile, 2)
    cube.mark_empty(cube.missing(window))
    assert not load_tcvis(tile, tmp_path / "cube").tc_wetness.any()
    assert download_tcvis(tile, tmp_path / "cube").filled == 0
    assert estimate_tcvis(product.geobox[60_000:60_010, 10:20], tmp_path / "cube").missing_chunks == 1
    TCVISSource(product, EarthEngineSettings())
