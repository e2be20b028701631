"""Files of services, over HTTP and from S3: their versions, and downloads that are resumed and verified."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from darts_acquisition.errors import (
    ChecksumError,
    LoginError,
    SceneError,
    SceneNotFoundError,
    ServiceError,
    lost,
    public_url,
)
from darts_acquisition.io.http import HttpClient, check_status, refuse_web_page
from darts_acquisition.io.retry import RateLimiter, all_at_once, check_not_stopped
from darts_acquisition.io.settings import RequestLimits, S3Settings

if TYPE_CHECKING:
    import requests
    from botocore.awsrequest import AWSRequest
    from botocore.client import BaseClient
    from botocore.credentials import Credentials
    from botocore.session import Session

_SIGNED_FOR_S = 3600


class S3Access:
    """Addresses and signatures of files in an object storage. Threads may share one."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self.anonymous = settings.anonymous

    @cached_property
    def credentials(self) -> "Credentials":
        """Keys, as botocore has them, see `find_credentials`."""
        return find_credentials(self._settings)

    def plain_url(self, uri: str) -> str:
        """Return the HTTP address of a file without a signature; SceneError if it is no address of one."""
        parts = urlsplit(uri)
        if parts.scheme != "s3" or not parts.netloc or not parts.path.strip("/"):
            raise SceneError(f"{uri} is no address of a file in object storage; expected s3://bucket/key.")
        where = {"Bucket": parts.netloc, "Key": parts.path.lstrip("/")}
        return str(self._client.generate_presigned_url("get_object", Params=where))

    def signed_url(self, uri: str) -> str:
        """Return the HTTP address of a file, which anybody may read for an hour."""
        from botocore.auth import S3SigV4QueryAuth

        return str(self._signed(S3SigV4QueryAuth, "GET", self.plain_url(uri), expires=_SIGNED_FOR_S).url)

    def sign(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        """Sign a request of the library requests by its headers, which storages take that refuse signed addresses."""
        from botocore.auth import S3SigV4Auth

        request.headers.update(dict(self._signed(S3SigV4Auth, request.method, request.url).headers.items()))
        return request

    def _signed(self, auth: Any, method: str | None, url: str | None, **options: int) -> "AWSRequest":
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method, url)
        if not self.anonymous:
            auth(self.credentials, "s3", self._client.meta.region_name, **options).add_auth(request)
        return request

    @cached_property
    def _client(self) -> "BaseClient":
        return make_s3_client(replace(self._settings, anonymous=True))


def find_credentials(settings: S3Settings) -> "Credentials":
    """Find keys where the AWS tools do (a profile, the environment, the role of a machine), as botocore has them.

    LoginError if there is no such profile, or there are no keys; ServiceError if the settings of the AWS tools cannot
    be used.
    """
    with _session(settings) as session:
        found = session.get_credentials()
    if found is None:
        raise LoginError(
            f"There are no keys for {settings.endpoint or 'the object storage'}: write them into a profile of "
            "~/.aws/credentials and name it (AWS_PROFILE), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    return found


def make_s3_client(settings: S3Settings) -> "BaseClient":
    """Make a client of botocore that leaves retries to the retry policy; threads may share it.

    LoginError if there is no such profile, ServiceError if the settings of the AWS tools cannot be used. Keys are
    looked for only when a request is made.
    """
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        retries={"total_max_attempts": 1},
        signature_version=UNSIGNED if settings.anonymous else None,
        s3={"addressing_style": "path"} if settings.endpoint else None,
    )
    with _session(settings) as session:
        named = settings.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        region = named or "us-east-1"
        return session.create_client("s3", endpoint_url=settings.endpoint, region_name=region, config=config)


@contextmanager
def _session(settings: S3Settings) -> Iterator["Session"]:
    """Begin a session of botocore, and say in our words what goes wrong with it."""
    import botocore.session
    from botocore.exceptions import BotoCoreError, ProfileNotFound

    try:
        yield botocore.session.Session(profile=settings.profile)
    except ProfileNotFound as error:
        name = settings.profile or os.environ.get("AWS_PROFILE")
        raise LoginError(f"There is no profile {name!r} in ~/.aws; add it, or name another.") from error
    except (BotoCoreError, ValueError) as error:
        raise ServiceError(f"The object storage cannot be used: {type(error).__name__}.") from error


logger = logging.getLogger(__name__)

