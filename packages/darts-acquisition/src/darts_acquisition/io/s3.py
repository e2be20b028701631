"""Fetch whole files from object storage: resumed where a part is there, and verified before anyone reads them."""

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from darts_acquisition.errors import LoginError, SceneError, SceneNotFoundError, ServiceError
from darts_acquisition.io.retry import check_not_stopped, stoppable
from darts_acquisition.io.settings import RequestLimits, S3Settings
from darts_acquisition.io.transfer import make_s3_client
from darts_acquisition.scenes.multihash import Multihash
from darts_acquisition.sentinel2.errors import ChecksumError
from darts_acquisition.sentinel2.item import Asset

logger = logging.getLogger(__name__)

_PIECE = 1 << 16
_FETCHES = 3
"""How often a file is fetched that does not verify."""


class S3Files:
    """Object storage from which files are fetched, several at once.

    Args:
        settings: Which storage, and as whom.
        limits: How many requests are made.
    """

    def __init__(self, settings: S3Settings, limits: RequestLimits) -> None:
        self._settings = settings
        self._limits = limits
        self._limiter = limits.limiter(settings.endpoint or "Amazon S3")
        self._client = _client(settings, limits)

    def fetch(self, assets: list[Asset], folder: Path) -> list[Path]:
        """Fetch files into a folder.

        Args:
            assets: The files.
            folder: Where to put them. A file that is there and verifies is not fetched again; a part of one is
                continued.

        Returns:
            The files, in the order of the assets; all of them have the size and checksum that the item says.

        Raises:
            LoginError: If there are no keys, or they are refused.
            SceneNotFoundError: If a file does not exist.
            ChecksumError: If a file does not verify after several fetches.
            ServiceError: If the storage refuses or fails.
            SceneError: If an address or checksum of the item cannot be understood.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(self._limits.parallel, thread_name_prefix="darts-s3") as pool, stoppable() as stop:
            tasks = [pool.submit(copy_context().run, self._fetch, asset, folder) for asset in assets]
            try:
                return [task.result() for task in tasks]
            except BaseException:
                stop.requested = True
                for task in tasks:
                    task.cancel()
                raise

    def _fetch(self, asset: Asset, folder: Path) -> Path:
        bucket, key = _address(asset.href)
        name = key.rpartition("/")[2]
        target, part = folder / name, folder / f"{name}.part"
        checksum = None if asset.checksum is None else Multihash.parse(asset.checksum, name)
        if target.exists() and _verifies(target, asset.size, checksum):
            return target
        for _ in range(_FETCHES):
            size = self._fetch_rest(bucket, key, part, asset.size)
            if _verifies(part, size if asset.size is None else asset.size, checksum):
                part.rename(target)
                return target
            logger.warning("%s differs from what the catalogue says in size or checksum; it is fetched again.", name)
            part.unlink()
        raise ChecksumError(
            f"{name} has another size or checksum than the catalogue says, {_FETCHES} times; nothing of it is used. "
            "Try again later: the provider may be replacing the file."
        )

    def _fetch_rest(self, bucket: str, key: str, part: Path, expected: int | None) -> int:
        """Fetch what is missing of a file, each attempt from where the last one ended; return the file's size."""
        try:
            return self._limits.retry.call(
                lambda: self._continue(bucket, key, part, expected), f"Fetching s3://{bucket}/{key}", self._limiter
            )
        except ServiceError as error:
            if error.failure is not None and error.failure.status == 404:
                raise SceneNotFoundError(
                    f"s3://{bucket}/{key} does not exist although the catalogue names it."
                ) from error
            raise

    def _continue(self, bucket: str, key: str, part: Path, expected: int | None) -> int:
        """Fetch what is missing of a file; return its size as the storage says it."""
        from botocore.exceptions import ClientError

        present = part.stat().st_size if part.exists() else 0
        if expected is not None and present > expected:
            part.unlink()
            present = 0
        if present and present == expected:
            return present
        span = {"Range": f"bytes={present}-"} if present else {}
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key, **span)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 416:
                raise
            part.unlink()
            raise ConnectionError(f"{key} is shorter than the part that is there") from None
        if answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            present = 0  # The whole file, whatever was asked for.
        whole = present + int(answer["ContentLength"])
        with part.open("ab") as stream, contextlib.closing(answer["Body"]) as body:
            stream.truncate(present)
            for piece in body.iter_chunks(_PIECE):
                check_not_stopped()
                stream.write(piece)
        if part.stat().st_size < whole:
            raise ConnectionError(f"{key} ended after {part.stat().st_size} of {whole} bytes")
        return whole


def check_keys(settings: S3Settings, limits: RequestLimits) -> None:
    """Check that there are keys for the object storage, without asking it.

    Raises:
        LoginError: If there are none.
        ServiceError: If the settings of the AWS tools cannot be used.
    """
    _client(settings, limits).close()


def _verifies(file: Path, size: int | None, checksum: Multihash | None) -> bool:
    if size is not None and file.stat().st_size != size:
        return False
    return checksum is None or checksum.fits(file)


def _address(href: str) -> tuple[str, str]:
    parts = urlsplit(href)
    if parts.scheme != "s3" or not parts.netloc or not parts.path.strip("/"):
        raise SceneError(f"{href} is no address of a file in object storage; expected s3://bucket/key.")
    return parts.netloc, parts.path.lstrip("/")


def _client(settings: S3Settings, limits: RequestLimits) -> Any:
    """Return a client that has keys; without them every request would fail, one by one."""
    from botocore.exceptions import BotoCoreError

    try:
        client = make_s3_client(settings, limits)
        keys = settings.anonymous or client._request_signer._credentials is not None
    except (BotoCoreError, ValueError) as error:
        raise ServiceError(f"The object storage cannot be used: {type(error).__name__}.") from error
    if not keys:
        raise LoginError(
            f"There are no keys for {settings.endpoint or 'the object storage'}: write them into a profile of "
            "~/.aws/credentials and name it (AWS_PROFILE), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    return client
