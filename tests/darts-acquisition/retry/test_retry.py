"""What is retried and what is not: against real answers of a server, with waits that only a list keeps."""

import ssl
from datetime import UTC, datetime

import boto3
import botocore.config
import ee
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from darts_acquisition.errors import LoginError, ServiceError, failure_of, parse_retry_after
from darts_acquisition.io.retry import RetryPolicy
from support.earthengine_server import connect, serve_earth_engine
from support.retry import fetch


def test_what_succeeds_at_once_is_not_repeated(policy, waits, server):
    assert len(policy.call(fetch(server), "the file")) == 256 * 64
    assert waits == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429},
        {"status": 500},
        {"status": 502},
        {"status": 503},
        {"status": 504},
        {"reset_after": 1000},
        {"reset_after": 0},
        {"truncate_to": 1000},
        {"announce": 256 * 64 + 10},
        {"delay_s": 0.6},
    ],
    ids=str,
)
def test_what_can_succeed_is_tried_again(policy, waits, server, fault):
    server.inject(times=2, **fault)
    assert policy.call(fetch(server, timeout=0.2), "the file") == bytes(range(256)) * 64
    assert len(server.requests) == 3
    assert 1 <= waits[0] <= 2
    assert 2 <= waits[1] <= 3


def test_the_waits_double_up_to_the_longest(waits, server):
    server.inject(times=6, status=503)
    policy = RetryPolicy(attempts=7, first_wait_s=4, longest_wait_s=30, sleep=waits)
    policy.call(fetch(server), "the file")
    for wait, shortest in zip(waits, (4, 8, 16, 30, 30, 30), strict=True):
        assert shortest <= wait <= min(shortest + 4, 30)


@pytest.mark.parametrize("status", [400, 404, 405, 408, 409, 410, 416, 422])
def test_what_cannot_succeed_is_not(policy, waits, server, status):
    server.inject(status=status, times=2)
    with pytest.raises(ServiceError, match=rf"^the file: HTTP status {status}, .*, after one attempt\.$") as caught:
        policy.call(fetch(server), "the file")
    assert not isinstance(caught.value, LoginError)
    assert caught.value.failure.status == status
    assert waits == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_not_tried_again(policy, waits, server, status):
    server.inject(status=status)
    with pytest.raises(LoginError, match=f"the login was refused or is missing .HTTP status {status}"):
        policy.call(fetch(server), "the file")
    assert waits == []


def test_the_wait_that_the_service_names_is_kept(policy, waits, server):
    server.inject(status=429, retry_after="17")
    server.inject(status=503, retry_after="0")
    policy.call(fetch(server), "the file")
    assert 17 <= waits[0] <= 18
    assert 0 <= waits[1] <= 1


def test_the_wait_that_the_service_names_may_be_a_date(policy, waits, server):
    server.inject(status=503, retry_after="Fri, 31 Dec 1999 23:59:59 GMT")
    policy.call(fetch(server), "the file")
    assert 0 <= waits[0] <= 1


def test_a_wait_beyond_reason_ends_the_attempts(policy, waits, server):
    server.inject(status=429, retry_after="101")
    with pytest.raises(ServiceError, match=r"asks to wait 101 s"):
        policy.call(fetch(server), "the file")
    assert waits == []


def test_after_the_last_attempt_it_is_reported(policy, waits, server):
    server.inject(status=503, times=10)
    with pytest.raises(ServiceError, match=r"^the file: HTTP status 503, .* after 4 attempts\. .*retry later\.$"):
        policy.call(fetch(server), "the file")
    assert len(waits) == 3
    assert len(server.requests) == 4


def test_nobody_listens(policy, waits, server):
    with pytest.raises(ServiceError, match="connection refused, lost or too slow"):
        policy.call(lambda: requests.get("http://127.0.0.1:9/", timeout=1), "the file")
    assert len(waits) == 3


def test_a_mistake_in_the_code_is_not_tried_again(policy, waits):
    def mistake() -> None:
        raise ValueError("no request at all")

    with pytest.raises(ValueError, match="no request at all"):
        policy.call(mistake, "the file")
    assert waits == []


def test_an_error_of_this_package_passes_unchanged(policy, waits):
    error = ServiceError("damaged")

    def fail() -> None:
        raise error

    with pytest.raises(ServiceError) as caught:
        policy.call(fail, "the file")
    assert caught.value is error
    assert waits == []


def test_boto3_errors_are_understood(policy, waits, server):
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=botocore.config.Config(retries={"max_attempts": 0}, read_timeout=0.2),
    )

    def request() -> None:
        client.get_object(Bucket="bucket", Key="key")["Body"].read()

    server.inject(status=503, retry_after="5")
    server.inject(delay_s=0.6)
    with pytest.raises(ServiceError, match="HTTP status 404"):
        policy.call(request, "the object")
    assert 5 <= waits[0] <= 6
    assert len(waits) == 2


def test_earth_engine_errors_are_understood(policy, waits):
    with serve_earth_engine([], collections=("users/me/empty",)) as server:
        connect(server)
        ee.data.setMaxRetries(0)
        server.inject(path="*value:compute", status=429, retry_after="5")
        server.inject(path="*value:compute", reset_after=3)
        assert policy.call(ee.ImageCollection("users/me/empty").size().getInfo, "Earth Engine") == 0
        assert 5 <= waits[0] <= 6
        assert len(waits) == 2
        with pytest.raises(ServiceError, match="HTTP status 400"):
            policy.call(ee.ImageCollection("users/me/none").size().getInfo, "Earth Engine")


@pytest.mark.parametrize("mistake", [TypeError("x"), RecursionError("x"), KeyError("x"), AttributeError("x")])
def test_a_mistake_while_an_error_is_handled_is_no_failure_of_the_service(policy, waits, mistake):
    def request() -> None:
        try:
            requests.get("http://127.0.0.1:9/", timeout=1)
        except requests.ConnectionError:
            raise mistake  # noqa: B904 - as a bug does

    assert failure_of(mistake) is None
    with pytest.raises(type(mistake)) as caught:
        policy.call(request, "the file")
    assert caught.value is mistake
    assert waits == []


def test_a_certificate_that_cannot_be_verified_is_final():
    error = requests.exceptions.SSLError()
    error.__cause__ = ssl.SSLCertVerificationError()
    failure = failure_of(error)
    assert failure is not None
    assert not failure.transient


def test_other_errors_say_nothing():
    assert failure_of(ValueError("x")) is None
    assert failure_of(FileNotFoundError("x")) is None
    assert failure_of(PermissionError("x")) is None


@given(st.integers(0, 10**6))
def test_retry_after_as_a_date_is_relative_to_now(seconds):
    now = datetime(2025, 1, 1, tzinfo=UTC)
    later = datetime.fromtimestamp(now.timestamp() + seconds, UTC)
    assert parse_retry_after(later.strftime("%a, %d %b %Y %H:%M:%S GMT"), now) == seconds


@pytest.mark.parametrize("value", ["soon", "", "-3", "1.5"])
def test_a_retry_after_that_is_neither_is_ignored(value):
    assert parse_retry_after(value) is None
