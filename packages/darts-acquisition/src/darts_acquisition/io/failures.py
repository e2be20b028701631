"""Tell from an error of any of the libraries that talk to services whether trying again can succeed."""

import http.client
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_LOST = frozenset(
    {
        "botocore.exceptions.ConnectionClosedError",
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.IncompleteReadError",
        "botocore.exceptions.ReadTimeoutError",
        "botocore.exceptions.ResponseStreamingError",
        "google.auth.exceptions.TransportError",
        "requests.exceptions.ChunkedEncodingError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "urllib3.exceptions.IncompleteRead",
        "urllib3.exceptions.ProtocolError",
        "urllib3.exceptions.ProxyError",
        "urllib3.exceptions.SSLError",
        "urllib3.exceptions.TimeoutError",
    }
)
"""Errors that mean a connection was refused, lost or too slow; by name, so that no library loads on their account."""

_REFUSED_LOGIN = frozenset(
    {
        "botocore.exceptions.NoCredentialsError",
        "botocore.exceptions.PartialCredentialsError",
        "botocore.exceptions.ProfileNotFound",
        "google.auth.exceptions.DefaultCredentialsError",
        "google.auth.exceptions.RefreshError",
    }
)

_FAILED = frozenset(
    {
        "botocore.exceptions.BotoCoreError",
        "requests.exceptions.RequestException",
        "urllib3.exceptions.HTTPError",
    }
)
"""Errors that mean that a request failed, which of them whatever."""


@dataclass(frozen=True)
class Failure:
    """What an error says about a request.

    Attributes:
        reason: A few words for people, without addresses and credentials.
        temporary: Trying again can succeed: too many requests (429), the service failed (5xx), or the connection was
            refused, lost or too slow. Nothing else.
        status: HTTP status, None where no answer came.
        retry_after_s: Seconds that the service asks to wait, None where it says nothing.
        login: The service refused the login (401, 403), or there is none.
    """

    reason: str
    temporary: bool
    status: int | None = None
    retry_after_s: float | None = None
    login: bool = False


def failure_of(error: BaseException) -> Failure | None:
    """Find out what an error, or one that it was raised from, says about a request.

    Args:
        error: What requests, urllib3, pystac-client, boto3, google-auth, earthengine-api or Python itself raised.

    Returns:
        The failure; None if the error has nothing to do with a request.
    """
    for cause in _causes(error):
        answer = _answer_of(cause)
        if answer is not None:
            return _from_answer(*answer)
    causes = list(_causes(error))
    names = {name for cause in causes for name in _names(cause)}
    last = type(causes[-1]).__name__
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Failure("the certificate of the service cannot be verified", temporary=False)
    if names & _REFUSED_LOGIN:
        return Failure("no valid login", temporary=False, login=True)
    lost = (ConnectionError, TimeoutError, http.client.HTTPException, ssl.SSLError)
    if names & _LOST or any(isinstance(cause, lost) and not _is_ours(cause) for cause in causes):
        return Failure(f"connection refused, lost or too slow ({last})", temporary=True)
    if names & _FAILED:
        return Failure(f"the request failed ({last})", temporary=False)
    return None


def parse_retry_after(value: str, now: datetime | None = None) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110, section 10.2.3).

    Args:
        value: The header: seconds, or a date.
        now: The time; None for that of the clock.

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
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        pending += [cause.__cause__, None if cause.__suppress_context__ else cause.__context__]
        pending += [getattr(cause, "reason", None), *cause.args]


def _names(error: BaseException) -> Iterator[str]:
    for kind in type(error).__mro__:
        yield f"{kind.__module__}.{kind.__qualname__}"


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("darts")


def _answer_of(error: BaseException) -> tuple[int, Mapping[str, str]] | None:
    """Return status and headers of the answer that an error carries."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        metadata = response.get("ResponseMetadata", {})
        status, headers = metadata.get("HTTPStatusCode"), metadata.get("HTTPHeaders")
    elif response is not None:  # requests
        status, headers = getattr(response, "status_code", None), getattr(response, "headers", None)
    else:  # googleapiclient, pystac-client
        response = getattr(error, "resp", None)
        status = getattr(error, "status_code", None) if response is None else getattr(response, "status", None)
        headers = response
    if not isinstance(status, int):
        return None
    return status, {str(name).lower(): str(value) for name, value in dict(headers or {}).items()}


def _from_answer(status: int, headers: Mapping[str, str]) -> Failure:
    after = parse_retry_after(headers["retry-after"]) if "retry-after" in headers else None
    phrase = http.client.responses.get(status, "unknown status")
    return Failure(
        f"HTTP status {status}, {phrase}",
        temporary=status == http.HTTPStatus.TOO_MANY_REQUESTS or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR,
        status=status,
        retry_after_s=after,
        login=status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN),
    )
