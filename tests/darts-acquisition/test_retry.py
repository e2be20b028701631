"""What is tried again and what is not: against real answers of a server, with waits that only a list keeps."""

import ssl
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import boto3
import botocore.config
import ee
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from darts_acquisition.errors import LoginError, ServiceError
from darts_acquisition.io.failures import RequestError, failure_of, parse_retry_after
from darts_acquisition.io.retry import (
    DaemonThreads,
    FetchCancellation,
    RateLimiter,
    RetryPolicy,
    StoppedError,
    cancellable,
)
from darts_utils import ParameterError
from support.earthengine_server import connect, serve_earth_engine
from support.file_server import serve_files


class Naps(list):
    """Stands in for `time.sleep`, and keeps what it was asked for."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def naps():
    return Naps()


@pytest.fixture
def policy(naps):
    return RetryPolicy(attempts=4, first_wait_s=1, longest_wait_s=3, longest_retry_after_s=100, sleep=naps)


@pytest.fixture
def server(tmp_path: Path):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 64)
    with serve_files(tmp_path) as server:
        yield server


def fetch(server, timeout=5):
    def request() -> bytes:
        answer = requests.get(server.url + "/file", timeout=timeout)
        answer.raise_for_status()
        return answer.content

    return request


def test_what_succeeds_at_once_is_not_repeated(policy, naps, server):
    assert len(policy.call(fetch(server), "the file")) == 256 * 64
    assert naps == []
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
def test_what_can_succeed_is_tried_again(policy, naps, server, fault):
    server.inject(times=2, **fault)
    assert policy.call(fetch(server, timeout=0.2), "the file") == bytes(range(256)) * 64
    assert len(server.requests) == 3
    assert 1 <= naps[0] <= 2
    assert 2 <= naps[1] <= 3


def test_the_waits_double_up_to_the_longest(naps, server):
    server.inject(times=6, status=503)
    policy = RetryPolicy(attempts=7, first_wait_s=4, longest_wait_s=30, sleep=naps)
    policy.call(fetch(server), "the file")
    for wait, shortest in zip(naps, (4, 8, 16, 30, 30, 30), strict=True):
        assert shortest <= wait <= min(shortest + 4, 30)


@pytest.mark.parametrize("status", [400, 404, 405, 408, 409, 410, 416, 422])
def test_what_cannot_succeed_is_not(policy, naps, server, status):
    server.inject(status=status, times=2)
    with pytest.raises(ServiceError, match=rf"^the file: HTTP status {status}, .*, after one attempt\.$") as caught:
        policy.call(fetch(server), "the file")
    assert not isinstance(caught.value, LoginError)
    assert caught.value.failure.status == status
    assert naps == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_not_tried_again(policy, naps, server, status):
    server.inject(status=status)
    with pytest.raises(LoginError, match=f"the login was refused or is missing .HTTP status {status}"):
        policy.call(fetch(server), "the file")
    assert naps == []


def test_the_wait_that_the_service_names_is_kept(policy, naps, server):
    server.inject(status=429, retry_after="17")
    server.inject(status=503, retry_after="0")
    policy.call(fetch(server), "the file")
    assert 17 <= naps[0] <= 18
    assert 0 <= naps[1] <= 1


def test_the_wait_that_the_service_names_may_be_a_date(policy, naps, server):
    server.inject(status=503, retry_after="Fri, 31 Dec 1999 23:59:59 GMT")
    policy.call(fetch(server), "the file")
    assert 0 <= naps[0] <= 1


def test_a_wait_beyond_reason_ends_the_attempts(policy, naps, server):
    server.inject(status=429, retry_after="101")
    with pytest.raises(ServiceError, match=r"asks to wait 101 s"):
        policy.call(fetch(server), "the file")
    assert naps == []


def test_after_the_last_attempt_it_is_reported(policy, naps, server):
    server.inject(status=503, times=10)
    with pytest.raises(ServiceError, match=r"^the file: HTTP status 503, .* after 4 attempts\. .*retry later\.$"):
        policy.call(fetch(server), "the file")
    assert len(naps) == 3
    assert len(server.requests) == 4


def test_nobody_listens(policy, naps, server):
    with pytest.raises(ServiceError, match="connection refused, lost or too slow"):
        policy.call(lambda: requests.get("http://127.0.0.1:9/", timeout=1), "the file")
    assert len(naps) == 3


def test_a_mistake_in_the_code_is_not_tried_again(policy, naps):
    def mistake() -> None:
        raise ValueError("no request at all")

    with pytest.raises(ValueError, match="no request at all"):
        policy.call(mistake, "the file")
    assert naps == []


def test_an_error_of_this_package_passes_unchanged(policy, naps):
    error = ServiceError("damaged")

    def fail() -> None:
        raise error

    with pytest.raises(ServiceError) as caught:
        policy.call(fail, "the file")
    assert caught.value is error
    assert naps == []


def test_boto3_errors_are_understood(policy, naps, server):
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
    assert 5 <= naps[0] <= 6
    assert len(naps) == 2


def test_earth_engine_errors_are_understood(policy, naps):
    with serve_earth_engine([], collections=("users/me/empty",)) as server:
        connect(server)
        ee.data.setMaxRetries(0)
        server.inject(path="*value:compute", status=429, retry_after="5")
        server.inject(path="*value:compute", reset_after=3)
        assert policy.call(ee.ImageCollection("users/me/empty").size().getInfo, "Earth Engine") == 0
        assert 5 <= naps[0] <= 6
        assert len(naps) == 2
        with pytest.raises(ServiceError, match="HTTP status 400"):
            policy.call(ee.ImageCollection("users/me/none").size().getInfo, "Earth Engine")


@pytest.mark.parametrize("mistake", [TypeError("x"), RecursionError("x"), KeyError("x"), AttributeError("x")])
def test_a_mistake_while_an_error_is_handled_is_no_failure_of_the_service(policy, naps, mistake):
    def request() -> None:
        try:
            requests.get("http://127.0.0.1:9/", timeout=1)
        except requests.ConnectionError:
            raise mistake  # noqa: B904 - as a bug does

    assert failure_of(mistake) is None
    with pytest.raises(type(mistake)) as caught:
        policy.call(request, "the file")
    assert caught.value is mistake
    assert naps == []


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


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_requests_keep_their_distance():
    clock = Clock()
    limiter = RateLimiter(4, clock=clock, sleep=clock.sleep)
    starts = []
    for _ in range(5):
        limiter.wait()
        starts.append(clock.now)
    assert starts == [100, 100.25, 100.5, 100.75, 101]
    clock.now = 200
    limiter.wait()
    assert clock.now == 200


def test_threads_share_the_rate():
    slept = Naps()
    limiter = RateLimiter(10, clock=lambda: 0.0, sleep=slept)
    threads = [threading.Thread(target=limiter.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == pytest.approx([n / 10 for n in range(1, 20)])


def test_a_pause_holds_for_all(policy, naps, server):
    clock = Clock()
    limiter = RateLimiter(clock=clock, sleep=clock.sleep)
    server.inject(status=429, retry_after="30")
    policy.call(fetch(server), "the file", limiter)
    assert clock.now == 130  # another thread, which nobody told to wait, would have waited as well


def test_a_pause_holds_for_those_who_wait_already():
    """What was in the queue when the pause began comes after it, at the same distance as before."""
    clock = Clock()

    def sleep(seconds: float) -> None:
        if clock.now == 100:
            limiter.pause(10)
        clock.sleep(seconds)

    limiter = RateLimiter(2, clock=clock, sleep=sleep)
    starts = []
    for _ in range(4):
        limiter.wait()
        starts.append(clock.now)
    assert starts == [100, 110, 110.5, 111]


def test_a_pause_holds_for_all_threads_that_wait_already():
    now, slept, waiting = [0.0], Naps(), threading.Barrier(5)
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            slept.append(seconds)
        if now[0] == 0:
            waiting.wait(10)  # until all others wait as well, and the pause has begun
            waiting.wait(10)

    limiter = RateLimiter(10, clock=lambda: now[0], sleep=sleep)
    limiter.wait()
    threads = [threading.Thread(target=limiter.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    waiting.wait(10)
    limiter.pause(30)
    now[0] = 1.0
    waiting.wait(10)
    for thread in threads:
        thread.join(10)
    assert sorted(slept) == pytest.approx([0.1, 0.2, 0.3, 0.4, 29, 29.1, 29.2, 29.3])


@pytest.mark.parametrize("together", [True, False], ids=["one token", "a token each"])
def test_who_waits_for_a_service_can_be_cancelled(server, together):
    server.inject(status=503, retry_after="300", times=9)
    shared, errors = FetchCancellation(), []
    tokens = [shared if together else FetchCancellation() for _ in range(3)]

    def run(token: FetchCancellation) -> None:
        try:
            with cancellable(token):
                RetryPolicy().call(fetch(server), "the file", limiter)
        except StoppedError as error:
            errors.append(error)

    limiter = RateLimiter()
    threads = [threading.Thread(target=run, args=(token,), daemon=True) for token in tokens]
    for thread in threads:
        thread.start()
    while not server.requests:
        time.sleep(0.01)
    time.sleep(0.3)  # by now some wait for the next attempt, and perhaps some for the pause to end
    for token in tokens[:2]:
        token.requested = True
    for thread in threads[:2]:
        thread.join(10)
    assert [thread.is_alive() for thread in threads[:2]] == [False, False]
    assert threads[2].is_alive() or together, "the third has a token of its own, and waits on"
    tokens[2].requested = True
    threads[2].join(10)
    assert len(errors) == 3
    assert len(server.requests) <= 3
    server.faults.clear()
    assert len(RetryPolicy().call(fetch(server), "the file")) == 256 * 64


def test_a_request_under_way_is_not_repeated_once_it_is_cancelled(server):
    token = FetchCancellation()

    def request() -> None:
        requests.get(server.url + "/file", timeout=5)
        token.requested = True
        raise ConnectionError("lost")

    with pytest.raises(StoppedError), cancellable(token):
        RetryPolicy(sleep=lambda seconds: None).call(request, "the file")
    assert len(server.requests) == 1


def test_values_that_cannot_work_are_refused():
    with pytest.raises(ParameterError):
        RateLimiter(0)
    with pytest.raises(ParameterError):
        RetryPolicy(attempts=0)


def test_what_comes_too_late_is_closed():
    may_come, closed = threading.Event(), threading.Event()

    def open_late():
        may_come.wait()
        return SimpleNamespace(close=closed.set)

    with pytest.raises(RequestError, match=r"no whole answer within 0\.01 s"):
        DaemonThreads().within(0.01, open_late)
    assert not closed.is_set()
    may_come.set()
    assert closed.wait(10)
