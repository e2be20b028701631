"""S3: which address and which signature a file in object storage has, through botocore."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from darts_acquisition.errors import LoginError, SceneError, ServiceError
from darts_acquisition.io.settings import RequestLimits, S3Settings

_SIGNED_FOR_S = 3600


class S3Access:
    """Addresses and signatures of files in an object storage. Threads may share one."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self.anonymous = settings.anonymous

    @property
    def endpoint(self) -> str:
        """Address of the storage."""
        return self._settings.endpoint or "Amazon S3"

    @cached_property
    def credentials(self) -> Any:
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
        from botocore.awsrequest import AWSRequest

        url = self.plain_url(uri)
        if self.anonymous:
            return url
        request = AWSRequest("GET", url)
        S3SigV4QueryAuth(self.credentials, "s3", self._region, expires=_SIGNED_FOR_S).add_auth(request)
        return str(request.url)

    def sign(self, request: Any) -> Any:
        """Sign a request of the library requests by its headers, which storages take that refuse signed addresses."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        if not self.anonymous:
            signed = AWSRequest(request.method, request.url)
            S3SigV4Auth(self.credentials, "s3", self._region).add_auth(signed)
            request.headers.update(dict(signed.headers.items()))
        return request

    @property
    def _region(self) -> str:
        return str(self._client.meta.region_name)

    @cached_property
    def _client(self) -> Any:
        return make_s3_client(replace(self._settings, anonymous=True), RequestLimits())


def find_credentials(settings: S3Settings) -> Any:
    """Find keys where the AWS tools do (a profile, the environment, the role of a machine), as botocore has them.

    Raises:
        LoginError: If there is no such profile, or there are no keys.
        ServiceError: If the settings of the AWS tools cannot be used.
    """
    with _in_our_words(settings):
        found = _session(settings).get_credentials()
    if found is None:
        raise LoginError(
            f"There are no keys for {settings.endpoint or 'the object storage'}: write them into a profile of "
            "~/.aws/credentials and name it (AWS_PROFILE), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    return found


def make_s3_client(settings: S3Settings, limits: RequestLimits) -> Any:
    """Make a client of botocore that leaves retries to the retry policy; threads may share it.

    Raises:
        LoginError: If there is no such profile. Keys are looked for only when a request is made.
        ServiceError: If the settings of the AWS tools cannot be used.
    """
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=limits.timeout_s,
        read_timeout=limits.timeout_s,
        max_pool_connections=limits.parallel,
        signature_version=UNSIGNED if settings.anonymous else None,
        s3={"addressing_style": "path"} if settings.endpoint else None,
    )
    with _in_our_words(settings):
        session = _session(settings)
        named = settings.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        region = named or "us-east-1"
        return session.create_client("s3", endpoint_url=settings.endpoint, region_name=region, config=config)


def _session(settings: S3Settings) -> Any:
    import botocore.session

    return botocore.session.Session(profile=settings.profile)


@contextmanager
def _in_our_words(settings: S3Settings) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ProfileNotFound

    try:
        yield
    except ProfileNotFound as error:
        name = settings.profile or os.environ.get("AWS_PROFILE")
        raise LoginError(f"There is no profile {name!r} in ~/.aws; add it, or name another.") from error
    except (BotoCoreError, ValueError) as error:
        raise ServiceError(f"The object storage cannot be used: {type(error).__name__}.") from error
