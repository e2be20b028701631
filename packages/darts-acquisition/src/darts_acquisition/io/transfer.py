"""Read parts of remote files over HTTP and from object storage; what arrives is what was asked for, or an error."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from darts_acquisition.errors import LoginError, ServiceError
from darts_acquisition.io.settings import RequestLimits, S3Settings

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True)
class Part:
    """A part of a remote file.

    Attributes:
        content: The bytes.
        total: Size of the whole file in bytes.
        version: Entity tag of the file, "" where the service gives none. It changes when the file does.
    """

    content: bytes
    total: int
    version: str


class Remote:
    """Reads parts of files by their address: ``https://``, ``http://`` or ``s3://``.

    Many threads may use one object; they share the rate of requests. Each request goes through the retry policy, and an
    answer counts only if it has every byte that was asked for.

    Args:
        limits: How many requests are made, and what happens when one fails.
        s3: What ``s3://`` means.
    """

    def __init__(self, limits: RequestLimits, s3: S3Settings) -> None:
        self._limits, self._s3 = limits, s3
        self._local = threading.local()
        self._lock = threading.Lock()
        self._client: Any = None

    def read(self, url: str, start: int, stop: int) -> Part:
        """Read a part of a file.

        Args:
            url: Address of the file.
            start: First byte.
            stop: One past the last byte; what lies beyond the end of the file is left out.

        Returns:
            The part.

        Raises:
            LoginError: If the object storage refuses the keys, or there are none.
            ServiceError: If it cannot be read, see `RetryPolicy.call`. Where nobody logs in, status 403 says as little
                of the login as 404: object storage gives it for files that do not exist.
        """
        parts = urlsplit(url)
        request: Callable[[], Part]
        if parts.scheme in ("http", "https"):
            request = lambda: self._get_http(url, start, stop)  # noqa: E731
        elif parts.scheme == "s3":
            request = lambda: self._get_s3(parts.netloc, parts.path.lstrip("/"), start, stop)  # noqa: E731
        else:
            raise ServiceError(
                f"{public_url(url)} is no address that can be read; expected https://, http:// or s3://."
            )
        what = f"Reading {public_url(url)}"
        try:
            return self._limits.retry.call(request, what, self._limits.limiter(parts.netloc))
        except LoginError as error:
            if error.failure is None or (parts.scheme == "s3" and not self._s3.anonymous):
                raise
            raise ServiceError(f"{what}: {error.failure.reason}.", replace(error.failure, login=False)) from error

    def _get_http(self, url: str, start: int, stop: int) -> Part:
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        with self._session().get(url, headers=headers, timeout=self._limits.timeout_s, stream=True) as answer:
            answer.raise_for_status()
            if answer.status_code != 206:
                raise ServiceError(
                    f"{public_url(url)} is served whole only (status {answer.status_code}, expected 206); "
                    "use a server that answers range requests."
                )
            version = answer.headers.get("ETag", "")
            return _checked(answer.content, answer.headers.get("Content-Range", ""), start, stop, version)

    def _get_s3(self, bucket: str, key: str, start: int, stop: int) -> Part:
        answer = self._s3_client().get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}")
        return _checked(answer["Body"].read(), answer.get("ContentRange", ""), start, stop, answer.get("ETag", ""))

    def _session(self) -> "requests.Session":
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        return self._local.session

    def _s3_client(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = make_s3_client(self._s3, self._limits)
            return self._client


def make_s3_client(settings: S3Settings, limits: RequestLimits) -> Any:
    """Make a boto3 client that leaves trying again to the retry policy; threads may share it.

    Args:
        settings: Which storage, and as whom.
        limits: Timeout, and the number of connections.

    Returns:
        The client.

    Raises:
        LoginError: If there is no such profile. Keys are looked for only when a request is made.
    """
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ProfileNotFound

    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=limits.timeout_s,
        read_timeout=limits.timeout_s,
        max_pool_connections=limits.parallel,
        signature_version=UNSIGNED if settings.anonymous else None,
        s3={"addressing_style": "path"} if settings.endpoint else None,
    )
    try:
        session = boto3.Session(profile_name=settings.profile)
    except ProfileNotFound as error:
        raise LoginError(f"There is no profile {settings.profile!r} in ~/.aws; add it, or name another.") from error
    region = settings.region or session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=settings.endpoint, region_name=region, config=config)


def public_url(url: str) -> str:
    """Return an address without user, password and query, which may hold signatures."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _checked(content: bytes, content_range: str, start: int, stop: int, version: str) -> Part:
    """Return the part, if it is the one that was asked for, as long as it says it is."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range)
    if match is None:
        raise ServiceError(f"The answer does not say which part of the file it is (Content-Range {content_range!r}).")
    first, last, total = (int(group) for group in match.groups())
    expected = min(stop, total) - start
    if first != start or last - first + 1 != expected or len(content) != expected:
        # Something between here and the file cut the answer; asked again, it comes whole.
        raise ConnectionError(f"expected {expected} bytes from {start}, got {len(content)} from {first}")
    return Part(content, total, version)
