"""Requests that keep their distance, pause, and end on demand."""

import threading
import time
from types import SimpleNamespace

import pytest
import requests

from darts_acquisition.errors import RequestError
from darts_acquisition.io.retry import (
    DaemonThreads,
    FetchCancellation,
    RateLimiter,
    RetryPolicy,
    StoppedError,
    cancellable,
)
from darts_utils import ParameterError
from support.retry import Naps, fetch


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


def test_a_pause_holds_for_all(policy, waits, server):
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
