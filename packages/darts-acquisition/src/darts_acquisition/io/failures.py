"""What an error of a request says: whether a retry can succeed, and which words may be told."""

import http.client
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from darts_acquisition.errors import Failure
from darts_utils import DartsError

_SECRETS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]*@|\?[^\s'\"<>)\]]*[=&][^\s'\"<>)\]]*", re.IGNORECASE)
"""What stands before the host of an address, and its query."""


def public_url(url: str) -> str:
    """Return an address without user, password, query and fragment, which may hold signatures."""
    return scrub(url.partition("#")[0].partition("?")[0])


def scrub(text: str) -> str:
    """Return a text whose addresses have lost user, password and query, which may hold signatures.

    Examples:
        >>> scrub("GET https://me:key@host/file.tif?sig=abc failed")
        'GET https://host/file.tif failed'
    """
    return _SECRETS.sub(lambda found: found[1] or "", text)


def failure_of_status(status: int, headers: Mapping[str, str]) -> Failure:
    """Say what a status of an answer means, with its headers, by names in any case."""
    after = {name.lower(): value for name, value in headers.items()}.get("retry-after")
    return Failure(
        f"HTTP status {status}, {http.client.responses.get(status, 'unknown status')}",
        transient=status == http.HTTPStatus.TOO_MANY_REQUESTS or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR,
        status=status,
        retry_after_s=None if after is None else parse_retry_after(after),
        login=status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN),
    )


class RequestError(Exception):
    """A request failed. Never leaves this package: `RetryPolicy.call` makes a `ServiceError` of it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def lost(reason: str) -> RequestError:
    """Return the error of an answer that did not come whole, which may the next time."""
    return RequestError(Failure(reason, transient=True))


def failure_of(error: BaseException) -> Failure | None:
    """Find out what an error, or one that it was raised from, says about a request; None for nothing.

    Told by the HTTP status of an answer that it carries, and by the base classes of Python and urllib3, on which the
    libraries that talk to services build. A plain error of Python, such as a TypeError, is a mistake in the code,
    whatever failed before it.
    """
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    if isinstance(error, RequestError | DartsError):
        return getattr(error, "failure", None)
    if type(error).__module__ == "builtins" and not isinstance(error, OSError):
        return None
    causes = list(_causes(error))
    for cause in causes:
        answer = _answer_of(cause)
        if answer is not None:
            return failure_of_status(*answer)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Failure("the certificate of the service cannot be verified", transient=False)
    name = type(causes[-1]).__name__
    connection = (ConnectionError, TimeoutError, http.client.HTTPException, ssl.SSLError, socket.gaierror, HTTPError)
    if any(isinstance(cause, connection) and not isinstance(cause, DartsError | ValueError) for cause in causes):
        return Failure(f"connection refused, lost or too slow ({name})", transient=True)
    if isinstance(error, RequestException):
        return Failure(f"the request failed ({name})", transient=False)
    return None


def parse_retry_after(value: str, now: datetime | None = None) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110, section 10.2.3): seconds, or a date, before `now` or the clock's time.

    Returns:
        Seconds to wait, 0 where the date is past; None where the header is neither.

    Examples:
        >>> parse_retry_after("120")
        120.0
        >>> parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT")
        0.0
    """
    value = value.strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds())


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, each once; also what libraries put into their errors as arguments."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        cause = pending.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            pending += [cause.__cause__, None if cause.__suppress_context__ else cause.__context__]
            pending += [getattr(cause, "reason", None), *cause.args]


def _answer_of(error: BaseException) -> tuple[int, Mapping[str, str]] | None:
    """Return status and headers of the answer that an error carries."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        metadata = response.get("ResponseMetadata", {})
        status, headers = metadata.get("HTTPStatusCode"), metadata.get("HTTPHeaders")
    elif response is not None:  # requests
        status, headers = getattr(response, "status_code", None), getattr(response, "headers", None)
    else:  # googleapiclient
        headers = getattr(error, "resp", None)
        status = getattr(headers, "status", None)
    return (status, dict(headers or {})) if isinstance(status, int) else None
