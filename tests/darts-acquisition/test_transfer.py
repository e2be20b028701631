"""What `Remote` says of files that cannot be read; reading is tested with those who read."""

import pytest

from darts_acquisition import LoginError, RequestLimits, S3Settings, ServiceError
from darts_acquisition.io.store import Store
from support.local_server import Answer, LocalServer

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def server():
    with LocalServer(lambda request: Answer(b"", 403)).running() as running:
        yield running


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_a_file_that_nobody_logs_in_for_is_not_a_matter_of_the_login(server, scheme):
    url = "s3://bucket/file.tif" if scheme == "s3" else f"{server.url}/file.tif"
    with pytest.raises(ServiceError, match=r"file\.tif: HTTP status 403, Forbidden\.") as caught:
        Remote(RequestLimits(), S3Settings(endpoint_url=server.url, anonymous=True)).read(url, 0, 10)
    assert not isinstance(caught.value, LoginError)
    assert caught.value.failure is not None
    assert not caught.value.failure.login
    assert len(server.requests) == 1


def test_keys_that_are_refused_are(server, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LoginError, match="the login was refused"):
        Remote(RequestLimits(), S3Settings(endpoint_url=server.url)).read("s3://bucket/file.tif", 0, 10)
