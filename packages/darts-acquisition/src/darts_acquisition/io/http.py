"""Answers of services over HTTP, bounded in size and time, one retry policy for all of them."""

import contextlib
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from darts_acquisition.errors import Failure, RequestError, ServiceError, failure_of_status, lost, public_url
from darts_acquisition.io.retry import DaemonThreads, RateLimiter, check_not_stopped
from darts_acquisition.io.settings import RequestLimits

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

MOST_BYTES = 48 << 20
"""Of a whole answer; Earth Engine sends no more."""
_PART = 1 << 16
_SLOWEST = 1024
"""Bytes per second, on average, below which an answer counts as stalled."""
_MOST_REDIRECTS = 5
_ERROR_BYTES = 1 << 16
"""Of the body of an error, which may say why."""
_POLL_S = 0.1


@dataclass(frozen=True)
class Answer:
    """An answer that came whole: HTTP status, headers (names in any case), and the decompressed body."""

    status: int
    headers: Mapping[str, str]
    content: bytearray


class HttpClient:
    """Makes requests to services, each within ten times `limits.timeout_s`. Threads share it and its rate."""

    def __init__(self, limits: RequestLimits) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self.limits = limits
        self.threads = DaemonThreads()
        self._slots = threading.BoundedSemaphore(limits.parallel)
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # Else threads would share them.
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=limits.parallel))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Be one of the requests that are made at the same time, until the block ends."""
        while not self._slots.acquire(timeout=_POLL_S):
            check_not_stopped()
        try:
            yield
        finally:
            self._slots.release()

    def limiter(self, url: str) -> RateLimiter:
        """Return the rate limiter of the service behind an address."""
        return self.limits.limiter(urlsplit(url).netloc)

    def fetch(
        self, url: str, what: str, parse: Callable[[bytearray], T], *, most_bytes: int = MOST_BYTES, **request: Any
    ) -> T:
        """Fetch a whole answer of at most `most_bytes` when decompressed, with retries, and parse it.

        A `RequestError` that `parse` raises, see `lost`, is retried. `what` is fetched, for messages; all others are
        arguments of `ask`. ServiceError if the service refuses or fails, sends a web page instead of data, or too much.
        """

        def attempt() -> T:
            answer = self.ask(url, most_bytes=most_bytes, **request)
            check_status(answer.status, answer.headers)
            refuse_web_page(answer.headers, answer.content[:200], url)
            return parse(answer.content)

        return self.limits.retry.call(attempt, what, self.limiter(url))

    def ask(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        *,
        most_bytes: int = MOST_BYTES,
        whole: bool = True,
        **content: Any,
    ) -> Answer:
        """Make one request and return the answer, whatever its status.

        `most_bytes` is how long the answer may be, decompressed; a longer one is an error unless a part suffices
        (`whole`), as of errors. `content` are `params`, `json` or `data`, as for the library requests. RequestError if
        it does not come whole, or too slowly, ServiceError if it is too long.
        """
        asked = {"Accept-Encoding": "gzip"} | dict(headers or {})

        def work() -> Answer:
            with contextlib.closing(self.open(method, url, asked, **content)) as response:
                enough = not whole or response.status_code >= 400
                most = _ERROR_BYTES if response.status_code >= 400 else most_bytes
                return Answer(response.status_code, response.headers, self._read(response, most, enough))

        with self.slot():
            return self.threads.within(10 * self.limits.timeout_s, work)

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        sign: "Callable[[requests.PreparedRequest], requests.PreparedRequest] | None" = None,
        **content: Any,
    ) -> "requests.Response":
        """Begin an answer, whose body is to be read with `parts`, and which is to be closed; redirections are followed.

        `sign` signs the request where that is needed; `content` is as for `ask`. Bodies of redirections are not read.
        RequestError if there are too many redirections, ServiceError if one leads away from TLS, or the error of
        requests.
        """
        from requests import Request

        bundle = os.environ.get("AWS_CA_BUNDLE") if sign is not None else None
        verify: Any = bundle or True  # and then what REQUESTS_CA_BUNDLE names
        for _ in range(_MOST_REDIRECTS):
            request = self._session.prepare_request(Request(method, url, dict(headers), auth=sign, **content))
            settings = self._session.merge_environment_settings(str(request.url), {}, True, verify, None)
            # Not by the session itself: it would read the body of a redirection, however long.
            adapter = self._session.get_adapter(str(request.url))
            response = adapter.send(request, timeout=self.limits.timeout_s, **settings)
            target = self._session.get_redirect_target(response)
            if target is None:
                return response
            response.close()
            before, url = urlsplit(response.url), urljoin(response.url, target)
            after = urlsplit(url)
            if before.scheme == "https" and after.scheme != "https":
                raise ServiceError(f"{public_url(response.url)} leads away from TLS, to {public_url(url)}.")
            if before.netloc != after.netloc:
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
                sign = None
            content.pop("params", None)  # They are in the address.
            if response.status_code not in (307, 308) and method != "HEAD":
                method, content = "GET", {}
        raise RequestError(Failure(f"redirected more than {_MOST_REDIRECTS} times", transient=False))

    def _read(self, response: "requests.Response", most_bytes: int, enough: bool) -> bytearray:
        coding = response.headers.get("Content-Encoding", "identity")
        if coding not in ("gzip", "identity"):
            raise ServiceError(f"{public_url(response.url)} is encoded as {coding[:20]}; expected gzip or nothing.")
        decoder = zlib.decompressobj(wbits=31) if coding == "gzip" else None
        content = bytearray()
        for part in self.parts(response):
            try:
                content += part if decoder is None else decoder.decompress(part, most_bytes + 1 - len(content))
            except zlib.error:
                raise lost("the compressed answer is damaged") from None
            if len(content) > most_bytes:
                if enough:
                    return content[:most_bytes]
                raise ServiceError(f"{public_url(response.url)} sends more than {most_bytes} bytes; expected fewer.")
        if decoder is not None and content and not decoder.eof:
            raise lost("the compressed answer ends early")
        return content

    def parts(self, response: "requests.Response") -> Iterator[bytes]:
        """Yield the body of a response as it comes, not decompressed; RequestError if too slowly, or not whole."""
        length = response.headers.get("Content-Length")
        began, received = time.monotonic(), 0
        while part := response.raw.read1(_PART, decode_content=False):
            received += len(part)
            yield part
            seconds = time.monotonic() - began
            if seconds > self.limits.timeout_s and received < seconds * _SLOWEST:
                raise lost(f"too slow, {received} bytes in {seconds:.0f} s")
        if length is not None and length.isdecimal() and received != int(length):
            raise lost(f"expected {length} bytes, got {received}")


def check_status(status: int, headers: Mapping[str, str], *, login: bool = False) -> None:
    """Raise the RequestError that a status means; without a `login`, being refused is no matter of the login."""
    if status >= 400:
        failure = failure_of_status(status, headers)
        raise RequestError(replace(failure, login=failure.login and login))


def refuse_web_page(headers: Mapping[str, str], begin: bytes | bytearray, url: str) -> None:
    """Raise a ServiceError where a web page came instead of data: a login, a proxy's message, a note on maintenance."""
    if "html" in headers.get("Content-Type", "").lower() or begin.lstrip()[:5].lower() in (b"<html", b"<!doc"):
        raise ServiceError(f"{public_url(url)} sends a web page, no data; a login or a proxy may stand before it.")
