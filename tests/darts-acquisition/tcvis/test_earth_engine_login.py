"""Logins and settings of Earth Engine, through a stand-in for it."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import ee
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError

from darts_acquisition import (
    Chunk,
    Datacube,
    EarthEngineSettings,
    LoginError,
    ServiceError,
    Window,
    download_tcvis,
    estimate_tcvis,
    load_tcvis,
    tcvis_product,
)
from darts_acquisition.auxiliary.tcvis import TCVISSource
from darts_acquisition.cube.ingest import ingest
from support.local_server import Answer, LocalServer
from support.tcvis_fetching import assert_equals_mosaic, settings_for

# Logins


def test_requests_are_made_in_the_project(server, cube, product):
    chosen = dataclasses.replace(settings_for(server), project="my-project")
    ingest(cube, [Chunk(1, 1)], TCVISSource(product, chosen))
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
    ingest(cube, [Chunk(1, 1)], TCVISSource(product, account_settings(server, account_file)))
    assert len(tokens.requests) == 1
    computed = [request for request in server.requests if "compute" in request.path]
    assert computed
    sent = [{name.lower(): value for name, value in request.headers.items()} for request in computed]
    assert {headers["authorization"] for headers in sent} == {"Bearer the-token"}
    assert_equals_mosaic(cube, images, Window.of(64, 128, 64, 128))


def test_a_login_that_has_expired_is_one_sentence(server, tokens, account_file, cube, product):
    tokens.inject(status=400, times=100, body=json.dumps({"error": "invalid_grant"}).encode())
    with pytest.raises(LoginError, match="renew it with `earthengine authenticate`") as caught:
        ingest(cube, [Chunk(1, 1)], TCVISSource(product, account_settings(server, account_file)))
    message = str(caught.value)
    assert "\n" not in message
    assert "PRIVATE KEY" not in message
    assert cube.known() == {}


def test_a_damaged_key_file_is_a_login_error(server, tmp_path, cube, product):
    (tmp_path / "account.json").write_text("{}")
    with pytest.raises(LoginError, match="refuses the login"):
        ingest(cube, [Chunk(1, 1)], TCVISSource(product, account_settings(server, tmp_path / "account.json")))
    with pytest.raises(LoginError, match=r"absent\.json"):
        ingest(cube, [Chunk(1, 1)], TCVISSource(product, account_settings(server, tmp_path / "absent.json")))


def test_a_missing_login_is_one_sentence_that_says_what_to_do(server, tmp_path, cube, product, monkeypatch):
    def find_nothing(*_: Any, **__: Any) -> None:
        raise DefaultCredentialsError("no default credentials")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("google.auth.default", find_nothing)
    source = TCVISSource(product, dataclasses.replace(settings_for(server), credentials=None))
    with pytest.raises(LoginError) as caught:
        ingest(cube, [Chunk(1, 1)], source)
    assert str(caught.value) == (
        "Earth Engine needs a login: run `earthengine authenticate` once, or name the key file of a service account "
        "in GOOGLE_APPLICATION_CREDENTIALS."
    )
    assert server.requests == []


def test_a_missing_project_is_one_sentence_that_says_what_to_do(server, cube, product):
    chosen = dataclasses.replace(settings_for(server), project=None)
    with pytest.raises(LoginError, match=r"^Earth Engine needs a Cloud project: .*with ee_project\.$"):
        ingest(cube, [Chunk(1, 1)], TCVISSource(product, chosen))


@pytest.mark.parametrize("answer", [Answer(b"not here", 404), Answer(b"hello", 200), Answer(b"[]", 200)], ids=repr)
def test_an_address_that_is_not_earth_engines_is_one_sentence(cube, product, answer, monkeypatch):
    with LocalServer(lambda request: answer).running() as server:
        chosen = settings_for(server)
        ee.Reset()
        monkeypatch.setattr("darts_acquisition.io.earthengine._credentials", lambda settings: AnonymousCredentials())
        with pytest.raises(
            ServiceError, match=r"rest does not describe Earth Engine; see DARTS_EARTHENGINE_URL"
        ) as caught:
            ingest(cube, [Chunk(1, 1)], TCVISSource(product, chosen))
    assert not isinstance(caught.value, LoginError)
    assert not caught.value.failure.transient
    assert len(server.requests) == 1


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
