"""How requests to services are made: retried where that can succeed, never too many at once, ended on demand."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from darts_acquisition.errors import Failure, LoginError, RequestError, ServiceError, failure_of, lost, scrub
from darts_utils import DartsError, ParameterError

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_S = 0.1
"""How often a thread that waits looks whether it is to stop."""
_IDLE_S = 10.0
"""How long a thread without work stays."""


class StoppedError(ServiceError):
    """A request was not made, since fetching had been stopped."""

    def __init__(self) -> None:
        super().__init__(
            "Fetching was stopped; what was fetched before is kept.", Failure("fetching was stopped", transient=False)
        )


class FetchCancellation:
    """A cancellation token: ends what fetches under it, see `cancellable`. Whoever begins a run makes one for it.

    Attributes:
        requested: Whether no further request is to be made, and waits between requests are to end. Set it to True to
            cancel: a plain attribute, so that a signal handler may do so at any moment.
    """

    def __init__(self) -> None:
        self.requested = False
        self._awaited: set[threading.Event] = set()

    def wait(self) -> None:
        """Return when no `fill` is under way any more that was begun under it; cancel before to make that soon."""
        for end in list(self._awaited):
            end.wait()


_cancellations: ContextVar[tuple[FetchCancellation, ...]] = ContextVar("darts_acquisition_cancellations", default=())


@contextmanager
def cancellable(cancellation: FetchCancellation) -> Iterator[FetchCancellation]:
    """Let a token cancel the requests of a block, and of threads that run in copies of its context.

    Args:
        cancellation: The token. Those of outer blocks count as well; nothing outside the block knows of it.

    Returns:
        A context manager that yields the token.

    Examples:
        >>> cancellation = FetchCancellation()
        >>> with cancellable(cancellation):
        ...     cancellation.requested = True
        ...     stoppable_sleep(3600)
        Traceback (most recent call last):
        darts_acquisition.io.retry.StoppedError: Fetching was stopped; what was fetched before is kept.
    """
    before = _cancellations.set((*_cancellations.get(), cancellation))
    try:
        yield cancellation
    finally:
        _cancellations.reset(before)


@contextmanager
def awaited() -> Iterator[None]:
    """Let whoever waits for one of the tokens that the block runs under wait for the block."""
    end, cancellations = threading.Event(), _cancellations.get()
    for cancellation in cancellations:
        cancellation._awaited.add(end)
    try:
        yield
    finally:
        for cancellation in cancellations:
            cancellation._awaited.discard(end)
        end.set()


def check_not_stopped() -> None:
    """Raise StoppedError if fetching has been stopped."""
    if any(cancellation.requested for cancellation in _cancellations.get()):
        raise StoppedError


def stoppable_sleep(seconds: float) -> None:
    """Sleep for some seconds; StoppedError if fetching is stopped meanwhile."""
    end = time.monotonic() + seconds
    check_not_stopped()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _POLL_S))
        check_not_stopped()


def all_at_once(works: Iterable[Callable[[], T]], parallel: int) -> list[T]:
    """Return what each of some works returns, so many done at the same time; the first error stops the others."""
    cancellation = FetchCancellation()
    with ThreadPoolExecutor(parallel, thread_name_prefix="darts-download") as pool, cancellable(cancellation):
        tasks = [pool.submit(copy_context().run, work) for work in works]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            cancellation.requested = True
            for task in tasks:
                task.cancel()
            raise


class DaemonThreads:
    """Threads that do not hold up the end of the process; as many as are busy at once, and reused with what they keep.

    Whoever waits for one that never ends leaves it to itself.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Begin some work, in a copy of this context."""
        task: Future[T] = Future()
        with self._lock:
            self._tasks.put((task, partial(copy_context().run, work)))
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._run, name="darts-request", daemon=True).start()
        return task

    def within(self, seconds: float, work: Callable[[], T]) -> T:
        """Return what some work returns, if it ends in some seconds; what comes too late and can be closed is closed.

        RequestError if it takes longer, StoppedError if fetching is stopped meanwhile.
        """
        task, end = self.start(work), time.monotonic() + seconds
        try:
            while not (done := wait([task], min(seconds, _POLL_S)).done) and time.monotonic() < end:
                check_not_stopped()
        except BaseException:  # Stopped, or interrupted.
            task.add_done_callback(_close_result)
            raise
        if not done:
            task.add_done_callback(_close_result)
            raise lost(f"no whole answer within {seconds:.3g} s")
        return task.result()

    def all(self, works: Iterable[Callable[[], T]]) -> list[T]:
        """Return what each of some works returns, done at the same time; the first error ends the wait."""
        tasks = [self.start(work) for work in works]
        while not all(task.done() for task in tasks):
            check_not_stopped()
            wait(tasks, _POLL_S, FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        return [task.result() for task in tasks]

    def _run(self) -> None:
        while True:
            try:
                task, work = self._tasks.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if self._idle:  # Else a task has come meanwhile, and counts on this thread.
                        self._idle -= 1
                        return
                continue
            try:
                task.set_result(work())
            except BaseException as error:  # noqa: BLE001 - whoever waits for the result gets it
                task.set_exception(error)
            del task, work  # Else an idle thread would keep what it fetched last.
            with self._lock:
                self._idle += 1


def _close_result(task: Future[Any]) -> None:
    if task.exception() is None and hasattr(task.result(), "close"):
        task.result().close()


class RateLimiter:
    """Lets requests through at a steady rate, those of all threads together.

    Args:
        per_second: Requests per second; None for any number.
        clock: Tells the time in seconds.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = stoppable_sleep,
    ) -> None:
        if per_second is not None and per_second <= 0:
            raise ParameterError(f"per_second is {per_second}; expected more than 0 requests, or None.")
        self._gap = 0.0 if per_second is None else 1 / per_second
        self._clock, self._sleep = clock, sleep
        self._next = self._paused_until = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may be made."""
        while True:
            with self._lock:
                now = self._clock()
                start = max(now, self._next)
                self._next = start + self._gap
            if start > now:
                self._sleep(start - now)
            with self._lock:
                if start >= self._paused_until:  # Else a pause began meanwhile, and this turn is void.
                    return

    def pause(self, seconds: float) -> None:
        """Let no request through for some seconds: a service that asks one thread to wait means all of them."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)
            self._next = max(self._next, self._paused_until)


