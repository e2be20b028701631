"""The errors and warnings of acquisition, and what an error of a request says."""

import http.client
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from darts_utils import DartsError, DartsWarning, GridError, NoDataError


class SceneError(DartsError, ValueError):
    """A delivery is there, but its files are not what the provider's format says."""


class EmptySceneError(SceneError, NoDataError):
    """A scene can be read and holds no data: every pixel of its images is 0. There is nothing to map."""


class SceneNameError(SceneError):
    """A folder's name is neither that of a PlanetScope scene nor that of an orthotile."""


class SceneNotFoundError(DartsError, FileNotFoundError):
    """A folder, or a file that a delivery must have, is absent."""


class SceneReadError(DartsError, OSError):
    """A file of a delivery cannot be read: it is truncated, damaged, or no image at all."""


class ChecksumError(SceneReadError):
    """A downloaded file has another size or checksum than the provider says, each time that it was fetched."""


class SceneGridError(SceneError, GridError):
    """An image or a mask lies on a grid that no tile can have, or the two lie on different grids."""


class CubeError(DartsError, ValueError):
    """What lies at a path is no datacube of this package, or not the one that was asked for."""


class ForeignCubeError(CubeError):
    """What lies at a path is a datacube of smart-geocubes, which `import_cube` takes over."""


class CubeDamagedError(CubeError):
    """A part of a datacube has changed on its storage since it was written."""


class CubeUnreachableError(CubeError, ConnectionError):
    """The object storage that holds a datacube does not answer, or is too busy; the same succeeds later."""


class CubeNotFoundError(DartsError, FileNotFoundError):
    """There is no datacube at a path."""


class CubeExistsError(DartsError, FileExistsError):
    """There is something at the path where a datacube was to be created."""


class CubeConflictError(DartsError, RuntimeError):
    """Another process has written the same chunk of a datacube in the meantime; nothing of this write was kept."""


class CubeBusyError(DartsError, TimeoutError):
    """Another process has been writing to a datacube for longer than anybody waits."""


class MissingAuxiliaryDataError(DartsError, LookupError):
    """An area is not fully present in a datacube, or the datacube is absent."""


class OutsideExtentError(DartsError, ValueError):
    """An area lies wholly outside what a product covers."""


@dataclass(frozen=True)
class Failure:
    """What an error says about a request, in a few words (`reason`) without addresses and credentials.

    `transient`: a retry can succeed, after too many requests (429), a failing service (5xx), or a connection that was
    refused, lost or too slow; nothing else. `status` is that of HTTP, None where no answer came; `retry_after_s` what
    the service asks to wait; `login`: it refused the login (401, 403), or there is none.
    """

    reason: str
    transient: bool
    status: int | None = None
    retry_after_s: float | None = None
    login: bool = False


class ServiceError(DartsError, ConnectionError):
    """A service refused a request, or failed until the last attempt.

    Attributes:
        failure: What the last answer said; None where the answer itself was wrong.
    """

    def __init__(self, message: str, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.failure = failure


class LoginError(ServiceError, PermissionError):
    """A service refused the login, or there is none. The message says what to do."""


class AreaError(DartsError, ValueError):
    """An area of interest cannot be used: it is empty, has no CRS, or cannot be read."""


class SceneNotStoredError(DartsError, LookupError):
    """A scene, or a band of it, is not in the local store, and nothing may be fetched."""


class RawStoreError(DartsError, OSError):
    """The local store of a scene is damaged, or was written by another version."""


class RepairedGeometryWarning(DartsWarning):
    """An area of interest held invalid geometries, which were repaired."""


class WideEdgeWarning(DartsWarning):
    """An area has an edge of more than 180 degrees of longitude; the message says which way around it runs."""


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
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Failure("the name of the host cannot be resolved (no internet, or a wrong address)", transient=True)
    name = type(causes[-1]).__name__
    connection = (ConnectionError, TimeoutError, http.client.HTTPException, ssl.SSLError, HTTPError)
    if any(isinstance(cause, connection) and not isinstance(cause, DartsError | ValueError) for cause in causes):
        return Failure(f"connection refused, lost or too slow ({name})", transient=True)
    if isinstance(error, RequestException):
        return Failure(f"the request failed ({name})", transient=False)
    return None


def parse_retry_after(value: str, now: datetime | None = None) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110, section 10.2.3), seconds or a date, as seconds; None if neither."""
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
    pending: list[object] = [error]
    while pending:
        cause = pending.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            pending += [cause.__cause__, None if cause.__suppress_context__ else cause.__context__]
            pending += [getattr(cause, "reason", None), *cause.args]


def _answer_of(error: BaseException) -> tuple[int, Mapping[str, str]] | None:
    response: object = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        metadata = response.get("ResponseMetadata", {})
        status, headers = metadata.get("HTTPStatusCode"), metadata.get("HTTPHeaders")
    elif response is not None:  # requests
        status, headers = getattr(response, "status_code", None), getattr(response, "headers", None)
    else:  # googleapiclient
        headers = getattr(error, "resp", None)
        status = getattr(headers, "status", None)
    return (status, dict(headers or {})) if isinstance(status, int) else None