_MOST_FILE_BYTES = 4 << 30
"""Of a file whose size nobody says."""
_FETCHES = 3
"""How often a file is fetched that does not verify."""
_MULTIHASHES = {
    "1114": "sha1",
    "1220": "sha256",
    "1340": "sha512",
    "1440": "sha3_512",
    "1530": "sha3_384",
    "1620": "sha3_256",
    "171c": "sha3_224",
    "2030": "sha384",
    "d50110": "md5",
}
"""What a multihash (multiformats.io/multihash) of an algorithm begins with: its code and the length of the digest."""


@dataclass(frozen=True)
class Version:
    """What tells whether a remote file is still the same; its first bytes, which do not count for that, come along."""

    size: int
    etag: str
    modified: str
    begin: bytes = field(compare=False, repr=False)


@dataclass(frozen=True)
class RemoteFile:
    """A file to download, with its size in bytes and its checksum as a hexadecimal multihash; None where unknown.

    `folder` keeps files apart whose addresses end alike, as those of some services do ("…/$value").
    """

    href: str
    size: int | None = None
    checksum: str | None = None
    folder: str = ""


class Store(HttpClient):
    """Reads files by their ``https://``, ``http://`` or ``s3://`` address. Threads share one."""

    def __init__(self, limits: RequestLimits, s3: S3Settings) -> None:
        super().__init__(limits)
        self._s3 = S3Access(s3)
        self._storage = s3.endpoint or "Amazon S3"

    def limiter(self, url: str) -> RateLimiter:
        """Return the rate limiter of the service that holds a file."""
        return self.limits.limiter(self._storage) if url.startswith("s3://") else super().limiter(url)

    def http_url(self, uri: str) -> str:
        """Return an address of a file that every HTTP client can read, for an hour where keys are needed.

        LoginError if there are no keys, ServiceError if it is no address of a file.
        """
        scheme = urlsplit(uri).scheme
        if scheme in ("http", "https"):
            return uri
        if scheme == "s3":
            return self._s3.signed_url(uri)
        raise ServiceError(f"{public_url(uri)} is no address that can be read; expected https://, http:// or s3://.")

    def logs_in(self, uri: str) -> bool:
        """Tell whether reading a file needs keys."""
        return uri.startswith("s3://") and not self._s3.anonymous

    def version(self, url: str, *, login: bool = False, most_bytes: int = 4) -> Version:
        """Ask for the version of a file once, by its address of HTTP; its first bytes come along.

        RequestError if the service refuses or fails, ServiceError if it sends something else than a part of a file.
        """
        headers = {"Range": f"bytes=0-{most_bytes - 1}", "Accept-Encoding": "identity"}
        answer = self.ask(url, "GET", headers, most_bytes=most_bytes, whole=False)
        check_status(answer.status, answer.headers, login=login)
        refuse_web_page(answer.headers, b"", url)
        part, _, size = answer.headers.get("Content-Range", "").partition("/")
        if "Content-Length" not in answer.headers:  # GDAL takes whatever comes then, however much.
            raise ServiceError(f"{public_url(url)} is served without a length; use a server that says Content-Length.")
        if answer.status != 206 or not size.isdecimal():
            raise ServiceError(
                f"{public_url(url)} is served whole only (status {answer.status}, expected 206 with its size); use a "
                "server that answers range requests."
            )
        length = min(most_bytes, int(size))
        if (part, len(answer.content)) != (f"bytes 0-{length - 1}", length):
            raise lost(f"expected its first {length} bytes, got {len(answer.content)} as {part[:40]!r}")
        etag, modified = (answer.headers.get(name, "") for name in ("ETag", "Last-Modified"))
        return Version(int(size), etag, modified, bytes(answer.content))

    def download(self, files: Sequence[RemoteFile], folder: Path) -> list[Path]:
        """Download files into a folder, several at once, and return them in their order.

        All of them have the size and checksum that was said. A file that is there and verifies is not fetched again; a
        part of one is continued. LoginError if there are no keys, or they are refused; SceneNotFoundError if a file
        does not exist; ChecksumError if a file does not verify after several fetches; ServiceError if a service refuses
        or fails; SceneError if an address or checksum cannot be understood.
        """
        works = (partial(self._download, file, folder / file.folder) for file in files)
        return all_at_once(works, self.limits.parallel)

    def _download(self, file: RemoteFile, folder: Path) -> Path:
        name = urlsplit(file.href).path.rpartition("/")[2]
        if name in ("", ".", ".."):
            raise SceneError(f"{public_url(file.href)} is no address of a file; expected s3://bucket/key.")
        target, part = folder / name, folder / f"{name}.part"
        checksum = None if file.checksum is None else _parse_multihash(file.checksum, name)
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists() and _verifies(target, file.size, checksum):
            return target
        for _ in range(_FETCHES):
            size = self._download_rest(file, part)
            if _verifies(part, size if file.size is None else file.size, checksum):
                part.rename(target)
                return target
            logger.warning("%s differs from what the catalogue says in size or checksum; it is fetched again.", name)
            part.unlink()
        raise ChecksumError(
            f"{name} has another size or checksum than the catalogue says, {_FETCHES} times; nothing of it is used. "
            "Retry later: the provider may be replacing the file."
        )

    def _download_rest(self, file: RemoteFile, part: Path) -> int:
        """Download what is missing of a file, each attempt from where the last one ended; return the file's size."""
        what = f"Fetching {public_url(file.href)}"
        try:
            return self.limits.retry.call(lambda: self._continue(file, part), what, self.limiter(file.href))
        except ServiceError as error:
            if error.failure is not None and error.failure.status == 404:
                raise SceneNotFoundError(f"{what}: it does not exist although the catalogue names it.") from error
            raise

    def _continue(self, file: RemoteFile, part: Path) -> int:
        """Download what is missing of a file; return its size as the service says it."""
        present = part.stat().st_size if part.exists() else 0
        if file.checksum is None or (file.size is not None and present > file.size):
            present = 0  # Of another version, perhaps, which nothing would tell.
        if present and present == file.size:
            return present
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={present}-"} if present else {})
        in_s3 = file.href.startswith("s3://")
        url, sign = (self._s3.plain_url(file.href), self._s3.sign) if in_s3 else (file.href, None)
        begin = partial(self.open, "GET", url, headers, sign)
        with self.slot(), contextlib.closing(self.threads.within(10 * self.limits.timeout_s, begin)) as response:
            if response.status_code == 416:
                part.unlink()
                raise lost("it is shorter than the part that is there")
            present, whole = self._span(response, file, present)
            with part.open("ab") as stream:
                stream.truncate(present)
                for some in self.parts(response):
                    check_not_stopped()
                    present += stream.write(some)
                    if present > (_MOST_FILE_BYTES if whole is None else whole):
                        break  # It does not verify, however much comes.
        return present if whole is None else whole

    def _span(self, response: "requests.Response", file: RemoteFile, present: int) -> tuple[int, int | None]:
        """Return at which byte an answer begins, and the size of the file where it is said."""
        check_status(response.status_code, response.headers, login=self.logs_in(file.href))
        refuse_web_page(response.headers, b"", file.href)
        coding, length = response.headers.get("Content-Encoding", "identity"), response.headers.get("Content-Length")
        if coding != "identity":
            raise ServiceError(f"{public_url(file.href)} is encoded as {coding[:20]}; expected the file as it is.")
        if response.status_code != 206:
            present = 0  # The whole file, whatever was asked for.
        elif not response.headers.get("Content-Range", f"bytes {present}-").startswith(f"bytes {present}-"):
            raise lost(f"another part came than the one from byte {present}")
        return present, present + int(length) if length is not None and length.isdecimal() else file.size


def _parse_multihash(text: str, name: str) -> tuple[str, bytes]:
    """Return algorithm and digest of a hexadecimal multihash; SceneError if it is none, or of an unknown algorithm."""
    try:
        content = bytes.fromhex(text).hex()
    except (ValueError, TypeError):
        content = ""
    for begin, algorithm in _MULTIHASHES.items():
        digest = bytes.fromhex(content.removeprefix(begin))
        if content.startswith(begin) and len(digest) == int(begin[-2:], 16):
            return algorithm, digest
    known = ", ".join(_MULTIHASHES.values())
    raise SceneError(f"{name}: file:checksum is {text!r}; expected a multihash in hexadecimal, of {known}.")


def _verifies(file: Path, size: int | None, checksum: tuple[str, bytes] | None) -> bool:
    if size is not None and file.stat().st_size != size:
        return False
    if checksum is None:
        return True
    algorithm, digest = checksum
    with file.open("rb") as stream:
        found: Any = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return bool(found.digest() == digest)