@dataclass(frozen=True)
class RetryPolicy:
    """What is retried, how often, and after which time. One policy holds for every kind of service.

    Retried is what can succeed: too many requests (429), a failing service (5xx), a connection that is refused,
    lost or too slow. The time doubles with each attempt, with jitter, so that many processes do not come back at once.
    A ``Retry-After`` of the service is honoured, with jitter on top.

    Attributes:
        attempts: How often a request is made at most.
        first_wait_s: Seconds before the second attempt.
        longest_wait_s: Seconds between attempts at most, where the service does not name them.
        longest_retry_after_s: A service that asks for a longer wait than this is not waited for.
        sleep: Waits for some seconds; another one makes tests quick.
        clock: Tells the time in seconds; another one goes with another `sleep`.
    """

    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_retry_after_s: float = 600.0
    sleep: Callable[[float], None] = field(default=stoppable_sleep, repr=False, compare=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ParameterError(f"attempts is {self.attempts}; expected 1 or more.")

    def call(self, request: Callable[[], T], what: str, limiter: RateLimiter | None = None) -> T:
        """Make a request until it succeeds, cannot succeed, or was tried often enough.

        Args:
            request: Makes the request; it must begin anew each time that it is called, and raise the library's error
                if it fails, or ConnectionError if too few bytes came. Errors of other kinds are raised unchanged.
            what: What is requested, for messages: no credentials, no signed address.
            limiter: Asked before each attempt; it pauses where the service asks for time.

        Returns:
            What the request returned.

        Raises:
            LoginError: If the service refuses the login, or there is none.
            ServiceError: If the service refuses the request, or all attempts have failed.
            StoppedError: If fetching is stopped before the request succeeds.
        """
        import tenacity

        def attempt() -> T:
            if limiter is not None:
                limiter.wait()
            check_not_stopped()
            return request()

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=partial(self._wait_s, limiter=limiter, doubling=tenacity.wait_exponential_jitter()),
            retry=tenacity.retry_if_exception(self._is_retryable),
            before_sleep=lambda state: _log(what, state),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except Exception as error:
            failure = failure_of(error)
            if failure is None or isinstance(error, DartsError):
                raise
            told = scrub(f"{type(error).__name__}: {error}")  # The error itself may hold a signed address.
            cause = None if isinstance(error, RequestError) else RuntimeError(told)
            raise self._final_error(failure, what, retrying.statistics) from cause

    def _is_retryable(self, error: BaseException) -> bool:
        failure = None if isinstance(error, DartsError) else failure_of(error)
        return failure is not None and failure.transient and (failure.retry_after_s or 0) <= self.longest_retry_after_s

    def _wait_s(self, state: "RetryCallState", limiter: RateLimiter | None, doubling: Callable[..., float]) -> float:
        """Return how long to wait before the next attempt: what the service asks for, else twice as long each time."""
        from tenacity import wait_random

        after_s = _failure(state).retry_after_s
        if after_s is None:
            return min(self.first_wait_s * doubling(state), self.longest_wait_s)
        if limiter is not None:
            limiter.pause(after_s)
        return after_s + wait_random(0, self.first_wait_s)(state)

    def _final_error(self, failure: Failure, what: str, statistics: dict[str, float]) -> ServiceError:
        if failure.login:
            return LoginError(f"{what}: the login was refused or is missing ({failure.reason}).", failure)
        attempts = int(statistics.get("attempt_number", 1))
        tried = f"{attempts} attempts" if attempts > 1 else "one attempt"
        message = f"{what}: {failure.reason}, after {tried}."
        if failure.retry_after_s is not None and failure.retry_after_s > self.longest_retry_after_s:
            message += f" The service asks to wait {failure.retry_after_s:.0f} s; retry later."
        elif failure.transient:
            message += " What was fetched before is kept; retry later."
        return ServiceError(message, failure)


def _failure(state: "RetryCallState") -> Failure:
    """Return what the last attempt's error says; there is one whenever another attempt is made."""
    error = state.outcome.exception() if state.outcome is not None else None
    return (failure_of(error) if error is not None else None) or Failure("unknown", transient=True)


def _log(what: str, state: "RetryCallState") -> None:
    logger.info("%s: %s; next attempt in %.1f s.", what, _failure(state).reason, state.upcoming_sleep)
